/** Undoes the content codings of an answer as `fetch` does (RFC 9110, section 8.4.1). */
import { Duplex, pipeline, Readable } from 'node:stream'
import {
  constants,
  createBrotliDecompress,
  createGunzip,
  createInflate,
  createInflateRaw,
} from 'node:zlib'
import { own } from '../../ledger/records.ts'
import type { BodyReader, Bytes, UpstreamAnswer } from '../../ports.ts'

/** As in browsers, what has arrived is passed on at once, and data that ends early counts as complete. */
const ZLIB = { flush: constants.Z_SYNC_FLUSH, finishFlush: constants.Z_SYNC_FLUSH }
const BROTLI = {
  flush: constants.BROTLI_OPERATION_FLUSH,
  finishFlush: constants.BROTLI_OPERATION_FLUSH,
}

const DECODERS: Record<string, () => Duplex> = {
  gzip: () => createGunzip(ZLIB),
  'x-gzip': () => createGunzip(ZLIB),
  deflate: () => Duplex.from(inflate),
  br: () => createBrotliDecompress(BROTLI),
}

/** The same limit as that of Node's `fetch`; each coding costs a decoder. */
const MOST_CODINGS = 5

/** The decoders of a Content-Encoding, in the order in which they run. None if one of the codings is not known. */
function decodersOf(contentEncoding: string): (() => Duplex)[] {
  const codings = contentEncoding.toLowerCase().split(',', MOST_CODINGS + 1)
  const decoders = codings.map((coding) => own(DECODERS, coding.trim()))
  const known = decoders.filter((decoder) => decoder !== undefined)
  return known.length === codings.length && known.length <= MOST_CODINGS ? known.reverse() : []
}

/** Whether `decode` undoes this Content-Encoding. If not, the header must stay with the bytes. */
export const isDecoded = (contentEncoding: string): boolean =>
  decodersOf(contentEncoding).length > 0

/** The body without its codings, or as it is if one of them is not known. */
export function decode(
  contentEncoding: string,
  reader: BodyReader,
): NonNullable<UpstreamAnswer['body']> {
  const cancel = () => reader.cancel()
  const decoders = decodersOf(contentEncoding)
  if (decoders.length === 0) return { getReader: () => reader, cancel }
  const streams = decoders.map((decoder) => decoder())
  // An error reaches the reader of the last stream.
  pipeline([Readable.from(chunksOf(reader)), ...streams], () => undefined)
  const decoded = Readable.toWeb(streams.at(-1) as Duplex)
  return { getReader: () => decoded.getReader() as BodyReader, cancel }
}

/** What is called deflate has a zlib header (RFC 1950), which some servers leave out. */
async function* inflate(source: AsyncIterable<Bytes>): AsyncGenerator<Bytes> {
  const chunks = source[Symbol.asyncIterator]()
  const first = await chunks.next()
  if (first.done) return
  const hasHeader = ((first.value[0] ?? 0) & 0x0f) === 0x08
  async function* all(): AsyncGenerator<Bytes> {
    yield first.value
    yield* { [Symbol.asyncIterator]: () => chunks }
  }
  const inflater = hasHeader ? createInflate(ZLIB) : createInflateRaw(ZLIB)
  yield* pipeline(all, inflater, () => undefined) as AsyncIterable<Bytes>
}

async function* chunksOf(reader: BodyReader): AsyncGenerator<Bytes> {
  try {
    for (let { value } = await reader.read(); value; { value } = await reader.read()) yield value
  } finally {
    await reader.cancel()
  }
}
