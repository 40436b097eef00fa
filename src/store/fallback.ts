/**
 * What happens when the store is slow or gone: a breaker, a count of the isolate's own, and a queue.
 *
 * While the breaker is open, requests that are served all the same (`ON_STORE_DOWN=open`) go on under what the isolate
 * remembers; what they used is queued and handed over when the store is back. An admission whose answer was lost may have left a lease or may still do so: such
 * requests are entered, which settles the lease or keeps it from ever being there, so nothing counts twice.
 */
import type { Log } from '../log.ts'
import type {
  Admit,
  Admitted,
  AnswerOf,
  Command,
  Refusal,
  Settle,
  Settled,
} from '../ledger/commands.ts'
import { createBreaker } from './breaker.ts'
import { createMemory } from './memory.ts'
import type { Queue } from './queue.ts'
import {
  CommandError,
  NewerError,
  StoreError,
  answerOf,
  type Entry,
  type Retention,
  type Store,
} from './store.ts'

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

/** An admission says where it was answered from, and an end where it waits. */
type FallbackAnswerOf<C extends Command> = AnswerOf<C> &
  (C['op'] extends 'admit' ? Degraded : C['op'] extends 'settle' ? { queued?: true } : unknown)

export type FallbackStore = Omit<Store, 'execute'> & {
  /**
   * Rejects an admission only when closed, or when the store is well and cannot run the command. A settlement never waits
   * for a store that is away; what it cannot take is `queued`.
   */
  execute<C extends Command>(command: C): Promise<FallbackAnswerOf<C>>
  /** Whether an admission may have been applied, or may still be, without its answer being known: it must be settled. */
  isUnacknowledged(id: string): boolean
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
  let newerTold = 0

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

  /** Gives back what is for a newer version of Weir to count. */
  async function send(entries: Entry[]): Promise<Entry[]> {
    if (paused) throw new StoreError('what waits is handed over after the next start')
    tryingUntil = now() + TRY_MS
    // How old an event is counts from now on, not from when it was queued.
    const fresh = entries.map((entry) => (entry.op === 'enter' ? { ...entry, now: now() } : entry))
    const answers = await store.replay(fresh)
    breaker.succeeded()
    return entries.filter((entry, index) => {
      const answer = answers[index]
      const error = answer && 'error' in answer ? answer.error : undefined
      // It would fail for ever.
      if (error === 'failed') log.error('usage.refused', { op: entry.op, usage: entry.event })
      return error === 'newer'
    })
  }

  /** Tells once how many entries wait for this instance to be updated. */
  function tellNewer(entries: number): void {
    if (entries > newerTold) {
      const help = 'a newer version of Weir has to count them; update this one'
      log.warn('usage.newer', { entries, help })
    }
    newerTold = entries
  }

  function tryLater(): void {
    const wait = Math.min(retry.wait * 2, RETRY_MS.most)
    retry = { at: now() + wait, wait }
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
      const newer = await queue.drain(send)
      if (queue.length < length) log.info('usage.replayed', { events: length - queue.length })
      tellNewer(newer)
      if (newer) tryLater()
      else retry = { at: 0, wait: RETRY_MS.first }
    } catch (error) {
      if (!(error instanceof StoreError)) log.error('store.tend', { error })
      tryLater()
    } finally {
      tryingUntil = 0
    }
  }

  async function admit(command: Admit): Promise<(Admitted | Refusal) & Degraded> {
    const sent = !isAway()
    try {
      const answer = await call(() => store.execute(command))
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
  }

  async function settle(command: Settle): Promise<Settled & { queued?: true }> {
    const { id } = command.event
    const admit = unacknowledged.get(id)
    const entry = admit ? entryOf(command, admit) : command
    unacknowledged.delete(id)
    if (admit) memory.run(command)
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
    if (command.op === 'erase') memory.forget(command.user)
    const answer = await call(() => store.execute(command))
    if (command.op === 'block') memory.run(command)
    return answer
  }

  return {
    execute: execute as FallbackStore['execute'],
    isUnacknowledged: (id) => unacknowledged.has(id),
    replay: (entries) => call(() => store.replay(entries)),
    takeTurn: (key, perMinute) => call(() => store.takeTurn(key, perMinute)),
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
    return answerOf(answer)
  }
}

/** The entry of a request without a sure lease. */
const entryOf = ({ now, user, event }: Settle, admit: Admit): Entry => ({
  op: 'enter',
  now,
  user,
  event: { ...event, at: admit.now },
})
