/** One attempt to deliver an alert, signed by Standard Webhooks 1.0.0. */
import type { AlertReceiver } from '../config/alerts.ts'
import type { Alert } from '../ledger/documents.ts'
import { SECOND_MS } from '../ledger/windows.ts'
import type { Bytes, Fetch } from '../ports.ts'
import { slackBody, standardBody } from './payload.ts'

/** The specification recommends 15 to 30 s. An edge ends work 30 s after the answer of its request. */
const TIMEOUT_MS = 15 * SECOND_MS

/** `status` is 0 if there was no answer. `retryAfterMs` is what the receiver asks for. */
export type Attempt = { status: number; retryAfterMs?: number }

const bytesOf = (text: string): Bytes => new TextEncoder().encode(text)

/** Base64 of bytes. */
export const base64 = (bytes: ArrayBuffer): string =>
  btoa(String.fromCharCode(...new Uint8Array(bytes)))

/** The header `webhook-signature`: a signature of each key, so that the receiver can change its secret. */
async function signatures(keys: AlertReceiver['keys'], content: string): Promise<string> {
  const all = keys.map(async (key) => {
    const hmac = { name: 'HMAC', hash: 'SHA-256' }
    const imported = await crypto.subtle.importKey('raw', key, hmac, false, ['sign'])
    return `v1,${base64(await crypto.subtle.sign('HMAC', imported, bytesOf(content)))}`
  })
  return (await Promise.all(all)).join(' ')
}

/** Sends an alert. Never rejects, and follows no redirect. */
export async function attempt(
  alert: Alert,
  { url, format, keys }: AlertReceiver,
  fetch: Fetch,
  now: number,
): Promise<Attempt> {
  const controller = new AbortController()
  const timer = setTimeout(() => controller.abort(), TIMEOUT_MS)
  try {
    const body = format === 'slack' ? slackBody(alert) : standardBody(alert)
    const headers: Record<string, string> = {
      'content-type': 'application/json',
      'user-agent': 'Weir',
    }
    if (format === 'standard') {
      const seconds = String(Math.floor(now / SECOND_MS))
      headers['webhook-id'] = alert.id
      headers['webhook-timestamp'] = seconds
      headers['webhook-signature'] = await signatures(keys, `${alert.id}.${seconds}.${body}`)
    }
    const answer = await fetch(url, {
      ...{ method: 'POST', headers, body: bytesOf(body) },
      ...{ signal: controller.signal, redirect: 'manual' },
    })
    await answer.body?.cancel().catch(() => undefined)
    return { status: answer.status, ...retryAfter(answer.headers.get('retry-after'), now) }
  } catch {
    // The error may name the address, which may be a secret.
    return { status: 0 }
  } finally {
    clearTimeout(timer)
  }
}

function retryAfter(header: string | null | undefined, now: number) {
  if (!header) return {}
  const ms = /^\d+$/.test(header) ? Number(header) * SECOND_MS : Date.parse(header) - now
  return ms > 0 ? { retryAfterMs: ms } : {}
}
