/**
 * The books that a test keeps beside a ledger. From the commands, in the order in which they were applied, they compute
 * the answer of each command and the content of the documents. They share no code with the rules: windows come from the
 * calendar, a fit from a search, and money is a `bigint` of nano-USD.
 */
import { expect } from 'vitest'
import type {
  Admit,
  Command,
  Enter,
  Report,
  SetKey,
  SetProfile,
  Settle,
} from '../../src/ledger/commands.ts'
import { ENTER_MS, LATE_SETTLE_MS } from '../../src/ledger/capacity.ts'
import type { Answer } from '../../src/ledger/answers.ts'
import { answersOf, rowsOf, whole } from '../../src/ledger/rows.ts'
import { mapValues } from '../../src/ledger/records.ts'
import { newDayRow, newRow } from '../../src/ledger/new-documents.ts'
import type { Price, Priced } from '../../src/ledger/money.ts'
import type { Limits, Rows, Standing } from '../../src/ledger/policy.ts'
import type { Amounts } from '../../src/ledger/units.ts'
import type {
  Block,
  DayDoc,
  DayRow,
  PastDoc,
  PlanDoc,
  QuotaDoc,
  Row,
  StoredRows,
  UsageDoc,
  Windows,
} from '../../src/ledger/documents.ts'
import type { Event } from '../../src/ledger/events.ts'

/** In the order in which limits are checked. */
const WINDOWS = ['month', 'week', 'day', 'hour', 'minute'] as const
/** Windows that every request counts in, and in which a request without a maximum gets what is left. */
const LONG: readonly string[] = ['month', 'week', 'day']
const UNITS = ['requests', 'tokens', 'usd', 'audioSeconds', 'characters'] as const
const OUTCOMES = ['exact', 'estimated', 'failed', 'lost'] as const
const MONEY = ['cost', 'reservedCost', 'lostCost'] as const

/** The fewest completion tokens that a request without a maximum is granted. */
const FEWEST = 256

/** In a month and in a week, everyone together may use at most this amount of money or of tokens. */
const MOST = 9_000_000_000_000_000n

/** When the window of a moment began, by the calendar. */
function startOf(window: string, at: number): number {
  const date = new Date(at)
  if (window === 'minute') return date.setUTCSeconds(0, 0)
  if (window === 'hour') return date.setUTCMinutes(0, 0, 0)
  date.setUTCHours(0, 0, 0, 0)
  // Sunday is 0, and weeks begin on Mondays.
  if (window === 'week') date.setUTCDate(date.getUTCDate() - ((date.getUTCDay() + 6) % 7))
  if (window === 'month') date.setUTCDate(1)
  if (window === 'year') date.setUTCMonth(0, 1)
  return date.getTime()
}

/** When the window of a moment ends. */
export function endOf(window: string, at: number): number {
  const date = new Date(startOf(window, at))
  if (window === 'minute') return date.setUTCMinutes(date.getUTCMinutes() + 1)
  if (window === 'hour') return date.setUTCHours(date.getUTCHours() + 1)
  if (window === 'month') return date.setUTCMonth(date.getUTCMonth() + 1)
  if (window === 'year') return date.setUTCFullYear(date.getUTCFullYear() + 1)
  return date.setUTCDate(date.getUTCDate() + (window === 'week' ? 7 : 1))
}

const dateOf = (at: number) => new Date(at).toISOString().slice(0, 10)

/** What tokens and audio cost in nano-USD, rounded up once. */
export function costOf(
  { prompt, cached = 0, completion, ...audio }: Priced,
  { input, cached: again = input, output, audioHour = 0, characters = 0 }: Price,
): bigint {
  const pico =
    BigInt(prompt - cached) * BigInt(input) +
    BigInt(cached) * BigInt(again) +
    BigInt(completion) * BigInt(output) +
    BigInt(audio.characters ?? 0) * BigInt(characters)
  // There are 3,600,000 ms in an hour.
  const all = pico * 3600n + BigInt(audio.audioMs ?? 0) * BigInt(audioHour)
  return (all + 3_599_999n) / 3_600_000n
}

/** Money as a document or an answer has it. */
function plain(nano: bigint): number {
  if (nano > MOST) throw new Error(`The test charges ${nano} nano-USD, which is too much.`)
  return Number(nano)
}

/** The stored documents. */
export type Stored = {
  usage: UsageDoc[]
  past: PastDoc[]
  days: DayDoc[]
  quotas: Record<string, QuotaDoc>
  events: Event[]
}

/** An amount in each unit. */
type Sum = {
  requests: number
  tokens: number
  usd: bigint
  audioSeconds: number
  characters: number
}

/** A row with exact money. */
type Exact<R> = Omit<R, (typeof MONEY)[number]> & Record<(typeof MONEY)[number] & keyof R, bigint>

type Lease = {
  model: string
  at: number
  until: number
  reserved: Sum
  windows: readonly string[]
  /** What the admission granted, if it was less than what was asked for. */
  maximum?: number | undefined
  unverified?: boolean | undefined
}

/** Amounts by window, start and scope. */
type Counters = Map<string, Sum>

/** A row of limits with its use. */
type Stand = { of: Standing['of']; model: string; limits: Limits; used: Record<string, Sum> }

type Account = {
  /** When the document began. */
  since: number
  at: number
  /** By date and model. */
  rows: Map<string, Exact<Row>>
  leases: Map<string, Lease>
  used: Counters
  /** What keys were charged, by key and month. */
  keys: Counters
  /** When the last window ends that a limit of the user names, if that is not today. */
  limitedUntil?: number | undefined
}

/** What admins decided about a user. */
type Decided = {
  limits: StoredRows
  boost?: { limits: StoredRows; until: number }
  /** The hashes of keys. */
  keys: Map<string, { hash: string; disabled: boolean }>
}

/** The stored rows that apply to a model. */
const storedRows = (rows: StoredRows, model: string): Rows => ({
  model: Object.hasOwn(rows, model) ? rows[model] : rows['*'],
  total: rows['total'],
})

type Day = { total: Exact<DayRow>; models: Map<string, Exact<DayRow>>; forgotten: number }

const newAccount = (at: number): Account => ({
  since: at,
  at,
  rows: new Map(),
  leases: new Map(),
  used: new Map(),
  keys: new Map(),
})

const none = (): Sum => ({ requests: 0, tokens: 0, usd: 0n, audioSeconds: 0, characters: 0 })

const plus = (a: Sum, b: Sum): Sum => ({
  requests: a.requests + b.requests,
  tokens: a.tokens + b.tokens,
  usd: a.usd + b.usd,
  audioSeconds: a.audioSeconds + b.audioSeconds,
  characters: a.characters + b.characters,
})

/** Amounts as a document or an answer has them. */
const amountsOf = ({ usd, requests, tokens, audioSeconds, characters }: Sum): Amounts => ({
  requests,
  tokens,
  usd: plain(usd),
  ...(audioSeconds !== 0 && { audioSeconds }),
  ...(characters !== 0 && { characters }),
})

const exactRow = (): Exact<Row> => ({ ...newRow(), cost: 0n, reservedCost: 0n, lostCost: 0n })
const exactDayRow = (): Exact<DayRow> => ({ ...newDayRow(), cost: 0n })

/** A row as a document has it. */
const rowOf = <R extends object>(row: R) =>
  mapValues(row as Record<string, unknown>, (value) =>
    typeof value === 'bigint' ? plain(value) : value,
  )

const counted = (counters: Counters, window: string, scope: string, at: number): Sum =>
  counters.get(`${window} ${startOf(window, at)} ${scope}`) ?? none()

function add(counters: Counters, { at, windows }: Lease, scopes: string[], amounts: Sum): void {
  for (const window of windows) {
    for (const scope of scopes) {
      const key = `${window} ${startOf(window, at)} ${scope}`
      counters.set(key, plus(counters.get(key) ?? none(), amounts))
    }
  }
}

/** The scopes in which everyone's use of a lease is counted. */
const scopesOf = ({ model, unverified }: Lease): string[] =>
  unverified ? ['*', model, '~*', `~${model}`] : ['*', model]

const sumOf = <T>(items: Iterable<T>, amount: (item: T) => number): number =>
  [...items].reduce((sum, item) => sum + amount(item), 0)

/** The limits of a row with window and unit, in the order in which they are checked. */
const namesOf = (limits: Limits) =>
  WINDOWS.flatMap((window) =>
    UNITS.flatMap((unit) => {
      const name = `${unit}Per${window.replace(/^./, (first) => first.toUpperCase())}`
      const limit = limits[name as keyof Limits]
      return limit === undefined ? [] : [{ window, unit, limit: BigInt(limit) }]
    }),
  )

const windowsOf = (rows: (Limits | undefined)[]): string[] => [
  ...new Set(rows.flatMap((row) => namesOf(row ?? {})).map(({ window }) => window)),
]

/** What a request reserves, with `tokens` of each completion where it has no maximum of its own. */
function reservedOf(
  { reserved, completion, completions, price, audioMs = 0, characters = 0 }: Admit,
  tokens: number | undefined,
): Sum {
  const prompt = reserved - completion
  const all = completions && tokens !== undefined ? completions.count * tokens : completion
  const usd = price ? costOf({ prompt, completion: all, audioMs, characters }, price) : 0n
  return { requests: 1, tokens: prompt + all, usd, audioSeconds: audioMs, characters }
}

/** What is left of the limits for each completion of a request without a maximum, and at least the fewest. */
function fitOf(command: Admit, tokens: number, standings: Stand[]): number {
  const full = reservedOf(command, tokens)
  const limits = standings.flatMap(({ limits: row, used }) =>
    namesOf(row)
      .filter(({ unit }) => unit !== 'requests')
      .filter(({ window, unit, limit }) => LONG.includes(window) || limit < full[unit])
      .map((named) => ({ ...named, used: BigInt(used[named.window]?.[named.unit] ?? 0) })),
  )
  const fits = (some: number) => {
    const asked = reservedOf(command, some)
    return limits.every(
      ({ unit, limit, used }) => !asked[unit] || used + BigInt(asked[unit]) <= limit,
    )
  }
  let [most, tooMany] = [Math.min(FEWEST, tokens), tokens + 1]
  if (!fits(most)) return most
  while (tooMany - most > 1) {
    const middle = Math.floor((most + tooMany) / 2)
    if (fits(middle)) most = middle
    else tooMany = middle
  }
  return most
}

/** Starts the books of an empty ledger. A ledger that is not `lasting` forgets what was entered and erased. */
export function keepBooks({ lasting = true } = {}) {
  const users = new Map<string, Account>()
  const everyone: Counters = new Map()
  /** When everyone's counters of a scope last changed. */
  const changed = new Map<string, number>()
  const days = new Map<string, Day>()
  const events = new Map<string, Event>()
  const entered = new Set<string>()
  const erased = new Map<string, number>()
  /** New users by network and minute. */
  const newcomers = new Map<string, number>()
  const blocks = new Map<string, Map<string, Block>>()
  const decided = new Map<string, Decided>()
  /** The plan of all users, and the limits of everyone, where an admin has stored them. */
  let plan: PlanDoc | undefined
  let global: StoredRows | undefined
  /** What resets removed: from the days, and from the users. */
  const cleared = none()
  const forgotten = { ...none(), running: 0, held: 0, heldUsd: 0n }
  const wrong: string[] = []
  /** The cases that the commands have met. */
  const met = new Set<string>()

  const must = (command: Command, answer: Answer, expected: unknown) => {
    try {
      expect(answer).toMatchObject(expected as object)
    } catch {
      const told = [command, answer, expected].map((part) => JSON.stringify(part))
      wrong.push(`${told[0]} is answered ${told[1]} and not ${told[2]}`)
    }
  }

  const clock = () => changed.get('*') ?? -Infinity

  /** The account advanced to a moment; it is stored. */
  function advance(account: Account, at: number): void {
    account.at = at
    for (const [id, lease] of account.leases) {
      if (at - lease.at < LATE_SETTLE_MS) continue
      met.add('a lost lease')
      account.leases.delete(id)
      change(account, lease, (row) => {
        row.lost += 1
        row.reserved -= lease.reserved.tokens
        row.lostTokens += lease.reserved.tokens
        row.reservedCost -= lease.reserved.usd
        row.lostCost += lease.reserved.usd
        row.reservedAudioMs -= lease.reserved.audioSeconds
        row.lostAudioMs += lease.reserved.audioSeconds
        row.reservedCharacters -= lease.reserved.characters
        row.lostCharacters += lease.reserved.characters
        if (lease.reserved.audioSeconds > 0) met.add('a lost lease of audio')
      })
    }
  }

  function change(account: Account, { at, model }: Lease, apply: (row: Exact<Row>) => void): void {
    const key = `${dateOf(at)} ${model}`
    const row = account.rows.get(key) ?? exactRow()
    apply(row)
    account.rows.set(key, row)
  }

  /** Changes everyone's counters at a moment. */
  function touch(lease: Lease, at: number): void {
    for (const scope of scopesOf(lease)) {
      changed.set(scope, Math.max(changed.get(scope) ?? at, at))
    }
  }

  function open(account: Account, lease: Lease): void {
    const { tokens, usd, audioSeconds, characters } = lease.reserved
    change(account, lease, (row) => {
      row.requests += 1
      row.audioMs += audioSeconds
      row.reservedAudioMs += audioSeconds
      row.characters += characters
      row.reservedCharacters += characters
      row.charged += tokens
      row.reserved += tokens
      row.cost += usd
      row.reservedCost += usd
    })
    add(account.used, lease, ['*', lease.model], lease.reserved)
    add(everyone, lease, scopesOf(lease), lease.reserved)
  }

  function end(account: Account, id: string, lease: Lease, event: Event, now: number): void {
    const { model, at } = lease
    const { tokens: reserved, usd: reservedCost, ...held } = lease.reserved
    const { audioMs = 0, characters = 0 } = event
    if (audioMs > 0) met.add('an end of audio')
    if (characters > 0) met.add('an end of speech')
    const { outcome, charged } = event
    const cost = BigInt(event.cost ?? 0)
    account.leases.delete(id)
    const date = dateOf(at)
    const isAnswered = (row: { exact: number; estimated: number }) => row.exact + row.estimated > 0
    const rows = [...account.rows].filter(([key]) => key.startsWith(date))
    const firstOfUser = outcome !== 'failed' && !rows.some(([, row]) => isAnswered(row))
    const known = account.rows.get(`${date} ${model}`)
    const firstOfModel = outcome !== 'failed' && !(known && isAnswered(known))
    const over = Math.max(0, charged - reserved)
    const tell = (row: Exact<Row> | Exact<DayRow>) => {
      row[outcome] += 1
      row.prompt += event.prompt ?? 0
      row.cached += event.cached ?? 0
      row.completion += event.completion ?? 0
      row.overReservation += over
    }
    change(account, lease, (row) => {
      tell(row)
      row.charged += charged - reserved
      row.reserved -= reserved
      row.cost += cost - reservedCost
      row.reservedCost -= reservedCost
      row.audioMs += audioMs - held.audioSeconds
      row.reservedAudioMs -= held.audioSeconds
      row.characters += characters - held.characters
      row.reservedCharacters -= held.characters
    })
    const more = {
      requests: 0,
      tokens: charged - reserved,
      usd: cost - reservedCost,
      audioSeconds: audioMs - held.audioSeconds,
      characters: characters - held.characters,
    }
    add(account.used, lease, ['*', model], more)
    // A failed request does not count for everyone.
    const requests = outcome === 'failed' ? -1 : 0
    add(everyone, lease, scopesOf(lease), { ...more, requests })
    touch(lease, now)
    if (event.key !== undefined && startOf('month', at) === startOf('month', account.at)) {
      met.add('a charge of a key')
      const ofKey = { ...lease, windows: ['month'] }
      add(account.keys, ofKey, [event.key], {
        requests: 1,
        tokens: charged,
        usd: cost,
        audioSeconds: audioMs,
        characters,
      })
    }

    const day = days.get(date) ?? { total: exactDayRow(), models: new Map(), forgotten: 0 }
    days.set(date, day)
    const tellDay = (row: Exact<DayRow>, first: boolean) => {
      tell(row)
      row.requests += 1
      row.charged += charged
      row.cost += cost
      if (audioMs > 0) row.audioMs = (row.audioMs ?? 0) + audioMs
      if (characters > 0) row.characters = (row.characters ?? 0) + characters
      row.users += first ? 1 : 0
    }
    tellDay(day.total, firstOfUser)
    const row = day.models.get(model) ?? (outcome === 'failed' ? undefined : exactDayRow())
    if (row) {
      tellDay(row, firstOfModel)
      day.models.set(model, row)
    }
    const late = account.at > lease.until
    if (late) met.add('a late end')
    for (const window of [...WINDOWS, 'year']) {
      if (startOf(window, at) !== startOf(window, account.at))
        met.add(`an end in another ${window}`)
    }
    const isPriced = event.cost !== undefined || reservedCost > 0n
    events.set(id, {
      ...event,
      at,
      model,
      reserved,
      reservedAudioMs: held.audioSeconds || undefined,
      reservedCharacters: held.characters || undefined,
      ...(isPriced && { reservedCost: String(reservedCost) }),
      ...(late && { late: true }),
    })
  }

  /** The limits of a user for a model at a moment. */
  function limitsOf(user: string, model: string, environment: Rows, at: number): Rows {
    const { limits = {}, boost } = decided.get(user) ?? {}
    const rows = plan ? storedRows(plan.limits, model) : environment
    const own = storedRows(limits, model)
    const more: Rows = boost && boost.until > at ? storedRows(boost.limits, model) : {}
    const merged = (of: 'model' | 'total'): Limits | undefined => {
      if (!rows[of] && !own[of] && !more[of]) return undefined
      const all = Object.entries({ ...rows[of], ...own[of] }).filter(([, limit]) => limit !== -1)
      return Object.fromEntries(
        all.map(([name, limit]) => [name, limit + (more[of]?.[name as keyof Limits] ?? 0)]),
      )
    }
    const [one, total] = [merged('model'), merged('total')]
    if (plan) met.add('a stored plan')
    return { ...(one && { model: one }), ...(total && { total }) }
  }

  /** All limits that hold for a request. */
  function rowsOfRequest({ user, model, limits, everyone: shared = {} }: Admit, at: number) {
    const all = global ? storedRows(global, model) : shared
    return { limits: limitsOf(user, model, limits, at), shared: all }
  }

  /** The rows that hold for a request, with their use at a moment. */
  function standings(command: Admit, at: number): Stand[] {
    const { user, model, unverified } = command
    const { limits, shared } = rowsOfRequest(command, at)
    const part = (row: Limits | undefined) => row && unverified && partOf(row, unverified)
    const mine = users.get(user)?.used ?? new Map<string, Sum>()
    const rows = [
      ['user', model, limits.model],
      ['user', '*', limits.total],
      ['everyone', '*', shared.total],
      ['everyone', model, shared.model],
      ['unverified', '*', part(shared.total)],
      ['unverified', model, part(shared.model)],
    ] as const
    return rows.flatMap(([of, scope, row]) =>
      row ? [standing(of, scope, row, of === 'user' ? mine : everyone, at)] : [],
    )
  }

  /** A part of limits in percent, rounded down. */
  const partOf = (row: Limits, percent: number): Limits =>
    mapValues(row as Record<string, number>, (limit) =>
      Number((BigInt(limit) * BigInt(percent)) / 100n),
    )

  function standing(
    of: Standing['of'],
    model: string,
    limits: Limits,
    counters: Counters,
    at: number,
    windows: readonly string[] = windowsOf([limits]),
  ): Stand {
    const scope = of === 'unverified' ? `~${model}` : model
    const used = windows.map((window) => [window, counted(counters, window, scope, at)])
    return { of, model, limits, used: Object.fromEntries(used) as Stand['used'] }
  }

  /** An answer may or may not include a window without use. */
  const withoutZeros = (used: Record<string, Amounts>) =>
    Object.fromEntries(
      Object.entries(used).filter(([, amounts]) => UNITS.some((unit) => amounts[unit])),
    )

  function mustStand(command: Command, answer: Standing[] = [], expected: Stand[]): void {
    const found = answer.map(({ used, ...rest }) => ({ ...rest, used: withoutZeros(used) }))
    const wanted = expected.map(({ used, ...rest }) => ({
      ...rest,
      used: withoutZeros(mapValues(used, amountsOf)),
    }))
    try {
      expect(found).toEqual(wanted)
    } catch {
      wrong.push(
        `${JSON.stringify(command)} tells ${JSON.stringify(found)} and not ${JSON.stringify(wanted)}`,
      )
    }
  }

  function admit(command: Admit, answer: Answer): void {
    const { id, user, model, lasts, newUsers, completions } = command
    const now = Math.max(clock(), command.now)
    const known = users.get(user)
    const at = Math.max(known?.at ?? now, now)
    const rows = standings(command, at)
    const tellStanding = (after = rows) => {
      mustStand(command, 'limits' in answer ? answer.limits : [], after)
    }
    const mustGrant = (time: number, maximum: number | undefined) => {
      must(command, answer, { ok: true, at: time })
      const told = 'maximum' in answer ? answer.maximum : undefined
      if (told === maximum) return
      wrong.push(`${JSON.stringify(command)} is granted ${told} and not ${maximum}`)
    }
    const held = known?.leases.get(id)
    if (held && at - held.at < LATE_SETTLE_MS) {
      met.add('an admission again')
      if (held.maximum !== undefined) met.add('a fitted admission again')
      mustGrant(held.at, held.maximum)
      return tellStanding()
    }
    const ofPlan = plan?.maxCompletionTokens ?? Infinity
    const asked = completions && Math.min(completions.tokens, ofPlan)
    const granted = asked === undefined ? undefined : fitOf(command, asked, rows)
    const maximum = granted === completions?.tokens ? undefined : granted
    if (entered.has(id)) {
      met.add('an admission after its entry')
      mustGrant(at, maximum)
      return tellStanding()
    }
    if (command.key) {
      const key = decided.get(user)?.keys.get(command.key.id)
      const isRight = key?.hash === command.key.hash
      if (!key || !isRight || key.disabled) {
        const why = key && isRight ? 'disabled' : 'unknown'
        met.add(`a key that is ${why}`)
        return must(command, answer, { ok: false, reason: 'key', why })
      }
      met.add('a key')
    }
    for (const scope of ['*', model]) {
      const block = blocks.get(user)?.get(scope)
      if (!block || (block.until !== undefined && block.until <= at)) continue
      met.add('a block')
      return must(command, answer, { ok: false, reason: 'blocked', model: scope })
    }
    if (command.maximum !== undefined && command.maximum > ofPlan) {
      met.add('more than the maximum of a plan')
      return must(command, answer, { ok: false, reason: 'maximum', limit: ofPlan })
    }
    const named = rows.flatMap((row) => namesOf(row.limits).map((one) => ({ ...row, ...one })))
    if (!command.price && named.some(({ unit }) => unit === 'usd')) {
      met.add('a model without a price')
      return must(command, answer, { ok: false, reason: 'unpriced' })
    }
    const reserved = reservedOf(command, granted)
    const passed = named.filter(
      ({ used, window, unit, limit }) =>
        reserved[unit] && BigInt(used[window]?.[unit] ?? 0) + BigInt(reserved[unit]) > limit,
    )
    // Waiting does not help with a limit below what is asked for, so that comes first.
    const told = passed.find(({ unit, limit }) => BigInt(reserved[unit]) > limit) ?? passed[0]
    if (told) {
      const { of, model: scope, used, window, unit, limit } = told
      const count = used[window]?.[unit] ?? 0
      const amount = reserved[unit]
      met.add(`a limit of ${unit} in a ${window}`)
      met.add(`a limit of ${unit} of ${of}`)
      const resetAt = endOf(window, at)
      const amounts = { limit: Number(limit), used: Number(count), asked: Number(amount) }
      const most = ofPlan < Infinity ? { maximum: ofPlan } : {}
      const refusal = { of, model: scope, window, unit, ...amounts, resetAt, ...most }
      return must(command, answer, { ok: false, reason: 'limit', ...refusal })
    }
    for (const window of ['month', 'week']) {
      for (const unit of ['tokens', 'usd'] as const) {
        const { [unit]: count } = counted(everyone, window, '*', at)
        if (BigInt(count) + BigInt(reserved[unit]) <= MOST) continue
        met.add('more than can be counted')
        const amounts = { limit: Number(MOST), used: Number(count) }
        const refusal = { of: 'everyone', model: '*', window, unit, ...amounts }
        return must(command, answer, { ok: false, reason: 'limit', ...refusal })
      }
    }
    if (!known && newUsers) {
      const { network, perMinute } = newUsers
      const place = `${network} ${startOf('minute', at)}`
      const count = newcomers.get(place) ?? 0
      if (count >= perMinute) {
        met.add('a new user too many')
        const resetAt = endOf('minute', at)
        return must(command, answer, { ok: false, reason: 'newUsers', perMinute, resetAt })
      }
      newcomers.set(place, count + 1)
    }
    mustGrant(at, maximum)
    const account = known ?? newAccount(at)
    users.set(user, account)
    advance(account, at)
    const unverified = command.unverified !== undefined
    const windows = [...new Set([...LONG, ...windowsOf(rows.map(({ limits }) => limits))])]
    const lease = { model, at, until: at + lasts, reserved, windows, maximum, unverified }
    account.leases.set(id, lease)
    open(account, lease)
    touch(lease, at)
    const ends = windowsOf(rows.filter(({ of }) => of === 'user').map(({ limits }) => limits))
    const last = Math.max(...ends.map((window) => endOf(window, at)))
    account.limitedUntil = last > endOf('day', at) ? last : undefined
    const after = standings(command, at)
    tellStanding(after)
    mustBeWithin(command, after, reserved)
    if (maximum !== undefined && asked === completions?.tokens) noteFit(command, named)
  }

  /** (a): what is charged after an admission is within every limit, in each unit that it reserves. */
  function mustBeWithin(command: Admit, after: Stand[], reserved: Sum): void {
    for (const { of, limits, used } of after) {
      for (const { window, unit, limit } of namesOf(limits)) {
        if (!reserved[unit] || (used[window]?.[unit] ?? 0) <= limit) continue
        wrong.push(`${JSON.stringify(command)} passes ${of} ${unit} ${window} ${limit}`)
      }
    }
  }

  /** Notes which limits have cut a request. */
  function noteFit(command: Admit, named: (Stand & ReturnType<typeof namesOf>[number])[]): void {
    const full = reservedOf(command, command.completions?.tokens)
    for (const { used, window, unit, limit } of named) {
      const count = BigInt(used[window]?.[unit] ?? 0)
      if (count + BigInt(full[unit]) > limit) met.add(`a fit of ${unit} in a ${window}`)
    }
  }

  function settle(command: Settle, answer: Answer): void {
    const { user, event } = command
    const now = Math.max(clock(), command.now)
    const account = users.get(user)
    const lease = account?.leases.get(event.id)
    const isOfAnother = !account || account.since > event.at || account.at < event.at
    if (!lease && isOfAnother && now - event.at < LATE_SETTLE_MS) {
      met.add('a lease that was lost with its document')
      return enter(command, answer)
    }
    const at = Math.max(account?.at ?? now, now)
    if (!account || !lease || at - lease.at >= LATE_SETTLE_MS) {
      met.add('a settlement of nothing')
      return must(command, answer, { applied: false })
    }
    must(command, answer, { applied: true })
    advance(account, at)
    end(account, event.id, lease, event, now)
  }

  function enter(command: Enter | Settle, answer: Answer): void {
    const { user, event } = command
    const { id, model } = event
    const reserved = {
      requests: 1,
      tokens: event.reserved,
      usd: BigInt(event.reservedCost ?? 0),
      audioSeconds: event.reservedAudioMs ?? 0,
      characters: event.reservedCharacters ?? 0,
    }
    const now = Math.max(clock(), command.now)
    const gone = erased.get(user) ?? -Infinity
    if (entered.has(id) || now - event.at >= ENTER_MS || event.at <= gone) {
      met.add('an entry of nothing')
      return must(command, answer, { applied: false })
    }
    const at = Math.min(event.at, now)
    const account = users.get(user) ?? newAccount(at)
    advance(account, Math.max(account.at, at))
    if (lasting) entered.add(id)
    const held = account.leases.get(id)
    if ('refused' in command && command.refused && !held) {
      met.add('an entry of a refused request')
      return must(command, answer, { applied: false })
    }
    must(command, answer, { applied: true })
    users.set(user, account)
    if (held) {
      met.add('an entry of a lease')
      return end(account, id, held, event, now)
    }
    met.add('an entry')
    const lease = { model, at, until: account.at, reserved, windows: WINDOWS }
    open(account, lease)
    touch(lease, now)
    end(account, id, lease, event, now)
  }

  function report(command: Report, answer: Answer): void {
    const { user, models, limits } = command
    const now = Math.max(clock(), command.now)
    const account = users.get(user)
    const at = Math.max(account?.at ?? now, now)
    if (account) advance(account, at)
    if (!('models' in answer)) return must(command, answer, { ok: true })
    const mine = account?.used ?? new Map<string, Sum>()
    const standOf = (scope: string, row: Limits = {}) => ({
      ...standing('user', scope, row, mine, at, WINDOWS),
      reserved: withoutZeros(
        Object.fromEntries(
          WINDOWS.map((window) => [window, amountsOf(heldIn(account, window, scope, at))]),
        ),
      ),
    })
    const today = [...(account?.rows.keys() ?? [])].filter((key) => key.startsWith(dateOf(at)))
    const names = new Set([...today.map((key) => key.slice(11)), ...Object.keys(models)])
    must(command, answer, { ok: true, at })
    for (const name of names) {
      const byEnvironment = Object.hasOwn(limits.models, name)
        ? limits.models[name]
        : limits.default
      const row = limitsOf(user, name, byEnvironment ? { model: byEnvironment } : {}, at).model
      const found = Object.hasOwn(answer.models, name) ? answer.models[name] : undefined
      mustStand(command, found && [found], [standOf(name, row)])
    }
    const { total } = limitsOf(user, '*', limits.total ? { total: limits.total } : {}, at)
    mustStand(command, [answer.total], [standOf('*', total)])
    if (Object.keys(answer.models).length !== names.size) {
      wrong.push(`${JSON.stringify(command)} tells of ${Object.keys(answer.models).join(', ')}`)
    }
  }

  /** What running requests of a user reserve in the window of a moment. */
  const heldIn = (account: Account | undefined, window: string, scope: string, at: number): Sum =>
    [...(account?.leases.values() ?? [])]
      .filter(
        (lease) =>
          lease.windows.includes(window) &&
          startOf(window, lease.at) === startOf(window, at) &&
          (scope === '*' || lease.model === scope),
      )
      .reduce((sum, { reserved }) => plus(sum, reserved), none())

  function erase(user: string, at: number): void {
    met.add('an erased user')
    const account = users.get(user)
    for (const row of account?.rows.values() ?? []) {
      forgotten.requests += row.requests
      forgotten.tokens += row.charged
      forgotten.running += row.requests - row.exact - row.estimated - row.failed
      forgotten.held += row.reserved + row.lostTokens
      forgotten.usd += row.cost
      forgotten.heldUsd += row.reservedCost + row.lostCost
      forgotten.audioSeconds += row.audioMs - row.reservedAudioMs - row.lostAudioMs
      forgotten.characters += row.characters - row.reservedCharacters - row.lostCharacters
    }
    users.delete(user)
    blocks.delete(user)
    decided.delete(user)
    if (lasting) erased.set(user, at)
    for (const [id, event] of events) if (event.user === user) events.delete(id)
  }

  function clear(at: number): void {
    met.add('a clearing')
    const today = dateOf(at)
    for (const [date, { total, forgotten }] of [...days]) {
      if (date > today) continue
      cleared.requests += total.requests
      cleared.tokens += total.charged
      cleared.usd += total.cost
      cleared.audioSeconds += total.audioMs ?? 0
      cleared.characters += total.characters ?? 0
      days.delete(date)
      if (date < today) continue
      const answered = total.exact + total.estimated
      const empty = { total: exactDayRow(), models: new Map<string, Exact<DayRow>>() }
      days.set(date, { ...empty, forgotten: forgotten + answered })
    }
    events.clear()
  }

  const decidedOf = (user: string): Decided => {
    const known = decided.get(user) ?? { limits: {}, keys: new Map() }
    decided.set(user, known)
    return known
  }

  function profile({ user, set, clear = {} }: SetProfile): void {
    const mine = decidedOf(user)
    if (set.limits) mine.limits = set.limits
    if (set.boost) mine.boost = set.boost
    if (clear.boost) delete mine.boost
  }

  function key(command: SetKey, answer: Answer): void {
    const { keys } = decidedOf(command.user)
    const known = keys.get(command.id)
    const isRight = command.action === 'create' ? !known : known !== undefined
    must(command, answer, { ok: isRight })
    if (!isRight) return
    if (command.action === 'create') {
      keys.set(command.id, { hash: command.key.hash, disabled: false })
    } else if (command.action === 'rotate' && known) known.hash = command.secret.hash
    else if (command.action === 'change' && known) known.disabled = command.set.disabled === 1
    else keys.delete(command.id)
  }

  /** Leaves only what running requests reserve. */
  function reset(user: string, wanted: string | undefined, now: number): void {
    const account = users.get(user)
    if (!account) return
    const at = Math.max(account.at, now)
    advance(account, at)
    met.add(`a reset of ${wanted ?? 'all windows'}`)
    for (const place of account.used.keys()) {
      const [window = '', start, ...rest] = place.split(' ')
      if (Number(start) !== startOf(window, at) || (wanted && wanted !== window)) continue
      account.used.set(place, heldIn(account, window, rest.join(' '), at))
    }
  }

  /** Records an applied command with its answer. */
  function take(command: Command, answer: Answer): void {
    const at = Math.max(clock(), command.now)
    if (command.op === 'admit') admit(command, answer)
    else if (command.op === 'settle') settle(command, answer)
    else if (command.op === 'enter') enter(command, answer)
    else if (command.op === 'report') report(command, answer)
    else if (command.op === 'erase') erase(command.user, at)
    else if (command.op === 'clear') clear(at)
    else if (command.op === 'profile') profile(command)
    else if (command.op === 'key') key(command, answer)
    else if (command.op === 'reset') reset(command.user, command.window, at)
    else if (command.op === 'plan') plan = command.plan && { v: 0, ...command.plan }
    else if (command.op === 'settings') global = command.set.globalLimits
    else if (command.op === 'block') {
      const mine = blocks.get(command.user) ?? new Map<string, Block>()
      blocks.set(command.user, mine)
      if (command.block) mine.set(command.model, command.block)
      else mine.delete(command.model)
    }
  }

  /** Compares the stored documents with the books. */
  function check(stored: Stored): void {
    const byId = new Map(stored.usage.map((doc) => [doc.id, doc]))
    expect([...byId.keys()].sort()).toEqual([...users.keys()].sort())
    const past = new Map(stored.past.map((doc) => [doc.id, doc]))
    for (const [id, account] of users) checkUser(byId.get(id)!, past.get(id), account)
    const dates = stored.days.map(({ date }) => date)
    expect(dates.sort()).toEqual([...days.keys()].sort())
    for (const doc of stored.days) checkDay(doc, days.get(doc.date)!)
    checkQuotas(stored.quotas)
    const ids = stored.events.map(({ id }) => id)
    expect(ids.length, 'an event is there once').toBe(new Set(ids).size)
    const kept = Object.fromEntries(stored.events.map((event) => [event.id, event]))
    expect(kept).toEqual(Object.fromEntries(events))
  }

  function checkUser(doc: UsageDoc, past: PastDoc | undefined, account: Account): void {
    const { id, leases, windows } = doc
    expect({ at: doc.at, date: doc.date }, id).toEqual({
      at: account.at,
      date: dateOf(account.at),
    })
    const rows = Object.entries({ ...past?.days, [doc.date]: rowsOf(doc) }).flatMap(
      ([date, models]) =>
        Object.entries(models).map(([model, row]) => [`${date} ${model}`, whole(row)] as const),
    )
    const kept = [...account.rows].map(([key, row]) => [key, rowOf(row)] as const)
    expect(Object.fromEntries(rows), id).toEqual(Object.fromEntries(kept))
    if (rows.length > 1 && past) met.add('a past day')
    expect(
      Object.fromEntries(
        Object.entries(leases).map(([name, { windows: _, unverified: __, ...lease }]) => [
          name,
          lease,
        ]),
      ),
      id,
    ).toEqual(
      Object.fromEntries(
        [...account.leases].map(([name, { model, at, until, reserved, maximum }]) => [
          name,
          { model, at, until, reserved: amountsOf(reserved), maximum },
        ]),
      ),
    )
    expect(doc.limitedUntil, id).toBe(account.limitedUntil)
    const month = startOf('month', doc.at)
    const charged = Object.entries(doc.keysCharged ?? {}).filter(([, { start }]) => start === month)
    expect(
      Object.fromEntries(
        charged.map(([key, { start, ...amounts }]) => [`month ${start} ${key}`, amounts]),
      ),
      id,
    ).toEqual(currentOf(account.keys, doc.at))
    const scopes = { ...mapValues(doc.models, ({ windows }) => windows), '*': windows }
    checkWindows(id, scopes, doc.at, account.used)
    const today = rows.filter(([key]) => key.startsWith(doc.date))
    expect([doc.charged, doc.answered], id).toEqual([
      sumOf(today, ([, row]) => row.charged),
      sumOf(today, ([, row]) => answersOf(row)),
    ])
  }

  /** Compares counters. Only a user's model may still have counters of windows that have ended. */
  function checkWindows(
    what: string,
    scopes: Record<string, Windows>,
    at: number,
    counters: Counters,
  ): void {
    const found: Record<string, Amounts> = {}
    for (const [scope, windows] of Object.entries(scopes)) {
      for (const [window, { start, ...amounts }] of Object.entries(windows)) {
        if (start === startOf(window, at)) found[`${window} ${start} ${scope}`] = amounts
        else if (scope === '*' || what.startsWith('everyone')) expect.fail(`${what} ${window}`)
      }
    }
    expect(found, what).toEqual(currentOf(counters, at))
  }

  /** The counters of the windows that contain a moment. */
  function currentOf(counters: Counters, at: number): Record<string, Amounts> {
    const current: Record<string, Amounts> = {}
    for (const [key, sum] of counters) {
      const [window = '', start] = key.split(' ')
      if (Number(start) === startOf(window, at)) current[key] = amountsOf(sum)
    }
    return current
  }

  function checkDay(doc: DayDoc, day: Day): void {
    const amounts = ({ hours: _h, at: _a, ...row }: DayRow | Exact<DayRow>) => rowOf(row)
    expect(doc.forgotten, doc.date).toBe(day.forgotten)
    expect(amounts(doc.total), doc.date).toEqual(amounts(day.total))
    const rows = (entries: Iterable<[string, DayRow | Exact<DayRow>]>) =>
      Object.fromEntries([...entries].map(([model, row]) => [model, amounts(row)]))
    expect(rows(Object.entries(doc.models)), doc.date).toEqual(rows(day.models))
    for (const row of [doc.total, ...Object.values(doc.models)]) {
      expect(row.requests, doc.date).toBe(row.exact + row.estimated + row.failed)
      expect(
        sumOf(Object.values(row.hours), (tokens) => tokens),
        doc.date,
      ).toBe(row.charged)
    }
  }

  function checkQuotas(quotas: Record<string, QuotaDoc>): void {
    for (const [scope, at] of changed) {
      const doc = Object.hasOwn(quotas, scope) ? quotas[scope] : undefined
      // The counters of a model are not needed when all of their windows have ended.
      const isNeeded = LONG.some((window) => startOf(window, at) === startOf(window, clock()))
      if (!doc && scope !== '*' && !isNeeded) continue
      const mine: Counters = new Map(
        [...everyone].filter(([key]) => key.split(' ').slice(2).join(' ') === scope),
      )
      expect(doc?.at, scope).toBe(at)
      checkWindows(`everyone ${scope}`, { [scope]: doc?.windows ?? {} }, at, mine)
    }
  }

  /** (b): each request of a row has ended once, or is running. (c): users, days and resets add up. */
  function balance(stored: Stored): void {
    const ended = none()
    for (const doc of stored.usage) {
      const past = stored.past.find(({ id }) => id === doc.id)
      const dated = { ...past?.days, [doc.date]: rowsOf(doc) }
      for (const [date, models] of Object.entries(dated)) {
        for (const [model, thin] of Object.entries(models)) {
          const row = whole(thin)
          const what = `${doc.id} ${date} ${model}`
          const running = Object.values(doc.leases).filter(
            (lease) => lease.model === model && dateOf(lease.at) === date,
          )
          const outcomes = sumOf(OUTCOMES, (outcome) => row[outcome])
          expect(row.requests, what).toBe(outcomes + running.length)
          expect(row.reserved, what).toBe(sumOf(running, ({ reserved }) => reserved.tokens))
          expect(row.reservedCost, what).toBe(sumOf(running, ({ reserved }) => reserved.usd))
          expect([row.reservedAudioMs, row.reservedCharacters], what).toEqual([
            sumOf(running, ({ reserved }) => reserved.audioSeconds ?? 0),
            sumOf(running, ({ reserved }) => reserved.characters ?? 0),
          ])
          ended.audioSeconds += row.audioMs - row.reservedAudioMs - row.lostAudioMs
          ended.characters += row.characters - row.reservedCharacters - row.lostCharacters
          ended.requests += row.requests - running.length - row.lost
          ended.tokens += row.charged - row.reserved - row.lostTokens
          ended.usd += BigInt(row.cost) - BigInt(row.reservedCost) - BigInt(row.lostCost)
        }
      }
    }
    const inDays = {
      requests: sumOf(stored.days, (day) => day.total.requests),
      tokens: sumOf(stored.days, (day) => day.total.charged),
      usd: stored.days.reduce((sum, day) => sum + BigInt(day.total.cost), 0n),
      audioSeconds: sumOf(stored.days, (day) => day.total.audioMs ?? 0),
      characters: sumOf(stored.days, (day) => day.total.characters ?? 0),
    }
    // The requests of erased users stay in the days, except those that never ended.
    expect({
      requests: ended.requests + forgotten.requests - forgotten.running,
      tokens: ended.tokens + forgotten.tokens - forgotten.held,
      usd: ended.usd + forgotten.usd - forgotten.heldUsd,
      audioSeconds: ended.audioSeconds + forgotten.audioSeconds,
      characters: ended.characters + forgotten.characters,
    }).toEqual(plus(inDays, cleared))
  }

  return { take, check, balance, wrong, met }
}

export type Books = ReturnType<typeof keepBooks>
