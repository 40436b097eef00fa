/** An admin of a gateway, as a script or a browser. */
import type { Gateway } from './gateways.ts'
import { ADMIN_KEY } from './gateways.ts'

export const BEARER = { authorization: `Bearer ${ADMIN_KEY}` }

/** Logs in as a page does. Returns the cookie as the next request sends it. */
export async function logIn(
  gateway: Pick<Gateway, 'url'>,
  key = ADMIN_KEY,
): Promise<{ cookie: string }> {
  const response = await fetch(`${gateway.url}/api/admin/login`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...SAME_ORIGIN },
    body: JSON.stringify({ key }),
  })
  if (response.status !== 200) throw new Error(`logging in answered ${response.status}`)
  return { cookie: (response.headers.get('set-cookie') ?? '').split(';', 1)[0] ?? '' }
}

/** The headers that a browser sends with a request of the gateway's own page, and of a page of another site. */
export const SAME_ORIGIN = { 'sec-fetch-site': 'same-origin' }
export const CROSS_ORIGIN: Record<string, string>[] = [
  { 'sec-fetch-site': 'cross-site', origin: 'https://evil.example' },
  { 'sec-fetch-site': 'same-site', origin: 'http://127.0.0.1:1' },
  { origin: 'https://evil.example' },
  { origin: 'null' },
]

/** The answer of the admin API, or an error. */
export async function adminGet<T>(gateway: Gateway, path: string, headers = {}): Promise<T> {
  const response = await fetch(`${gateway.url}${path}`, { headers: { ...BEARER, ...headers } })
  if (!response.ok) throw new Error(`${path} answered ${response.status}`)
  return (await response.json()) as T
}
