/**
 * HTTP calls on Node through undici's own interface, because the streams and copies of `fetch` cost more than the
 * rest of a request.
 */
import { Agent, EnvHttpProxyAgent, buildConnector, type Dispatcher } from 'undici'
import type { AnswerHeaders, BodyReader, Bytes, Fetch, UpstreamAnswer } from '../../ports.ts'
import { decode } from './decode.ts'
import { skipInformational } from './informational.ts'
import { proxiesOf } from './proxies.ts'

/**
 * A host may have several addresses, which Node tries one after the other. This is long enough for the second try of
 * a lost packet, after a second. Node's own 250 ms are too short for a distant host.
 */
const CONNECT = { timeout: 0, autoSelectFamilyAttemptTimeout: 1500 }

/** Connections are kept alive as by `fetch`. There are no time-outs here: callers pass a signal. */
const OPTIONS = {
  headersTimeout: 0,
  bodyTimeout: 0,
  connect: skipInformational(buildConnector(CONNECT)),
  proxyTls: CONNECT,
}

const direct = new Agent(OPTIONS)
let agents: Record<string, Dispatcher> = {}

/** Sends calls through the proxies that these variables name, from now on. Throws `ConfigError`. */
export function useProxies(env: Record<string, string | undefined>): void {
  const { http, https, except } = proxiesOf(env)
  const through = (proxy: string | undefined): Dispatcher =>
    proxy === undefined
      ? direct
      : new EnvHttpProxyAgent({
          ...OPTIONS,
          httpProxy: proxy,
          httpsProxy: proxy,
          noProxy: except ?? '',
        })
  agents = { 'http:': through(http), 'https:': through(https) }
}

/** The most unread bytes before the sender must wait. */
const MOST_UNREAD = 64 * 1024

/** Statuses without a body: https://fetch.spec.whatwg.org/#null-body-status */
const NO_BODY = new Set([204, 205, 304])

/**
 * Like `fetch` with `redirect: 'manual'`. Rejects with the signal's reason if it is aborted, or with the error of the
 * connection. An error after the headers makes a read of the body fail.
 */
export const nodeFetch: Fetch = (url, { method, headers, body, signal }) =>
  new Promise((resolve, reject) => {
    const { origin, protocol, pathname, search } = new URL(url)
    let transfer: Dispatcher.DispatchController | undefined
    const incoming = createIncoming(() => transfer)
    const abort = () => {
      const reason = asError(signal.reason)
      // Before the transfer has begun, there is nothing to abort. `onRequestStart` aborts it then.
      transfer?.abort(reason)
      reject(reason)
    }
    if (signal.aborted) return abort()
    signal.addEventListener('abort', abort, { once: true })
    const agent = agents[protocol] ?? direct
    agent.dispatch(
      // A user-agent as `fetch` sends it, because some hosts refuse requests without one.
      {
        origin,
        path: pathname + search,
        method,
        headers: { 'user-agent': 'node', ...headers },
        body,
      },
      {
        onRequestStart(given) {
          transfer = given
          if (signal.aborted) given.abort(asError(signal.reason))
        },
        onResponseStart(_, status, fields, statusText = '') {
          if (status < 200) return
          const headers = new Map<string, string>()
          for (const [name, value = ''] of Object.entries(fields)) {
            headers.set(name, typeof value === 'string' ? value : value.join(', '))
          }
          const ok = status < 300
          resolve({
            status,
            statusText,
            ok,
            headers,
            body: bodyOf(status, headers, incoming.reader),
          })
        },
        onResponseData: (_, chunk) => incoming.push(chunk as Bytes),
        onResponseEnd() {
          signal.removeEventListener('abort', abort)
          incoming.end()
        },
        onResponseError(_, error) {
          signal.removeEventListener('abort', abort)
          incoming.end(error)
          reject(error)
        },
      },
    )
  })

/** The body of an answer as text. */
export async function bodyText({ body }: UpstreamAnswer): Promise<string> {
  const reader = body?.getReader()
  const chunks: Uint8Array[] = []
  for (let read = await reader?.read(); read?.value; read = await reader?.read()) {
    chunks.push(read.value)
  }
  return Buffer.concat(chunks).toString()
}

const asError = (reason: unknown) => (reason instanceof Error ? reason : new Error(String(reason)))

const bodyOf = (
  status: number,
  headers: AnswerHeaders,
  reader: BodyReader,
): UpstreamAnswer['body'] =>
  NO_BODY.has(status) ? null : decode(headers.get('content-encoding') ?? '', reader)

/** A buffer for received bytes that have not been read. */
function createIncoming(transfer: () => Dispatcher.DispatchController | undefined) {
  const unread: Bytes[] = []
  let size = 0
  let over: { error?: Error | undefined } | undefined
  let waiting: { resolve(read: Read): void; reject(error: unknown): void } | undefined

  const reader: BodyReader = {
    read: () =>
      new Promise((resolve, reject) => {
        const value = unread.shift()
        if (value) {
          size -= value.length
          if (unread.length === 0) transfer()?.resume()
          resolve({ done: false, value })
        } else if (!over) waiting = { resolve, reject }
        else if (over.error) reject(over.error)
        else resolve({ done: true, value: undefined })
      }),
    async cancel() {
      if (!over) transfer()?.abort(new Error('nobody reads the rest'))
    },
  }
  return {
    reader,
    push(value: Bytes): void {
      if (waiting) {
        waiting.resolve({ done: false, value })
        waiting = undefined
        return
      }
      unread.push(value)
      size += value.length
      if (size > MOST_UNREAD) transfer()?.pause()
    },
    end(error?: Error): void {
      over = { error }
      if (error) {
        // As with `fetch`, an error discards unread bytes.
        unread.length = 0
        waiting?.reject(error)
      } else waiting?.resolve({ done: true, value: undefined })
      waiting = undefined
    },
  }
}

type Read = Awaited<ReturnType<BodyReader['read']>>
