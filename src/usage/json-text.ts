/** What is read of JSON as a text, where parsing it would cost too much. */

/** Where the string ends whose text begins at an index: at its closing quote, or behind all where there is none. */
export function closingQuote(json: string, from: number): number {
  for (let end = json.indexOf('"', from); end >= 0; end = json.indexOf('"', end + 1)) {
    let backslashes = 0
    while (json.charCodeAt(end - 1 - backslashes) === 0x5c) backslashes += 1
    if (backslashes % 2 === 0) return end
  }
  return json.length
}
