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

/**
 * A quoted cell or a plain one, and what ends it. Our cells are not longer, and reading much longer ones would take
 * long.
 */
const CELL = /(?:"((?:[^"]|""){0,1000})"|([^",\r\n]{0,1000}))(,|\r\n|\n|\r|$)/y

/** Our records have fewer cells. */
const MOST_CELLS = 100

/**
 * The records of a CSV text (RFC 4180), at most `most`, without empty lines at its end. It stops reading at the first
 * record too many. Throws `invalid_request`.
 */
export function parseCsv(text: string, most: number): string[][] {
  const end = endOf(text)
  const cell = new RegExp(CELL)
  const records: string[][] = []
  let record: string[] = []
  while (cell.lastIndex < end || record.length > 0) {
    const row = `Row ${records.length + 1}`
    const found = cell.exec(text)
    if (!found) {
      throw new ApiError(
        'invalid_request',
        `${row} is no CSV: a cell with a quote, a comma or a line break must be in quotes, a quote in it must be doubled, and it has at most 1,000 characters.`,
      )
    }
    const [, quoted, plain = '', after] = found
    record.push(quoted?.replaceAll('""', '"') ?? plain)
    if (record.length > MOST_CELLS) {
      throw new ApiError('invalid_request', `${row} has more than ${MOST_CELLS} cells.`)
    }
    if (after === ',') continue
    records.push(record)
    record = []
    if (records.length > most) break
  }
  while (records.at(-1)?.join() === '') records.pop()
  return records
}

/** Where the line breaks at the end begin. */
function endOf(text: string): number {
  let end = text.length
  while (end > 0 && '\r\n'.includes(text[end - 1]!)) end -= 1
  return end
}
