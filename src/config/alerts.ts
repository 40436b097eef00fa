/** The variables of alerts: where they are sent, in which format, and who signs them. */
import { isHttp, list, type Parse } from './parse.ts'

export type AlertReceiver = {
  /** It may be a secret: that of Slack is. */
  url: string
  format: AlertFormat
  /** The keys that sign: one, or two while one replaces the other. Slack has none. */
  keys: Uint8Array<ArrayBuffer>[]
}

/** `standard` is Standard Webhooks: https://www.standardwebhooks.com */
export const ALERT_FORMATS = ['standard', 'slack'] as const
export type AlertFormat = (typeof ALERT_FORMATS)[number]

const SECRET = /^whsec_([A-Za-z0-9+/]+={0,2})$/
/** By the specification, in bytes. */
const LEAST = 24
const MOST = 64

function keyOf(text: string): Uint8Array<ArrayBuffer> | undefined {
  const [, encoded = ''] = SECRET.exec(text) ?? []
  try {
    const key = Uint8Array.from(atob(encoded), (char) => char.charCodeAt(0))
    return key.length >= LEAST && key.length <= MOST ? key : undefined
  } catch {
    return undefined
  }
}

/** Takes one or two secrets, separated by a comma or a space. */
export const alertSecrets: Parse<Uint8Array<ArrayBuffer>[]> = (text) => {
  const parsed = list(text.replace(/\s+/g, ','))
  const keys = 'value' in parsed ? parsed.value.map(keyOf) : []
  const value = keys.flatMap((key) => key ?? [])
  return value.length === keys.length && (value.length === 1 || value.length === 2)
    ? { value }
    : {
        problem: `must be one secret or two, separated by a comma, each whsec_ and the base64 of ${LEAST} to ${MOST} bytes.`,
      }
}

/** This machine, private networks, and names that only they know. */
const PRIVATE =
  /^(localhost|127(\.\d+){3}|10(\.\d+){3}|192\.168(\.\d+){2}|172\.(1[6-9]|2\d|3[01])(\.\d+){2}|\[(::1|f[cd][\da-f:]+)\]|[\w-]+|[\w.-]+\.(local|internal|lan))$/

/** Takes the address of a receiver: https, and http where nobody on the way can read it. */
export const alertUrl: Parse<string> = (text) => {
  const url = isHttp(text) ? new URL(text) : undefined
  const isSafe = url && (url.protocol === 'https:' || PRIVATE.test(url.hostname))
  return url && isSafe && !url.username && !url.password
    ? { value: url.href }
    : {
        problem:
          'must be an https address without a user name, such as https://example.com/hooks; in a private network also http.',
      }
}

/** The receiver. Tells what is wrong with the variables together. */
export function receiverOf(
  url: string | undefined,
  format: AlertFormat,
  keys: Uint8Array<ArrayBuffer>[] = [],
): { receiver?: AlertReceiver; problem?: string } {
  if (url === undefined) return {}
  if (format === 'standard' && keys.length === 0) {
    return {
      problem:
        'ALERT_WEBHOOK_URL needs ALERT_WEBHOOK_SECRET, by which the receiver knows the sender.',
    }
  }
  return { receiver: { url, format, keys: format === 'standard' ? keys : [] } }
}
