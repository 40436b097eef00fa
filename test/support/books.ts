/**
 * The books that a test keeps beside a ledger. From the commands, in the order in which they were applied, they compute
 * the answer of each command and the content of the documents. They share no code with the rules.
 */
import { expect } from 'vitest'
import {
  ENTER_MS,
  LATE_SETTLE_MS,
  type Admit,
  type Answer,
  type Command,
  type Enter,
  type Report,
  type SetKey,
  type SetProfile,
  type Settle,
} from '../../src/ledger/commands.ts'
import {
  answersOf,
  mapValues,
  rowsOf,
  newDayRow,
  newRow,
  runningOf,
  whole,
} from '../../src/ledger/documents.ts'
import type { Limits, Rows, Standing } from '../../src/ledger/policy.ts'
import type {
  Amounts,
  Block,
  DayDoc,
  DayRow,
  Event,
  PastDoc,
  QuotaDoc,
  Row,
  StoredRows,
  UsageDoc,
  Windows,
} from '../../src/ledger/shapes.ts'

const MINUTE = 60_000
const DAY = 24 * 60 * MINUTE
const SPANS: Record<string, number> = { day: DAY, minute: MINUTE }
const UNITS = ['requests', 'tokens'] as const
const OUTCOMES = ['exact', 'estimated', 'failed', 'lost'] as const

const startOf = (window: string, at: number) => at - (at % (SPANS[window] ?? 0))
const dateOf = (at: number) => new Date(at).toISOString().slice(0, 10)

/** The stored documents. */
export type Stored = {
  usage: UsageDoc[]
  past: PastDoc[]
  days: DayDoc[]
  quotas: Record<string, QuotaDoc>
  events: Event[]
}

type Lease = {
  model: string
  at: number
  until: number
  reserved: number
  windows: string[]
}

/** Amounts by window, start and scope. */
type Counters = Map<string, Amounts>

type Account = {
  /** When the document began. */
  since: number
  at: number
  /** By date and model. */
  rows: Map<string, Row>
  leases: Map<string, Lease>
  used: Counters
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

type Day = { total: DayRow; models: Map<string, DayRow>; forgotten: number }

const newAccount = (at: number): Account => ({
  since: at,
  at,
  rows: new Map(),
  leases: new Map(),
  used: new Map(),
})

const none = (): Amounts => ({ requests: 0, tokens: 0 })

const counted = (counters: Counters, window: string, scope: string, at: number): Amounts =>
  counters.get(`${window} ${startOf(window, at)} ${scope}`) ?? none()

function add(counters: Counters, { at, windows }: Lease, scopes: string[], amounts: Amounts): void {
  for (const window of windows) {
    for (const scope of scopes) {
      const key = `${window} ${startOf(window, at)} ${scope}`
      const old = counters.get(key) ?? none()
      counters.set(key, {
        requests: old.requests + amounts.requests,
        tokens: old.tokens + amounts.tokens,
      })
    }
  }
}

const sumOf = <T>(items: Iterable<T>, amount: (item: T) => number): number =>
  [...items].reduce((sum, item) => sum + amount(item), 0)

/** The limits of a row with window and unit, in the order in which they are checked. */
const namesOf = (limits: Limits) =>
  ['Day', 'Minute'].flatMap((window) =>
    UNITS.flatMap((unit) => {
      const limit = limits[`${unit}Per${window}` as keyof Limits]
      return limit === undefined ? [] : [{ window: window.toLowerCase(), unit, limit }]
    }),
  )

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
  let plan: StoredRows | undefined
  let global: StoredRows | undefined
  /** What resets removed: from the days, and from the users. */
  const cleared = none()
  const forgotten = { requests: 0, tokens: 0, running: 0, held: 0 }
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
        row.reserved -= lease.reserved
        row.lostTokens += lease.reserved
      })
    }
  }

  function change(account: Account, { at, model }: Lease, apply: (row: Row) => void): void {
    const key = `${dateOf(at)} ${model}`
    const row = account.rows.get(key) ?? newRow()
    apply(row)
    account.rows.set(key, row)
  }

  /** Changes everyone's counters at a moment. */
  function touch(model: string, at: number): void {
    for (const scope of ['*', model]) {
      changed.set(scope, Math.max(changed.get(scope) ?? at, at))
    }
  }

  function open(account: Account, lease: Lease): void {
    const amounts = { requests: 1, tokens: lease.reserved }
    change(account, lease, (row) => {
      row.requests += 1
      row.charged += lease.reserved
      row.reserved += lease.reserved
    })
    add(account.used, lease, ['*', lease.model], amounts)
    add(everyone, lease, ['*', lease.model], amounts)
  }

  function end(account: Account, id: string, lease: Lease, event: Event, now: number): void {
    const { model, at, reserved } = lease
    const { outcome, charged } = event
    account.leases.delete(id)
    const date = dateOf(at)
    const isAnswered = (row: { exact: number; estimated: number }) => row.exact + row.estimated > 0
    const rows = [...account.rows].filter(([key]) => key.startsWith(date))
    const firstOfUser = outcome !== 'failed' && !rows.some(([, row]) => isAnswered(row))
    const known = account.rows.get(`${date} ${model}`)
    const firstOfModel = outcome !== 'failed' && !(known && isAnswered(known))
    const over = Math.max(0, charged - reserved)
    const tell = (row: Row | DayRow) => {
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
    })
    const tokens = charged - reserved
    add(account.used, lease, ['*', model], { requests: 0, tokens })
    // A failed request does not count for everyone.
    const requests = outcome === 'failed' ? -1 : 0
    add(everyone, lease, ['*', model], { requests, tokens })
    touch(model, now)

    const day = days.get(date) ?? { total: newDayRow(), models: new Map(), forgotten: 0 }
    days.set(date, day)
    const tellDay = (row: DayRow, first: boolean) => {
      tell(row)
      row.requests += 1
      row.charged += charged
      row.users += first ? 1 : 0
    }
    tellDay(day.total, firstOfUser)
    const row = day.models.get(model) ?? (outcome === 'failed' ? undefined : newDayRow())
    if (row) {
      tellDay(row, firstOfModel)
      day.models.set(model, row)
    }
    const late = account.at > lease.until
    if (late) met.add('a late end')
    if (date !== dateOf(account.at)) met.add('an end of another day')
    events.set(id, {
      ...event,
      at,
      model,
      reserved,
      ...(late && { late: true }),
    })
  }

  /** The limits of a user for a model at a moment. */
  function limitsOf(user: string, model: string, environment: Rows, at: number): Rows {
    const { limits = {}, boost } = decided.get(user) ?? {}
    const rows = plan ? storedRows(plan, model) : environment
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
  function standings(command: Admit, at: number): Standing[] {
    const { user, model } = command
    const { limits, shared } = rowsOfRequest(command, at)
    const mine = users.get(user)?.used ?? new Map<string, Amounts>()
    const rows = [
      ['user', model, limits.model],
      ['user', '*', limits.total],
      ['everyone', '*', shared.total],
      ['everyone', model, shared.model],
    ] as const
    return rows.flatMap(([of, scope, row]) =>
      row ? [standing(of, scope, row, of === 'user' ? mine : everyone, at)] : [],
    )
  }

  function standing(
    of: Standing['of'],
    model: string,
    limits: Limits,
    counters: Counters,
    at: number,
  ): Standing {
    const windows = [...new Set(namesOf(limits).map(({ window }) => window))]
    const used = windows.map((window) => [window, counted(counters, window, model, at)])
    return { of, model, limits, used: Object.fromEntries(used) as Standing['used'] }
  }

  /** An answer may or may not include a window without use. */
  const withoutZeros = ({ used, ...rest }: Standing) => ({
    ...rest,
    used: Object.fromEntries(
      Object.entries(used).filter(([, { requests, tokens }]) => requests || tokens),
    ),
  })

  /** The windows of an answer that its limits name. */
  function told(standing: Standing): Standing {
    const named = new Set(namesOf(standing.limits).map(({ window }) => window))
    const used = Object.entries(standing.used).filter(([window]) => named.has(window))
    return withoutZeros({ ...standing, used: Object.fromEntries(used) })
  }

  function mustStand(command: Command, answer: Standing[] = [], expected: Standing[]): void {
    const [found, wanted] = [answer.map(told), expected.map(withoutZeros)]
    try {
      expect(found).toEqual(wanted)
    } catch {
      wrong.push(
        `${JSON.stringify(command)} tells ${JSON.stringify(found)} and not ${JSON.stringify(wanted)}`,
      )
    }
  }

  function admit(command: Admit, answer: Answer): void {
    const { id, user, model, reserved, lasts, newUsers } = command
    const now = Math.max(clock(), command.now)
    const known = users.get(user)
    const at = Math.max(known?.at ?? now, now)
    const tellStanding = () => {
      if (!('ok' in answer && answer.ok && 'limits' in answer)) {
        return mustStand(command, [], standings(command, at))
      }
      mustStand(command, answer.limits, standings(command, at))
    }
    const held = known?.leases.get(id)
    if (held && at - held.at < LATE_SETTLE_MS) {
      met.add('an admission again')
      must(command, answer, { ok: true, at: held.at })
      return tellStanding()
    }
    if (entered.has(id)) {
      met.add('an admission after its entry')
      must(command, answer, { ok: true, at })
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
    for (const { of, model: scope, limits: row, used } of standings(command, at)) {
      for (const { window, unit, limit } of namesOf(row)) {
        const count = used[window]?.[unit] ?? 0
        const asked = unit === 'requests' ? 1 : reserved
        if (count + asked <= limit) continue
        met.add(`${of} ${window} ${unit}`)
        const resetAt = startOf(window, at) + (SPANS[window] ?? 0)
        const refusal = { of, model: scope, window, unit, limit, used: count, asked, resetAt }
        return must(command, answer, { ok: false, reason: 'limit', ...refusal })
      }
    }
    if (!known && newUsers) {
      const { network, perMinute } = newUsers
      const place = `${network} ${startOf('minute', at)}`
      const count = newcomers.get(place) ?? 0
      if (count >= perMinute) {
        met.add('a new user too many')
        const resetAt = startOf('minute', at) + MINUTE
        return must(command, answer, { ok: false, reason: 'newUsers', perMinute, resetAt })
      }
      newcomers.set(place, count + 1)
    }
    must(command, answer, { ok: true, at })
    const { limits, shared } = rowsOfRequest(command, at)
    const rows = [limits.model, limits.total, shared.total, shared.model]
    const isByMinute = rows.some((row) =>
      namesOf(row ?? {}).some(({ window }) => window === 'minute'),
    )
    const windows = isByMinute ? ['day', 'minute'] : ['day']
    const account = known ?? newAccount(at)
    users.set(user, account)
    advance(account, at)
    const lease = { model, at, until: at + lasts, reserved, windows }
    account.leases.set(id, lease)
    open(account, lease)
    touch(model, at)
    tellStanding()
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
    const { id, model, reserved } = event
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
    const windows = ['day', 'minute']
    const lease = { model, at, until: account.at, reserved, windows }
    open(account, lease)
    touch(model, now)
    end(account, id, lease, event, now)
  }

  function report(command: Report, answer: Answer): void {
    const { user, models, limits } = command
    const now = Math.max(clock(), command.now)
    const account = users.get(user)
    const at = Math.max(account?.at ?? now, now)
    if (account) advance(account, at)
    if (!('models' in answer)) return must(command, answer, { ok: true })
    const mine = account?.used ?? new Map<string, Amounts>()
    const today = [...(account?.rows.keys() ?? [])].filter((key) => key.startsWith(dateOf(at)))
    const names = new Set([...today.map((key) => key.slice(11)), ...Object.keys(models)])
    must(command, answer, { ok: true, at })
    for (const name of names) {
      const byEnvironment = Object.hasOwn(limits.models, name)
        ? limits.models[name]
        : limits.default
      const row = limitsOf(user, name, byEnvironment ? { model: byEnvironment } : {}, at).model
      const found = Object.hasOwn(answer.models, name) ? answer.models[name] : undefined
      mustStand(command, found && [found], [standing('user', name, row ?? {}, mine, at)])
    }
    const { total = {} } = limitsOf(user, '*', limits.total ? { total: limits.total } : {}, at)
    mustStand(command, [answer.total], [standing('user', '*', total, mine, at)])
    if (Object.keys(answer.models).length !== names.size) {
      wrong.push(`${JSON.stringify(command)} tells of ${Object.keys(answer.models).join(', ')}`)
    }
  }

  function erase(user: string, at: number): void {
    met.add('an erased user')
    const account = users.get(user)
    for (const row of account?.rows.values() ?? []) {
      forgotten.requests += row.requests
      forgotten.tokens += row.charged
      forgotten.running += runningOf(row) + row.lost
      forgotten.held += row.reserved + row.lostTokens
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
      days.delete(date)
      if (date < today) continue
      const answered = total.exact + total.estimated
      const empty = { total: newDayRow(), models: new Map<string, DayRow>() }
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
    met.add('a reset')
    for (const place of account.used.keys()) {
      const [window = '', start, ...rest] = place.split(' ')
      const scope = rest.join(' ')
      if (Number(start) !== startOf(window, at) || (wanted && wanted !== window)) continue
      const held = [...account.leases.values()].filter(
        (lease) =>
          lease.windows.includes(window) &&
          startOf(window, lease.at) === Number(start) &&
          (scope === '*' || lease.model === scope),
      )
      const tokens = sumOf(held, ({ reserved }) => reserved)
      account.used.set(place, { requests: held.length, tokens })
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
    else if (command.op === 'plan') plan = command.plan?.limits
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
    expect(Object.fromEntries(rows), id).toEqual(Object.fromEntries(account.rows))
    if (rows.length > 1 && past) met.add('a past day')
    expect(
      Object.fromEntries(
        Object.entries(leases).map(([name, { model, at, until, reserved }]) => [
          name,
          { model, at, until, ...reserved },
        ]),
      ),
      id,
    ).toEqual(
      Object.fromEntries(
        [...account.leases].map(([name, { model, at, until, reserved }]) => [
          name,
          { model, at, until, requests: 1, tokens: reserved },
        ]),
      ),
    )
    const scopes = { ...mapValues(doc.models, ({ windows }) => windows), '*': windows }
    checkWindows(id, scopes, doc.at, account.used)
    const today = rows.filter(([key]) => key.startsWith(doc.date))
    expect([doc.charged, doc.answered], id).toEqual([
      sumOf(today, ([, row]) => row.charged),
      sumOf(today, ([, row]) => answersOf(row)),
    ])
  }

  /** The counters of the windows that contain a moment. Only a user's model may still have counters of other spans. */
  function checkWindows(
    what: string,
    scopes: Record<string, Windows>,
    at: number,
    counters: Counters,
  ): void {
    const expected: Record<string, Amounts> = {}
    for (const [key, amounts] of counters) {
      const [window = '', start] = key.split(' ')
      if (Number(start) === startOf(window, at)) expected[key] = amounts
    }
    const found: typeof expected = {}
    for (const [scope, windows] of Object.entries(scopes)) {
      for (const [window, { start, ...amounts }] of Object.entries(windows)) {
        if (start === startOf(window, at)) found[`${window} ${start} ${scope}`] = amounts
        else if (scope === '*' || what.startsWith('everyone')) expect.fail(`${what} ${window}`)
      }
    }
    expect(found, what).toEqual(expected)
  }

  function checkDay(doc: DayDoc, day: Day): void {
    const amounts = ({ hours: _h, at: _a, ...row }: DayRow) => row
    expect(doc.forgotten, doc.date).toBe(day.forgotten)
    expect(amounts(doc.total), doc.date).toEqual(amounts(day.total))
    const rows = (entries: Iterable<[string, DayRow]>) =>
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
      // The counters of a model that was last used days ago are not needed.
      if (!doc && scope !== '*' && clock() - at > DAY) continue
      const mine: Counters = new Map(
        [...everyone].filter(([key]) => key.split(' ').slice(2).join(' ') === scope),
      )
      expect(doc?.at, scope).toBe(at)
      checkWindows(`everyone ${scope}`, { [scope]: doc?.windows ?? {} }, at, mine)
    }
  }

  /** (b): each request of a row has ended once, or is running. (c): users, days and resets add up. */
  function balance(stored: Stored): void {
    const total = none()
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
          total.requests += row.requests
          total.tokens += row.charged
          ended.requests += row.requests - running.length - row.lost
          ended.tokens += row.charged - row.reserved - row.lostTokens
        }
      }
    }
    const inDays = {
      requests: sumOf(stored.days, (day) => day.total.requests),
      tokens: sumOf(stored.days, (day) => day.total.charged),
    }
    // The requests of erased users stay in the days, except those that never ended.
    expect({
      requests: ended.requests + forgotten.requests - forgotten.running,
      tokens: ended.tokens + forgotten.tokens - forgotten.held,
    }).toEqual({
      requests: inDays.requests + cleared.requests,
      tokens: inDays.tokens + cleared.tokens,
    })
  }

  return { take, check, balance, wrong, met }
}

export type Books = ReturnType<typeof keepBooks>
