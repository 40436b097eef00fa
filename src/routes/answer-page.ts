/** Sends pages, with the headers that all pages have. */
import type { HtmlEscapedString } from 'hono/utils/html'
import type { ContentfulStatusCode } from 'hono/utils/http-status'
import type { AppContext } from '../context.ts'
import { rootOf } from '../http/below-path.ts'

/**
 * No inline scripts or styles, nothing from other origins, no frames. The referrer is sent to this origin, because
 * without it a browser posts forms with `Origin: null`.
 */
const HEADERS = {
  'content-security-policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
  'referrer-policy': 'same-origin',
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'permissions-policy': 'camera=(), geolocation=(), microphone=(), payment=(), usb=()',
  'cache-control': 'no-store',
}

/** The result of a view. */
export type View = HtmlEscapedString | Promise<HtmlEscapedString>

/** Answers with a page or a part of a page. `headers` are further ones; one without a value is left out. */
export async function answerPage(
  c: AppContext,
  page: View,
  status: ContentfulStatusCode = 200,
  headers: Record<string, string | undefined> = {},
): Promise<Response> {
  for (const [name, value] of Object.entries({ ...HEADERS, ...headers })) c.header(name, value)
  if (c.req.url.startsWith('https:')) c.header('strict-transport-security', 'max-age=31536000')
  return c.html(`<!doctype html>${fromRoot(c, String(await page))}`, status)
}

/** The text of a page whose addresses begin at the root of the gateway. Quotes in the page's own texts are escaped. */
function fromRoot(c: AppContext, html: string): string {
  const root = rootOf(c)
  return root === '/' ? html : html.replace(/ (href|src|action)="\//g, ` $1="${root}`)
}

/** Redirects to a page of the gateway. */
export const seeOther = (c: AppContext, path: string): Response =>
  c.redirect(rootOf(c) + path.slice(1), 303)
