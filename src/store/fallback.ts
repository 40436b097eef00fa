/**
 * What happens when the store is slow or gone: a breaker, a count of the isolate's own, and a queue.
 *
 * While the breaker is open, requests that are served all the same (`ON_STORE_DOWN=open`) go on under what the isolate
 * remembers; what they used is queued and handed over when the store is back. An admission whose answer was lost may have left a lease or may still do so: such
 * requests are entered, which settles the lease or keeps it from ever being there, so nothing counts twice.
 */
import type { Log } from '../log.ts'
import { scopesOf } from '../usage/ledger.ts'
import type { Admit, Admitted, Refusal, Settle, Settled } from '../usage/record.ts'
import { createBreaker } from './breaker.ts'
import { createMemory } from './memory.ts'
import type { Queue } from './queue.ts'
import { CommandError, StoreError, type Entry, type Retention, type Store } from './store.ts'

/** The wait before the store is tried again doubles with every try that fails. */
const RETRY_MS = { first: 250, most: 5000 }

/** A try that has not been heard of for so long was cut off with the request that ran it. */
const TRY_MS = 12_000

export type FallbackOptions = {
  store: Store
  /** Whether requests are served while the store is away. */
  mode: 'open' | 'closed'
  queue: Queue
  retention: Retention
  /** What an operator is told once the store has answered for the first time. */
  connected?: string | undefined
  now(): number
  log: Log
}

/** Answered from the isolate's own count, since the store is away. */
export type Degraded = { degraded?: true }

export type StoreHealth = { degraded: boolean; queued: number }

export type FallbackStore = Omit<Store, 'admit' | 'settle'> & {
  /** Rejects only when closed, or when the store is well and cannot run the command. */
  admit(command: Admit): Promise<(Admitted | Refusal) & Degraded>
  /** Whether an admission may have been applied, or may still be, without its answer being known: it must be settled. */
  isUnacknowledged(id: string): boolean
  /** Never waits for a store that is away; what it cannot take is `queued`. */
  settle(command: Settle): Promise<Settled & { queued?: true }>
  health(): StoreHealth
  /** Hands nothing over any more, since the process is about to end. */
  pause(): void
  /** Tries the store again and hands over what is queued, when that is due; to be called now and then. */
  tend(): Promise<void> | undefined
}

/** Puts a store behind the fallback. */
export function withFallback(options: FallbackOptions): FallbackStore {
  const { store, mode, queue, now, log } = options
  const memory = createMemory(options.retention)
  /** Admissions whose answer was lost, by id: they may have been applied. */
  const unacknowledged = new Map<string, Admit>()
  let paused = false
  let retry = { at: 0, wait: RETRY_MS.first }
  let tryingUntil = 0

  const breaker = createBreaker({
    connected: options.connected,
    opened(error) {
      retry = { at: now() + RETRY_MS.first, wait: RETRY_MS.first }
      log.error('store.down', { mode, error })
    },
    now,
    log,
  })
  const { call } = breaker
  const isAway = () => breaker.openSince() !== undefined

  async function send(entries: Entry[]): Promise<void> {
    if (paused) throw new StoreError('what waits is handed over after the next start')
    tryingUntil = now() + TRY_MS
    // How old an event is counts from now on, not from when it was queued.
    const fresh = entries.map((entry) => (entry.op === 'enter' ? { ...entry, now: now() } : entry))
    const answers = await store.replay(fresh)
    breaker.succeeded()
    for (const [index, answer] of answers.entries()) {
      const entry = entries[index]
      // It would fail for ever, and others wait behind it.
      if ('error' in answer && entry)
        log.error('usage.refused', { op: entry.op, usage: entry.event })
    }
  }

  async function recover(): Promise<void> {
    try {
      const since = breaker.openSince()
      if (since !== undefined) {
        await store.probe()
        log.info('store.up', { downMs: now() - since, queued: queue.length })
        breaker.close()
      }
      const { length } = queue
      await queue.drain(send)
      if (queue.length < length) log.info('usage.replayed', { events: length - queue.length })
      retry = { at: 0, wait: RETRY_MS.first }
    } catch (error) {
      if (!(error instanceof StoreError)) log.error('store.tend', { error })
      const wait = Math.min(retry.wait * 2, RETRY_MS.most)
      retry = { at: now() + wait, wait }
    } finally {
      tryingUntil = 0
    }
  }

  return {
    async admit(command) {
      const sent = !isAway()
      try {
        const answer = await call(() => store.admit(command))
        memory.learn(command, answer)
        return answer
      } catch (error) {
        if (!(error instanceof StoreError) || error instanceof CommandError) throw error
        if (sent || mode === 'open') unacknowledged.set(command.id, command)
        if (mode === 'closed') throw error
        const answer = memory.run(command) as Admitted | Refusal
        if (!answer.ok && !sent) unacknowledged.delete(command.id)
        return { ...answer, degraded: true }
      }
    },
    isUnacknowledged: (id) => unacknowledged.has(id),
    async settle(command) {
      const { id } = command.event
      const admit = unacknowledged.get(id)
      const entry = admit ? entryOf(command, admit) : command
      unacknowledged.delete(id)
      if (admit) memory.run(command)
      try {
        return await call(() => (entry.op === 'settle' ? store.settle(entry) : enter(entry)))
      } catch (error) {
        if (!(error instanceof StoreError) || error instanceof CommandError) throw error
        await queue.add(entry)
        return { applied: false, queued: true }
      }
    },
    replay: (entries) => call(() => store.replay(entries)),
    async setBlock(command) {
      const done = await call(() => store.setBlock(command))
      memory.run(command)
      return done
    },
    clear: (command) => call(() => store.clear(command)),
    takeTurn: (key, perMinute) => call(() => store.takeTurn(key, perMinute)),
    report: (command) => call(() => store.report(command)),
    erase(command) {
      memory.forget(command.user)
      return call(() => store.erase(command))
    },
    login: (command) => call(() => store.login(command)),
    logout: (command) => call(() => store.logout(command)),
    note: (command) => call(() => store.note(command)),
    session: (hash, at) => call(() => store.session(hash, at)),
    user: (id) => call(() => store.user(id)),
    audit: (limit) => call(() => store.audit(limit)),
    blockedUsers: (limit) => call(() => store.blockedUsers(limit)),
    listUsers: (query) => call(() => store.listUsers(query)),
    overview: (query) => call(() => store.overview(query)),
    days: (dates) => call(() => store.days(dates)),
    events: (limit, skip) => call(() => store.events(limit, skip)),
    probe: () => store.probe(),
    pause() {
      paused = true
    },
    health: () => ({ degraded: isAway(), queued: queue.length }),
    tend() {
      const idle = !isAway() && queue.length === 0
      if (paused || idle || now() < retry.at || now() < tryingUntil) return undefined
      tryingUntil = now() + TRY_MS
      return recover()
    },
  }

  async function enter(entry: Entry): Promise<Settled> {
    const [answer] = await store.replay([entry])
    if (!answer || 'error' in answer) throw new CommandError('the store could not run the command')
    return answer
  }
}

/** The entry of a request without a sure lease, for the counters its admission was meant for. */
function entryOf({ now, user, event }: Settle, admit: Admit): Entry {
  const entry: Entry = { op: 'enter', now, user, event: { ...event, at: admit.now } }
  const scopes = scopesOf(admit)
  return scopes ? { ...entry, scopes } : entry
}
