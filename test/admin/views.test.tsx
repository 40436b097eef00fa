import { build } from 'esbuild'
import { mkdtemp, rm, symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { describe, expect, test } from 'vitest'
import { edgeBundle } from '../../scripts/bundle.ts'
import {
  newDay,
  newDayRow,
  newPast,
  newProfile,
  newRow,
  newSettings,
  newUsage,
} from '../../src/ledger/documents.ts'
import type { TokenKind } from '../../src/config/tokens.ts'
import type { Limits } from '../../src/ledger/policy.ts'
import {
  VERSION,
  type Amounts,
  type Block,
  type DayDoc,
  type Event,
  type PlanDoc,
  type ProfileDoc,
  type QuotaDoc,
  type Refused,
  type Row,
  type UsageDoc,
} from '../../src/ledger/shapes.ts'
import { DAY_MS, HOUR_MS, MINUTE_MS, dateOf, datesTo } from '../../src/ledger/windows.ts'
import type { User } from '../../src/store/store.ts'
import {
  blocksOf,
  pastDays,
  shareOf,
  today,
  userDay,
  userDays,
  userLine,
} from '../../src/reports/dashboard.ts'
import { ago, duration, percent, short, usd } from '../../src/views/format.ts'
import { homePage } from '../../src/views/home.tsx'
import { awayPage, loginPage, problemPage } from '../../src/views/login.tsx'
import { setupPage } from '../../src/views/setup.tsx'
import { overviewPage } from '../../src/views/overview.tsx'
import { keysReport, plansReport, profileReport, settingsReport } from '../../src/reports/people.ts'
import { axisTop } from '../../src/views/chart.tsx'
import type { Price } from '../../src/ledger/money.ts'
import { pastCard } from '../../src/views/overview-use.tsx'
import { plansPage } from '../../src/views/plans.tsx'
import { settingsPage } from '../../src/views/settings.tsx'
import { userPage } from '../../src/views/user.tsx'
import { amounts } from '../support/amounts.ts'
import { usedToday, windowsOf } from '../support/seed.ts'

const NOW = Date.UTC(2026, 2, 18, 14, 42)
const ID = 'abcdefghijklmnopqrstu_'
const HOSTILE = `<script>alert(1)</script>"'\u202E\uD800 &amp; ${'x'.repeat(10_000)}`
const frame = { now: NOW, place: 'node · database' }
const limits = { tokensPerDay: 1000, requestsPerDay: 10 }
const prices = { a: { input: 1_000_000, output: 2_000_000 } }
const terms = { limits: { default: limits, models: {} }, prices }
/** The limits and prices for everyone. */
const shared = { limits: { total: limits, models: { a: limits } }, prices }

const quotasOf = (counts: Record<string, Amounts>): Record<string, QuotaDoc> =>
  Object.fromEntries(
    Object.entries(counts).map(([model, amounts]) => [
      model,
      { v: VERSION, at: NOW, windows: windowsOf(amounts, NOW) },
    ]),
  )

const dayOf = (at: number, hours: Record<string, number>): DayDoc => {
  const charged = Object.values(hours).reduce((sum, one) => sum + one, 0)
  const row = {
    ...newDayRow(),
    ...{ requests: 2, exact: 2, charged, prompt: charged, cost: charged * 1000, users: 1, hours },
  }
  return { ...newDay(dateOf(at)), total: row, sessions: 1, models: { a: row } }
}

/** A user with these rows, and with the matching day windows. */
function withRows(rows: Record<string, Row>, fields: Partial<UsageDoc> = {}): User {
  return {
    usage: { ...newUsage(ID, NOW), ...usedToday(rows, NOW), ...fields },
    profile: newProfile(ID),
  }
}

const withBlocks = (user: User, blocks: Record<string, Block>): User => ({
  ...user,
  profile: { ...user.profile, blocks },
})

const userOf = (model: string, reason: string): User =>
  withBlocks(
    withRows(
      {
        [model]: {
          ...newRow(),
          ...{ requests: 5, exact: 5, charged: 900, prompt: 900, overReservation: 7 },
        },
      },
      {
        at: NOW - HOUR_MS,
        ip: '203.0.113.9',
        reported: { [model]: { tokens: 90_000, requests: 5 } },
      },
    ),
    { [model]: { at: NOW - HOUR_MS, reason }, b: { at: 1, until: NOW } },
  )

const eventOf = (model: string): Event => ({
  v: VERSION,
  id: '01a20217-31d9-759b-be27-34edc8f244b6',
  at: NOW - 1000,
  user: ID,
  route: 'responses',
  model,
  outcome: 'estimated',
  status: 200,
  reserved: 900,
  charged: 1000,
  totalMs: 1200,
})

const refusedOf = (model: string): Refused => ({
  v: VERSION,
  id: '01a20217-31d9-759b-be27-34edc8f244b7',
  at: NOW - 1000,
  user: ID,
  code: 'global_quota',
  model,
  limit: {
    ...{ of: 'everyone', model, unit: 'usd', window: 'month' },
    ...{ limit: 5_000_000_000, used: 4_999_000_000, asked: 2_000_123 },
  },
})

/** What an admin decided about a user, with names of an admin's choice. */
function decided({ usage, profile }: User, name: string) {
  const whole: ProfileDoc = {
    ...profile,
    ...{ label: name, note: name, plan: name, models: { [name]: 1 }, notBefore: NOW },
    limits: { [name]: { tokensPerDay: 5 } },
    boost: { limits: { [name]: { tokensPerDay: 5 } }, until: NOW + HOUR_MS },
    keys: {
      abcdefgh: {
        ...{ hash: 'h', start: 'weir_1abc', last4: 'wxyz', name, created: NOW, expires: NOW - 1 },
        ...{ disabled: 1, models: { [name]: 1 }, previous: { hash: 'g', until: NOW + 1 } },
      },
    },
  }
  return {
    profile: profileReport({ usage, profile: whole }, environment, { plans: {} }, NOW),
    planLimits: { '*': { tokensPerDay: 1000 } },
    plans: ['default'],
    defaultPlan: 'default',
    keys: keysReport(whole, NOW, usage),
    next: 'abcdefgi',
    taken: false,
  }
}

/** Every page, with a name that a user can choose. */
function pages(views: Views, name: string): string[] {
  const user = userOf(name, name)
  const days = [dayOf(NOW, { 3: 100 })]
  days[0]!.models = { [name]: days[0]!.total }
  const live = {
    health: { degraded: true, queued: 2 },
    today: today({ days, quotas: {} }, shared, NOW),
    users: [userLine(user, terms, NOW)],
    sort: 'tokens' as const,
    next: `1~${ID}`,
    paged: true,
    events: [eventOf(name)],
  }
  const more = {
    history: pastDays(days, [dateOf(NOW)], terms),
    blocks: blocksOf(user.profile, NOW),
    cut: false,
    audit: [
      {
        ...({ v: VERSION, at: NOW, action: 'block', user: 'abcdef' } as const),
        ...{ model: name, reason: name, ip: name },
      },
    ],
    refused: { codes: [{ code: 'user_blocked', count: 3 }], latest: [refusedOf(name)] },
    invoice: { oldest: '2026-02-11', from: '2026-03-01', to: '2026-03-18' },
    origin: 'http://localhost:8787',
    tokens: { kinds: ['any' as const], notes: ['Tokens: any.'], warnings: ['any is risky.'] },
  }
  const of = {
    id: ID,
    ip: name,
    at: NOW,
    sessions: 1,
    ...userDay(user, terms, NOW),
    days: userDays({ ...user, past: newPast(ID) }, [dateOf(NOW)]),
  }
  return [
    views.homePage({
      ...{ origin: 'http://localhost:8787', kinds: ['any'], version: '1', demo: true },
      helpUrl: 'https://help.test',
    }),
    views.loginPage(),
    views.loginPage({ error: name }),
    views.setupPage({
      ...{ platform: 'node', storage: 'database', origin: 'http://localhost', kinds: ['any'] },
      ...{ adminKey: false, called: false, provider: { state: 'refused', status: 401 } },
      database: { connected: false, latencyMs: null, reason: name },
    }),
    views.awayPage({ open: true, queued: 37 }),
    views.problemPage('Not found', name),
    views.overviewPage({ ...frame, live, more }),
    views.overviewPage({ ...frame, live }),
    views.userPage({
      ...frame,
      live: of,
      events: [eventOf(name)],
      looked: 500,
      more: {
        blocks: blocksOf(user.profile, NOW),
        names: [name],
        refused: [refusedOf(name)],
        refusedLooked: 200,
        ...decided(user, name),
      },
      refused: { form: 'profile', typed: { label: name, note: name }, problem: name.slice(0, 200) },
      secret: 'weir_secret',
    }),
    views.plansPage({
      ...frame,
      plans: plansReport({ plans: planDocs(name) }, environment),
      defaultPlan: 'default',
      names: [name],
      refused: { form: 'save-pro', typed: { models: name }, problem: name.slice(0, 200) },
    }),
    views.settingsPage({
      ...frame,
      settings: settingsReport({ ...newSettings(), ...everyone(name) }, environment),
      ...{ plans: ['default'], names: [name], environment: [['ALLOWED_MODELS', name]] },
      tokens: { kinds: ['any'], notes: ['Tokens: any.'], warnings: ['any is risky.'] },
    }),
  ].map(String)
}

const environment = { limits: terms.limits, globalLimits: undefined, prices }
const planDocs = (name: string): Record<string, PlanDoc> => ({
  pro: {
    ...{ v: VERSION, limits: { [name]: { tokensPerDay: 5 } }, models: { [name]: 1 } },
    ...{ maxCompletionTokens: 5, concurrentRequests: 5 },
  },
})
const everyone = (name: string) => ({
  globalLimits: { [name]: { tokensPerDay: 5 } },
  defaultPlan: name,
})

const VIEWS = {
  ...{ homePage, loginPage, setupPage, awayPage, problemPage, overviewPage, userPage },
  ...{ plansPage, settingsPage },
}
type Views = typeof VIEWS

test.each([
  [0, '0'],
  [9999, '9,999'],
  [12_345, '12.3K'],
  [1_234_567, '1.23M'],
])('shortens %i to %s', (amount, text) => {
  expect(short(amount)).toBe(text)
})

test.each([
  [0, '0%'],
  [0.0001, '<1%'],
  [0.999, '99%'],
  [1, '100%'],
])('writes a share of %f as %s, and never rounds up to more', (share, text) => {
  expect(percent(share)).toBe(text)
})

test('does not write less than a cent as 0', () => {
  expect([usd(0), usd(1_000_000), usd(12_345_000_000)]).toEqual(['$0.00', '<$0.01', '$12.35'])
})

test('writes durations in a readable unit', () => {
  expect([duration(240.4), duration(1240)]).toEqual(['240 ms', '1.2 s'])
})

test.each([
  [0, 'now'],
  [-4_999, '4s ago'],
  [-61_000, '1m ago'],
  [3 * HOUR_MS, 'in 3h'],
  [-25 * HOUR_MS, 'yesterday'],
])('writes a time %i ms away as %s', (away, text) => {
  expect(ago(NOW + away, NOW)).toBe(text)
})

test('ends an axis at an amount that is not below the highest bar and can be halved', () => {
  for (const most of [0, 1, 9, 11, 99, 101, 1234, 60_001, 999_999, 1e12 + 1]) {
    const top = axisTop(most)
    expect(top).toBeGreaterThanOrEqual(most)
    expect(top).toBeLessThanOrEqual(Math.max(10, most * 2))
    expect(Number.isInteger(top / 2)).toBe(true)
  }
})

describe('today', () => {
  const days = [
    dayOf(NOW, { 3: 100, 14: 900 }),
    dayOf(NOW - 24 * HOUR_MS, { 3: 50, 14: 7, 20: 9000 }),
  ]
  const running = (requests: number, of = days) =>
    today({ days: of, quotas: quotasOf({ '*': amounts(requests, 1) }) }, shared, NOW).running

  test('is compared with the same full hours of yesterday', () => {
    expect(today({ days, quotas: {} }, shared, NOW).trend).toBe(1)
    expect(today({ days: days.slice(0, 1), quotas: {} }, shared, NOW).trend).toBeUndefined()
  })

  test('has the hours that have begun', () => {
    const { hours } = today({ days, quotas: {} }, shared, NOW)
    expect(hours).toEqual([0, 0, 0, 100, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 900])
  })

  test('shows running requests', () => {
    expect(running(3)).toBe(1)
    expect(running(1)).toBe(0)
    expect(today({ days, quotas: {} }, shared, NOW).running).toBe(0)
  })

  test('does not count failed or cleared requests as running', () => {
    const [day = newDay('')] = days
    const total = { ...day.total, requests: 9, exact: 1, estimated: 1, failed: 7 }
    expect(running(3, [{ ...day, total }])).toBe(1)
    expect(running(3, [{ ...newDay(day.date), forgotten: 2 }])).toBe(1)
  })

  test('has the cost that was recorded, whatever prices are today, and none if none was', () => {
    const cost = (of = days, prices = {}) =>
      today({ days: of, quotas: {} }, { ...shared, prices }, NOW).cost
    expect(cost()).toBe(1_000_000)
    const dear = { a: { input: 9_000_000, output: 9_000_000 } }
    expect(cost(days, dear)).toBe(1_000_000)
    const [day = newDay('')] = days
    const row = { ...newDayRow(), requests: 1, charged: 9, prompt: 9 }
    const unpriced = [{ ...day, models: { a: row } }]
    expect([cost(unpriced), cost(unpriced, dear)]).toEqual([undefined, undefined])
    expect(cost([{ ...day, models: { a: row, ...day.models, b: row } }])).toBe(1_000_000)
  })

  test('has the month so far as limits count it, if a price was known', () => {
    const month = (usd: number) => {
      const windows = windowsOf(amounts(3, 100, usd), NOW, 'month')
      return today({ days, quotas: { '*': { v: VERSION, at: NOW, windows } } }, shared, NOW)
        .monthCost
    }
    expect([month(5_000), month(0)]).toEqual([5_000, undefined])
  })

  test('lists its models, the most used first, with the rest for everyone', () => {
    const rowOf = (charged: number, users: number, cost = 0) => ({
      ...newDayRow(),
      ...{ requests: users + 1, exact: users + 1, charged, prompt: charged, users, cost },
    })
    const day: DayDoc = {
      ...newDay(dateOf(NOW)),
      total: { ...rowOf(700, 6), exact: 5, estimated: 2 },
      sessions: 3,
      models: { b: rowOf(100, 1, 400_000), a: rowOf(400, 2, 400_000), c: rowOf(200, 3) },
    }
    const quotas = quotasOf({
      '*': amounts(9, 950),
      a: amounts(3, 450),
      c: amounts(4, 200),
    })
    const limited = { total: limits, models: { a: limits, c: { tokensPerDay: 150 } } }
    expect(today({ days: [day], quotas }, { limits: limited, prices }, NOW)).toEqual({
      total: day.total,
      sessions: 3,
      cost: 800_000,
      monthCost: 0,
      resetAt: Date.UTC(2026, 2, 19),
      uses: [
        { unit: 'requests', window: 'day', used: 9, limit: 10 },
        { unit: 'tokens', window: 'day', used: 950, limit: 1000 },
      ],
      running: 2,
      hours: Array.from({ length: 15 }, () => 0),
      models: [
        { model: 'a', tokens: 400, requests: 3, users: 2, cost: 400_000, left: 550 },
        { model: 'c', tokens: 200, requests: 4, users: 3, left: 0 },
        { model: 'b', tokens: 100, requests: 2, users: 1, cost: 400_000 },
      ],
    })
  })

  test('has no limits and no rest if everyone has no limits', () => {
    const none = { ...shared, limits: { models: {} } }
    const quotas = quotasOf({ '*': amounts(2, 100) })
    expect(today({ days, quotas }, none, NOW)).toMatchObject({
      uses: [],
      models: [{ left: undefined }],
    })
  })

  test('shows the limits of all windows', () => {
    const total = { requestsPerMinute: 5, tokensPerMinute: 500 }
    const minutes = windowsOf(amounts(2, 150), NOW, 'minute')
    const live = {
      health: { degraded: false, queued: 0 },
      today: today(
        { days, quotas: { '*': { v: VERSION, at: NOW, windows: minutes } } },
        { ...shared, limits: { total, models: {} } },
        NOW,
      ),
      users: [],
      sort: 'tokens' as const,
      next: undefined,
      paged: false,
      events: [],
    }
    const page = String(overviewPage({ ...frame, live }))
    expect(page).toContain('aria-label="Tokens this minute, of the limit for all users"')
    expect(page).toContain('<b>30%</b> of 500 per minute')
    expect(page).toContain('<b>40%</b> of 5 per minute')
    expect(page.match(/per minute/g)).toHaveLength(2)
    expect(page).not.toContain('per day')
  })
})

test('a first call has a token that is taken', () => {
  const home = (kinds: TokenKind[]) =>
    String(
      homePage({
        origin: 'http://localhost',
        kinds,
        version: '1',
        demo: false,
        helpUrl: undefined,
      }),
    )
  expect(home(['any', 'signed'])).toContain('my-first-user')
  expect(home(['signed'])).toContain('x-user-token: TOKEN')
  expect(home(['signed'])).not.toMatch(/my-first-user|Any token/)
})

test('a share of a limit of 0 is 100%', () => {
  expect([shareOf(1, 4), shareOf(0, 4), shareOf(0, 0), shareOf(3, 0)]).toEqual([0.25, 0, 1, 1])
})

test('a history has all requested days, the oldest first, and adds up its models', () => {
  const dates = [0, 1, 2].map((back) => dateOf(NOW - back * 24 * HOUR_MS))
  const docs = [dayOf(NOW, { 1: 5 }), dayOf(NOW - 48 * HOUR_MS, { 1: 6 })]
  const { days, models, tokens } = pastDays(docs, dates, terms)
  expect(days.map((day) => day.tokens)).toEqual([6, 0, 5])
  expect(tokens).toBe(11)
  expect(models).toEqual([{ model: 'a', tokens: 11, requests: 4, cost: 11_000 }])
})

test('a history lists its models, the most used first, with the costs that were recorded', () => {
  const rowOf = (charged: number, each = 0) => ({
    ...newDayRow(),
    ...{ requests: 1, charged, prompt: charged, cost: charged * each },
  })
  const docOf = (at: number, models: DayDoc['models']): DayDoc => ({
    ...newDay(dateOf(at)),
    total: { ...rowOf(70), requests: 3, users: 2 },
    models,
  })
  const docs = [
    docOf(NOW, { c: rowOf(10), a: rowOf(20, 1) }),
    docOf(NOW - DAY_MS, { b: rowOf(40, 2), a: rowOf(30, 1) }),
  ]
  const dates = docs.map(({ date }) => date)
  expect(pastDays(docs, dates, { prices })).toEqual({
    tokens: 140,
    requests: 6,
    days: dates.toReversed().map((date) => ({ date, tokens: 70, requests: 3, users: 2 })),
    models: [
      { model: 'a', tokens: 50, requests: 2, cost: 50 },
      { model: 'b', tokens: 40, requests: 1, cost: 80 },
      { model: 'c', tokens: 10, requests: 1 },
    ],
    cost: 130,
  })
})

test('what a free model costs is shown as dollars, and what is not known is not shown', () => {
  const row = { ...newDayRow(), requests: 1, charged: 9, prompt: 9 }
  const doc = { ...newDay(dateOf(NOW)), total: row, models: { free: row } }
  const cells = (prices: Record<string, Price>) =>
    String(pastCard(pastDays([doc], [doc.date], { prices })))
  expect(cells({ free: { input: 0, output: 0 } })).toContain('<td class="n">$0.00</td>')
  expect(cells({})).not.toContain('$')
})

test('a user line has the limit with the highest share, the blocks in force and a report that differs much', () => {
  const line = userLine(userOf('a', 'why'), terms, NOW)
  expect(line).toMatchObject({ blocked: ['a'], differs: true, overReservation: 7 })
  expect(line.nearest).toMatchObject({ model: 'a', share: 0.9 })
})

test('the limit with the highest share may be one of requests, or of all models', () => {
  const rows = { a: { ...newRow(), charged: 300, requests: 6 }, b: { ...newRow(), charged: 500 } }
  const user = withRows(rows, { seen: NOW - 7 })
  const withTotal = (total: Limits) => ({ ...terms, limits: { ...terms.limits, total } })
  expect(userLine(user, terms, NOW)).toEqual({
    id: ID,
    at: NOW - 7,
    tokens: 800,
    requests: 6,
    monthCost: 0,
    nearest: { model: 'a', share: 0.6 },
    blocked: [],
    overReservation: 0,
    differs: false,
  })
  expect(userLine(user, withTotal(limits), NOW).nearest).toEqual({ model: '*', share: 0.8 })
  const ample = { tokensPerDay: 1e6, requestsPerDay: 100 }
  expect(userLine(user, withTotal(ample), NOW).nearest).toEqual({ model: 'a', share: 0.6 })
  const none = { ...terms, limits: { models: {} } }
  expect(userLine(user, none, NOW)).toMatchObject({ tokens: 800, nearest: undefined })
  expect(userLine(withRows({}), none, NOW).at).toBe(NOW)
})

test('a limit of a minute is not shown in the list', () => {
  const user = withRows({ a: { ...newRow(), charged: 300, requests: 1 } })
  const windows = windowsOf(amounts(1, 300), NOW, 'minute')
  user.usage.models = { a: { row: { requests: 1, charged: 300 }, windows } }
  const limits = { default: { tokensPerMinute: 300 }, models: {} }
  expect(userLine(user, { ...terms, limits }, NOW).nearest).toBeUndefined()
})

describe('a day of a user', () => {
  const row = { ...newRow(), requests: 2, charged: 300, prompt: 200, reserved: 100 }
  const costs = { cost: 500_000, reservedCost: 100_000 }
  const user = withRows({ a: { ...row, ...costs }, b: { ...row, charged: 400 } })
  const day = (tokens: number, requests: number) => [
    { unit: 'requests', window: 'day', used: requests, reserved: 0, limit: 10 },
    { unit: 'tokens', window: 'day', used: tokens, reserved: 0, limit: 1000 },
  ]

  test('has its models, the most used first, with what ended of them and its cost', () => {
    expect(userDay(user, terms, NOW)).toMatchObject({
      tokens: 500,
      reserved: 200,
      cost: 400_000,
      requests: 4,
      uses: [],
      models: [
        { model: 'b', tokens: 300, reserved: 100, uses: day(400, 2), cost: undefined },
        { model: 'a', tokens: 200, reserved: 100, uses: day(300, 2), cost: 400_000 },
      ],
    })
    const both = { ...terms, limits: { ...terms.limits, total: limits } }
    expect(userDay(user, both, NOW).uses).toEqual(day(700, 4))
  })

  test('has no line for a block of all models, and what was yesterday costs nothing today', () => {
    const blocks = { '*': { at: NOW }, a: { at: NOW } }
    const { models } = userDay(withBlocks(user, blocks), terms, NOW + DAY_MS)
    expect(models).toMatchObject([{ model: 'a', tokens: 0, cost: 0, uses: day(0, 0) }])
  })

  test.each([
    ['tokens', 0, 9],
    ['requests', 0, 1],
    ['requests', MINUTE_MS, 0],
  ] as const)(
    'tells a minute where there is a limit of it: %s, %i ms later',
    (unit, later, used) => {
      const minute = windowsOf(amounts(1, 9), NOW, 'minute')
      const models = { ...user.usage.models }
      models['a'] = { row, windows: { ...models['a']?.windows, ...minute } }
      const one = { ...user, usage: { ...user.usage, models } }
      const byMinute = { default: { [`${unit}PerMinute`]: 5 }, models: {} }
      const day = userDay(one, { ...terms, limits: byMinute }, NOW + later)
      expect(day.models.map(({ model, uses }) => [model, uses])).toEqual([
        ['b', [{ unit, window: 'minute', used: 0, reserved: 0, limit: 5 }]],
        ['a', [{ unit, window: 'minute', used, reserved: 0, limit: 5 }]],
      ])
    },
  )

  test('is shown with every limit, and without a limit as an amount', () => {
    const limits = {
      default: { tokensPerDay: 1000, requestsPerMinute: 5 },
      total: { tokensPerMinute: 50 },
      models: {},
    }
    const live = {
      id: ID,
      ip: undefined,
      at: 0,
      sessions: 0,
      ...userDay(user, { ...terms, limits }, NOW),
      days: [],
    }
    const page = String(userPage({ ...frame, live, events: [], looked: 500 }))
    expect(page).toContain('<dt>Tokens this minute</dt>')
    expect(page).toContain('<th scope="col" class="n w">Requests this minute</th>')
    expect(page).not.toContain('class="n w">Tokens this minute')
    expect(page).toMatch(/<td class="n">[^/]*<meter[^>]*aria-label="Tokens today"/)
    expect(page).toContain('<dt>Requests</dt><dd>4</dd>')
    expect(page).toContain('<dd>never</dd>')
  })

  test.each([
    [0, 0, 5000, 5001],
    [100, 100, 5000, 5001],
    [100_100, 100, 120_000, 120_001],
    [100_100, 100, 80_000, 79_999],
  ])(
    'of %i tokens, %i reserved, %i is no report far off, %i is',
    (charged, reserved, near, far) => {
      const differs = (tokens: number) => {
        const reported = { a: { tokens, requests: 1 } }
        const one = withRows({ a: { ...row, charged, reserved } }, { reported })
        return userDay(one, terms, NOW).models[0]?.differs
      }
      expect([differs(near), differs(far)]).toEqual([false, true])
    },
  )
})

test('a report that differs much is shown with a user, and a missing report is not', () => {
  const rows = { a: { ...newRow(), charged: 90_000 }, b: newRow() }
  expect(userLine(withRows(rows), terms, NOW).differs).toBe(false)
  const reported = { a: { tokens: 1, requests: 1 }, b: { tokens: 0, requests: 0 } }
  expect(userLine(withRows(rows, { reported }), terms, NOW).differs).toBe(true)
})

test('the blocks of a user in force are listed, the latest first', () => {
  const blocks = {
    a: { at: 1 },
    b: { at: 3, until: NOW + 1, reason: 'why' },
    c: { at: 4, until: NOW },
    d: { at: 2 },
  }
  expect(blocksOf({ ...newProfile(ID), blocks }, NOW)).toEqual([
    { at: 3, until: NOW + 1, reason: 'why', user: ID, model: 'b' },
    { at: 2, user: ID, model: 'd' },
    { at: 1, user: ID, model: 'a' },
  ])
})

test('the last days of a user are listed, the oldest first', () => {
  const [date = '', yesterday = '', before = ''] = datesTo(NOW, 3)
  const past = {
    ...newPast(ID),
    days: { [yesterday]: { a: { charged: 7, requests: 1 }, b: { requests: 2 } } },
  }
  const { usage } = withRows({ a: { ...newRow(), charged: 9, requests: 4 } })
  expect(userDays({ usage, past }, [date, yesterday, before])).toEqual([
    { date: before, tokens: 0, requests: 0 },
    { date: yesterday, tokens: 7, requests: 3 },
    { date, tokens: 9, requests: 4 },
  ])
})

test('the ETag of a refresh does not change with time alone', () => {
  const user = userOf('a', 'why')
  const at = (now: number) =>
    JSON.stringify([
      userLine(user, terms, now),
      today({ days: [dayOf(NOW, { 3: 1 })], quotas: {} }, shared, now),
    ])
  expect(at(NOW + 60_000)).toBe(at(NOW))
})

describe('hostile names and reasons', () => {
  const all = () => pages(VIEWS, HOSTILE)

  test('are text on every page', () => {
    for (const page of all())
      expect(
        page.match(/<script(?! type="module" src="\/(assets\/[\w-]{43}\/admin|copy)\.js">)/g),
      ).toBeNull()
  })

  test('are cut to a readable length', () => {
    // A problem page shows the gateway's message, and a form sends a name back unchanged.
    const shown = all()
      .slice(6)
      .join('')
      .replaceAll(/value="[^"]*"|<(option|textarea)\b[^>]*>[^<]*/g, '')
    expect(shown.match(/x{301}/)).toBeNull()
  })

  test('keep their writing direction separate', () => {
    for (const page of all().slice(6)) {
      const text = page.replaceAll(/="[^"]*"|<(option|textarea)\b[^>]*>[^<]*/g, '')
      expect(
        text.replaceAll(
          /<bdi[^>]*>[^<]*<\/bdi>|<title>[^<]*|<code>[^<]*|<a class="id"[^>]*>[^<]*/g,
          '',
        ),
      ).not.toContain('\u202E')
    }
  })
})

test('no page has a script or a style of its own', () => {
  for (const page of pages(VIEWS, 'a')) {
    expect(page).not.toMatch(/ style=| on\w+=|<style|<script>/)
    expect(page).toMatch(/^<html lang="en">/)
  }
})

test('the edge renders the pages as the full hono/jsx does', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'weir-'))
  try {
    await symlink(resolve('node_modules'), join(folder, 'node_modules'))
    const outfile = join(folder, 'views.mjs')
    const stdin = {
      resolveDir: resolve('src/views'),
      contents: ['home', 'login', 'overview', 'plans', 'settings', 'setup', 'user']
        .map((file) => `export * from './${file}.tsx'`)
        .join('\n'),
    }
    const { entryPoints: _, ...options } = edgeBundle('', outfile)
    await build({ ...options, stdin })
    const bundled = (await import(outfile)) as Views
    expect(pages(bundled, HOSTILE)).toEqual(pages(VIEWS, HOSTILE))
  } finally {
    await rm(folder, { recursive: true })
  }
})
