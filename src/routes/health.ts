/** `/api/test`: whether the database answers, and where this runs. No secret and no address. */
import { Hono } from 'hono/tiny'
import { version } from '../../package.json'
import type { AppEnv, Deps } from '../context.ts'
import { only } from '../middleware/methods.ts'
import { StoreError } from '../store/store.ts'

/** It writes, and anyone may ask, so an answer serves for so long. */
const REMEMBER_MS = 10_000

/** `degraded`: the store is away, and requests are served or refused without it. `queued`: usage that waits for it. */
type Database = { connected: boolean | null; latencyMs: number | null }

export function healthRoutes(deps: Deps): Hono<AppEnv> {
  const { store, environment, now } = deps
  const app = new Hono<AppEnv>()
  let known: { database: Database; checkedAt: number } | undefined

  async function check(): Promise<Database> {
    const started = performance.now()
    try {
      await store?.probe()
    } catch (error) {
      if (!(error instanceof StoreError)) throw error
      return { connected: false, latencyMs: null }
    }
    const latencyMs = Math.round((performance.now() - started) * 10) / 10
    return store ? { connected: true, latencyMs } : { connected: false, latencyMs: null }
  }

  app.get('/', async (c) => {
    const timestamp = now()
    if (timestamp - (known?.checkedAt ?? -Infinity) >= REMEMBER_MS) {
      // Others who ask meanwhile are told what was known: a crowd must not become a crowd of writes.
      const before = known?.database ?? { connected: null, latencyMs: null }
      known = { database: before, checkedAt: timestamp }
      known = { database: await check(), checkedAt: timestamp }
    }
    const { platform, storage } = environment
    c.header('cache-control', 'no-store')
    return c.json({
      ...known,
      ...(store?.health() ?? { degraded: false, queued: 0 }),
      storageType: storage,
      environment: { platform, isVercel: platform === 'vercel' },
      version,
      timestamp,
    })
  })

  app.all('/', only('GET'))
  return app
}
