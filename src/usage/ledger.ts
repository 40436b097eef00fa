/**
 * The rules of metering as one pure reducer: (state, command) → (state, answer).
 *
 * The state in view is the document of the command's user and, where everyone together is counted, that of
 * a day. The local store runs this file; `store/ledger.lua.ts` is its port, function by function.
 */
import {
  ALL_MODELS,
  DAY_MS,
  HOUR_MS,
  MINUTE_MS,
  LATE_SETTLE_MS,
  MODELS_PER_USER,
  dateOf,
  minuteOf,
  nextDay,
  own,
  unsettled,
  type Admit,
  type Admitted,
  type Answer,
  type Block,
  type BlockSet,
  type Command,
  type Count,
  type DayDoc,
  type DayRow,
  type Event,
  type Lease,
  type Limits,
  type PastRow,
  type Refusal,
  type Row,
  type SetBlock,
  type Settle,
  type Settled,
  type UserDoc,
} from './record.ts'

/** What a reducer step leaves behind; an absent document is unchanged. */
export type Step<A extends Answer = Answer> = {
  user?: UserDoc
  day?: DayDoc
  event?: Event
  answer: A
}

/** Reads a day's document; a lookup in the same state, not I/O. */
export type LoadDay = (date: string) => DayDoc | undefined

const NOTHING: Count = { tokens: 0, requests: 0 }

/** Days a user's past is kept. */
export type Keep = { userDays: number }

/** Applies one command to the state in view. */
export function reduce(
  user: UserDoc | undefined,
  command: Command,
  loadDay: LoadDay,
  keep: Keep,
): Step {
  switch (command.op) {
    case 'admit':
      return admit(user, command, loadDay, keep)
    case 'settle':
      return settle(user, command, loadDay, keep)
    case 'block':
      return setBlock(user, command)
  }
}

/** Refuses, or charges the bound at once and records the lease. The same id again gets the same answer. */
export function admit(
  user: UserDoc | undefined,
  command: Admit,
  loadDay: LoadDay,
  keep: Keep,
): Step<Admitted | Refusal> {
  const doc = advance(user ?? newUser(command.user, command.now), command.now, keep)
  const { model, bound } = command
  const held = own(doc.leases, command.id)
  if (held) return { answer: admitted(doc, held) }

  const block = own(doc.blocks, ALL_MODELS) ?? own(doc.blocks, model)
  if (block) {
    const scope = own(doc.blocks, ALL_MODELS) ? ALL_MODELS : model
    return { answer: blocked(scope, block) }
  }
  const row = own(doc.rows, model)
  if (!row && Object.keys(doc.rows).length >= MODELS_PER_USER) {
    return { answer: { ok: false, reason: 'models' } }
  }

  const day = command.global && advanceDay(loadDay(dateOf(doc.at)), doc.at)
  for (const check of checks(doc, day, command)) {
    const refusal = refuse(check, bound, doc.at)
    if (refusal) return { answer: refusal }
  }

  const scopes = command.global?.model ? [ALL_MODELS, model] : [ALL_MODELS]
  const lease: Lease = { model, at: doc.at, bound, until: doc.at + command.lasts }
  if (day) lease.scopes = scopes
  const old = row ?? newRow()
  const next: UserDoc = {
    ...doc,
    rows: {
      ...doc.rows,
      [model]: {
        ...old,
        requests: old.requests + 1,
        charged: old.charged + bound,
        held: old.held + bound,
      },
    },
    minute: { n: doc.minute.n, rows: addCount(doc.minute.rows, model, bound, 1) },
    leases: { ...doc.leases, [command.id]: lease },
  }
  if (command.ip !== undefined) next.ip = command.ip
  const step: Step<Admitted> = { user: next, answer: admitted(next, lease) }
  if (day) step.day = hold(day, scopes, bound)
  return step
}

/** Replaces the bound by the real charge if the lease is still there, and does nothing otherwise. */
export function settle(
  user: UserDoc | undefined,
  command: Settle,
  loadDay: LoadDay,
  keep: Keep,
): Step<Settled> {
  if (!user || !own(user.leases, command.event.id)) return { answer: { applied: false } }
  const doc = advance(user, command.now, keep)
  const lease = own(doc.leases, command.event.id)
  if (!lease) return { answer: { applied: false } }

  const event: Event = {
    ...command.event,
    at: lease.at,
    user: doc.id,
    model: lease.model,
    bound: lease.bound,
  }
  if (doc.at > lease.until) event.late = true
  const { [event.id]: _, ...leases } = doc.leases
  const next: UserDoc = { ...doc, leases, seen: doc.at }

  const date = dateOf(lease.at)
  const rows: Record<string, PastRow> = (date === doc.date ? doc.rows : own(doc.past, date)) ?? {}
  const row = own(rows, lease.model)
  let first: First = { user: false, model: false }
  if (row && 'held' in row) {
    first = firstAnswer(rows, row, event)
    const ended = end(row, event)
    if (date === doc.date) next.rows = { ...doc.rows, [lease.model]: ended }
    else next.past = { ...doc.past, [date]: { ...rows, [lease.model]: shorten(ended) } }
  }
  if (minuteOf(lease.at) === doc.minute.n) {
    next.minute = {
      n: doc.minute.n,
      rows: addCount(doc.minute.rows, lease.model, event.charged - lease.bound, 0),
    }
  }
  const day = endDay(loadDay(date) ?? newDay(date), lease, event, { first, at: doc.at })
  return { user: next, day, event, answer: { applied: true } }
}

/** Sets or lifts a block; a user who was never seen can be blocked. It is not activity of the user's. */
export function setBlock(user: UserDoc | undefined, command: SetBlock): Step<BlockSet> {
  const doc = user ?? newUser(command.user, command.now)
  const { [command.model]: _, ...others } = doc.blocks
  const blocks = command.block ? { ...others, [command.model]: command.block } : others
  return { user: { ...doc, blocks }, answer: { ok: true } }
}

const newUser = (id: string, now: number): UserDoc => ({
  v: 1,
  id,
  at: now,
  date: dateOf(now),
  rows: {},
  past: {},
  minute: { n: minuteOf(now), rows: {} },
  leases: {},
  blocks: {},
})

/** A row without any use. */
export const newRow = (): Row => ({
  requests: 0,
  settled: 0,
  partial: 0,
  failed: 0,
  charged: 0,
  held: 0,
  prompt: 0,
  completion: 0,
  overshoot: 0,
})

const newDayRow = (): DayRow => ({
  requests: 0,
  settled: 0,
  partial: 0,
  failed: 0,
  charged: 0,
  prompt: 0,
  completion: 0,
  overshoot: 0,
  users: 0,
  hours: {},
  at: 0,
})

const newDay = (date: string): DayDoc => ({
  v: 1,
  date,
  total: newDayRow(),
  models: {},
  quota: {},
  minute: { n: 0, rows: {} },
})

/** Brings a user's document to a moment: the day and minute roll over, what has run out goes. */
function advance(doc: UserDoc, now: number, keep: Keep): UserDoc {
  const at = Math.max(doc.at, now)
  const date = dateOf(at)
  const next: UserDoc = {
    ...doc,
    at,
    leases: filter(doc.leases, (lease) => at - lease.at < LATE_SETTLE_MS),
    blocks: filter(doc.blocks, (block) => block.until === undefined || block.until > at),
  }
  if (minuteOf(at) !== doc.minute.n) next.minute = { n: minuteOf(at), rows: {} }
  if (date !== doc.date) {
    const short = Object.entries(doc.rows).map(([model, row]) => [model, shorten(row)] as const)
    const past = short.length ? { ...doc.past, [doc.date]: Object.fromEntries(short) } : doc.past
    const oldest = dateOf(at - keep.userDays * DAY_MS)
    next.past = filter(past, (_, day) => day >= oldest)
    next.date = date
    next.rows = {}
  }
  return next
}

/** A past row is kept in full as long as a lease of it may still settle, or if only so it shows that it answered. */
const shorten = (row: Row): PastRow =>
  unsettled(row) > 0 || (row.charged === 0 && answered(row))
    ? row
    : { requests: row.requests, charged: row.charged }

/** A day's minute counters at a moment; the clocks of the users differ, the latest one rules. */
function advanceDay(doc: DayDoc | undefined, at: number): DayDoc {
  const day = doc ?? newDay(dateOf(at))
  return minuteOf(at) > day.minute.n ? { ...day, minute: { n: minuteOf(at), rows: {} } } : day
}

const blocked = (model: string, block: Block): Refusal => {
  const refusal: Refusal = { ok: false, reason: 'blocked', model }
  if (block.reason !== undefined) refusal.why = block.reason
  if (block.until !== undefined) refusal.until = block.until
  return refusal
}

const admitted = (doc: UserDoc, lease: Lease): Admitted => ({
  ok: true,
  at: lease.at,
  day: dayCount(own(doc.rows, lease.model)),
  minute: own(doc.minute.rows, lease.model) ?? NOTHING,
})

type Check = {
  of: 'user' | 'everyone'
  model: string
  limits: Limits | undefined
  day: Count
  minute: Count
}

/** What is held against which limits, in the order in which refusals are told. */
function checks(doc: UserDoc, day: DayDoc | undefined, { model, limits, global }: Admit): Check[] {
  const { rows } = doc.minute
  const all: Check[] = [
    {
      of: 'user',
      model,
      limits: limits.model,
      day: dayCount(own(doc.rows, model)),
      minute: own(rows, model) ?? NOTHING,
    },
    {
      of: 'user',
      model: ALL_MODELS,
      limits: limits.total,
      day: sum(Object.values(doc.rows).map(dayCount)),
      minute: sum(Object.values(rows)),
    },
  ]
  if (!day || !global) return all
  const shared = (scope: string, limits: Limits | undefined): Check => ({
    of: 'everyone',
    model: scope,
    limits,
    day: own(day.quota, scope) ?? NOTHING,
    minute: own(day.minute.rows, scope) ?? NOTHING,
  })
  return [...all, shared(ALL_MODELS, global.total), shared(model, global.model)]
}

/** The refusal, if a request of `bound` tokens would pass one of the limits. */
function refuse(check: Check, bound: number, at: number): Refusal | undefined {
  const { of, model, limits, day, minute } = check
  if (!limits) return undefined
  const tries = [
    ['day', 'requests', limits.requestsPerDay, day.requests, 1],
    ['day', 'tokens', limits.tokensPerDay, day.tokens, bound],
    ['minute', 'requests', limits.requestsPerMinute, minute.requests, 1],
    ['minute', 'tokens', limits.tokensPerMinute, minute.tokens, bound],
  ] as const
  for (const [per, unit, limit, used, asked] of tries) {
    if (limit === undefined || used + asked <= limit) continue
    const resetAt = per === 'day' ? nextDay(at) : (minuteOf(at) + 1) * MINUTE_MS
    return { ok: false, reason: 'limit', of, model, per, unit, limit, used, asked, resetAt }
  }
  return undefined
}

const dayCount = (row: Row | undefined): Count => ({
  tokens: row?.charged ?? 0,
  requests: row?.requests ?? 0,
})

const sum = (counts: Count[]): Count => ({
  tokens: counts.reduce((total, count) => total + count.tokens, 0),
  requests: counts.reduce((total, count) => total + count.requests, 0),
})

const addCount = (counts: Record<string, Count>, key: string, tokens: number, requests: number) => {
  const old = own(counts, key) ?? NOTHING
  return {
    ...counts,
    [key]: { tokens: old.tokens + tokens, requests: old.requests + requests },
  }
}

/** Charges a bound to the counters of everyone together. */
function hold(day: DayDoc, scopes: string[], bound: number): DayDoc {
  let { quota } = day
  let { rows } = day.minute
  for (const scope of scopes) {
    quota = addCount(quota, scope, bound, 1)
    rows = addCount(rows, scope, bound, 1)
  }
  return { ...day, quota, minute: { n: day.minute.n, rows } }
}

/** Adds what has ended to a row's outcomes and sums. */
const tally = <T extends Row | DayRow>(row: T, event: Event): T => ({
  ...row,
  [event.outcome]: row[event.outcome] + 1,
  prompt: row.prompt + (event.prompt ?? 0),
  completion: row.completion + (event.completion ?? 0),
  overshoot: row.overshoot + Math.max(0, event.charged - event.bound),
})

const end = (row: Row, event: Event): Row => ({
  ...tally(row, event),
  charged: row.charged - event.bound + event.charged,
  held: row.held - event.bound,
})

const endDayRow = (row: DayRow, event: Event, first: boolean, at: number): DayRow => {
  const hour = String(Math.floor((event.at % DAY_MS) / HOUR_MS))
  return {
    ...tally(row, event),
    requests: row.requests + 1,
    charged: row.charged + event.charged,
    users: row.users + (first ? 1 : 0),
    hours: { ...row.hours, [hour]: (row.hours[hour] ?? 0) + event.charged },
    at: Math.max(row.at, at),
  }
}

type First = { user: boolean; model: boolean }

/** Whether this is the user's first answer of the day, and the first with this model: so unique users are counted. */
function firstAnswer(rows: Record<string, PastRow>, row: Row, event: Event): First {
  if (event.outcome === 'failed') return { user: false, model: false }
  return { user: !Object.values(rows).some(answered), model: !answered(row) }
}

const answered = (row: PastRow): boolean =>
  'held' in row ? row.settled + row.partial > 0 : row.charged > 0

/** Adds what has ended to its day. A model enters the day only once it has answered. */
function endDay(
  day: DayDoc,
  lease: Lease,
  event: Event,
  seen: { first: First; at: number },
): DayDoc {
  const { model } = lease
  const { first, at } = seen
  const change = event.charged - lease.bound
  let { quota, models } = day
  let { rows } = day.minute
  for (const scope of lease.scopes ?? []) {
    if (own(quota, scope)) quota = addCount(quota, scope, change, 0)
    if (minuteOf(lease.at) === day.minute.n && own(rows, scope)) {
      rows = addCount(rows, scope, change, 0)
    }
  }
  const known = own(models, model)
  if (known || event.outcome !== 'failed') {
    models = { ...models, [model]: endDayRow(known ?? newDayRow(), event, first.model, at) }
  }
  return {
    ...day,
    total: endDayRow(day.total, event, first.user, at),
    models,
    quota,
    minute: { n: day.minute.n, rows },
  }
}

const filter = <T>(record: Record<string, T>, keep: (value: T, key: string) => boolean) =>
  Object.fromEntries(Object.entries(record).filter(([key, value]) => keep(value, key)))
