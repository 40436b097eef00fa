/** `/api/test`: whether the database answers, and the platform. It shows no secret and no address. */
import { Hono } from 'hono/tiny'
import { version } from '../../package.json'
import type { AppEnv, Deps } from '../context.ts'
import { allowMethods } from '../http/methods.ts'
import { StoreError } from '../store/store.ts'

/** How long a result is reused: the check writes, and anyone may call it. */
const REMEMBER_MS = 10_000

/** `connected` is null before the first check has ended. */
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
      // Concurrent callers get the previous result, so that many calls do not cause many writes.
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

  app.all('/', allowMethods('GET'))
  return app
}
