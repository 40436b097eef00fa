/** `/usage`: the page on which end users see what they have left. An application may show it in a frame. */
import { Hono } from 'hono/tiny'
import type { Config } from '../config/config.ts'
import type { AppEnv } from '../context.ts'
import { allowMethods } from '../http/methods.ts'
import { ownUsagePage } from '../views/own-usage.tsx'
import { answerPage } from './answer-page.ts'

/** An origin as a Content-Security-Policy can name it: https://www.w3.org/TR/CSP3/#grammardef-host-source */
const NAMEABLE = /^[a-z][a-z0-9+.-]*:\/\/(\*\.)?[a-z0-9.-]+(:\d+)?$/

/**
 * The origins whose pages may show it in a frame: those that ALLOWED_ORIGINS names, since they handle users' tokens
 * anyway. `*` names none. The page changes nothing and uses no cookie, so a page around it gains nothing from clicks in
 * it.
 */
const framersOf = (origins: string[]): string[] => origins.filter((one) => NAMEABLE.test(one))

export function ownUsagePageRoutes({ allowedOrigins }: Readonly<Config>): Hono<AppEnv> {
  const framers = framersOf(allowedOrigins)
  const app = new Hono<AppEnv>()
  app.get('/usage', (c) => answerPage(c, ownUsagePage(), 200, headersFor(framers)))
  app.all('/usage', allowMethods('GET'))
  return app
}

/** No form is sent anywhere, and no address leaves the page. */
const headersFor = (framers: string[]): Record<string, string | undefined> => ({
  'content-security-policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
    `form-action 'none'; base-uri 'none'; frame-ancestors ${["'self'", ...framers].join(' ')}`,
  'referrer-policy': 'no-referrer',
  ...(framers.length === 0
    ? { 'x-frame-options': 'SAMEORIGIN' }
    : // This header cannot list origins, so the policy above replaces it.
      { 'x-frame-options': undefined, 'cross-origin-resource-policy': 'cross-origin' }),
})
