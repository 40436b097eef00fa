/**
 * The rules of metering as one pure reducer: (documents, command) → (documents, answer).
 *
 * The local store runs this file; `store/redis/ledger/rules.lua` is the port of it and of what it calls, function by
 * function.
 */
import {
  AUDIT_ID_CHARS,
  ENTER_MS,
  MODELS_PER_USER,
  SESSIONS_PER_USER,
  type Admit,
  type Admitted,
  type Answer,
  type Clear,
  type Command,
  type Done,
  type Enter,
  type Erase,
  type Login,
  type Logout,
  type Note,
  type Refusal,
  type Report,
  type Reported,
  type SetBlock,
  type Settle,
  type Settled,
} from './commands.ts'
import {
  advance,
  answered,
  answersOf,
  blockOf,
  filter,
  isInForce,
  newDay,
  newPast,
  newProfile,
  newQuota,
  newRow,
  newUsage,
  rowsOf,
  thin,
  useOf,
  whole,
  withPastRow,
  type Account,
  type Keep,
} from './documents.ts'
import {
  LIMITS,
  NOTHING,
  current,
  limitsOf,
  standingOf,
  windowsOf,
  type Limits,
  type Of,
  type Rows,
  type Standing,
} from './policy.ts'
import {
  ALL_MODELS,
  VERSION,
  own,
  type Amounts,
  type Audit,
  type Block,
  type DayDoc,
  type Event,
  type Lease,
  type PastDoc,
  type ProfileDoc,
  type QuotaDoc,
  type Row,
  type UsageDoc,
  type Windows,
} from './shapes.ts'
import {
  charge,
  chargedBy,
  correct,
  end,
  endDay,
  firstAnswer,
  open,
  reservedBy,
  sum,
  type First,
} from './tally.ts'
import { MINUTE_MS, WINDOWS, WINDOW_NAMES, dateOf, endOf, nextDay } from './windows.ts'

/** A command whose `now` is further ahead of the ledger's clock than this runs at the store's own time. */
export const CLOCK_TOLERANCE_MS = MINUTE_MS

/** A user's place in the indexes changes at most so often, unless their day has doubled. */
export const INDEX_MS = 10 * MINUTE_MS

/** What a reducer step leaves behind; an absent document is unchanged. */
export type Step<A extends Answer = Answer> = {
  usage?: UsageDoc
  past?: PastDoc
  profile?: ProfileDoc
  /** By model, and `*` for all of them. */
  quotas?: Record<string, QuotaDoc>
  day?: DayDoc
  event?: Event
  /** An event id that must not be entered again. */
  entered?: string
  /** The user is gone; requests of theirs until then are not entered any more. */
  erased?: { user: string; at: number }
  session?: { hash: string; until: number | undefined }
  audit?: Audit
  /** All days before this date and all events are forgotten. */
  cleared?: string
  answer: A
}

/** What of the state a command may look at; lookups, not I/O. */
export type View = {
  usage(user: string): UsageDoc | undefined
  past(user: string): PastDoc | undefined
  profile(user: string): ProfileDoc | undefined
  /** Everyone's use of a model, or of all (`*`). */
  quota(scope: string): QuotaDoc | undefined
  day(date: string): DayDoc | undefined
  /** Whether an event with this id has been entered. */
  entered(id: string): boolean
  /** Until when a user's requests were erased. */
  erasedAt(user: string): number | undefined
  /** The store's own time, in epoch ms. */
  time(): number
}

/** `tolerance`, in ms, is how far a command may be ahead of the ledger's clock before the store's own time is asked. */
export type Terms = Keep & { tolerance: number }

/** When a command runs: at its own time, but never before the ledger's clock, and not far ahead of it on its word alone. */
export function timeOf(now: number, view: View, { tolerance }: Terms): number {
  const last = view.quota(ALL_MODELS)?.at ?? -Infinity
  return Math.max(last, now - last > tolerance ? view.time() : now)
}

/** Applies one command to the state in view. */
export function reduce(command: Command, view: View, terms: Terms): Step {
  const at = timeOf(command.now, view, terms)
  switch (command.op) {
    case 'admit':
      return admit(command, at, view, terms)
    case 'settle':
      return settle(command, at, view, terms)
    case 'enter':
      return enter(command, at, view, terms)
    case 'block':
      return setBlock(command, at, view)
    case 'report':
      return report(command, at, view, terms)
    case 'erase':
      return erase(command, at)
    case 'clear':
      return clear(command, at, view)
    case 'login':
    case 'logout':
      return session(command, at)
    case 'note':
      return note(command, at)
  }
}

/**
 * Refuses, or charges the reservation at once and records the lease. The same id again gets the same answer; one that
 * has been entered, since the store was slow and the request served without it, gets no lease any more.
 */
export function admit(
  command: Admit,
  now: number,
  view: View,
  terms: Terms,
): Step<Admitted | Refusal> {
  const { id, user, model } = command
  const account = advance(view.usage(user) ?? newUsage(user, now), now, view.past, terms)
  const { usage } = account
  const { at } = usage
  const held = own(usage.leases, id)
  if (held) return { answer: admitted(held.at, groupsOf(command, usage, view.quota)) }
  if (view.entered(id)) return { answer: admitted(at, groupsOf(command, usage, view.quota)) }

  const block = blockOf(view.profile(user) ?? newProfile(user), model, at)
  if (block) return { answer: blocked(...block) }
  if (!own(usage.models, model) && Object.keys(usage.models).length >= MODELS_PER_USER) {
    return { answer: { ok: false, reason: 'models' } }
  }

  const reserved = reservedBy(command)
  const groups = groupsOf(command, usage, view.quota)
  for (const group of groups) {
    const refusal = refuse(group, reserved, at)
    if (refusal) return { answer: refusal }
  }

  const windows = countedIn(groups)
  const lease: Lease = { model, at, until: at + command.lasts, reserved, windows }
  const quotas = chargeAll(view, lease, at)
  const row = open(whole(useOf(usage, model).row), reserved)
  const next = indexed({
    ...withToday(charged(usage, lease), model, row),
    seen: at,
    leases: { ...usage.leases, [id]: lease },
  })
  if (command.ip !== undefined) next.ip = command.ip
  const answer = admitted(at, withReserved(groups, lease))
  return { ...stepOf({ ...account, usage: next }), quotas, answer }
}

/** Replaces the reservation by the real charge if the lease is still there, and does nothing otherwise. */
export function settle(command: Settle, now: number, view: View, terms: Terms): Step<Settled> {
  const { user, event } = command
  const known = view.usage(user)
  if (!known || !own(known.leases, event.id)) return { answer: { applied: false } }
  const account = advance(known, now, view.past, terms)
  const lease = own(account.usage.leases, event.id)
  if (!lease) return { answer: { applied: false } }
  return close(account, lease, event, now, view)
}

/** Counts what was served without a sure lease, as if it had been admitted at its own time; limits do not stop it. */
export function enter(command: Enter, now: number, view: View, terms: Terms): Step<Settled> {
  const { user, event } = command
  const { id, model } = event
  const gone = view.erasedAt(user) ?? -Infinity
  if (view.entered(id) || now - event.at >= ENTER_MS || event.at <= gone) {
    return { answer: { applied: false } }
  }
  const at = Math.min(event.at, now)
  const account = advance(view.usage(user) ?? newUsage(user, at), at, view.past, terms)
  const held = own(account.usage.leases, id)
  if (held) return { ...close(account, held, event, now, view), entered: id }

  const reserved = reservedBy(event)
  // It does not say which windows its limits name, so it counts in all of them.
  const windows = Object.fromEntries(WINDOW_NAMES.map((window) => [window, 1 as const]))
  const lease: Lease = { model, at, until: account.usage.at, reserved, windows }
  const quotas = chargeAll(view, lease, now)
  const { row = newRow() } = rowOf(account, view.past, dateOf(at), model)
  const opened = withRow(
    { ...account, usage: charged(account.usage, lease) },
    view.past,
    dateOf(at),
    model,
    open(row, reserved),
  )
  const seen: View = { ...view, quota: (scope) => own(quotas, scope) }
  return { ...close(opened, lease, event, now, seen), entered: id }
}

/** Ends an admitted request: its charge takes the place of its reservation in the day and the windows of admission. */
function close(
  account: Account,
  lease: Lease,
  ended: Event,
  now: number,
  view: View,
): Step<Settled> {
  const { usage } = account
  const { model, at } = lease
  const event: Event = { ...ended, at, user: usage.id, model, reserved: lease.reserved.tokens }
  if (usage.at > lease.until) event.late = true
  const { [event.id]: _, ...leases } = usage.leases

  const date = dateOf(at)
  const { row, isUnanswered } = rowOf(account, view.past, date, model)
  let next = account
  let first: First = { user: false, model: false, session: false }
  if (row) {
    first = firstAnswer(isUnanswered, row, event)
    next = withRow(account, view.past, date, model, end(row, event))
  }
  const sessions = withSession(usage, date, event)
  first.session = sessions !== usage.sessions

  const amounts = chargedBy(event)
  // Of a user's requests also those count that failed.
  const ofUser = { ...amounts, requests: 1 }
  const corrected = changeWindows(next.usage, model, (windows) => correct(windows, lease, ofUser))
  const quotas = changeQuotas(view.quota, model, now, (windows) => correct(windows, lease, amounts))
  const closed = indexed({ ...corrected, leases, sessions, seen: usage.at })
  return {
    ...stepOf({ ...next, usage: closed }),
    quotas,
    day: endDay(view.day(date) ?? newDay(date), event, first, usage.at),
    event,
    answer: { applied: true },
  }
}

/** The sessions with that of an answered request, as many as are told apart. */
function withSession(usage: UsageDoc, date: string, { session, outcome }: Event) {
  const { sessions } = usage
  if (session === undefined || date !== usage.date || outcome === 'failed') return sessions
  if (own(sessions, session) || Object.keys(sessions).length >= SESSIONS_PER_USER) return sessions
  return { ...sessions, [session]: 1 as const }
}

/** Sets or lifts a block; a user who was never seen can be blocked. It is not activity of the user's. */
export function setBlock(command: SetBlock, at: number, view: View): Step<Done> {
  const { user, model, block } = command
  const profile = view.profile(user) ?? newProfile(user)
  const { [model]: _, ...others } = filter(profile.blocks, (one) => isInForce(one, at))
  const blocks = block ? { ...others, [model]: { ...block, at: Math.min(block.at, at) } } : others
  const audit = auditOf(command, at, block ? 'block' : 'unblock', user)
  audit.model = model
  if (block?.reason !== undefined) audit.reason = block.reason
  if (block?.until !== undefined) audit.until = block.until
  return { profile: { ...profile, blocks }, audit, answer: { ok: true } }
}

/**
 * Keeps what a user's browser says, if it is more than it said before and about today. It neither counts nor lowers
 * anything, and leaves nothing behind of users without a request.
 */
export function report(command: Report, now: number, view: View, terms: Terms): Step<Reported> {
  const { user, models, limits } = command
  const known = view.usage(user)
  const account = advance(known ?? newUsage(user, now), now, view.past, terms)
  const { usage } = account
  const { at } = usage
  let { reported } = usage
  for (const [model, { tokens, requests, resetAt }] of Object.entries(models)) {
    const old = own(reported, model)
    const isFull = !old && Object.keys(reported).length >= MODELS_PER_USER
    if (resetAt !== nextDay(at) || isFull) continue
    const most = {
      requests: Math.max(old?.requests ?? 0, requests),
      tokens: Math.max(old?.tokens ?? 0, tokens),
    }
    reported = { ...reported, [model]: most }
  }
  const { blocks } = view.profile(user) ?? newProfile(user)
  const asked = { ...rowsOf(usage), ...models }
  const standing = (scope: string, row: Limits = {}) =>
    standingOf('user', scope, row, windowsOf(usage, scope), at)
  const answer: Reported = {
    ok: true,
    at,
    models: Object.fromEntries(
      Object.keys(asked).map((model) => [model, standing(model, limitsOf(limits, model))]),
    ),
    total: standing(ALL_MODELS, limits.total),
    blocks: filter(blocks, (block) => isInForce(block, at)),
  }
  return known ? { ...stepOf({ ...account, usage: { ...usage, reported } }), answer } : { answer }
}

/** Forgets a user. */
export const erase = (command: Erase, at: number): Step<Done> => ({
  erased: { user: command.user, at },
  audit: auditOf(command, at, 'erase', command.user),
  answer: { ok: true },
})

/** Opens or ends an admin's session. */
export const session = (command: Login | Logout, at: number): Step<Done> => ({
  session: { hash: command.session, until: command.op === 'login' ? command.until : undefined },
  audit: auditOf(command, at, command.op),
  answer: { ok: true },
})

/** Puts something that an admin did on record. */
export const note = (command: Note, at: number): Step<Done> => ({
  audit: auditOf(command, at, command.action),
  answer: { ok: true },
})

/** Forgets history and events; what the quotas hold on to stays. */
export function clear(command: Clear, at: number, view: View): Step<Done> {
  const date = dateOf(at)
  const today = view.day(date)
  const step: Step<Done> = {
    cleared: date,
    audit: auditOf(command, at, 'clear'),
    answer: { ok: true },
  }
  if (today) {
    const { exact, estimated } = today.total
    step.day = { ...newDay(date), forgotten: today.forgotten + exact + estimated }
  }
  return step
}

function auditOf(
  { ip }: { ip?: string },
  at: number,
  action: Audit['action'],
  user?: string,
): Audit {
  const audit: Audit = { v: VERSION, at, action }
  if (user !== undefined) audit.user = user.slice(0, AUDIT_ID_CHARS)
  if (ip !== undefined) audit.ip = ip
  return audit
}

/** The documents of a user that a step has changed. */
const stepOf = ({ usage, past }: Account) => (past ? { usage, past } : { usage })

/** Everything that a request is held against, in the order in which refusals are told. */
function groupsOf(
  command: Pick<Admit, 'model' | 'limits' | 'everyone'>,
  usage: UsageDoc,
  quota: View['quota'],
): Standing[] {
  const { model, limits, everyone = {} as Rows } = command
  const group = (of: Of, scope: string, row: Limits | undefined) => {
    const windows = of === 'user' ? windowsOf(usage, scope) : quota(scope)?.windows
    return row ? [standingOf(of, scope, row, windows, usage.at)] : []
  }
  return [
    ...group('user', model, limits.model),
    ...group('user', ALL_MODELS, limits.total),
    ...group('everyone', ALL_MODELS, everyone.total),
    ...group('everyone', model, everyone.model),
  ]
}

/** The same after an admission. */
const withReserved = (groups: Standing[], { windows, reserved }: Lease): Standing[] =>
  groups.map((group) => {
    const { used } = group
    const charged = Object.keys(windows).map((window) => [
      window,
      sum([used[window] ?? NOTHING, reserved]),
    ])
    return { ...group, used: { ...used, ...Object.fromEntries(charged) } }
  })

/** The refusal, if what is reserved would pass one of the limits. */
function refuse(group: Standing, reserved: Amounts, at: number): Refusal | undefined {
  const { of, model } = group
  for (const { name, unit, window } of LIMITS) {
    const limit = group.limits[name]
    const used = group.used[window]?.[unit] ?? 0
    const asked = reserved[unit]
    if (limit === undefined || used + asked <= limit) continue
    const resetAt = endOf(window, at)
    return { ok: false, reason: 'limit', of, model, window, unit, limit, used, asked, resetAt }
  }
  return undefined
}

/** The windows that are counted for everybody, and those in which one of these limits is. */
function countedIn(groups: Standing[]): Lease['windows'] {
  const named = LIMITS.filter(({ name }) => groups.some(({ limits }) => limits[name] !== undefined))
  return Object.fromEntries(
    WINDOW_NAMES.filter(
      (window) => WINDOWS[window].always || named.some((limit) => limit.window === window),
    ).map((window) => [window, 1]),
  )
}

/** The user's document with a lease's reservation charged to their windows. */
const charged = (usage: UsageDoc, lease: Lease): UsageDoc =>
  changeWindows(usage, lease.model, (windows) => charge(windows, lease, usage.at))

/** A user's windows of all models and of one, changed in the same way. */
function changeWindows(
  usage: UsageDoc,
  model: string,
  change: (windows: Windows) => Windows,
): UsageDoc {
  const known = own(usage.models, model)
  const use = known ?? useOf(usage, model)
  const windows = change(current(use.windows, usage.at))
  const isUsed = known !== undefined || Object.keys(windows).length > 0
  return {
    ...usage,
    windows: change(usage.windows),
    models: isUsed ? { ...usage.models, [model]: { ...use, windows } } : usage.models,
  }
}

/** What everyone has used of all models and of one, changed in the same way. */
function changeQuotas(
  quota: View['quota'],
  model: string,
  now: number,
  change: (windows: Windows, at: number) => Windows,
): Record<string, QuotaDoc> {
  const changed = [ALL_MODELS, model].map((scope) => {
    const doc = quota(scope) ?? newQuota(now)
    const at = Math.max(doc.at, now)
    return [scope, { ...doc, at, windows: change(current(doc.windows, at), at) }] as const
  })
  return Object.fromEntries(changed)
}

/** What everyone has used, with a lease's reservation charged. */
const chargeAll = ({ quota }: View, lease: Lease, now: number) =>
  changeQuotas(quota, lease.model, now, (windows, at) => charge(windows, lease, at))

/** A user's row of a day, and whether no request of that day had an answer. */
function rowOf(
  { usage, past }: Account,
  load: View['past'],
  date: string,
  model: string,
): { row?: Row; isUnanswered: boolean } {
  if (date === usage.date) {
    const { row } = useOf(usage, model)
    const isUnanswered = usage.answered === 0
    return row.requests === undefined ? { isUnanswered } : { row: whole(row), isUnanswered }
  }
  const kept = past ?? load(usage.id)
  const rows = (kept && own(kept.days, date)) ?? {}
  const row = own(rows, model)
  const isUnanswered = !Object.values(rows).map(whole).some(answered)
  return row ? { row: whole(row), isUnanswered } : { isUnanswered }
}

/** The account with one row of a day replaced. */
function withRow(
  { usage, past }: Account,
  load: View['past'],
  date: string,
  model: string,
  row: Row,
): Account {
  if (date === usage.date) return { usage: withToday(usage, model, row), past }
  const kept = past ?? load(usage.id) ?? newPast(usage.id)
  return { usage, past: withPastRow(kept, date, model, row) }
}

/** The document with one of today's rows replaced, and with the sums of them. */
function withToday(usage: UsageDoc, model: string, row: Row): UsageDoc {
  const use = useOf(usage, model)
  const old = whole(use.row)
  return {
    ...usage,
    charged: usage.charged + row.charged - old.charged,
    answered: usage.answered + answersOf(row) - answersOf(old),
    models: { ...usage.models, [model]: { ...use, row: thin(row) } },
  }
}

/** The document with what the indexes are to know, where that changes now. */
function indexed(usage: UsageDoc): UsageDoc {
  const { at, charged: tokens } = usage
  const known = usage.indexed
  const isDue =
    at - known.at >= INDEX_MS || dateOf(known.at) !== usage.date || tokens > 2 * known.tokens
  return isDue ? { ...usage, indexed: { at, tokens } } : usage
}

const blocked = (model: string, block: Block): Refusal => {
  const refusal: Refusal = { ok: false, reason: 'blocked', model }
  if (block.reason !== undefined) refusal.why = block.reason
  if (block.until !== undefined) refusal.until = block.until
  return refusal
}

const admitted = (at: number, groups: Standing[]): Admitted =>
  groups.length ? { ok: true, at, limits: groups } : { ok: true, at }
