/**
 * The long texts of a body are cut before the body is parsed. A mark at the end of such a text says how many bytes are
 * missing.
 */

/** Begins and ends a mark. It also takes the place of each byte of a character outside ASCII. */
export const FILLER = '\x7f'

/** Part of each mark, so that no text of a client can pass for one. */
let secret = ''

/** The mark of a text of which this many bytes are missing. */
export function cutMark(missing: number): string {
  secret ||= [...crypto.getRandomValues(new Uint32Array(2))].map(inBase36).join('')
  return `${FILLER}${secret}${missing.toString(36)}${FILLER}`
}

/** At most 7 characters. */
const inBase36 = (number: number): string => number.toString(36).padStart(7, '0')

/** How many bytes are missing from the texts in this one: a text, or the JSON of several. */
export function missingBytes(text: string): number {
  if (secret === '') return 0
  let missing = 0
  const begin = FILLER + secret
  for (let at = text.indexOf(begin); at >= 0; at = text.indexOf(begin, at + 1)) {
    const from = at + begin.length
    const end = text.indexOf(FILLER, from)
    missing += Number.parseInt(text.slice(from, end), 36) - (end + 1 - at)
  }
  return missing
}
