/** The local store: the reducer over documents in memory, with a journal for what must outlive the process. */
import { uptime } from 'node:os'
import { ENTER_MS, type AnswerOf, type Command } from '../ledger/commands.ts'
import { activityOf, endOfProfile, newPast, newProfile, newUsage } from '../ledger/documents.ts'
import { CLOCK_TOLERANCE_MS, reduce, timeOf, type Step, type View } from '../ledger/rules.ts'
import {
  ALL_MODELS,
  readDocument,
  type Audit,
  type DayDoc,
  type Event,
  type Kind,
  type PastDoc,
  type ProfileDoc,
  type QuotaDoc,
  type UsageDoc,
} from '../ledger/shapes.ts'
import { DAY_MS, MINUTE_MS, SECOND_MS, dateOf, minuteOf } from '../ledger/windows.ts'
import { openJournal } from './journal.ts'
import { QUOTA_DAYS } from './keys.ts'
import {
  AUDIT_KEPT,
  type Retention,
  type Store,
  type User,
  type UserPage,
  type UserQuery,
} from './store.ts'

export type LocalOptions = {
  /** Where the snapshot is, `USAGE_FILE`. */
  file: string
  retention: Retention
  now(): number
  /** Milliseconds that a command may be ahead of the ledger's clock before `time` is asked. */
  tolerance?: number
  warn(event: string, fields: Record<string, unknown>): void
}

export type LocalStore = Store & { close(): Promise<void> }

export type State = {
  usage: UsageDoc[]
  past: PastDoc[]
  profiles: ProfileDoc[]
  quotas: [scope: string, quota: QuotaDoc][]
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

/** Nothing is kept yet. */
export const emptyState = (): State => ({
  usage: [],
  past: [],
  profiles: [],
  quotas: [],
  days: [],
  events: [],
})

/**
 * A clock that nobody sets: the time at which the process began, and what has passed since, while the machine slept
 * too.
 */
function ownTime(): () => number {
  const start = performance.timeOrigin + performance.now() - uptime() * SECOND_MS
  return () => Math.floor(start + uptime() * SECOND_MS)
}

/** Opens the store on its files. Throws `StoreError` when they cannot be used. */
export async function openLocal(options: LocalOptions): Promise<LocalStore> {
  const { retention, now, tolerance = CLOCK_TOLERANCE_MS } = options
  const usage = new Map<string, UsageDoc>()
  const past = new Map<string, PastDoc>()
  const profiles = new Map<string, ProfileDoc>()
  const quotas = new Map<string, QuotaDoc>()
  const days = new Map<string, DayDoc>()
  const entered = new Map<string, number>()
  /** Oldest first. */
  let events: Event[] = []

  const erased = new Map<string, number>()
  const sessions = new Map<string, number>()
  /** Those of this minute; nobody minds that a restart gives them again. */
  let turns = { minute: 0, taken: new Map<string, number>() }
  /** Newest first. */
  let audit: Audit[] = []
  /** Whether users were erased whom older lines of the journal may still name. */
  let named = false
  const view: View = {
    usage: (user) => usage.get(user),
    past: (user) => past.get(user),
    profile: (user) => profiles.get(user),
    quota: (scope) => quotas.get(scope),
    day: (date) => days.get(date),
    entered: (id) => entered.has(id),
    erasedAt: (user) => erased.get(user),
    time: ownTime(),
  }

  /** Applies a command at its own time, which has been looked at. */
  function apply(command: Command): Step {
    const step = reduce(command, view, { ...retention, tolerance: Infinity })
    if (step.cleared) {
      for (const date of days.keys()) if (date < step.cleared) days.delete(date)
      events = []
    }
    if (step.usage) usage.set(step.usage.id, step.usage)
    if (step.past) past.set(step.past.id, step.past)
    if (step.profile) profiles.set(step.profile.id, step.profile)
    for (const [scope, quota] of Object.entries(step.quotas ?? {})) quotas.set(scope, quota)
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
      for (const documents of [usage, past, profiles]) documents.delete(user)
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

  /** When a command of now would run: what has aged goes by this, or a clock that is set ahead would empty the files. */
  const clock = () => timeOf(now(), view, { ...retention, tolerance })

  /** The day on which the last snapshot was made. */
  let snapshotOn = dateOf(clock())

  /** What is still to be kept, by age. */
  function snapshot(): State {
    const at = clock()
    snapshotOn = dateOf(at)
    const oldestUser = at - retention.userDays * DAY_MS
    const oldestDay = dateOf(at - retention.historyDays * DAY_MS)
    const oldestQuota = at - QUOTA_DAYS * DAY_MS
    for (const { id, at: last } of usage.values()) {
      if (last >= oldestUser) continue
      usage.delete(id)
      past.delete(id)
    }
    for (const profile of profiles.values()) {
      if (endOfProfile(profile) <= at) profiles.delete(profile.id)
    }
    // The one of all models is the clock.
    for (const [scope, { at: last }] of quotas) {
      if (scope !== ALL_MODELS && last < oldestQuota) quotas.delete(scope)
    }
    for (const date of days.keys()) if (date < oldestDay) days.delete(date)
    for (const [user, since] of erased) if (at - since >= ENTER_MS) erased.delete(user)
    for (const [hash, until] of sessions) if (until <= at) sessions.delete(hash)
    for (const [id, since] of entered) if (at - since >= ENTER_MS) entered.delete(id)
    if (events.length > retention.eventsKept) events = newestOf(events)
    return {
      usage: [...usage.values()],
      past: [...past.values()],
      profiles: [...profiles.values()],
      quotas: [...quotas],
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
      const documents = <K extends Kind>(kind: K, all: unknown[] = []) =>
        all.map((value) => {
          const doc = readDocument(kind, value)
          if (doc) return doc
          throw new TypeError(`not a ${kind} document`)
        })
      for (const doc of documents('usage', state.usage)) usage.set(doc.id, doc)
      for (const doc of documents('past', state.past)) past.set(doc.id, doc)
      for (const doc of documents('profile', state.profiles)) profiles.set(doc.id, doc)
      for (const [scope, value] of state.quotas ?? []) {
        for (const quota of documents('quota', [value])) quotas.set(scope, quota)
      }
      for (const day of documents('day', state.days)) days.set(day.date, day)
      events = [...(state.events ?? [])]
      for (const [id, at] of state.entered ?? []) entered.set(id, at)
      for (const [user, at] of state.erased ?? []) erased.set(user, at)
      for (const [hash, until] of state.sessions ?? []) sessions.set(hash, until)
      audit = state.audit ?? []
    },
    replay: (command) => void apply(command as Command),
    snapshot,
    // What has aged leaves the files within a day.
    stale: () => dateOf(clock()) !== snapshotOn,
  })

  // An erasing that a crash cut short; where the files cannot be written that is reported.
  if (named) await journal.fold().catch(() => undefined)

  async function execute<C extends Command>(command: C): Promise<AnswerOf<C>> {
    // What is journaled is the time at which it ran, so that it runs at the same one again.
    const dated = { ...command, now: timeOf(command.now, view, { ...retention, tolerance }) }
    const step = apply(dated)
    if (step.usage || step.audit) await journal.append(dated)
    // What is said to be done already may still be on its way to the file.
    else if (!('reason' in step.answer)) await journal.written()
    if (command.op === 'erase') await journal.fold()
    return step.answer as AnswerOf<C>
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

  const userOf = (id: string): User => ({
    usage: usage.get(id) ?? newUsage(id, 0),
    profile: profiles.get(id) ?? newProfile(id),
  })

  function listUsers({ sort, ascending, from, limit, now }: UserQuery): UserPage {
    const today = dateOf(now)
    const sign = ascending ? 1 : -1
    const compare = (a: Place, b: Place) =>
      sign * (a.score - b.score || (a.id < b.id ? -1 : Number(a.id > b.id)))
    const after = from && 'id' in from ? from : undefined
    const skipped = from && 'offset' in from ? from.offset : 0
    const listable = function* () {
      for (const doc of usage.values()) {
        const score = sort === 'tokens' ? tokensOn(doc, today) : activityOf(doc)
        const place = { id: doc.id, score }
        if (score > 0 && !(after && compare(place, after) <= 0)) yield place
      }
    }
    const first = firstOf(listable(), skipped + limit + 1, compare)
    const listed = first.slice(skipped, skipped + limit)
    const last = listed.at(-1)
    const page: UserPage = { users: listed.map(({ id }) => userOf(id)) }
    if (!last || first.length <= skipped + limit) return page
    const { score, id } = last
    return { ...page, next: sort === 'tokens' ? { offset: skipped + limit } : { score, id } }
  }

  /** Everyone's counters of the models of the day that is going on, if it is among those, and of all of them. */
  function quotasOf(found: DayDoc[]): Record<string, QuotaDoc> {
    const today = dateOf(quotas.get(ALL_MODELS)?.at ?? 0)
    const day = found.find(({ date }) => date === today)
    const scopes = [ALL_MODELS, ...Object.keys(day?.models ?? {})]
    return Object.fromEntries(
      scopes.flatMap((scope) => {
        const quota = quotas.get(scope)
        return quota ? [[scope, quota] as const] : []
      }),
    )
  }

  return {
    execute,
    replay: (entries) => Promise.all(entries.map((entry) => execute(entry))),
    async takeTurn(key, perMinute) {
      const minute = minuteOf(now())
      if (turns.minute !== minute) turns = { minute, taken: new Map() }
      const taken = turns.taken.get(key) ?? 0
      turns.taken.set(key, taken + 1)
      return { taken: taken < perMinute, resetAt: (minute + 1) * MINUTE_MS }
    },
    session: (hash, at) => told((sessions.get(hash) ?? 0) > at),
    user: (id) =>
      told(
        usage.has(id) || profiles.has(id)
          ? { ...userOf(id), past: past.get(id) ?? newPast(id) }
          : undefined,
      ),
    audit: (limit) => told(audit.slice(0, limit)),
    listUsers: (query) => told(listUsers(query)),
    overview({ dates, users, events: limit }) {
      const found = daysOf(dates)
      const page = listUsers(users)
      return told({ days: found, page, events: newest(limit), quotas: quotasOf(found) })
    },
    blockedUsers: (limit) =>
      told(
        firstOf(
          [...profiles.values()].filter(hasBlock),
          limit,
          (a, b) => endOfProfile(b) - endOfProfile(a),
        ),
      ),
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

/** Tokens of a day, as the index knows them. */
const tokensOn = ({ indexed }: UsageDoc, date: string): number =>
  dateOf(indexed.at) === date ? indexed.tokens : 0

const hasBlock = ({ blocks }: ProfileDoc): boolean => Object.keys(blocks).length > 0
