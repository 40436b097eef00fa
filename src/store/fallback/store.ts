/**
 * What happens when the store is slow or unavailable: a breaker, counts in the isolate's memory, and a queue.
 *
 * With `ON_STORE_DOWN=open`, requests are served while the breaker is open, under the limits and counts that the
 * isolate remembers. Their usage is queued and sent when the store is back. If the answer to an admission was lost,
 * its lease may exist now or later. Such requests are entered: that settles the lease, or prevents it, so nothing
 * counts twice.
 */
import type { Log } from '../../log.ts'
import type { Admit, Command, Settle } from '../../ledger/commands.ts'
import type { Admitted, AnswerOf, Refusal, Settled } from '../../ledger/answers.ts'
import { createBreaker } from './breaker.ts'
import { createMemory } from './memory.ts'
import type { Queue } from './queue.ts'
import { createRecovery } from './recovery.ts'
import type { Retention } from '../../ledger/advance.ts'
import { MINUTE_MS } from '../../ledger/windows.ts'
import {
  CommandError,
  NewerError,
  StoreError,
  answerOf,
  type Entry,
  type Probe,
  type Store,
} from '../store.ts'

export type FallbackOptions = {
  store: Store
  /** Whether requests are served while the store is unavailable. */
  mode: 'open' | 'closed'
  queue: Queue
  retention: Retention
  /** What is logged after the first answer of the store. */
  connected?: string | undefined
  now(): number
  log: Log
}

/** Present if the answer came from the isolate's memory, because the store is unavailable. */
export type Degraded = { degraded?: true }

export type StoreHealth = {
  degraded: boolean
  queued: number
  /** Why the store is unavailable, in its own words. */
  reason?: string
  /** The policy by which the database may remove any key, if it is known to have one. */
  evicts?: string
  /** The process is about to end. */
  stopping?: true
}

/**
 * The answer to an admission tells whether it came from memory, and the answer to a settlement whether it is queued.
 */
type FallbackAnswerOf<C extends Command> = AnswerOf<C> &
  (C['op'] extends 'admit' ? Degraded : C['op'] extends 'settle' ? { queued?: true } : unknown)

export type FallbackStore = Omit<Store, 'execute'> & {
  /**
   * Rejects an admission only with mode `closed`, if a working store cannot run the command, or if the store is
   * unavailable and strangers have used up their share. A settlement never waits for an unavailable store; it is
   * `queued` instead.
   */
  execute<C extends Command>(command: C): Promise<FallbackAnswerOf<C>>
  /** Whether the answer to an admission was lost. The admission may be applied now or later, so it must be settled. */
  isUnacknowledged(id: string): boolean
  /** The same as `probe`, unless a probe has succeeded before. */
  probeOnce(): Promise<Probe>
  health(): StoreHealth
  /** Sends no more entries, because the process is about to end. */
  pause(): void
  /** Tries the store again and sends queued entries, if that is due. To be called from time to time. */
  tend(): Promise<void> | undefined
}

/** Adds the fallback to a store. */
export function withFallback(options: FallbackOptions): FallbackStore {
  const { store, mode, queue, now, log } = options
  const memory = createMemory(options.retention)
  const unacknowledged = createUnacknowledged(now)

  const breaker = createBreaker({
    connected: options.connected,
    opened(error) {
      recovery.begin()
      log.error('store.down', { mode, error })
    },
    now,
    log,
  })
  const { call, read } = breaker
  let stopping = false
  /** What the last successful probe found. */
  let known: Probe | undefined
  const isAway = () => breaker.openSince() !== undefined
  const recovery = createRecovery({ store, breaker, queue, now, log })

  async function admit(command: Admit): Promise<(Admitted | Refusal) & Degraded> {
    const sent = !isAway()
    try {
      const answer = await call(() => store.execute(command))
      memory.learn(command, answer)
      return answer
    } catch (error) {
      if (!(error instanceof StoreError) || error instanceof CommandError) throw error
      const answer = mode === 'open' ? memory.admit(command) : undefined
      const served = answer?.ok ?? false
      if (sent || served) unacknowledged.add({ admit: command, served })
      if (!answer) throw error
      return { ...answer, degraded: true }
    }
  }

  async function settle(command: Settle): Promise<Settled & { queued?: true }> {
    const unsure = unacknowledged.take(command.event.id)
    const entry = unsure ? entryOf(command, unsure) : command
    if (!unsure) memory.correct(command)
    else if (unsure.served) memory.run(command)
    try {
      return await call(() => (entry.op === 'settle' ? store.execute(entry) : enter(entry)))
    } catch (error) {
      const waits = error instanceof NewerError || !(error instanceof CommandError)
      if (!(error instanceof StoreError) || !waits) throw error
      await queue.add(entry)
      return { applied: false, queued: true }
    }
  }

  async function execute(command: Command) {
    if (command.op === 'admit') return admit(command)
    if (command.op === 'settle') return settle(command)
    const answer = await call(() => store.execute(command))
    if (command.op === 'erase') memory.forget(command.user)
    if (command.op === 'block') memory.run(command)
    if (command.op === 'report' && 'models' in answer) memory.learn(command, answer)
    return answer
  }

  return {
    execute: execute as FallbackStore['execute'],
    isUnacknowledged: (id) => unacknowledged.has(id),
    replay: (entries) => call(() => store.replay(entries)),
    takeTurn: (key, perMinute) => read(() => store.takeTurn(key, perMinute)),
    session: (hash, at) => read(() => store.session(hash, at)),
    user: (id) => read(() => store.user(id)),
    audit: (limit) => read(() => store.audit(limit)),
    alerts: () => read(() => store.alerts()),
    blockedUsers: (limit) => read(() => store.blockedUsers(limit)),
    listUsers: (query) => read(() => store.listUsers(query)),
    overview: (query) => read(() => store.overview(query)),
    policy: () => read(() => store.policy()),
    searchLabels: (prefix, limit) => read(() => store.searchLabels(prefix, limit)),
    searchIds: (prefix, limit) => read(() => store.searchIds(prefix, limit)),
    listProfiles: (limit, from) => read(() => store.listProfiles(limit, from)),
    days: (dates) => read(() => store.days(dates)),
    users: (ids) => read(() => store.users(ids)),
    pasts: (ids) => read(() => store.pasts(ids)),
    refusals: (dates, limit) => read(() => store.refusals(dates, limit)),
    events: (limit) => read(() => store.events(limit)),
    eventPage: (limit, from) => read(() => store.eventPage(limit, from)),
    probe,
    probeOnce: () => (known ? Promise.resolve(known) : probe()),
    pause() {
      stopping = true
      recovery.pause()
    },
    health() {
      const reason = breaker.reason()
      return {
        degraded: isAway(),
        queued: queue.length,
        ...(reason !== undefined && { reason }),
        ...known,
        ...(stopping && { stopping }),
      }
    },
    tend: recovery.tend,
  }

  async function probe(): Promise<Probe> {
    const found = await call(() => store.probe())
    const { evicts } = found
    if (evicts !== undefined && evicts !== known?.evicts)
      log.warn('store.evicts', { policy: evicts })
    known = found
    return found
  }

  async function enter(entry: Entry): Promise<Settled> {
    const [answer] = await store.replay([entry])
    return answerOf(answer)
  }
}

/** A request whose lease may exist now or later. `served`: memory has admitted it. */
type Unsure = { admit: Admit; served: boolean }

/** The entry of such a request. One that was not served must not count, and must not get a lease later. */
function entryOf({ now, user, event, watch }: Settle, { admit, served }: Unsure): Entry {
  const entry: Entry = { op: 'enter', now, user, event: { ...event, at: admit.now } }
  if (watch) entry.watch = watch
  return served ? entry : { ...entry, refused: true }
}

/** How long a request may take to settle after it must have ended. */
const GRACE_MS = MINUTE_MS

/** The requests whose admission is not certain, until they are settled. */
function createUnacknowledged(now: () => number) {
  const requests = new Map<string, Unsure>()
  return {
    add(unsure: Unsure): void {
      // On the edge, a request may be cut off before it is settled. The oldest come first.
      for (const [id, { admit }] of requests) {
        if (now() <= admit.now + admit.lasts + GRACE_MS) break
        requests.delete(id)
      }
      requests.set(unsure.admit.id, unsure)
    },
    has: (id: string) => requests.has(id),
    take(id: string): Unsure | undefined {
      const unsure = requests.get(id)
      requests.delete(id)
      return unsure
    },
  }
}
