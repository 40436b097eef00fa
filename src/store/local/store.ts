/** The local store: the reducer over documents in memory, with a journal on disk. */
import { uptime } from 'node:os'
import type { Command } from '../../ledger/commands.ts'
import type { AnswerOf } from '../../ledger/answers.ts'
import type { Retention } from '../../ledger/advance.ts'
import { CLOCK_TOLERANCE_MS, reduce, timeOf } from '../../ledger/rules.ts'
import type { Step } from '../../ledger/step.ts'
import type { Event } from '../../ledger/events.ts'
import { HOUR_MS, MINUTE_MS, SECOND_MS, dateOf, minuteOf } from '../../ledger/windows.ts'
import { applyStep, newestOf, removeAged } from './changes.ts'
import { openJournal } from './journal.ts'
import {
  blockedUsersOf,
  daysOf,
  idsFrom,
  pageOfProfiles,
  pageOfUsers,
  policyOf,
  quotasOf,
  refusalsOf,
  usersByLabel,
  usersOf,
  wholeUserOf,
} from './reads.ts'
import { noRecords, restoreItem, stateOf, viewOf } from './state.ts'
import { alertsIn } from '../alerts.ts'
import { pageAfter, type GrowingList } from '../event-page.ts'
import type { Store, StoreError } from '../store.ts'

export type LocalOptions = {
  /** The snapshot's path, `USAGE_FILE`. */
  file: string
  retention: Retention
  now(): number
  /** Milliseconds that a command may be ahead of the ledger's clock before `time` is asked. */
  tolerance?: number
  warn(event: string, fields: Record<string, unknown>): void
  /** Called once if another process has taken over the files. Nothing can be counted from then on. */
  lost?(error: StoreError): void
}

export type LocalStore = Store & { close(): Promise<void> }

/**
 * A clock that changes of the system time do not affect: the start time of the process plus the time since, including
 * sleep of the machine.
 */
function ownTime(): () => number {
  const start = performance.timeOrigin + performance.now() - uptime() * SECOND_MS
  return () => Math.floor(start + uptime() * SECOND_MS)
}

/** Opens the store on its files. Throws `StoreError` if they cannot be used. */
export async function openLocal(options: LocalOptions): Promise<LocalStore> {
  const { retention, now, tolerance = CLOCK_TOLERANCE_MS } = options
  const { eventsKept } = retention
  const records = noRecords()
  const view = viewOf(records, ownTime())
  /** Whether the journal may still name users that were erased later. */
  let named = false

  /** Applies a command at its own time, which `timeToRun` has already checked. */
  function apply(command: Command): Step {
    const step = reduce(command, view, { ...retention, tolerance: Infinity })
    applyStep(records, step, eventsKept, command.now)
    if (step.erased) named = true
    return step
  }

  const timeToRun = (at: number) => timeOf(at, view, { ...retention, tolerance })

  /**
   * The time at which a command would run now. Expiry uses this clock, because a system clock set ahead would empty
   * the files.
   */
  const clock = () => timeToRun(now())

  /** The day on which the last snapshot was made. */
  let snapshotOn = dateOf(clock())

  /** Expired data is removed from the files within a day. */
  const isStale = () => dateOf(clock()) !== snapshotOn

  const journal = await openJournal({
    file: options.file,
    warn: options.warn,
    lost: options.lost,
    restore: (list, item) => restoreItem(records, list, item),
    replay: (command) => void apply(withCompletion(command as Command)),
    snapshot() {
      const at = clock()
      snapshotOn = dateOf(at)
      removeAged(records, at, retention)
      return stateOf(records)
    },
    stale: isStale,
  })

  // This happens even if no request ever comes again. The journal reports a failure.
  const tidying = setInterval(() => {
    if (isStale()) journal.fold().catch(() => undefined)
  }, HOUR_MS).unref()

  // Completes an erasure that a crash interrupted. The journal reports a failure.
  if (named) await journal.fold().catch(() => undefined)

  async function execute<C extends Command>(command: C): Promise<AnswerOf<C>> {
    // The journal keeps the time at which the command ran, so that a replay uses the same time.
    const dated = { ...command, now: timeToRun(command.now) }
    const step = apply(dated)
    if (step.usage || step.audit || step.outbox || step.entered !== undefined)
      await journal.append(asGranted(dated))
    // The answer may depend on a command that is not in the file yet.
    else if (!('reason' in step.answer)) await journal.written()
    if (command.op === 'erase') await journal.fold()
    return step.answer as AnswerOf<C>
  }

  /**
   * Waits until everything is in the file, because an answer must still be true after a crash. If the file cannot be
   * written, answers anyway.
   */
  async function told<T>(value: T): Promise<T> {
    await journal.written().catch(() => undefined)
    return value
  }

  const newest = (limit: number): Event[] =>
    newestOf(records.events, Math.min(limit, eventsKept)).reverse()

  const eventList: GrowingList<Event> = {
    most: eventsKept,
    async read(skip, count) {
      const end = Math.max(0, records.events.length - skip)
      return records.events.slice(Math.max(0, end - count), end).reverse()
    },
    keyOf: ({ id }) => id,
  }

  return {
    execute,
    replay: (entries) => Promise.all(entries.map((entry) => execute(entry))),
    takeTurn: turnTaker(now),
    session: (hash, at) => told((records.sessions.get(hash) ?? 0) > at),
    user: (id) => told(wholeUserOf(records, id)),
    audit: (limit) => told(records.audit.slice(0, limit)),
    alerts: () => told(alertsIn(records.outbox)),
    policy: () => told(policyOf(records)),
    searchLabels: (prefix, limit) => told(usersByLabel(records, prefix, limit)),
    searchIds: (prefix, limit) => told(idsFrom(records, prefix, limit)),
    listProfiles: (limit, from) => told(pageOfProfiles(records, limit, from)),
    listUsers: (query) => told(pageOfUsers(records, query)),
    overview({ dates, users, events: limit }) {
      const days = daysOf(records, dates)
      const page = pageOfUsers(records, users)
      const quotas = quotasOf(records, days)
      return told({ days, page, events: newest(limit), quotas, policy: policyOf(records) })
    },
    blockedUsers: (limit) => told(blockedUsersOf(records, limit)),
    days: (dates) => told(daysOf(records, dates)),
    users: (ids) => told(usersOf(records, ids)),
    pasts: (ids) => told(ids.flatMap((id) => records.past.get(id) ?? [])),
    refusals: (dates, limit) => told(refusalsOf(records, dates, limit)),
    events: (limit) => told(newest(limit)),
    async eventPage(limit, from) {
      const { items, ...rest } = await pageAfter(eventList, limit, from)
      return told({ events: items, ...rest })
    },
    async probe() {
      await journal.probe()
      return {}
    },
    close() {
      clearInterval(tidying)
      return journal.close()
    },
  }
}

/** A command of the journal. An earlier build did not write which part of a reservation is for completions. */
function withCompletion(command: Command): Command {
  if (command.op !== 'admit' || (command.completion as number | undefined) !== undefined) {
    return command
  }
  const { count, tokens } = command.completions ?? { count: 0, tokens: 0 }
  return { ...command, completion: count * tokens }
}

/**
 * A command without the limit for new users, whose counts are not in the files. It could refuse the command in a
 * replay.
 */
function asGranted(command: Command): Command {
  if (command.op !== 'admit') return command
  const { newUsers: _, ...granted } = command
  return granted
}

function turnTaker(now: () => number): Store['takeTurn'] {
  /** The turns of this minute. A restart resets them, which is harmless. */
  let turns = { minute: 0, taken: new Map<string, number>() }
  return async (key, perMinute) => {
    const minute = minuteOf(now())
    if (turns.minute !== minute) turns = { minute, taken: new Map() }
    const taken = turns.taken.get(key) ?? 0
    turns.taken.set(key, taken + 1)
    return { taken: taken < perMinute, resetAt: (minute + 1) * MINUTE_MS }
  }
}
