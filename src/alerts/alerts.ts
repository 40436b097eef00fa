/**
 * Sends alerts. The ledger has them in its outbox, so that each is delivered at least once and under one id, even after
 * a crash: an instance that takes one has a minute, and then the alert is due again. While the database is away, the
 * instance keeps its own alerts.
 */
import { v7 as uuidv7 } from 'uuid'
import type { AlertReceiver } from '../config/alerts.ts'
import type { Config } from '../config/config.ts'
import type { Delivery } from '../ledger/commands.ts'
import type { Alert, AlertFacts } from '../ledger/documents.ts'
import { DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS } from '../ledger/windows.ts'
import type { Log } from '../log.ts'
import type { Fetch } from '../ports.ts'
import type { FallbackStore } from '../store/fallback/store.ts'
import { StoreError } from '../store/store.ts'
import { attempt, base64, type Attempt } from './receiver.ts'

/**
 * The waits after failed attempts, as Standard Webhooks suggests them. After the last one, an alert is given up. Each
 * wait becomes longer by a random part.
 */
const WAITS_MS = [
  5 * SECOND_MS,
  5 * MINUTE_MS,
  30 * MINUTE_MS,
  ...[2, 5, 10, 14, 20, 24].map((hours) => hours * HOUR_MS),
]
const JITTER = 0.1

/** An instance sends an alert about an outage at most this often. */
const OUTAGE_MS = 10 * MINUTE_MS

/** Alerts are taken a few at a time, in at most this many rounds. */
const ROUNDS = 4

export type Alerts = {
  /** Delivers what is due. It never rejects, and no request waits for it. */
  deliver(): Promise<void>
  /** Notes whether the database is away, and tries again what this instance failed to deliver. To be called from time to time. */
  tend(): Promise<void> | undefined
}

export type AlertsOptions = {
  receiver: AlertReceiver
  store: FallbackStore
  mode: Config['onStoreDown']
  fetch: Fetch
  now(): number
  log: Log
}

/** What is known of a delivery after an attempt. */
function outcomeOf({ status, retryAfterMs = 0 }: Attempt, attempts: number, now: number): Delivery {
  if (status >= 200 && status < 300) return { state: 'delivered', status }
  const wait = WAITS_MS[attempts]
  if (status === 410 || wait === undefined) return { state: 'failed', status }
  const later = Math.max(wait * (1 + JITTER * Math.random()), Math.min(retryAfterMs, DAY_MS))
  return { state: 'pending', status, due: Math.round(now + later) }
}

/** Builds the sender of an instance. */
export function createAlerts({ receiver, store, mode, fetch, now, log }: AlertsOptions): Alerts {
  let hash: string | undefined
  /** When this instance looks after the outbox by itself. */
  let due: number | undefined
  let outage: { since: number; alert?: Alert } | undefined
  let toldAt = -Infinity

  const to = async () =>
    (hash ??= base64(
      await crypto.subtle.digest('SHA-256', new TextEncoder().encode(receiver.url)),
    ).slice(0, 16))

  /** Sends one alert. The log has neither the address nor the contents of the alert. */
  async function send(alert: Alert): Promise<Delivery> {
    const outcome = outcomeOf(await attempt(alert, receiver, fetch, now()), alert.attempts, now())
    const { id, type } = alert
    const { state, status } = outcome
    if (state === 'delivered') log.info('alert.delivered', { id, type, status })
    else log.warn('alert.failed', { id, type, status, retries: state === 'pending' })
    return outcome
  }

  async function deliver(): Promise<void> {
    due = undefined
    try {
      for (let round = 0; round < ROUNDS; round += 1) {
        const taken = await store.execute({ op: 'take', now: now(), to: await to() })
        const alerts = Object.values(taken.alerts)
        due = taken.due
        if (alerts.length === 0) return
        const results = await Promise.all(
          alerts.map(async (alert) => [alert.id, await send(alert)] as const),
        )
        const told = Object.fromEntries(results)
        const left = await store.execute({ op: 'tried', now: now(), to: await to(), results: told })
        due = left.due
        if (due === undefined || due > now()) return
      }
    } catch (error) {
      // The claim ends in a minute, and the alert is due again.
      due = now() + MINUTE_MS
      if (!(error instanceof StoreError)) log.error('alert.failed', { error })
    }
  }

  const made = (type: Alert['type'], facts: AlertFacts): Alert => ({
    ...{ id: uuidv7({ msecs: now() }), type, at: now(), state: 'pending', attempts: 0 },
    ...facts,
  })

  /** Tries to deliver the alert of an outage, which the database cannot keep now. */
  async function sendOutage(alert: Alert): Promise<void> {
    alert.due = Infinity
    const { state, status, due: next } = await send(alert)
    Object.assign(alert, { state, status, attempts: alert.attempts + 1, due: next })
  }

  /** The database is back. It gets the alerts that could not be delivered, and the one that it is back. */
  async function recovered({ since, alert }: NonNullable<typeof outage>): Promise<void> {
    if (!alert) return
    const facts = { downMs: Math.max(0, now() - since) }
    try {
      const { due: _, triedAt: __, ...kept } = alert
      await store.execute({ op: 'raise', now: now(), alert: kept })
      await store.execute({ op: 'raise', now: now(), alert: made('store.recovered', facts) })
    } catch (error) {
      if (!(error instanceof StoreError)) log.error('alert.failed', { error })
    }
    await deliver()
  }

  return {
    deliver,
    tend() {
      const { degraded } = store.health()
      if (degraded && !outage) {
        outage = { since: now() }
        if (now() - toldAt < OUTAGE_MS) return undefined
        toldAt = now()
        outage.alert = made('store.degraded', { mode })
        return sendOutage(outage.alert)
      }
      if (!degraded && outage) {
        const ended = outage
        outage = undefined
        return recovered(ended)
      }
      const waiting = outage?.alert
      if (waiting?.state === 'pending' && (waiting.due ?? 0) <= now()) return sendOutage(waiting)
      if (degraded || due === undefined || due > now()) return undefined
      due = undefined
      return deliver()
    },
  }
}
