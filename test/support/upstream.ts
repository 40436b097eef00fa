import { once } from 'node:events'
import { createServer } from 'node:http'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { setImmediate, setTimeout } from 'node:timers/promises'
import { transcripts } from './transcripts.ts'
import type { Transcript } from './transcripts.ts'

export type Behaviour = {
  /** The answer; by default the answer that the same request gets without a behaviour. */
  transcript?: Transcript
  /** Another status; the body stays. */
  status?: number
  headers?: Record<string, string>
  body?: Uint8Array | string
  /** Milliseconds before the headers. */
  delay?: number
  /** Bytes per piece; by default one event of a stream, or the whole of anything else. */
  chunk?: number
  /** Milliseconds between two pieces. */
  pause?: number
  /** Destroys the socket after that many bytes of the body. */
  cut?: number
  /** Goes silent after that many bytes of the body and keeps the connection open. */
  stall?: number
  /** The headers are sent after this. */
  hold?: Promise<unknown>
  /** Piece number `piece`, counted from 0, is sent after this; the headers have been sent by then. */
  gate?: (piece: number) => Promise<unknown>
  /** Repeats the first event with a delta without end; the only mode that waits for a slow reader. */
  endless?: boolean
  /** Sends these bytes instead of an answer, and then closes the connection. */
  raw?: string
}

export type Seen = {
  method: string
  /** The raw url with its query, undecoded. */
  path: string
  headers: Record<string, string>
  body: Uint8Array
  model?: string
  /** Bytes of the body written so far. */
  sent: number
  /** The whole body is written and ended. */
  finished: boolean
  /** Resolves if the connection closes before that. */
  gone: Promise<void>
  /** Resolves when the answer is finished or the client has left. */
  done: Promise<void>
}

export type Upstream = {
  /** The origin; add the base path `/openai/v1`. */
  url: string
  /** In order of arrival; a request arrives once its body is read. */
  seen: Seen[]
  on(model: string, behaviour: Behaviour | ((seen: Seen) => Behaviour)): void
  /** Forgets behaviours, requests and pending calls of `next`. */
  reset(): void
  /** A request that arrives after the call; several pending calls get one request each. */
  next(): Promise<Seen>
  close(): Promise<void>
}

const base = '/openai/v1/'

export async function startUpstream(): Promise<Upstream> {
  const seen: Seen[] = []
  const behaviours = new Map<string, Behaviour | ((seen: Seen) => Behaviour)>()
  const sockets = new Set<Socket>()
  let waiting: ((seen: Seen) => void)[] = []

  async function handle(req: IncomingMessage, res: ServerResponse): Promise<void> {
    const closed = new Promise<void>((resolve) => res.once('close', resolve))
    res.on('error', () => {})
    const body = await bodyOf(req)
    if (!body) return
    const json = { ...parse(body), ...fieldsOf(req, body) }
    const entry = record(req, res, body, json, closed)
    seen.push(entry)
    waiting.shift()?.(entry)
    const found = behaviours.get(entry.model ?? '')
    const chosen = typeof found === 'function' ? found(entry) : found
    const behaviour = refusal(entry) ?? {
      ...(chosen?.transcript ? {} : (usual(entry, json) ?? (chosen ? {} : unknownUrl(entry)))),
      ...chosen,
    }
    await answer(res, entry, behaviour, closed)
  }

  const server = createServer({ noDelay: true }, (req, res) => void handle(req, res))
  server.on('connection', (socket) => {
    socket.setNoDelay(true)
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')

  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    seen,
    on: (model, behaviour) => void behaviours.set(model, behaviour),
    reset() {
      behaviours.clear()
      seen.length = 0
      waiting = []
    },
    next: () => new Promise((resolve) => waiting.push(resolve)),
    async close() {
      const closed = once(server, 'close')
      server.close()
      for (const socket of sockets) socket.destroy()
      await closed
    },
  }
}

async function answer(
  res: ServerResponse,
  seen: Seen,
  behaviour: Behaviour,
  closed: Promise<void>,
): Promise<void> {
  const { transcript = transcripts.plain, cut = Infinity, stall = Infinity } = behaviour
  const body = bytes(behaviour.body ?? transcript.body)
  const headers: Record<string, string | number> = { ...transcript.headers, ...behaviour.headers }
  const events = String(headers['content-type']).startsWith('text/event-stream')
  const left = new AbortController()
  const { signal } = left
  void closed.then(() => left.abort())
  const sleep = (ms: number) => setTimeout(ms, undefined, { signal }).catch(() => undefined)

  if (behaviour.hold) await Promise.race([behaviour.hold, closed])
  if (behaviour.delay) await sleep(behaviour.delay)
  if (signal.aborted) return
  if (behaviour.raw !== undefined) return void res.socket?.end(behaviour.raw)
  if (!events && !behaviour.endless) headers['content-length'] ??= body.length
  res.writeHead(behaviour.status ?? transcript.status, headers)
  res.flushHeaders()

  const limit = Math.min(cut, stall)
  let piece = 0
  for (const whole of pieces(body, behaviour, events)) {
    if (seen.sent >= limit) break
    if (piece > 0) await (behaviour.pause ? sleep(behaviour.pause) : setImmediate())
    if (behaviour.gate) await Promise.race([behaviour.gate(piece), closed])
    if (signal.aborted) return
    const part = whole.subarray(0, limit - seen.sent)
    const room = res.write(part)
    seen.sent += part.length
    piece += 1
    if (behaviour.endless && !room) await once(res, 'drain', { signal }).catch(() => undefined)
  }

  if (seen.sent >= cut) res.socket?.destroySoon()
  else if (seen.sent < stall) res.end()
}

function* pieces(
  body: Uint8Array,
  { chunk, endless }: Behaviour,
  events: boolean,
): Generator<Uint8Array> {
  if (endless) {
    const all = split(body)
    const first = all.find((event) => Buffer.from(event).includes('"delta":')) ?? body
    for (;;) yield first
  }
  if (chunk) {
    for (let at = 0; at < body.length; at += chunk) yield body.subarray(at, at + chunk)
  } else if (events) {
    yield* split(body)
  } else {
    yield body
  }
}

function split(body: Uint8Array): Uint8Array[] {
  const text = Buffer.from(body).toString('latin1')
  return text.split(/(?<=\n\r?\n)/).map((event) => Buffer.from(event, 'latin1'))
}

function record(
  req: IncomingMessage,
  res: ServerResponse,
  body: Uint8Array,
  json: Record<string, unknown>,
  closed: Promise<void>,
): Seen {
  const finished = new Promise<void>((resolve) => {
    res.once('finish', () => {
      seen.finished = true
      resolve()
    })
  })
  const gone = new Promise<void>((resolve) => {
    void closed.then(() => seen.finished || resolve())
  })
  const headers = Object.entries(req.headers).map(([name, value]) => [name, String(value)])
  const seen: Seen = {
    method: req.method ?? '',
    path: req.url ?? '',
    headers: Object.fromEntries(headers) as Record<string, string>,
    body,
    ...(typeof json.model === 'string' && { model: json.model }),
    sent: 0,
    finished: false,
    gone,
    done: Promise.race([finished, gone]),
  }
  return seen
}

/** Undefined when the client leaves before its request is complete. */
async function bodyOf(req: IncomingMessage): Promise<Uint8Array | undefined> {
  const parts: Buffer[] = []
  try {
    for await (const part of req) parts.push(part as Buffer)
  } catch {
    return undefined
  }
  return new Uint8Array(Buffer.concat(parts))
}

function parse(body: Uint8Array): Record<string, unknown> {
  try {
    return object(JSON.parse(Buffer.from(body).toString()))
  } catch {
    return {}
  }
}

function object(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {}
}

function bytes(body: Uint8Array | string): Uint8Array {
  return typeof body === 'string' ? Buffer.from(body) : body
}

/** Groq's answer to the request, without a behaviour. */
function usual({ method, path }: Seen, json: Record<string, unknown>): Behaviour | undefined {
  const [pathname = ''] = path.split('?')
  const route = pathname.startsWith(base) ? pathname.slice(base.length) : ''
  switch (`${method} ${route}`) {
    case 'POST chat/completions':
      if (json.stream !== true) return { transcript: transcripts.plain }
      return object(json.stream_options).include_usage === true
        ? { transcript: transcripts['stream-include-usage'] }
        : { transcript: transcripts.stream }
    case 'POST responses':
      return { transcript: transcripts[json.stream === true ? 'responses-stream' : 'responses'] }
    case 'POST embeddings':
      return { transcript: transcripts.embeddings }
    case 'POST audio/transcriptions':
    case 'POST audio/translations':
      return transcription(String(json.response_format ?? 'json'), DURATION)
    case 'POST audio/speech':
      return { headers: { 'content-type': 'audio/wav' }, body: SPEECH }
    case 'GET models':
      return { transcript: transcripts.models }
  }
  if (method === 'GET' && /^models\/./.test(route)) return { transcript: transcripts.model }
  return undefined
}

/** The seconds of audio that a transcription reports, unless a test says otherwise. */
export const DURATION = 36.71

/** What a call to speak is answered with. */
export const SPEECH = Buffer.concat(Array.from({ length: 200 }, (_, n) => Buffer.alloc(500, n)))

/** A transcription in the forms in which Groq has answered. */
export function transcription(form: string, duration: number, text = ' Your answer.'): Behaviour {
  const x_groq = { id: 'req_01k00000000000000000000f11' }
  if (form === 'text') return { headers: { 'content-type': 'text/plain' }, body: text }
  if (form !== 'verbose_json') return { body: `${JSON.stringify({ text, x_groq })}\n` }
  const segment = {
    id: 0,
    seek: 0,
    start: 0,
    end: duration,
    text,
    tokens: [50_365, 2260, 1867],
    temperature: 0,
    avg_logprob: -0.09,
    compression_ratio: 1.2,
    no_speech_prob: 0,
  }
  const full = {
    task: 'transcribe',
    language: 'English',
    duration,
    text,
    segments: [segment],
    x_groq,
  }
  return { body: `${JSON.stringify(full)}\n` }
}

/** The texts of a multipart body, as a lenient server reads them. */
function fieldsOf({ headers }: IncomingMessage, body: Uint8Array): Record<string, string> {
  const [, boundary] = /boundary="?([^";]+)/.exec(headers['content-type'] ?? '') ?? []
  if (boundary === undefined) return {}
  const parts = Buffer.from(body).toString('latin1').split(`--${boundary}`)
  return Object.fromEntries(
    parts.flatMap((part) => {
      const [, name] = /name="?(\w+)/.exec(part) ?? []
      const end = part.indexOf('\r\n\r\n')
      return name !== undefined && end >= 0 && !part.includes('filename')
        ? [[name, part.slice(end + 4, -2)]]
        : []
    }),
  )
}

function refusal({ headers }: Seen): Behaviour | undefined {
  if (/^Bearer \S/.test(headers.authorization ?? '')) return undefined
  return failure(401, 'Invalid API Key', 'invalid_api_key')
}

function unknownUrl({ method, path }: Seen): Behaviour {
  const message = `Unknown request URL: ${method} ${path}. Please check the URL for typos, or see the docs at https://console.groq.com/docs/`
  return failure(404, message, 'unknown_url')
}

function failure(status: number, message: string, code: string): Behaviour {
  const error = { message, type: 'invalid_request_error', code }
  return { status, body: `${JSON.stringify({ error })}\n` }
}
