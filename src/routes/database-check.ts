/** Whether the database answers: one check for all who ask within some seconds. */
import type { Deps } from '../context.ts'
import { StoreError } from '../store/store.ts'

/** How long a result is reused: the check writes, and anyone may call it. */
const REMEMBER_MS = { good: 10_000, bad: 1000 }

/** `connected` is null before the first check has ended. */
export type DatabaseState = { connected: boolean | null; latencyMs: number | null; reason?: string }

export type Checked = { database: DatabaseState; checkedAt: number }

/** The check of the database, reused for a while. */
export function rememberedCheck({
  store,
  now,
}: Pick<Deps, 'store' | 'now'>): () => Promise<Checked> {
  let known: Checked | undefined
  let wasDegraded = false

  async function check(): Promise<DatabaseState> {
    const started = performance.now()
    try {
      await store?.probe()
    } catch (error) {
      if (!(error instanceof StoreError)) throw error
      return away(error.reason)
    }
    const latencyMs = Math.round((performance.now() - started) * 10) / 10
    return store ? { connected: true, latencyMs } : away()
  }

  return async () => {
    const checkedAt = now()
    const { degraded, reason } = store?.health() ?? {}
    // Then the store is tried in the background, and checked here as soon as that succeeds.
    if (degraded) {
      wasDegraded = true
      return (known = { database: away(reason), checkedAt })
    }
    const wait = known?.database.connected === false ? REMEMBER_MS.bad : REMEMBER_MS.good
    if (!known || wasDegraded || checkedAt - known.checkedAt >= wait) {
      wasDegraded = false
      // Concurrent callers get the previous result, so that many calls do not cause many writes.
      known = { database: known?.database ?? { connected: null, latencyMs: null }, checkedAt }
      known = { database: await check(), checkedAt }
    }
    return known
  }
}

const away = (reason?: string): DatabaseState => ({
  connected: false,
  latencyMs: null,
  ...(reason !== undefined && { reason }),
})
