/** `/api/admin/export`: users, days or events, as a file that is streamed page by page. */
import type { AppContext, Deps } from '../context.ts'
import { ApiError } from '../errors.ts'
import type { Admin } from '../http/admin.ts'
import { methodNotAllowed } from '../http/methods.ts'
import { storeAnswer, storeOf } from '../store/required.ts'
import { CSV_START, csvLine } from '../reports/csv.ts'
import { FILES, type ExportFile, type Readable } from './export-files.ts'
import { exportQuery, type Format } from './export-schemas.ts'
import { answerFile } from './file-answer.ts'

/** The pieces of the file; none is empty. */
async function* textsOf(
  { columns, pages }: ExportFile,
  format: Format,
  store: Readable,
  deps: Deps,
) {
  // The header line is sent together with the first rows, after the first answer of the store.
  let head = format === 'csv' ? CSV_START + csvLine(columns) : ''
  for await (const { objects, rows } of pages(store, deps)) {
    const lines =
      format === 'csv'
        ? rows.map((row) => csvLine(columns.map((column) => row[column])))
        : objects.map((object) => `${JSON.stringify(object)}\n`)
    const text = head + lines.join('')
    head = ''
    if (text) yield text
  }
}

/**
 * Builds the handler: `?kind=users|days|events&format=csv|ndjson`. Users are sorted by last activity, the oldest
 * first: a user who is active during the export may appear twice, but none is missing. If the store fails during the
 * export, the file breaks off.
 */
export const exportHandler =
  (deps: Deps, admin: Admin) =>
  async (c: AppContext): Promise<Response> => {
    // Hono would serve a HEAD as a GET and discard the body.
    if (c.req.method === 'HEAD') throw methodNotAllowed('HEAD', ['GET'])
    const asked = exportQuery.safeParse(c.req.query())
    if (!asked.success) {
      throw new ApiError(
        'invalid_request',
        '`kind` must be users, days or events, and `format` csv or ndjson.',
      )
    }
    const { kind, format } = asked.data
    const store = storeOf(deps)
    await storeAnswer(store.execute({ op: 'note', action: 'export', ...admin.stamp(c) }))
    const texts = textsOf(FILES[kind], format, store, deps)
    return answerFile(c, deps, texts, { kind, format })
  }
