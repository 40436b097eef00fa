/** Answers with a file that is made piece by piece. */
import type { AppContext, Deps } from '../context.ts'
import { dateOf } from '../ledger/windows.ts'
import { storeAnswer } from '../store/required.ts'
import { StoreError } from '../store/store.ts'
import type { Format } from './export-schemas.ts'

/** Streams the pieces. None of them is empty. If the store fails after the first one, the file breaks off. */
export async function answerFile(
  c: AppContext,
  deps: Deps,
  texts: AsyncIterator<string, void>,
  { kind, format }: { kind: string; format: Format },
): Promise<Response> {
  const encoder = new TextEncoder()
  const first = await storeAnswer(texts.next())
  const { readable, writer, fail } = deps.relay.pipe({ isEventStream: false }, c.req.raw)
  writer.closed.catch(() => undefined)
  async function pump(): Promise<void> {
    // A reader that stalls must not keep the server from stopping.
    const deadline = setTimeout(() => fail(new Error('the time is up')), deps.config.requestMs)
    try {
      for (let next = first; !next.done; next = await texts.next()) {
        await writer.write(encoder.encode(next.value))
      }
      await writer.close()
    } catch (error) {
      // The reader must not take the file for complete. (workerd still ends the response normally.)
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
