/** The gateways of `npm run screenshots`, with invented days and a clock that stands still. */
import { serve } from '@hono/node-server'
import { mkdtemp, rm } from 'node:fs/promises'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createAlerts, type Alerts } from '../src/alerts/alerts.ts'
import { createApp } from '../src/app.ts'
import { readConfig, type Vars } from '../src/config/config.ts'
import { transformPipe } from '../src/gateway/pipe.ts'
import { HOUR_MS, MINUTE_MS } from '../src/ledger/windows.ts'
import { createLog } from '../src/log.ts'
import { staticFiles } from '../src/platform/node/static-files.ts'
import { memoryQueue } from '../src/store/fallback/queue.ts'
import { withFallback, type FallbackStore } from '../src/store/fallback/store.ts'
import { openLocal } from '../src/store/local/store.ts'
import { StoreError } from '../src/store/store.ts'
import { seed } from './screenshots-data.ts'
import type { Kind } from './screenshots-deeds.ts'
import { LARGE, NOW } from './screenshots-people.ts'

const CONTEXT = { waitUntil() {}, passThroughOnException() {}, props: {} }

/** The admins: their roles and keys. */
export const ADMINS = {
  ada: ['admin', 'key-of-ada-in-the-screenshots'],
  vera: ['viewer', 'key-of-vera-in-the-screenshots'],
} as const

const VARS: Vars = {
  ADMIN_KEYS: Object.entries(ADMINS)
    .map(([name, [role, key]]) => `${name}:${role}:${key}`)
    .join(','),
  GROQ_API_KEY: 'gsk_of_the_screenshots',
  USER_HASH_SECRET: 'secret-of-the-screenshots',
  USER_TOKENS: 'issued,signed',
  USER_TOKEN_SECRETS: 'signing-secret-of-the-screenshots',
  MODEL_LIMITS: JSON.stringify({
    '*': { tokensPerDay: 60_000, requestsPerDay: 400, audioSecondsPerDay: 14_400 },
    [LARGE]: { tokensPerDay: 40_000, requestsPerDay: 200, tokensPerMinute: 8000 },
  }),
  GLOBAL_LIMITS: JSON.stringify({
    total: { tokensPerDay: 1_500_000, requestsPerDay: 10_000, audioSecondsPerDay: 36_000 },
    [LARGE]: { tokensPerDay: 400_000, requestsPerDay: 2000 },
  }),
}
const WITH_ALERTS: Vars = {
  ALERT_WEBHOOK_URL: 'https://hooks.example/weir',
  ALERT_WEBHOOK_SECRET: `whsec_${btoa('secret-of-the-screenshots')}`,
}

/** The receiver of alerts: it was removed for a while, and it fails at the end. */
const receiverStatus = (at: number): number => {
  if (Math.abs(NOW - 30 * HOUR_MS - at) < 10 * MINUTE_MS) return 410
  return at > NOW - 25 * MINUTE_MS ? 503 : 204
}

/** Starts the gateways. */
export async function openGateways() {
  const folder = await mkdtemp(join(tmpdir(), 'weir-'))
  const log = createLog({ level: 'silent', format: 'text', write: () => undefined })
  const closing: (() => unknown)[] = [() => rm(folder, { recursive: true })]
  const configOf = (vars: Vars) => readConfig({ ...VARS, ...vars }, 'node')

  async function gateway(
    { store, alerts }: { store: FallbackStore; alerts?: Alerts },
    vars: Vars = {},
    clientIp = () => '198.51.100.7',
  ): Promise<string> {
    const app = createApp({
      config: configOf(vars),
      store,
      // The provider, which lists its models.
      fetch: async () => new Response('{}'),
      fetchKeys: fetch,
      now: () => NOW,
      log,
      alerts,
      clientIp,
      claimedIp: () => undefined,
      relay: {
        pipe: transformPipe,
        headers: {},
        isDecoded: () => true,
        drain: { ms: 0, bytes: 0, atOnce: 0 },
      },
      environment: { platform: 'node', storage: 'database' },
    })
    app.get('/:file', staticFiles())
    const server = serve({
      fetch: (request, env) => app.fetch(request, env, CONTEXT),
      port: 0,
      hostname: '127.0.0.1',
    })
    closing.unshift(() => server.close())
    if (!server.listening) await new Promise((resolve) => server.once('listening', resolve))
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  }

  async function open(name: string, kind: Kind = {}) {
    const config = configOf(kind.trouble ? WITH_ALERTS : {})
    const { retention } = config
    const local = await openLocal({
      file: join(folder, `${name}.json`),
      retention,
      now: () => NOW,
      // The days are written within seconds.
      tolerance: Infinity,
      warn: () => undefined,
    })
    closing.unshift(() => local.close())
    const mode = 'open'
    const queue = memoryQueue(log)
    const store = withFallback({ store: local, mode, queue, retention, now: () => NOW, log })
    const clock = { now: NOW }
    const alerts =
      config.alerts &&
      createAlerts({
        ...{ receiver: config.alerts, store, mode, log, now: () => clock.now },
        fetch: async () => new Response(null, { status: receiverStatus(clock.now) }),
      })
    const world = { store: local, config, clock, ...(alerts && { alerts }) }
    return { store, world, ...(alerts && { alerts }) }
  }

  /** A store with the last days in it. */
  async function filled(name: string, days: number, kind: Kind = {}) {
    const opened = await open(name, kind)
    return { ...opened, users: await seed(opened.world, days, kind) }
  }

  const empty = await open('empty')
  const full = await filled('full', 90)
  const trouble = await filled('trouble', 2, { trouble: true })
  const attacked = await filled('attacked', 1, { hostile: true })
  const away: FallbackStore = {
    ...full.store,
    session: () => Promise.reject(new StoreError('away')),
    takeTurn: () => Promise.reject(new StoreError('away')),
    health: () => ({ degraded: true, queued: 37 }),
  }
  const queued = { ...full.store, health: () => ({ degraded: false, queued: 37 }) }

  const any = { USER_TOKENS: 'any', USER_TOKEN_SECRETS: '' }
  // Each guess comes from an address of its own, so that none of them is one too many.
  let guesses = 0
  const urls = {
    main: await gateway(full),
    /** Takes any token, and no keys. */
    any: await gateway(full, any),
    queued: await gateway({ store: queued }),
    away: await gateway({ store: away }),
    trouble: await gateway(trouble, WITH_ALERTS),
    hostile: await gateway(attacked),
    empty: await gateway(empty, any),
    noProvider: await gateway(empty, { GROQ_API_KEY: '' }),
    /** As on a first visit. */
    unset: await gateway(empty, { ...any, ADMIN_KEYS: '', USER_HASH_SECRET: '', GROQ_API_KEY: '' }),
    guessed: await gateway(empty, {}, () => `198.51.100.${(guesses += 1)}`),
    /** Separate, since it remembers wrong keys. */
    limited: await gateway(empty),
  }
  async function close() {
    for (const one of closing) await one()
  }
  return { urls, users: full.users, close }
}
