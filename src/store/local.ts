/** The local store: the reducer over documents in memory, with a journal for what must outlive the process. */
import {
  activityOf,
  DAY_MS,
  ENTER_MS,
  MINUTE_MS,
  NO_END,
  dateOf,
  minuteOf,
  settledTokens,
  type Answer,
  type Audit,
  type Command,
  type DayDoc,
  type Done,
  type Settled,
} from '../usage/record.ts'
import type { Event, UserDoc } from '../usage/record.ts'
import { reduce, type Step, type View } from '../usage/ledger.ts'
import { openJournal } from './journal.ts'
import { AUDIT_KEPT, type Retention, type Store, type UserPage, type UserQuery } from './store.ts'

export type LocalOptions = {
  /** Where the snapshot is, `USAGE_FILE`. */
  file: string
  retention: Retention
  now(): number
  warn(event: string, fields: Record<string, unknown>): void
}

export type LocalStore = Store & { close(): Promise<void> }

export type State = {
  users: UserDoc[]
  days: DayDoc[]
  events: Event[]
  /** Ids of events that must not be entered again, and when these were. */
  entered?: [id: string, at: number][]
  /** Users that were erased, and when. */
  erased?: [user: string, at: number][]
  /** Hashes of open sessions, and until when. */
  sessions?: [hash: string, until: number][]
  audit?: Audit[]
}

/** Opens the store on its files. Throws `StoreError` when they cannot be used. */
export async function openLocal(options: LocalOptions): Promise<LocalStore> {
  const { retention, now } = options
  const users = new Map<string, UserDoc>()
  const days = new Map<string, DayDoc>()
  const entered = new Map<string, number>()
  /** Oldest first. */
  let events: Event[] = []

  const erased = new Map<string, number>()
  const sessions = new Map<string, number>()
  /** Those of this minute; nobody minds that a restart gives them anew. */
  let turns = { minute: 0, taken: new Map<string, number>() }
  /** Newest first. */
  let audit: Audit[] = []
  /** Whether users were erased whom older lines of the journal may still name. */
  let named = false
  const view: View = {
    day: (date) => days.get(date),
    entered: (id) => entered.has(id),
    erasedAt: (user) => erased.get(user),
  }

  function apply(command: Command): Step {
    const user = 'user' in command ? users.get(command.user) : undefined
    const step = reduce(user, command, view, retention)
    if (step.cleared) {
      for (const date of days.keys()) if (date < step.cleared) days.delete(date)
      events = []
    }
    if (step.user) users.set(step.user.id, step.user)
    if (step.day) days.set(step.day.date, step.day)
    if (step.event) keepEvent(step.event)
    if (step.audit) audit = [step.audit, ...audit].slice(0, AUDIT_KEPT)
    if (step.session) {
      const { hash, until } = step.session
      if (until === undefined) sessions.delete(hash)
      else sessions.set(hash, until)
    }
    if (step.erased) {
      const { user, at } = step.erased
      named = true
      users.delete(user)
      erased.set(user, at)
      events = events.filter((event) => event.user !== user)
    }
    if (step.entered !== undefined) entered.set(step.entered, step.event?.at ?? now())
    return step
  }

  function keepEvent(event: Event): void {
    events.push(event)
    // Cutting now and then keeps the cost of the cut out of the single request.
    if (events.length > retention.eventsKept * 1.1 + 64) events = newestOf(events)
  }

  const newestOf = (all: Event[]) =>
    retention.eventsKept > 0 ? all.slice(-retention.eventsKept) : []

  /** The day on which the last snapshot was made. */
  let snapshotOn = dateOf(now())

  /** What is still to be kept, by age. */
  function snapshot(): State {
    snapshotOn = dateOf(now())
    const oldestUser = now() - retention.userDays * DAY_MS
    const oldestDay = dateOf(now() - retention.historyDays * DAY_MS)
    for (const user of users.values()) {
      if (user.at < oldestUser && lastEnd(user) <= now()) users.delete(user.id)
    }
    for (const date of days.keys()) if (date < oldestDay) days.delete(date)
    for (const [user, at] of erased) if (now() - at >= ENTER_MS) erased.delete(user)
    for (const [hash, until] of sessions) if (until <= now()) sessions.delete(hash)
    for (const [id, at] of entered) if (now() - at >= ENTER_MS) entered.delete(id)
    if (events.length > retention.eventsKept) events = newestOf(events)
    return {
      users: [...users.values()],
      days: [...days.values()],
      events,
      entered: [...entered],
      erased: [...erased],
      sessions: [...sessions],
      audit,
    }
  }

  const journal = await openJournal({
    file: options.file,
    warn: options.warn,
    restore(saved) {
      const state = saved as State
      for (const user of state.users) users.set(user.id, user)
      for (const day of state.days) days.set(day.date, day)
      events = [...state.events]
      for (const [id, at] of state.entered ?? []) entered.set(id, at)
      for (const [user, at] of state.erased ?? []) erased.set(user, at)
      for (const [hash, until] of state.sessions ?? []) sessions.set(hash, until)
      audit = state.audit ?? []
    },
    replay: (command) => void apply(command as Command),
    snapshot,
    // What has aged leaves the files within a day.
    stale: () => dateOf(now()) !== snapshotOn,
  })

  // An erasing that a crash cut short; where the files cannot be written that is reported.
  if (named) await journal.fold().catch(() => undefined)

  async function run<A extends Answer>(command: Command): Promise<A> {
    const step = apply(command)
    if (step.user || step.audit) await journal.append(command)
    // What is said to be done already may still be on its way to the file.
    else if (!('reason' in step.answer)) await journal.written()
    return step.answer as A
  }

  /** What is told has to be there after a crash; where it cannot be written, it is told all the same. */
  async function told<T>(value: T): Promise<T> {
    await journal.written().catch(() => undefined)
    return value
  }

  const daysOf = (dates: string[]): DayDoc[] => dates.flatMap((date) => days.get(date) ?? [])

  const newest = (limit: number, skip = 0): Event[] =>
    newestOf(events)
      .reverse()
      .slice(skip, skip + limit)

  function listUsers({ sort, ascending, from, limit, now }: UserQuery): UserPage {
    const today = dateOf(now)
    const sign = ascending ? 1 : -1
    const compare = (a: Place, b: Place) =>
      sign * (a.score - b.score || (a.id < b.id ? -1 : Number(a.id > b.id)))
    const after = from && 'id' in from ? from : undefined
    const skipped = from && 'offset' in from ? from.offset : 0
    const listable = function* () {
      for (const user of users.values()) {
        const score = sort === 'tokens' ? tokensOn(user, today) : activityOf(user)
        const place = { id: user.id, score, user }
        if (score > 0 && !(after && compare(place, after) <= 0)) yield place
      }
    }
    const first = firstOf(listable(), skipped + limit + 1, compare)
    const listed = first.slice(skipped, skipped + limit)
    const last = listed.at(-1)
    const page: UserPage = { users: listed.map(({ user }) => user) }
    if (!last || first.length <= skipped + limit) return page
    const { score, id } = last
    return { ...page, next: sort === 'tokens' ? { offset: skipped + limit } : { score, id } }
  }

  return {
    admit: run,
    settle: run,
    replay: (entries) => Promise.all(entries.map((entry) => run<Settled>(entry))),
    setBlock: run,
    clear: run,
    async takeTurn(key, perMinute) {
      const minute = minuteOf(now())
      if (turns.minute !== minute) turns = { minute, taken: new Map() }
      const taken = turns.taken.get(key) ?? 0
      turns.taken.set(key, taken + 1)
      return { taken: taken < perMinute, resetAt: (minute + 1) * MINUTE_MS }
    },
    report: run,
    async erase(command) {
      const answer = await run<Done>(command)
      await journal.fold()
      return answer
    },
    login: run,
    logout: run,
    note: run,
    session: (hash, at) => told((sessions.get(hash) ?? 0) > at),
    user: (id) => told(users.get(id)),
    audit: (limit) => told(audit.slice(0, limit)),
    listUsers: (query) => told(listUsers(query)),
    overview: ({ dates, users: query, events: limit }) =>
      told({ days: daysOf(dates), page: listUsers(query), events: newest(limit) }),
    blockedUsers: (limit) =>
      told(firstOf([...users.values()].filter(hasBlock), limit, (a, b) => lastEnd(b) - lastEnd(a))),
    days: (dates) => told(daysOf(dates)),
    events: (limit, skip) => told(newest(limit, skip)),
    probe: () => journal.probe(),
    close: () => journal.close(),
  }
}

type Place = { score: number; id: string }

/** The first `count` in order; of many, those are never sorted that cannot be among them. */
function firstOf<T>(items: Iterable<T>, count: number, compare: (a: T, b: T) => number): T[] {
  let first: T[] = []
  const cut = () => (first = first.sort(compare).slice(0, count))
  for (const item of items) if (first.push(item) > 2 * count + 1000) cut()
  return cut()
}

const tokensOn = (user: UserDoc, date: string): number =>
  user.date === date ? settledTokens(user) : 0

const hasBlock = ({ blocks }: UserDoc): boolean => Object.keys(blocks).length > 0

/** When the last of a user's blocks ends; long ago without any. */
const lastEnd = ({ blocks }: UserDoc): number =>
  Math.max(...Object.values(blocks).map(({ until = NO_END }) => until))
