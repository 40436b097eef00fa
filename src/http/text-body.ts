/** Bodies that are lines of text: CSV and NDJSON. */
import type { AppContext } from '../context.ts'
import { ApiError } from '../errors.ts'
import { uncompressed } from './uncompressed.ts'

const UTF_8 = new TextDecoder('utf-8', { fatal: true })

/** The body as text, without a byte order mark. Throws `invalid_request`, `unsupported_encoding`. */
export async function textBody(c: AppContext): Promise<string> {
  uncompressed(c)
  try {
    return UTF_8.decode(await c.req.arrayBuffer())
  } catch (cause) {
    throw new ApiError('invalid_request', 'The body must be text in UTF-8.', { cause })
  }
}

/** A quoted cell or a plain one, and what ends it. */
const CELL = /(?:"([^"]*(?:""[^"]*)*)"|([^",\r\n]*))(,|\r\n|\n|\r|$)/y

/** The records of a CSV text (RFC 4180), without empty lines at its end. Throws `invalid_request`. */
export function parseCsv(text: string): string[][] {
  const cell = new RegExp(CELL)
  const records: string[][] = []
  let record: string[] = []
  while (cell.lastIndex < text.length || record.length > 0) {
    const found = cell.exec(text)
    if (!found) {
      throw new ApiError(
        'invalid_request',
        `Row ${records.length + 1} is no CSV: a cell with a quote, a comma or a line break must be in quotes, and a quote in it must be doubled.`,
      )
    }
    const [, quoted, plain = '', end] = found
    record.push(quoted?.replaceAll('""', '"') ?? plain)
    if (end === ',') continue
    records.push(record)
    record = []
  }
  while (records.at(-1)?.join() === '') records.pop()
  return records
}
