/** Refreshes of the dashboard's pages: only the parts that change are sent. */
import type { AppContext } from '../context.ts'
import { base64url } from '../identity/ids.ts'
import type { Frame } from '../views/page.tsx'
import { answerPage, type View } from './answer-page.ts'

/** Set by src/views/assets/admin.js on a refresh. */
const LIVE = 'x-weir-live'

/** Whether the request is a refresh. */
export const isRefresh = (c: AppContext): boolean => c.req.header(LIVE) !== undefined

/**
 * Answers with the parts that change, or with 304. The ETag is made of the data, because texts such as "5m ago"
 * change while the data stays the same.
 */
export async function refreshed(
  c: AppContext,
  /** The frame, of which the health counts. */
  { away }: Pick<Frame, 'away'>,
  live: object,
  render: () => View | Promise<View>,
): Promise<Response> {
  const bytes = new TextEncoder().encode(JSON.stringify([away, live]))
  const etag = `"${base64url(await crypto.subtle.digest('SHA-1', bytes))}"`
  if (c.req.header('if-none-match') === etag) return c.body(null, 304, { etag })
  return answerPage(c, await render(), 200, { etag })
}
