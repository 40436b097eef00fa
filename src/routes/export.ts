/** `/api/admin/export`: what is kept of users, days or events, as a file that is streamed page by page. */
import type { Context } from 'hono'
import * as z from 'zod/mini'
import type { AppEnv, Deps } from '../context.ts'
import { ApiError } from '../errors.ts'
import type { Admin } from '../middleware/admin.ts'
import { methodNotAllowed } from '../middleware/methods.ts'
import { answered, storeOf } from '../middleware/store.ts'
import { dateOf } from '../ledger/windows.ts'
import { StoreError } from '../store/store.ts'
import { csvLine } from '../usage/csv.ts'
import { FILES, type ExportFile, type Readable } from './export-files.ts'

export const exportQuery = z.object({
  kind: z.enum(['users', 'days', 'events']),
  format: z._default(z.enum(['csv', 'ndjson']), 'csv'),
})

type Format = z.infer<typeof exportQuery>['format']

/** The file in pieces, none of them empty. */
async function* textsOf(
  { columns, pages }: ExportFile,
  format: Format,
  store: Readable,
  deps: Deps,
) {
  // Nothing is sent before the store has answered once.
  let head = format === 'csv' ? csvLine(columns) : ''
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
 * Builds the handler: `?kind=users|days|events&format=csv|ndjson`. Users come with the least recently active first, so that
 * one who is active meanwhile may come twice and none is missing. A store that fails meanwhile breaks the file off.
 */
export function exportHandler(deps: Deps, admin: Admin) {
  const encoder = new TextEncoder()

  return async (c: Context<AppEnv>) => {
    // A HEAD would be served as a GET whose body nobody reads.
    if (c.req.method === 'HEAD') throw methodNotAllowed('HEAD', ['GET'])
    const asked = exportQuery.safeParse(c.req.query())
    if (!asked.success) {
      throw new ApiError(
        'invalid_request',
        '`kind` is users, days or events, `format` csv or ndjson.',
      )
    }
    const { kind, format } = asked.data
    const store = storeOf(deps)
    await answered(store.execute({ op: 'note', action: 'export', ...admin.stamp(c) }))
    const texts = textsOf(FILES[kind], format, store, deps)
    const first = await answered(texts.next())
    const { readable, writer, fail } = deps.relay.pipe()
    writer.closed.catch(() => undefined)
    async function pump(): Promise<void> {
      // A reader who stalls must not hold the server open.
      const deadline = setTimeout(() => fail(new Error('the time is up')), deps.config.requestMs)
      try {
        for (let next = first; !next.done; next = await texts.next()) {
          await writer.write(encoder.encode(next.value))
        }
        await writer.close()
      } catch (error) {
        // A reader who has gone does not mind; one who waits must not take the file for whole, though workerd ends it cleanly.
        if (error instanceof StoreError) deps.log.error('export.broken_off', { kind, error })
        fail(error)
      } finally {
        clearTimeout(deadline)
      }
    }
    c.executionCtx.waitUntil(pump())
    const name = `weir-${kind}-${dateOf(deps.now())}.${format}`
    return c.body(readable, 200, {
      ...deps.relay.headers,
      'content-type': format === 'csv' ? 'text/csv; charset=utf-8' : 'application/x-ndjson',
      'content-disposition': `attachment; filename="${name}"`,
    })
  }
}
