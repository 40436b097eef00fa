/** Reads JSON as text, where parsing it would cost too much. */

/** The index of the quote that closes a string whose text begins at `from`; the length of the JSON if there is none. */
export function closingQuote(json: string, from: number): number {
  for (let end = json.indexOf('"', from); end >= 0; end = json.indexOf('"', end + 1)) {
    let backslashes = 0
    while (json.charCodeAt(end - 1 - backslashes) === 0x5c) backslashes += 1
    if (backslashes % 2 === 0) return end
  }
  return json.length
}
