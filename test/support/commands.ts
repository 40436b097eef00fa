/**
 * Ledger commands: plain ones to write by hand, and random ones of few users and models, with steps of the clock and
 * ends of days.
 */
import fc from 'fast-check'
import type {
  Admit,
  Command,
  Enter,
  Note,
  Report,
  Settle,
  Watch,
} from '../../src/ledger/commands.ts'
import type { Limits } from '../../src/ledger/policy.ts'
import { labelWords } from '../../src/ledger/labels.ts'
import { VERSION } from '../../src/ledger/shapes.ts'
import { UNLIMITED, type StoredRows } from '../../src/ledger/documents.ts'
import type { Event } from '../../src/ledger/events.ts'
import { DAY_MS, WINDOW_NAMES, nextDay } from '../../src/ledger/windows.ts'

/** Ten seconds before midnight UTC, so that a day ends within a run. */
export const START = Date.UTC(2026, 10, 22, 23, 59, 50)

const USERS = ['alice', 'bob', 'carol']
const MODELS = ['a/one', 'constructor', '__proto__']

export const eventOf = (fields: Partial<Event> & Pick<Event, 'id' | 'user'>): Event => ({
  v: VERSION,
  at: START,
  route: 'chat/completions',
  model: 'a/one',
  outcome: 'exact',
  status: 200,
  prompt: 10,
  completion: 5,
  total: 15,
  reserved: 100,
  charged: 15,
  totalMs: 7,
  ...fields,
})

/** Noon UTC, far from the end of a day. */
export const NOON = Date.UTC(2026, 10, 22, 12)

/** Limits that no test reaches. */
export const AMPLE: Limits = { tokensPerDay: 1e9, requestsPerDay: 1e6 }

export const admitOf = (fields: Partial<Admit> & Pick<Admit, 'id'>): Admit => ({
  op: 'admit',
  user: 'alice',
  model: 'a/one',
  reserved: 100,
  completion: 0,
  now: NOON,
  lasts: 300_000,
  limits: { model: AMPLE },
  ...fields,
})

/** The end of an admitted request: by default 15 tokens after one second. */
export function settleOf(
  admit: Admit,
  fields: Partial<Event> = {},
  now = admit.now + 1000,
): Settle {
  const { id, user, model } = admit
  const base = eventOf({ id, user, model, at: admit.now, reserved: admit.reserved, ...fields })
  return { op: 'settle', now, user, event: base }
}

/** The end of a request that upstream refused. */
export const failureOf = (admit: Admit, now = admit.now + 1000): Settle => {
  const { prompt: _p, completion: _c, total: _t, ...event } = settleOf(admit).event
  return {
    op: 'settle',
    now,
    user: admit.user,
    event: { ...event, outcome: 'failed', status: 500, charged: 0 },
  }
}

const limits: fc.Arbitrary<Limits> = fc.record(
  {
    tokensPerDay: fc.constantFrom(500, 2000, 10_000),
    requestsPerDay: fc.constantFrom(5, 20, 1000),
    tokensPerMinute: fc.constantFrom(300, 1500),
    requestsPerMinute: fc.constantFrom(3, 50),
    tokensPerHour: fc.constantFrom(400, 2500),
    requestsPerWeek: fc.constantFrom(8, 900),
    tokensPerMonth: fc.constantFrom(3000, 20_000),
    // From parts of a cent up to a million dollars.
    usdPerDay: fc.constantFrom(30_000_000, 10_000_000_000, 1e15),
    usdPerMonth: fc.constantFrom(90_000_000, 1e15),
    usdPerMinute: fc.constantFrom(20_000_000, 5_000_000_000),
    audioSecondsPerDay: fc.constantFrom(15_000, 60_000),
    audioSecondsPerHour: fc.constantFrom(12_000, 1e9),
    charactersPerWeek: fc.constantFrom(50, 900),
  },
  { requiredKeys: [] },
)

/** Audio of a request: what it reserves, or what it is charged. */
const audio = fc.oneof(
  fc.record({ audioMs: fc.integer({ min: 1, max: 20_000 }) }),
  fc.record({ characters: fc.integer({ min: 1, max: 90 }) }),
)

const rarely = <T>(arbitrary: fc.Arbitrary<T>) => fc.option(arbitrary, { nil: undefined, freq: 3 })

/** Steps of the clock in ms: mostly forward and small, sometimes back, a minute, or more than a day or a month. */
const clock = fc.oneof(
  { arbitrary: fc.integer({ min: 0, max: 3000 }), weight: 12 },
  { arbitrary: fc.constantFrom(-5000, -90_000, 61_000, 3_600_000), weight: 3 },
  { arbitrary: fc.constantFrom(90_000_000, -90_000_000, 8 * DAY_MS, 32 * DAY_MS), weight: 1 },
)

const ids = fc.integer({ min: 0, max: 40 }).map((n) => `id-${n}`)

const names = fc.dictionary(
  fc.constantFrom('a/*', '*one', 'constructor', '__proto__', 'b'),
  fc.constant(1 as const),
)

/** Rows of limits that admins store; -1 is no limit. */
const storedRows: fc.Arbitrary<StoredRows> = fc.dictionary(
  fc.constantFrom('*', 'total', ...MODELS),
  fc.oneof(limits, fc.constant({ tokensPerDay: UNLIMITED, requestsPerMinute: 2 })) as fc.Arbitrary<
    Record<string, number>
  >,
)
const planName = fc.constantFrom('default', 'pro', 'gone')
const keyId = fc.constantFrom('k1', 'k2')
const keyHash = fc.constantFrom('h1', 'h2')
const label = fc.constantFrom('Ada Lovelace', 'ada b', 'Émile ada')
const labelled = label.map((text) => ({ label: text, words: labelWords(text) }))

const admit = fc.record({
  id: ids,
  user: fc.constantFrom(...USERS),
  model: fc.constantFrom(...MODELS),
  prompt: fc.integer({ min: 0, max: 300 }),
  completion: fc.integer({ min: 1, max: 100 }),
  price: rarely(
    fc.constantFrom(
      { input: 75_000, cached: 37_500, output: 300_000 },
      { input: 1_000_001, output: 999 },
      // A hundred thousand dollars a million tokens.
      { input: 100_000_000_000, output: 100_000_000_000 },
      { input: 50_000_000_000, output: 0 },
      { input: 0, output: 0, audioHour: 111_000_000, characters: 22_000_001 },
    ),
  ),
  lasts: fc.constantFrom(1000, 300_000),
  audio: rarely(audio),
  ip: rarely(fc.constant('192.0.2.7')),
  limits: fc.record({ model: limits, total: rarely(limits) }),
  everyone: rarely(fc.record({ total: rarely(limits), model: rarely(limits) })),
  unverified: rarely(fc.constantFrom(10, 50)),
  maximum: rarely(fc.constantFrom(10, 60)),
  completions: rarely(
    fc.record({ count: fc.constantFrom(1, 2), tokens: fc.constantFrom(60, 300, 2000) }),
  ),
  key: rarely(fc.record({ id: keyId, hash: keyHash })),
  claims: rarely(
    fc
      .tuple(fc.constantFrom(0, START - 100_000, START + 1000), rarely(planName), rarely(labelled))
      .map(([issuedAt, plan, named]) => ({ issuedAt, plan, ...named })),
  ),
  tag: rarely(fc.constantFrom('search', 'constructor')),
  newUsers: rarely(
    fc.record({ network: fc.constantFrom('net', 'other'), perMinute: fc.constantFrom(1, 2) }),
  ),
})

const settle = fc.record({
  id: ids,
  user: fc.constantFrom(...USERS),
  outcome: fc.constantFrom('exact' as const, 'estimated' as const, 'failed' as const),
  charged: fc.integer({ min: 0, max: 600 }),
  cached: rarely(fc.integer({ min: 0, max: 600 })),
  cost: rarely(fc.constantFrom('0', '1', '37500', '90071992547409')),
  key: rarely(keyId),
  session: rarely(fc.constantFrom('s1', 's2', 'constructor')),
  tag: rarely(fc.constantFrom('search', 'constructor', 'other')),
  audio: rarely(audio),
  /** How long ago it was admitted, in ms. */
  since: fc.constantFrom(0, 1000, 61_000, 90_000_000),
})

const enter = fc.record({
  ended: settle,
  model: fc.constantFrom(...MODELS),
  reserved: fc.integer({ min: 1, max: 400 }),
  refused: rarely(fc.constant(true as const)),
  /** How long ago it was served, in ms. */
  ago: fc.constantFrom(0, 500, 70_000, 90_000_000, 6.9 * 86_400_000, 7 * 86_400_000),
})

const block = fc.record({
  user: fc.constantFrom(...USERS, 'dave'),
  model: fc.constantFrom(...MODELS, '*'),
  lift: fc.boolean(),
  reason: rarely(fc.constantFrom('spam', 'ü "quoted" \u2028')),
  lasts: rarely(fc.constantFrom(1000, 100_000)),
})

/** Changes of what holds for users. Times are from the moment of the command. */
const policy = fc.oneof(
  fc.record({
    op: fc.constant('profile' as const),
    user: fc.constantFrom(...USERS, 'frank'),
    named: rarely(labelled),
    set: fc.record(
      {
        note: fc.constant('hello'),
        plan: planName,
        limits: storedRows,
        models: names,
        boost: fc.record({ limits: storedRows, until: fc.constantFrom(-1000, 4000, 100_000) }),
        notBefore: fc.constantFrom(-100_000, 500),
      },
      { requiredKeys: [] },
    ),
    clear: fc.subarray(['label', 'note', 'plan', 'limits', 'models', 'boost', 'notBefore'], {
      maxLength: 3,
    }),
  }),
  fc.record({
    op: fc.constant('key' as const),
    user: fc.constantFrom(...USERS),
    id: keyId,
    action: fc.constantFrom('create' as const, 'create' as const, 'change', 'rotate', 'delete'),
    hash: keyHash,
    models: rarely(names),
    lasts: rarely(fc.constantFrom(0, 5000)),
    disabled: rarely(fc.constant(1 as const)),
  }),
  fc.record({
    op: fc.constant('plan' as const),
    name: planName,
    plan: fc.option(
      fc.record(
        {
          limits: storedRows,
          models: names,
          maxCompletionTokens: fc.constantFrom(30, 100),
          concurrentRequests: fc.constantFrom(1, 3),
        },
        { requiredKeys: ['limits'] },
      ),
      { nil: undefined, freq: 4 },
    ),
  }),
  fc.record({
    op: fc.constant('settings' as const),
    set: fc.record({ globalLimits: storedRows, defaultPlan: planName }, { requiredKeys: [] }),
    clear: fc.subarray(['globalLimits', 'defaultPlan'], { maxLength: 1 }),
  }),
  fc.record({
    op: fc.constant('reset' as const),
    user: fc.constantFrom(...USERS, 'eve'),
    window: rarely(fc.constantFrom(...WINDOW_NAMES)),
  }),
)

const report = fc.record({
  user: fc.constantFrom(...USERS, 'eve'),
  key: rarely(fc.record({ id: keyId, hash: keyHash })),
  claims: rarely(fc.record({ issuedAt: fc.constantFrom(0, START + 1000), plan: planName })),
  limits: fc.record({
    default: rarely(limits),
    total: rarely(limits),
    models: fc.dictionary(fc.constantFrom(...MODELS), limits),
  }),
  models: fc.dictionary(
    fc.constantFrom(...MODELS),
    fc.record({
      tokens: fc.nat(1000),
      requests: fc.nat(9),
      /** The end of which day, in days from now. */
      day: fc.constantFrom(0, 0, 0, -1, 1),
    }),
  ),
})

const admin = fc.oneof(
  fc.record({ op: fc.constant('erase' as const), user: fc.constantFrom(...USERS) }),
  fc.record({
    op: fc.constant('login' as const),
    session: fc.constantFrom('s1', 's2'),
    lasts: fc.constant(DAY_MS),
  }),
  fc.record({ op: fc.constant('logout' as const), session: fc.constantFrom('s1', 's2') }),
  fc.record({
    op: fc.constant('note' as const),
    action: fc.constantFrom('export' as const, 'failed login' as const, 'make token' as const),
    about: rarely(fc.constantFrom(...USERS)),
    ip: fc.option(fc.constantFrom('192.0.2.9', '192.0.2.10'), { nil: undefined }),
  }),
)

/** Whether a request is watched, so that it may make alerts, and the alert of a block. */
const watched = fc.record({
  admit: fc.boolean(),
  settle: fc.boolean(),
  block: fc.boolean(),
  user: fc.record({ model: rarely(limits), total: rarely(limits) }),
  everyone: fc.record({ model: rarely(limits), total: rarely(limits) }),
  spendBlocked: rarely(fc.constant(1 as const)),
})

const alertId = fc.integer({ min: 0, max: 9 }).map((n) => `alert-${n}`)
const receiver = fc.constantFrom('one', 'another')
/** Changes of the outbox. `due` is from the moment of the command. */
const outbox = fc.oneof(
  fc.record({
    op: fc.constant('raise' as const),
    alert: fc.record({
      id: alertId,
      type: fc.constantFrom('test' as const, 'store.recovered' as const),
    }),
  }),
  fc.record({ op: fc.constant('take' as const), to: receiver }),
  fc.record({
    op: fc.constant('tried' as const),
    to: receiver,
    results: fc.dictionary(
      fc.oneof(
        alertId,
        fc.tuple(ids, fc.constantFrom('1', '2', 'key')).map((id) => id.join('-')),
      ),
      fc.record({
        state: fc.constantFrom('delivered' as const, 'pending' as const, 'failed' as const),
        status: fc.constantFrom(0, 204, 410, 500),
        due: fc.constantFrom(0, 5000, 300_000),
      }),
    ),
  }),
)

type Draw = { step: number } & (
  | { kind: 'admit'; value: typeof admit extends fc.Arbitrary<infer T> ? T : never }
  | { kind: 'settle'; value: typeof settle extends fc.Arbitrary<infer T> ? T : never }
  | { kind: 'enter'; value: typeof enter extends fc.Arbitrary<infer T> ? T : never }
  | { kind: 'block'; value: typeof block extends fc.Arbitrary<infer T> ? T : never }
  | { kind: 'policy'; value: typeof policy extends fc.Arbitrary<infer T> ? T : never }
  | { kind: 'report'; value: typeof report extends fc.Arbitrary<infer T> ? T : never }
  | { kind: 'admin'; value: typeof admin extends fc.Arbitrary<infer T> ? T : never }
  | { kind: 'clear' }
)

type Ended = typeof settle extends fc.Arbitrary<infer T> ? T : never

function ended(
  { id, user, outcome, charged, cached, cost, key, session, audio, tag }: Ended,
  at: number,
): Event {
  const usage =
    outcome === 'exact'
      ? {
          prompt: charged,
          completion: 0,
          total: charged,
          ...(cached !== undefined && { cached: Math.min(cached, charged) }),
        }
      : {}
  const { prompt: _p, completion: _c, total: _t, ...bare } = eventOf({ id, user })
  return {
    ...bare,
    ...usage,
    ...(session !== undefined && { session }),
    ...(tag !== undefined && { tag }),
    ...(key !== undefined && { key }),
    ...(cost !== undefined && { cost: outcome === 'failed' ? '0' : cost, reservedCost: cost }),
    at,
    outcome,
    charged: outcome === 'failed' ? 0 : charged,
    // Even if nothing was reserved in this unit, or something in the other one.
    ...(outcome !== 'failed' && audio),
    ...(audio && { reservedAudioMs: 10_000 }),
  }
}

type PolicyDraw = typeof policy extends fc.Arbitrary<infer T> ? T : never

function policyCommand(value: PolicyDraw, now: number): object {
  if (value.op === 'profile') {
    const { op, user, named, set } = value
    const { boost, notBefore, ...others } = set
    const clear = value.clear.filter((name) => !(name in set) && !(name === 'label' && named))
    return {
      op,
      now,
      user,
      set: {
        ...others,
        ...named,
        ...(boost && { boost: { ...boost, until: now + boost.until } }),
        ...(notBefore !== undefined && { notBefore: now + notBefore }),
      },
      clear: Object.fromEntries(
        clear
          .flatMap((name) => (name === 'label' ? ['label', 'words'] : [name]))
          .map((name) => [name, 1]),
      ),
    }
  }
  if (value.op === 'key') {
    const { op, user, id, action, hash, models, lasts, disabled } = value
    const secret = { hash, start: 'weir_1', last4: hash }
    const fields = { models, disabled, ...(lasts !== undefined && { expires: now + lasts }) }
    const more = {
      create: { key: { ...secret, created: now, ...fields } },
      change: { set: fields, clear: disabled ? {} : { disabled: 1 } },
      rotate: { secret, graceUntil: now + (lasts ?? 0) },
      delete: {},
    }[action]
    return { op, now, user, id, action, ...more }
  }
  if (value.op === 'settings') {
    const clear = value.clear.filter((name) => !(name in value.set))
    return { ...value, now, clear: Object.fromEntries(clear.map((name) => [name, 1])) }
  }
  return { ...value, now }
}

function toCommand(draw: Draw, now: number): Command {
  if (draw.kind === 'clear') return { op: 'clear', now }
  if (draw.kind === 'report') {
    const models = Object.fromEntries(
      Object.entries(draw.value.models).map(([model, { day, ...count }]) => [
        model,
        { ...count, resetAt: nextDay(now) + day * DAY_MS },
      ]),
    )
    const { user, limits, key, claims } = draw.value
    const command = { op: 'report', now, user, models, limits, key, claims } as const
    return JSON.parse(JSON.stringify(command)) as Report
  }
  if (draw.kind === 'policy') {
    return JSON.parse(JSON.stringify(policyCommand(draw.value, now))) as Command
  }
  if (draw.kind === 'admin') {
    const { value } = draw
    if (value.op === 'login') {
      const { op, session, lasts } = value
      return { op, now, session, until: now + lasts }
    }
    if (value.op === 'note') {
      const note: Note = { op: 'note', now, action: value.action }
      if (value.about !== undefined) note.about = value.about
      return value.ip === undefined ? note : { ...note, ip: value.ip }
    }
    return { ...value, now }
  }
  if (draw.kind === 'admit') {
    const { prompt, completion: sent, audio, ...value } = draw.value
    const { completions } = value
    const completion = completions ? completions.count * completions.tokens : sent
    const admit = {
      op: 'admit',
      now,
      ...value,
      ...audio,
      reserved: prompt + completion,
      completion,
    }
    return JSON.parse(JSON.stringify(admit)) as Admit
  }
  if (draw.kind === 'settle') {
    const event = ended(draw.value, Math.max(0, now - draw.value.since))
    return { op: 'settle', now, user: event.user, event } satisfies Settle
  }
  if (draw.kind === 'enter') {
    const { model, reserved, ago, refused } = draw.value
    const event = { ...ended(draw.value.ended, Math.max(0, now - ago)), model, reserved }
    const enter: Enter = { op: 'enter', now, user: event.user, event }
    return refused ? { ...enter, refused } : enter
  }
  const { user, model, lift, reason, lasts } = draw.value
  const until = lasts === undefined ? {} : { until: now + lasts }
  const why = reason === undefined ? {} : { reason }
  return {
    op: 'block',
    now,
    user,
    model,
    ...(lift ? {} : { block: { at: now, ...why, ...until } }),
  }
}

/** A command as it is if alerts are sent. */
function watchedCommand(
  command: Command,
  {
    admit,
    settle,
    block,
    user,
    everyone,
    spendBlocked,
  }: typeof watched extends fc.Arbitrary<infer T> ? T : never,
  n: number,
): Command {
  if (command.op === 'admit') return admit ? { ...command, watch: 1 } : command
  if (command.op === 'block') return block ? { ...command, alert: `alert-${n % 10}` } : command
  if (command.op !== 'settle' && command.op !== 'enter') return command
  const watch = JSON.parse(JSON.stringify({ user, everyone, spendBlocked })) as Watch
  return settle ? { ...command, watch } : command
}

/** The same if alerts are sent. */
export const watchedSequence = (maxLength: number): fc.Arbitrary<Command[]> =>
  fc
    .tuple(
      commandSequence(maxLength),
      fc.array(watched, { minLength: maxLength, maxLength }),
      fc.array(fc.option(outbox, { nil: undefined, freq: 2 }), { minLength: maxLength, maxLength }),
    )
    .map(([commands, marks, changes]) =>
      commands.flatMap((command, n): Command[] => {
        const mark = marks[n]
        const change = changes[n]
        const { now } = command
        const one = mark ? watchedCommand(command, mark, n) : command
        if (!change) return [one]
        if (change.op !== 'tried') return [one, { ...change, now }]
        const results = Object.entries(change.results).map(([id, { due, ...result }]) => [
          id,
          result.state === 'pending' ? { ...result, due: now + due } : result,
        ])
        return [one, { ...change, now, results: Object.fromEntries(results) }]
      }),
    )

/** A sequence of commands, each with the clock at its moment. */
export const commandSequence = (maxLength: number): fc.Arbitrary<Command[]> =>
  fc
    .array(
      fc.oneof(
        {
          arbitrary: fc.record({ kind: fc.constant('admit' as const), step: clock, value: admit }),
          weight: 10,
        },
        {
          arbitrary: fc.record({
            kind: fc.constant('settle' as const),
            step: clock,
            value: settle,
          }),
          weight: 9,
        },
        {
          arbitrary: fc.record({ kind: fc.constant('enter' as const), step: clock, value: enter }),
          weight: 3,
        },
        {
          arbitrary: fc.record({ kind: fc.constant('block' as const), step: clock, value: block }),
          weight: 2,
        },
        {
          arbitrary: fc.record({
            kind: fc.constant('policy' as const),
            step: clock,
            value: policy,
          }),
          weight: 4,
        },
        {
          arbitrary: fc.record({
            kind: fc.constant('report' as const),
            step: clock,
            value: report,
          }),
          weight: 2,
        },
        {
          arbitrary: fc.record({ kind: fc.constant('admin' as const), step: clock, value: admin }),
          weight: 2,
        },
        {
          arbitrary: fc.record({ kind: fc.constant('clear' as const), step: clock }),
          weight: 1,
        },
      ),
      { minLength: 1, maxLength },
    )
    .map((draws) => {
      let now = START
      return draws.map((draw) => {
        now = Math.max(0, now + draw.step)
        return toCommand(draw, now)
      })
    })
