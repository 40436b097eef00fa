/**
 * Scans a multipart body as it is: where its parts are, and what they are named (RFC 7578, RFC 2046). Nothing is copied or
 * built again, since the same bytes go upstream.
 *
 * Upstream's parser may be more lenient than others, and then find other parts than we do. So whatever parsers read in
 * different ways is an error here.
 */
import { ApiError } from '../errors.ts'
import type { Bytes } from '../ports.ts'
import { TooManySteps, indexesOf } from './byte-search.ts'
import type { Steps } from './steps.ts'

export type Part = {
  name: string
  /** The name of the file; absent for a part that is not a file. */
  filename?: string
  /** Where its content begins and ends, in bytes. */
  start: number
  end: number
}

export type Multipart = {
  boundary: string
  parts: Part[]
  /** Where the line of the last boundary begins: another part can be added here. */
  close: number
}

/** Far more than any client needs. */
const MOST_PARTS = 100
const MOST_HEADER_BYTES = 4096

const flaw = (message: string) => new ApiError('invalid_request', message)

const unsupported = () =>
  new ApiError(
    'unsupported_audio',
    'Send the audio as multipart/form-data, with the fields `file` and `model`.',
  )

/** The characters of a boundary (RFC 2046, section 5.1.1). */
const BOUNDARY = /^[\w'()+,./:=?-](?:[\w'()+,./:=? -]{0,68}[\w'()+,./:=?-])?$/

/** A parameter of a header: its name, and its value as a token or in quotes. */
const PARAMETER =
  /[ \t]*;[ \t]*([\w!#$%&'*+.^`|~-]+)=(?:"((?:[^"\\]|\\[^"])*)"|([^\s;"()<>@,\\]+))/y

/**
 * The value and the parameters of a header; undefined if it is malformed, or has a parameter twice. A name with an asterisk
 * would take the place of another parameter (RFC 2231), so `filename*` alone may have one.
 */
function parametersOf(text: string): [value: string, parameters: Map<string, string>] | undefined {
  const semicolon = text.indexOf(';')
  const [value, rest] =
    semicolon < 0 ? [text, ''] : [text.slice(0, semicolon), text.slice(semicolon)]
  const parameters = new Map<string, string>()
  PARAMETER.lastIndex = 0
  let end = 0
  for (let found = PARAMETER.exec(rest); found; found = PARAMETER.exec(rest)) {
    const name = found[1]!.toLowerCase()
    if (parameters.has(name) || (name.includes('*') && name !== 'filename*')) return undefined
    parameters.set(name, found[2] ?? found[3]!)
    end = PARAMETER.lastIndex
  }
  return /^[ \t]*$/.test(rest.slice(end)) ? [value.trim().toLowerCase(), parameters] : undefined
}

/** The boundary that a Content-Type names. Throws `unsupported_audio`, or `invalid_request` for one that is not valid. */
export function boundaryOf(contentType: string | undefined): string {
  if (!/^\s*multipart\/form-data\s*(;|$)/i.test(contentType ?? '')) throw unsupported()
  const boundary = parametersOf(contentType ?? '')?.[1].get('boundary')
  if (boundary === undefined || !BOUNDARY.test(boundary)) {
    throw flaw(
      'The Content-Type must name one boundary: multipart/form-data; boundary=… with 1 to 70 of the characters that RFC 2046 allows.',
    )
  }
  return boundary
}

const [CR, LF, DASH] = [0x0d, 0x0a, 0x2d]
const LATIN_1 = new TextDecoder('latin1')
const UTF_8 = new TextDecoder('utf-8', { ignoreBOM: true })

/** Finds the parts of a body. Throws `invalid_request`. */
export function* multipartOf(boundary: string, bytes: Bytes): Steps<Multipart> {
  const delimiter = new TextEncoder().encode(`--${boundary}`)
  const isBreak = (at: number) => bytes[at] === CR && bytes[at + 1] === LF
  const parts: Part[] = []
  /** Where the previous part begins. */
  let begun: number | undefined
  let close: number | undefined

  for (const at of yield* placesIn(bytes, delimiter)) {
    const end = at + delimiter.length
    const isFirst = at === 0
    const isLast = bytes[end] === DASH && bytes[end + 1] === DASH
    const isLine = isFirst || isBreak(at - 2)
    const ends = isLast ? end + 2 === bytes.length || isBreak(end + 2) : isBreak(end)
    if (!isLine || !ends || close !== undefined) {
      throw flaw(
        'The boundary of the body is ambiguous: it must appear only on lines of its own, which end with CR and LF, and nothing may follow it on its line. Choose a boundary that is not in the content.',
      )
    }
    if (begun !== undefined) parts.push(partOf(bytes, begun, at - 2))
    if (parts.length > MOST_PARTS) throw flaw(`The body has more than ${MOST_PARTS} parts.`)
    begun = isLast ? undefined : end + 2
    if (isLast) close = at
  }
  if (close === undefined) {
    throw flaw(
      'The body does not end with its boundary. It was cut off, or the Content-Type names another boundary.',
    )
  }
  return { boundary, parts, close }
}

function* placesIn(bytes: Bytes, delimiter: Uint8Array): Steps<number[]> {
  try {
    return yield* indexesOf(delimiter, bytes)
  } catch (error) {
    if (!(error instanceof TooManySteps)) throw error
    throw flaw('The boundary of the body is too much like its content. Choose a random one.')
  }
}

/** The part whose headers begin at `from` and whose content ends at `end`. */
function partOf(bytes: Bytes, from: number, end: number): Part {
  const text = LATIN_1.decode(bytes.subarray(from, Math.min(end, from + MOST_HEADER_BYTES)))
  const length = text.indexOf('\r\n\r\n')
  if (length < 0) {
    throw flaw(
      `Each part of the body must have headers of at most ${MOST_HEADER_BYTES} bytes, an empty line, and then its content.`,
    )
  }
  // Names of files may have any characters.
  const headers = UTF_8.decode(bytes.subarray(from, from + length))
  return { ...nameIn(headers), start: from + length + 4, end }
}

/** Headers of parts that do not change how a content is read, or that are checked. */
const HEADERS = new Set(['content-disposition', 'content-type', 'content-length', 'mime-version'])
const IDENTITY = new Set(['binary', '8bit', '7bit'])

function nameIn(text: string): Pick<Part, 'name' | 'filename'> {
  const seen = new Map<string, string>()
  for (const line of text.split('\r\n')) {
    // Without control characters; a line that begins with a space would continue the one before.
    const [, name = '', value = ''] =
      /^([\w-]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)$/.exec(line) ?? []
    const header = name.toLowerCase()
    if (header === '' || seen.has(header)) {
      throw flaw('A part of the body has a header that is malformed, continued or repeated.')
    }
    seen.set(header, value)
  }
  const encoding = seen.get('content-transfer-encoding')?.trim().toLowerCase()
  if (encoding !== undefined && !IDENTITY.has(encoding)) {
    throw flaw(
      'The parts of the body must be sent as they are, without a Content-Transfer-Encoding.',
    )
  }
  if (/^multipart\//i.test(seen.get('content-type') ?? '')) {
    throw flaw('A part of the body must not be multipart itself.')
  }
  const other = [...seen.keys()].find(
    (header) => !HEADERS.has(header) && header !== 'content-transfer-encoding',
  )
  if (other === 'content-encoding') {
    throw flaw('The parts of the body must be sent as they are, without a Content-Encoding.')
  }
  const [kind, parameters] = parametersOf(seen.get('content-disposition') ?? '') ?? []
  const name = parameters?.get('name')
  if (kind !== 'form-data' || name === undefined || name.includes('\\')) {
    throw flaw(
      'Each part of the body must have one header Content-Disposition: form-data; name="…". A quotation mark in a name is written as %22.',
    )
  }
  const filename = filenameOf(parameters?.get('filename*')) ?? parameters?.get('filename')
  return filename === undefined ? { name } : { name, filename }
}

/** The name that `filename*` gives (RFC 8187), which some clients send beside `filename`; undefined if it is not there. */
function filenameOf(extended: string | undefined): string | undefined {
  if (extended === undefined) return undefined
  const [, encoded] = /^utf-8'[\w-]*'(.*)$/i.exec(extended) ?? []
  try {
    if (encoded !== undefined) return decodeURIComponent(encoded)
  } catch {
    // It is not text in UTF-8.
  }
  throw flaw("The `filename*` of a part must be like utf-8''name.wav; or send only `filename`.")
}

/** The text of a part. */
export const textOf = (bytes: Bytes, { start, end }: Part): string =>
  UTF_8.decode(bytes.subarray(start, end))

/** The most bytes that `withField` adds to a body, with a name and a value of up to 64 bytes. */
export const MOST_ADDED = 256

/**
 * The body with the content of a part replaced, or with a part added as the last one. It is changed in place if there
 * is `room` behind it, because an upload is large; otherwise it is copied.
 */
export function withField(
  bytes: Bytes,
  room: number,
  { boundary, parts, close }: Multipart,
  name: string,
  value: string,
): Bytes {
  const part = parts.find((one) => one.name === name)
  const added = `--${boundary}\r\nContent-Disposition: form-data; name="${name}"\r\n\r\n${value}\r\n`
  const [start, end] = part ? [part.start, part.end] : [close, close]
  const insert = new TextEncoder().encode(part ? value : added)
  const length = bytes.length - (end - start) + insert.length
  if (length <= bytes.length + room) {
    const result = new Uint8Array(bytes.buffer, bytes.byteOffset, length)
    result.copyWithin(start + insert.length, end, bytes.length)
    result.set(insert, start)
    return result
  }
  const result = new Uint8Array(length)
  result.set(bytes.subarray(0, start))
  result.set(insert, start)
  result.set(bytes.subarray(end), start + insert.length)
  return result
}
