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
} from '../../src/ledger/new-documents.ts'
import type { TokenKind } from '../../src/config/tokens.ts'
import type { Limits } from '../../src/ledger/policy.ts'
import { VERSION } from '../../src/ledger/shapes.ts'
import type { Amounts } from '../../src/ledger/units.ts'
import type {
  Block,
  DayDoc,
  DayRow,
  PlanDoc,
  ProfileDoc,
  QuotaDoc,
  Row,
  UsageDoc,
} from '../../src/ledger/documents.ts'
import type { Event, Refused } from '../../src/ledger/events.ts'
import { DAY_MS, HOUR_MS, MINUTE_MS, dateOf, datesTo } from '../../src/ledger/windows.ts'
import type { User } from '../../src/store/store.ts'
import {
  blocksOf,
  partUsed,
  today,
  userDay,
  userDays,
  userLine,
} from '../../src/reports/dashboard.ts'
import { ASSETS } from '../../src/views/assets.ts'
import { ago, duration, percent, rate, shares, short, usd } from '../../src/views/format.ts'
import { homePage } from '../../src/views/home.tsx'
import { awayPage, loginPage, problemPage } from '../../src/views/login.tsx'
import { setupPage } from '../../src/views/setup.tsx'
import { figures } from '../../src/views/overview-figures.tsx'
import { overviewPage, type Live } from '../../src/views/overview.tsx'
import { keysReport, plansReport, profileReport, settingsReport } from '../../src/reports/people.ts'
import { stackedChart } from '../../src/views/chart.tsx'
import type { Price } from '../../src/ledger/money.ts'
import { latencyOf } from '../../src/reports/latency.ts'
import { looksOf, refusedToday, type Look } from '../../src/reports/look.ts'
import { barsOf, lastDay, periodOf } from '../../src/reports/period.ts'
import { readRange } from '../../src/reports/range.ts'
import { modelsCard } from '../../src/views/overview-use.tsx'
import { plansPage } from '../../src/views/plans.tsx'
import { auditPage } from '../../src/views/audit.tsx'
import { requestPage } from '../../src/views/request.tsx'
import { requestsPage, requestsTable } from '../../src/views/requests.tsx'
import { settingsPage } from '../../src/views/settings.tsx'
import { count } from '../../src/views/parts.tsx'
import { table } from '../../src/views/table.tsx'
import { userPage } from '../../src/views/user.tsx'
import { usersPage } from '../../src/views/users.tsx'
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
    signed: true,
    planStored: false,
  }
}

/** The numbers of the overview. */
function liveOf(days: DayDoc[], events: Event[]): Live {
  const range = readRange({}, NOW, 90)
  const recent = { events, whole: true }
  return {
    health: { degraded: true, queued: 2 },
    ...{ range, measure: 'tokens', limit: undefined, since: undefined },
    period: periodOf(days, range.dates, prices),
    before: {},
    today: today({ days, quotas: {} }, shared, NOW),
    bars: barsOf(days, range, 'tokens', recent, { prices, models: [], now: NOW }),
    ...{
      looks: [],
      latency: latencyOf(events),
      looked: events.length,
      top: [],
      events,
      labels: {},
    },
  }
}

/** Every page, with a name that a user can choose. */
function pages(views: Views, name: string): string[] {
  const user = userOf(name, name)
  const days = [dayOf(NOW, { 3: 100 })]
  days[0]!.models = { [name]: days[0]!.total }
  const line = { ...userLine(user, terms, NOW), label: name }
  const events = [eventOf(name)]
  const labels = { [ID]: name }
  const [block] = blocksOf(user.profile, NOW)
  const live = {
    ...liveOf(days, events),
    looks: looksOf([], [{ ...line, nearest: { model: name, share: 1 } }], []),
    top: [line],
    labels,
  }
  const query = { sort: 'cost', window: 'week', shown: 'all', plan: name, q: name } as const
  const more = {
    tags: [],
    looks: [
      { kind: 'blocked', user: ID, label: name, block: block! },
      { ...refusedToday([refusedOf(name)], NOW)[0]!, label: name },
      { kind: 'failing', model: name, failed: 3, requests: 20, status: 500 },
    ] satisfies Look[],
    ...{ blocked: 9, oldest: '2026-01-01', date: '2026-03-18' },
    refused: {
      ...{ count: 3, before: 2, ofRange: true },
      codes: [{ code: 'user_blocked', count: 3 }],
    },
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
      ...{
        adminKey: false,
        hashSecret: true,
        called: false,
        provider: { state: 'refused', status: 401 },
      },
      database: { connected: false, latencyMs: null, reason: name },
    }),
    views.awayPage({ open: true, queued: 37, path: '/admin' }),
    views.problemPage('Not found', name),
    views.overviewPage({ ...frame, live, more }),
    views.overviewPage({ ...frame, live }),
    views.usersPage({
      ...frame,
      list: { ...query, users: [line], next: { skip: '50' }, first: 50, among: 'Among some.' },
      ...{ plans: ['default', name], next: 'abcdefgi' },
      refused: { form: 'new', typed: { user: name, label: name }, problem: name.slice(0, 200) },
    }),
    ...[undefined, [refusedOf(name)]].map((refused) =>
      views.requestsPage({
        ...{
          ...frame,
          events,
          refused,
          labels,
          models: [name],
          matching: 1,
          looked: 9,
          since: NOW,
        },
        query: { model: name, outcome: '', status: '', user: ID, tag: name },
        ...{ next: `1~${ID}`, paged: true },
      }),
    ),
    ...[eventOf(name), refusedOf(name)].map((found) =>
      views.requestPage({ ...frame, id: found.id, labels, found }),
    ),
    views.auditPage({
      ...frame,
      audit: [
        {
          ...({ v: VERSION, at: NOW, action: 'block', user: 'abcdef' } as const),
          ...{ model: name, reason: name, ip: name, by: name },
        },
      ],
      query: { by: name, action: '' },
      ...{ names: [name], actions: ['block'], cut: true },
    }),
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
    views.settingsPage(settingsProps(name)),
  ].map(String)
}

const settingsProps = (name: string): Parameters<typeof settingsPage>[0] => ({
  ...frame,
  settings: settingsReport({ ...newSettings(), ...everyone(name) }, environment),
  ...{ plans: ['default'], names: [name], environment: [['ALLOWED_MODELS', name]] },
  tokens: { kinds: ['any'], notes: ['Tokens: any.'], warnings: ['any is risky.'] },
})

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
  ...{ usersPage, requestsPage, requestPage, auditPage },
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
])('writes a used share of %f as %s, and never rounds up to more', (share, text) => {
  expect(percent(share)).toBe(text)
})

test.each([
  [0, '0%'],
  [0.0004, '<0.1%'],
  [0.0204, '2%'],
  [8 / 284, '2.8%'],
  [0.0996, '10%'],
  [0.996, '100%'],
])('rounds a part of %f to %s', (share, text) => {
  expect(rate(share)).toBe(text)
})

test('writes less than a dollar with three significant digits, so that a column is as exact everywhere', () => {
  const amounts = [0, 1, 42, 3_123_456, 9_999_999, 12_345_000_000].map(usd)
  expect(amounts).toEqual([
    '$0.00',
    '$0.00000000100',
    '$0.0000000420',
    '$0.00312',
    '$0.0100',
    '$12.35',
  ])
})

test('writes large amounts of money with three digits, as a tile has room for them', () => {
  const amounts = [9_999.99e9, 12_345e9, 9_007_199e9].map(usd)
  expect(amounts).toEqual(['$9,999.99', '$12.3K', '$9.01M'])
})

test('the login page says which key it wants, also after a wrong one', () => {
  const page = String(loginPage({ error: 'That is not an admin key.' }))
  expect(page).toMatch(/aria-describedby="problem hint" aria-invalid="true"/)
  expect(page).toMatch(/role="alert">That is not an admin key\./)
  const words = page.replaceAll(/<[^>]*>/g, '')
  expect(words).toContain('The key is ADMIN_KEY, or one of ADMIN_KEYS, in the environment')
})

test('the page of a request has no fact without a value', () => {
  for (const found of [eventOf('a'), refusedOf('a')]) {
    const page = String(requestPage({ ...frame, id: found.id, labels: {}, found }))
    expect(page).not.toContain('<dd></dd>')
  }
})

test.each([
  [[], []],
  [
    [0, 0],
    ['0%', '0%'],
  ],
  [
    [1, 1, 1],
    ['34%', '33%', '33%'],
  ],
  [
    [440, 179, 166, 74, 64, 37, 28, 12],
    ['44%', '18%', '17%', '7%', '6%', '4%', '3%', '1%'],
  ],
  [
    [9999, 1],
    ['100%', '<1%'],
  ],
])('shares of %j add up to 100%%', (amounts, told) => {
  expect(shares(amounts)).toEqual(told)
})

test('outcomes are requests: tokens over reservations stand apart from them', () => {
  const day = dayOf(NOW, { 3: 100 })
  day.total.overReservation = 1457
  const page = String(figures(liveOf([day], []), undefined, NOW))
  const legend = [...page.matchAll(/<dt class="o (\w+)">/g)].map(([, kind]) => kind)
  expect(legend).toEqual(['exact', 'estimated', 'failed', 'running'])
  expect(page).toContain('</b> tokens over reservation')
})

test('a tag stands apart from the outcome, and a block without an end says so', () => {
  const text = String(requestsTable([{ ...eventOf('a'), outcome: 'exact' }], {})).replace(
    /<[^>]*>/g,
    '',
  )
  expect(text).toContain('exact over reservation')
})

test.each<[Partial<Event>, string, string, string]>([
  [
    { outcome: 'exact', reservedAudioMs: 30_000, audioMs: 23_400 },
    'exact23.4 s',
    'Reserved → charged 30 s → 23.4 s',
    '',
  ],
  [
    { outcome: 'estimated', reservedAudioMs: 30_000, audioMs: 30_000 },
    'estimated≈30 s',
    'Reserved → charged 30 s → 30 s',
    'title="Estimated: 30 s"',
  ],
  [
    { outcome: 'exact', reservedAudioMs: 58_000, audioMs: 12_345_600 },
    'exact over reservation12.3K s',
    'Reserved → charged 58 s → 12,345.6 s',
    'title="Reserved: 58 s"',
  ],
  [
    { outcome: 'exact', reservedCharacters: 140, characters: 140 },
    'exact140 characters',
    'Reserved → charged 140 characters → 140 characters',
    '',
  ],
  [
    { outcome: 'failed', status: 400, reservedCharacters: 140 },
    'failed 4000',
    'Reserved → charged 140 characters → nothing',
    '',
  ],
])('a request of audio %j is in seconds or characters', (audio, cells, facts, title) => {
  const event = { ...eventOf('a'), reserved: 0, charged: 0, ...audio }
  const text = (page: string) =>
    page.replace(/<button.*?<\/button>|<[^>]*>/g, '').replaceAll(/\s+/g, ' ')
  const row = String(requestsTable([event], {}))
  expect(text(row)).toContain(cells)
  expect(row).toContain(title)
  const page = String(requestPage({ ...frame, id: event.id, labels: {}, found: event }))
  const plain = text(page.replace(/<details.*?<\/details>/g, ''))
  expect(plain).toContain(facts)
  expect(plain).not.toContain('0 tokens')
})

test('what is known of the database is beside what the page says of itself', () => {
  const page = (away: boolean) => String(settingsPage({ ...settingsProps('a'), away }))
  expect(page(false)).toContain('data-health="live" hidden=""><span role="status">Live<')
  expect(page(true)).toContain('data-health="away" hidden=""><span role="status">Database down<')
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

const texts = { heading: 'Day', mark: short, short, exact: String, whole: true }

test('a chart has a bar for each name, stacked parts, a legend, round amounts and the same numbers as a table', () => {
  const chart = String(
    stackedChart({
      ...{ id: 'c', caption: 'Tokens', names: ['one', 'two'], ...texts },
      series: [
        { name: 'a', amounts: [50, 0] },
        { name: 'b', amounts: [25, 170] },
      ],
      limit: { amount: 180, words: 'limit' },
    }),
  )
  const rects = [...chart.matchAll(/<rect class="(s\d)"[^>]* y="([\d.]+)" height="([\d.]+)"/g)]
  expect(rects.map(([, kind, y, height]) => [kind, Number(y), Number(height)])).toEqual([
    ['s0', 150, 50],
    ['s1', 125, 25],
    ['s1', 30, 170],
  ])
  expect(chart).toContain('<title>one\n75\na: 50\nb: 25</title>')
  expect(chart).toMatch(/<line class="limit" x2="1000" y1="20"/)
  expect([...chart.matchAll(/<span>(\d+)<\/span>/g)].map(([, tick]) => tick)).toEqual([
    '200',
    '150',
    '100',
    '50',
    '0',
  ])
  expect(chart.match(/<li class="o s\d">/g)).toHaveLength(2)
  expect(chart).toMatch(/<th scope="row" class="">two<\/th><td class="n">170<\/td>/)
})

test('a limit far above the bars is told and not drawn, and a chart without bars is empty', () => {
  const of = (amounts: number[], limit?: { amount: number; words: string }) =>
    String(
      stackedChart({
        ...{ id: 'c', caption: 'Tokens', names: amounts.map(String), ...texts },
        ...{ series: [{ name: 'a', amounts }], limit },
      }),
    )
  const far = of([1, 2], { amount: 900, words: 'limit' })
  expect(far).not.toContain('class="limit"')
  expect(far).toContain('limit: 900')
  expect(of([0, 0])).not.toMatch(/NaN|<rect class="s/)
  expect(of([])).not.toMatch(/NaN|Infinity/)
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
      reserved: 250,
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

  test('says that nothing was counted, in place of an empty chart', () => {
    const chartOf = (days: DayDoc[]) => {
      const page = String(overviewPage({ ...frame, live: liveOf(days, []) }))
      return page.slice(page.indexOf('id="use"'), page.indexOf('id="models"'))
    }
    expect(chartOf([])).toContain('Nothing was counted today.')
    expect(chartOf([])).not.toContain('<figure')
    expect(chartOf(days)).toContain('<figure')
  })

  test('shows the limits of all windows', () => {
    const total = { requestsPerMinute: 5, tokensPerMinute: 500 }
    const minutes = windowsOf(amounts(2, 150), NOW, 'minute')
    const everyone = today(
      { days, quotas: { '*': { v: VERSION, at: NOW, windows: minutes } } },
      { ...shared, limits: { total, models: {} } },
      NOW,
    )
    const live = { ...liveOf(days, []), today: everyone }
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
  expect([partUsed(1, 4), partUsed(0, 4), partUsed(0, 0), partUsed(3, 0)]).toEqual([0.25, 0, 1, 1])
})

const rowOf = (charged: number, more: Partial<DayRow> = {}): DayRow => ({
  ...newDayRow(),
  ...{ requests: 1, charged, prompt: charged, ...more },
})
const docOf = (at: number, models: DayDoc['models']): DayDoc => ({
  ...newDay(dateOf(at)),
  total: { ...rowOf(70), requests: 3, failed: 1, users: 2 },
  models,
})

test('a period adds up its days and lists its models, the most used first, with the costs that were recorded', () => {
  const docs = [
    docOf(NOW, { c: rowOf(10), a: rowOf(20, { cost: 20 }) }),
    docOf(NOW - DAY_MS, { b: rowOf(40, { cost: 80, failed: 1 }), a: rowOf(30, { cost: 30 }) }),
    docOf(NOW - 9 * DAY_MS, { other: rowOf(99) }),
  ]
  expect(periodOf(docs, datesTo(NOW, 2), prices)).toEqual({
    ...{ tokens: 140, requests: 6, exact: 0, estimated: 0, failed: 2, overReservation: 0 },
    ...{ users: 2, cost: 130, unanswered: 2 },
    models: [
      { model: 'a', tokens: 50, requests: 2, failed: 0, cost: 50 },
      { model: 'b', tokens: 40, requests: 1, failed: 1, cost: 80 },
      { model: 'c', tokens: 10, requests: 1, failed: 0, cost: undefined },
    ],
  })
})

test('what a free model costs is shown as dollars, and what is not known is not shown', () => {
  const doc = { ...newDay(dateOf(NOW)), total: rowOf(9), models: { free: rowOf(9) } }
  const cells = (prices: Record<string, Price>) =>
    String(modelsCard(periodOf([doc], [doc.date], prices), undefined))
  expect(cells({ free: { input: 0, output: 0 } })).toContain('<td class="n">$0.00</td>')
  expect(cells({})).not.toContain('$')
})

describe('the days of the overview', () => {
  test.each([
    [{}, 'today', ['2026-03-18'], ['2026-03-17']],
    [{ range: 'constructor' }, 'today', ['2026-03-18'], ['2026-03-17']],
    [{ range: '24h' }, '24h', ['2026-03-18', '2026-03-17'], ['2026-03-17', '2026-03-16']],
    [
      { from: '2026-03-02', to: '2026-03-03' },
      undefined,
      ['2026-03-03', '2026-03-02'],
      ['2026-03-01', '2026-02-28'],
    ],
    [{ from: '2026-03-17', to: '2099-01-01' }, undefined, ['2026-03-18', '2026-03-17'], undefined],
  ])('%j is %s', (asked, name, dates, before) => {
    const range = readRange(asked, NOW, 90)
    expect([range.name, range.dates, range.problem]).toEqual([name, dates, undefined])
    if (before) expect(range.before).toEqual(before)
  })

  test.each([
    { from: '2026-03-09', to: '2026-03-01' },
    { from: 'x', to: '2026-03-01' },
    { from: '2026-03-01' },
    { from: '1999-01-01', to: '1999-01-02' },
  ])('%j is told to be wrong, and today is shown', (asked) => {
    const range = readRange(asked, NOW, 90)
    expect([range.name, range.problem]).toEqual(['today', expect.any(String)])
  })

  test('days that are not kept are left out', () => {
    expect(readRange({ range: '90d' }, NOW, 3).dates).toHaveLength(3)
    const cut = readRange({ from: '2026-01-01', to: '2026-03-18' }, NOW, 3)
    expect([cut.dates.length, cut.problem]).toEqual([3, 'Only 3 of these days can be shown.'])
  })

  test('24 hours are counted by the hour, and what days do not know by the hour by recent requests', () => {
    const docs = [dayOf(NOW, { 0: 5, 14: 7 }), dayOf(NOW - DAY_MS, { 14: 90, 15: 11 })]
    const event = (ago: number, outcome: Event['outcome']): Event => ({
      ...{ ...eventOf('a'), at: NOW - ago, outcome, cost: '40' },
    })
    const events = [event(HOUR_MS, 'exact'), event(2 * HOUR_MS, 'failed'), event(DAY_MS, 'exact')]
    const whole = lastDay(docs, { events, whole: true }, prices, NOW)
    expect(whole.period).toMatchObject({ tokens: 23, requests: 2, failed: 1, cost: 80 })
    expect([whole.before.tokens, whole.since]).toEqual([90, undefined])
    const few = lastDay(docs, { events: events.slice(0, 2), whole: false }, prices, NOW)
    expect(few.since).toBe(NOW - 2 * HOUR_MS)
  })

  test('bars are hours of one day or days of many, and the small models are one part', () => {
    const many = Object.fromEntries('abcdefgh'.split('').map((name, n) => [name, rowOf(80 - n)]))
    const docs = [docOf(NOW, many), docOf(NOW - DAY_MS, { a: rowOf(1) })]
    const recent = { events: [], whole: true }
    const terms = { prices, models: [], now: NOW }
    const bars = barsOf(docs, readRange({ range: '7d' }, NOW, 90), 'tokens', recent, terms)
    expect(bars.names).toHaveLength(7)
    expect(bars.series.map(({ name }) => name)).toEqual(['a', 'b', 'c', 'd', 'e', 'other models'])
    expect(bars.series[0]?.amounts).toEqual([0, 0, 0, 0, 0, 1, 80])
    expect(bars.series[5]?.amounts[6]).toBe(75 + 74 + 73)
    const hours = barsOf([dayOf(NOW, { 3: 9 })], readRange({}, NOW, 90), 'tokens', recent, terms)
    expect([hours.names.length, hours.series[0]?.amounts[3]]).toEqual([24, 9])
    const few = { events: [eventOf('a')], whole: false }
    const kinds = barsOf(docs, readRange({}, NOW, 90), 'outcomes', few, terms)
    expect([kinds.series[0]?.kind, kinds.since]).toEqual(['estimated', NOW - 1000])
  })
})

test('half of the requests wait at most p50, and failed ones do not count', () => {
  const events = Array.from({ length: 20 }, (_, n) => ({
    ...{ ...eventOf('a'), at: NOW - n * 1000, ttfbMs: 100 * (n + 1) },
  }))
  events.push({ ...eventOf('b'), outcome: 'failed', ttfbMs: 99_999 })
  const { all, models, parts } = latencyOf(events)
  expect(all).toEqual({ p50: 1000, p95: 1900, requests: 20 })
  expect(models).toEqual([{ model: 'a', p50: 1000, p95: 1900, requests: 20 }])
  expect(parts).toHaveLength(12)
  expect(latencyOf([])).toEqual({ all: undefined, models: [], parts: [] })
})

test('what is near a limit and what fails needs a look', () => {
  const line = (share: number) => ({
    ...userLine(userOf('a', 'why'), terms, NOW),
    nearest: { model: 'a', share },
  })
  const use = (used: number) => ({ unit: 'usd', window: 'day', used, limit: 100 }) as const
  const events = Array.from({ length: 20 }, (_, n) => ({
    ...eventOf(n % 2 ? 'a' : 'b'),
    ...(n < 4 && { outcome: 'failed' as const, status: 503 }),
  }))
  const found = looksOf([use(79), use(80)], [line(0.79), line(0.8), line(1)], events)
  expect(found.map((look) => [look.kind, 'share' in look ? look.share : undefined])).toEqual([
    ['limit', 0.8],
    ['near', 1],
    ['near', 0.8],
  ])
  const more = [...events, ...events].map((event) => ({ ...event, model: 'a' }))
  expect(looksOf([], [], more)).toEqual([
    { kind: 'failing', model: 'a', failed: 8, requests: 40, status: 503 },
  ])
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
    cost: undefined,
    failed: 0,
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
    expect(page).toContain('<th scope="col" class="n x">Requests this minute</th>')
    expect(page).not.toContain('class="n x">Tokens this minute')
    expect(page).toMatch(/<td class="n">[^/]*<meter[^>]*aria-label="Tokens today"/)
    expect(page).toContain('<dt>Requests today</dt><dd>4</dd>')
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

test('a column of counts that has only zeros is left out, and a zero in another one is a dash', () => {
  const rows = [
    { id: 'a', some: 1, none: 0 },
    { id: 'b', some: 0, none: 0 },
  ]
  const html = String(
    table({
      ...{ caption: 'Counts', rows, key: ({ id }: { id: string }) => id },
      columns: [
        ['Id', '', ({ id }) => id],
        ['Some', 'n', ({ some }) => count(some)],
        ['None', 'n', ({ none }) => count(none)],
        ['Sorted', 'n', ({ none }) => count(none), { content: 'Sorted', sorted: true }],
      ],
    }),
  )
  expect([...html.matchAll(/<th scope="col"[^>]*>(\w+)/g)].map(([, name]) => name)).toEqual([
    'Id',
    'Some',
    'Sorted',
  ])
  expect(html.match(/<span class="soft">–<\/span>/g)).toHaveLength(3)
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
      .replaceAll(/(value|href)="[^"]*"|<(option|textarea)\b[^>]*>[^<]*/g, '')
    // A reason may have 500 characters.
    const reasons = /<section id="blocks".*?<\/section>/gs
    expect(
      shown
        .match(reasons)
        ?.join('')
        .match(/x{501}/),
    ).toBeNull()
    expect(shown.replaceAll(reasons, '').match(/x{301}/)).toBeNull()
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
      contents: [
        'home',
        'login',
        'overview',
        'plans',
        'settings',
        'setup',
        'user',
        'users',
        'requests',
        'request',
        'audit',
      ]
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

describe('graphics', () => {
  /** The colours of the style by their names: of light pages, and with those of dark ones over them. */
  const rootsOf = [...ASSETS.style.text.matchAll(/:root \{(.*?)\}/gs)].map(([, rules = '']) =>
    Object.fromEntries(
      [...rules.matchAll(/--([\w-]+): (#[\da-f]{3,6});/g)].map(([, name = '', hex = '']) => [
        name,
        hex,
      ]),
    ),
  )
  const [light = {}, dark = {}] = rootsOf
  /** https://www.w3.org/TR/WCAG22/#dfn-relative-luminance */
  const luminance = (hex: string) => {
    const long = hex.length === 4 ? hex.replaceAll(/[\da-f]/g, '$&$&') : hex
    const [red = 0, green = 0, blue = 0] = [1, 3, 5].map((at) => {
      const part = parseInt(long.slice(at, at + 2), 16) / 255
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4
    })
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
  }
  const contrast = (one: string, other: string) => {
    const [dim = 0, bright = 0] = [luminance(one), luminance(other)].sort((a, b) => a - b)
    return (bright + 0.05) / (dim + 0.05)
  }

  test.each([
    ['light', light],
    ['dark', { ...light, ...dark }],
  ])('have a contrast of 3 to 1 with what is behind them, on %s pages', (_, colours) => {
    const kinds = ['bar', 'warn-bar', 'bad-bar', 'open', 's0', 's1', 's2', 's3', 's4', 's5']
    const low = kinds.flatMap((kind) =>
      ['card', 'well'].flatMap((behind) => {
        const ratio = contrast(colours[kind] ?? '', colours[behind] ?? '')
        return ratio >= 3 ? [] : [`${kind} on ${behind}: ${ratio.toFixed(2)}`]
      }),
    )
    expect(low).toEqual([])
  })
})
