/** Splits a long JSON array while it is read. The array may be damaged. */

/** The longest possible record. A longer element has lost its end. */
const MAX_BYTES = 1024 * 1024

/** The beginning of a record, where reading continues after a damaged one. */
const RECORD_START = /\{\s*"id"\s*:/

const [QUOTE, COMMA, BACKSLASH] = [0x22, 0x2c, 0x5c]
const [OPEN_LIST, CLOSE_LIST, OPEN_RECORD, CLOSE_RECORD] = [0x5b, 0x5d, 0x7b, 0x7d]

/** One element of the array, or a damaged piece. */
export type Element = {
  /** Counts from 1, including damaged pieces. */
  position: number
  text: Buffer
  /** Absent if the text is not JSON. */
  value?: unknown
}

/**
 * Yields every element of the array, in order. Memory is bounded by the longest element, at most 1 MB. A piece that
 * is not JSON ends at a comma, at the end of the file, or where another record begins.
 */
export async function* splitArray(chunks: AsyncIterable<Buffer>): AsyncGenerator<Element> {
  let position = 0
  let rest: Buffer = Buffer.alloc(0)
  let scan = newScan()
  let begun = false

  function* take(end: number): Generator<Element> {
    const text = trim(rest.subarray(0, end))
    const value = parse(text)
    const next = value === undefined ? rest.toString('latin1', 1, end).search(RECORD_START) + 1 : 0
    if (next > 0) yield { position: ++position, text: trim(rest.subarray(0, next)) }
    else if (text.length) {
      position += 1
      yield value === undefined ? { position, text } : { position, text, value }
    }
    rest = rest.subarray(next || (isSeparator(rest[end]) ? end + 1 : end))
    scan = newScan()
  }

  for await (const chunk of chunks) {
    rest = Buffer.concat([rest, chunk])
    if (!begun) {
      const bracket = rest.indexOf(OPEN_LIST)
      if (bracket < 0) continue
      rest = rest.subarray(bracket + 1)
      begun = true
    }
    for (let end; (end = findEnd(rest, scan)) !== undefined;) yield* take(end)
  }
  while (rest.length) yield* take(findEnd(rest, scan) ?? rest.length)
}

type Scan = { at: number; depth: number; inString: boolean; escaped: boolean }

const newScan = (): Scan => ({ at: 0, depth: 0, inString: false, escaped: false })

/** Where the element at the start of the bytes ends; undefined if its end has not been read yet. */
function findEnd(bytes: Buffer, scan: Scan): number | undefined {
  for (; scan.at < bytes.length; scan.at += 1) {
    const byte = bytes[scan.at]
    if (scan.at === MAX_BYTES) return scan.at
    if (scan.escaped) scan.escaped = false
    else if (scan.inString) {
      if (byte === BACKSLASH) scan.escaped = true
      else if (byte === QUOTE) scan.inString = false
    } else if (byte === QUOTE) scan.inString = true
    else if (scan.depth === 0 && isSeparator(byte)) return scan.at
    else if (byte === OPEN_RECORD || byte === OPEN_LIST) scan.depth += 1
    else if (scan.depth > 0 && (byte === CLOSE_RECORD || byte === CLOSE_LIST)) scan.depth -= 1
  }
  return undefined
}

const isSeparator = (byte: number | undefined) => byte === COMMA || byte === CLOSE_LIST

const utf8 = new TextDecoder('utf-8', { fatal: true })

function parse(text: Buffer): unknown {
  try {
    return JSON.parse(utf8.decode(text))
  } catch {
    return undefined
  }
}

/** Removes JSON white space from both ends. */
function trim(bytes: Buffer): Buffer {
  let [start, end] = [0, bytes.length]
  while (start < end && isSpace(bytes[start])) start += 1
  while (end > start && isSpace(bytes[end - 1])) end -= 1
  return bytes.subarray(start, end)
}

const isSpace = (byte: number | undefined) =>
  byte === 0x20 || byte === 0x09 || byte === 0x0a || byte === 0x0d
