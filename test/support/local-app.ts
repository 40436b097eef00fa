/** A gateway in this process on files, with a clock that tests set and a provider that always answers. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createAlerts } from '../../src/alerts/alerts.ts'
import { createApp } from '../../src/app.ts'
import { readConfig, type Vars } from '../../src/config/config.ts'
import { streamPipe } from '../../src/gateway/pipe.ts'
import { createLog } from '../../src/log.ts'
import type { Fetch } from '../../src/ports.ts'
import { memoryQueue } from '../../src/store/fallback/queue.ts'
import { withFallback, type FallbackStore } from '../../src/store/fallback/store.ts'
import { openLocal } from '../../src/store/local/store.ts'
import type { keyReport, plansReport, profileReport } from '../../src/reports/people.ts'
import { BEARER } from './admin.ts'
import { ADMIN_KEY } from './gateways.ts'
import { addAnswer, addRequest, addSession } from './secrets.ts'
import { RETENTION } from './stores.ts'

type Sent = { method?: string; headers?: Record<string, string>; body?: BodyInit }

/** An answer, with its body as JSON; `{}` if the body is not JSON. */
type Answer = { status: number; headers: Headers; text: string; json: Json }

/** The fields that tests read of some answer. */
type Json = ReturnType<typeof profileReport> &
  Omit<ReturnType<typeof keyReport>, 'models' | 'userId'> & {
    error: { code: string; message: string; param?: string }
    key: string
    nextCursor: string | null
    users: { user: string; userId: string }[]
    plans: ReturnType<typeof plansReport>
  }

/** What the receiver of alerts got. */
export type Hook = { url: string; headers: Record<string, string>; body: string }

export type LocalApp = {
  /** Epoch ms. */
  clock: { now: number }
  /** What the receiver of alerts got, and how it answers: 204 unless a test sets something else. */
  receiver: { hooks: Hook[]; answer(hook: Hook, signal: AbortSignal): Response | Promise<Response> }
  /** How the provider answers; absent if it answers as usual. */
  provider: { answer?: () => Response }
  log: string[]
  store: FallbackStore
  send(path: string, sent?: Sent): Promise<Answer>
  /** As the admin, below /api/admin/. A body that is not a text is sent as JSON. */
  admin(method: string, path: string, body?: unknown): Promise<Answer>
  /** A chat request with a user's token, and its settlement. */
  ask(token: string, body?: object, headers?: Record<string, string>): Promise<Answer>
  /** Closes the files and opens them again, with other variables if they are given. */
  restart(vars?: Vars): Promise<void>
  close(): Promise<void>
}

export const MODEL = 'openai/gpt-oss-20b'
/** What the provider reports for each request. */
const USAGE = { prompt_tokens: 20, completion_tokens: 15, total_tokens: 35 }

export const SECRET = 'secret-of-the-tests'

const VARS: Vars = {
  GROQ_API_KEY: 'gsk_server_key',
  ADMIN_KEY,
  USER_HASH_SECRET: SECRET,
  MODEL_LIMITS: '{"*":{"tokensPerDay":1000000,"requestsPerDay":1000}}',
  GLOBAL_LIMITS: '{}',
  NEW_USERS_PER_MINUTE: '0',
  LOG_LEVEL: 'debug',
}

/** Starts one. The clock begins at noon, so that no day ends within a test. */
export async function localApp(vars: Vars = {}): Promise<LocalApp> {
  let config = readConfig({ ...VARS, ...vars }, 'node')
  const folder = await mkdtemp(join(tmpdir(), 'weir-'))
  const clock = { now: Date.UTC(2026, 10, 25, 12) }
  const now = () => clock.now
  const lines: string[] = []
  const write = (line: string) => void lines.push(line)
  const log = createLog({ level: config.logLevel, format: 'json', write })
  const work = new Set<Promise<unknown>>()
  const context = {
    waitUntil: (promise: Promise<unknown>) => void work.add(promise),
    passThroughOnException() {},
    props: {},
  }
  const receiver: LocalApp['receiver'] = {
    hooks: [],
    answer: () => new Response(null, { status: 204 }),
  }
  const provider: LocalApp['provider'] = {}
  const receive: Fetch = async (url, { headers, body, signal }) => {
    const hook = { url, headers, body: new TextDecoder().decode(body ?? undefined) }
    receiver.hooks.push(hook)
    return receiver.answer(hook, signal)
  }
  const open = async () => {
    const file = join(folder, 'usage.json')
    const warn = log.warn.bind(log)
    const local = await openLocal({ file, retention: RETENTION, now, tolerance: Infinity, warn })
    const queue = memoryQueue(log)
    const store = withFallback({
      ...{ store: local, queue, mode: 'closed', retention: RETENTION, now, log },
    })
    const alerts =
      config.alerts &&
      createAlerts({
        ...{ receiver: config.alerts, store, mode: config.onStoreDown, fetch: receive, now, log },
      })
    const app = createApp({
      ...{ config, store, alerts, now, log },
      fetch: async () =>
        provider.answer?.() ??
        Response.json({ model: MODEL, choices: [{ message: { content: 'Hi.' } }], usage: USAGE }),
      fetchKeys: async () => Response.json({ keys: [] }),
      clientIp: () => '192.0.2.1',
      claimedIp: () => undefined,
      relay: {
        pipe: () => streamPipe(),
        headers: {},
        isDecoded: () => true,
        drain: { ms: 1000, bytes: 1e6, atOnce: 1 },
      },
      environment: { platform: 'node', storage: 'file' },
    })
    return { store, app, close: local.close }
  }
  let running = await open()

  const send: LocalApp['send'] = async (path, { method = 'GET', headers = {}, body } = {}) => {
    const request = new Request(`http://weir.test${path}`, {
      ...{ method, headers },
      ...(body !== undefined && { body }),
    })
    addRequest(request.headers, body)
    const response = await running.app.fetch(request, {}, context)
    const text = await response.text()
    addSession(response.headers)
    addAnswer(response.status, text)
    // The settlement of a request continues after its answer.
    for (const promise of work) await promise
    work.clear()
    const { status } = response
    const isJson = response.headers.get('content-type')?.includes('json') && !text.includes('}\n{')
    return {
      status,
      headers: response.headers,
      text,
      json: (isJson ? JSON.parse(text) : {}) as Json,
    }
  }
  return {
    clock,
    receiver,
    provider,
    log: lines,
    get store() {
      return running.store
    },
    send,
    admin: (method, path, body) =>
      send(`/api/admin/${path}`, {
        method,
        headers: BEARER,
        ...(body !== undefined && { body: typeof body === 'string' ? body : JSON.stringify(body) }),
      }),
    ask: (token, body = {}, headers = {}) =>
      send('/api/groq/openai/v1/chat/completions', {
        method: 'POST',
        headers: { ...headers, authorization: `Bearer ${token}` },
        body: JSON.stringify({ model: MODEL, max_tokens: 20, messages: [], ...body }),
      }),
    async restart(others = vars) {
      config = readConfig({ ...VARS, ...others }, 'node')
      await running.close()
      running = await open()
    },
    async close() {
      await running.close()
      await rm(folder, { recursive: true })
    },
  }
}
