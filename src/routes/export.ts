/** `/api/admin/export`: users, days or events, as a file that is streamed page by page. */
import type { AppContext, Deps } from '../context.ts'
import type { Admin } from '../http/admin.ts'
import { methodNotAllowed } from '../http/methods.ts'
import { storeAnswer, storeOf } from '../store/required.ts'
import { CSV_START, csvLine } from '../reports/csv.ts'
import { fileOf, type ExportFile, type Readable } from './export-files.ts'
import { askedOf } from './export-range.ts'
import type { Format } from './export-schemas.ts'
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
 * Builds the handler: `?kind=users|days|events&format=csv|ndjson&from&to&group=user|day|model|tag&tag`. Users are sorted by last
 * activity, the oldest first: a user who is active during the export may appear twice, but none is missing. In an
 * invoice, which is what `group` makes, none appears twice. If the store fails during the export, the file breaks off.
 */
export const exportHandler =
  (deps: Deps, admin: Admin) =>
  async (c: AppContext): Promise<Response> => {
    // Hono would serve a HEAD as a GET and discard the body.
    if (c.req.method === 'HEAD') throw methodNotAllowed('HEAD', ['GET'])
    const asked = askedOf(c.req.query(), deps.config, deps.now())
    const { kind, format, group } = asked
    const store = storeOf(deps)
    await storeAnswer(store.execute({ op: 'note', action: 'export', ...admin.stamp(c) }))
    const texts = textsOf(fileOf(asked), format, store, deps)
    return answerFile(c, deps, texts, { kind: group ? `${kind}-by-${group}` : kind, format })
  }
