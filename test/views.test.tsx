import { build } from 'esbuild'
import { mkdtemp, rm, symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { describe, expect, test } from 'vitest'
import { edgeBundle } from '../scripts/bundle.ts'
import { newDay, newDayRow, newRow, newUser } from '../src/usage/documents.ts'
import {
  blocksOf,
  history,
  part,
  today,
  userDay,
  userDays,
  userLine,
} from '../src/usage/dashboard.ts'
import {
  DAY_MS,
  HOUR_MS,
  MINUTE_MS,
  dateOf,
  datesTo,
  type DayDoc,
  type Event,
  type Limits,
  type UserDoc,
} from '../src/usage/record.ts'
import { NOTHING } from '../src/usage/tally.ts'
import { ago, duration, percent, short, usd } from '../src/views/format.ts'
import { homePage } from '../src/views/home.tsx'
import { awayPage, loginPage, problemPage, setupPage } from '../src/views/login.tsx'
import { overviewPage } from '../src/views/overview.tsx'
import { axisTop } from '../src/views/parts.tsx'
import { userPage } from '../src/views/user.tsx'

const NOW = Date.UTC(2026, 2, 18, 14, 42)
const ID = 'abcdefghijklmnopqrstu_'
const HOSTILE = `<script>alert(1)</script>"'\u202E\uD800 &amp; ${'x'.repeat(10_000)}`
const frame = { now: NOW, place: 'node · database' }
const limits = { tokensPerDay: 1000, requestsPerDay: 10 }
const terms = {
  limits: { default: limits, models: {} },
  globalLimits: { total: limits, models: { a: limits } },
  prices: { a: { input: 1, output: 2 } },
}

const dayOf = (at: number, hours: Record<string, number>): DayDoc => {
  const charged = Object.values(hours).reduce((sum, one) => sum + one, 0)
  const row = { ...newDayRow(), requests: 2, settled: 2, charged, prompt: charged, users: 1, hours }
  const quota = { '*': { tokens: charged + 50, requests: 3 }, a: { tokens: charged, requests: 2 } }
  return { ...newDay(dateOf(at)), total: row, sessions: 1, models: { a: row }, quota }
}

const userOf = (model: string, reason: string): UserDoc => ({
  ...newUser(ID, NOW - HOUR_MS),
  ip: '203.0.113.9',
  rows: {
    [model]: { ...newRow(), requests: 5, settled: 5, charged: 900, prompt: 900, overshoot: 7 },
  },
  blocks: { [model]: { at: NOW - HOUR_MS, reason }, b: { at: 1, until: NOW } },
  reported: { [model]: { tokens: 90_000, requests: 5 } },
})

const eventOf = (model: string): Event => ({
  v: 1,
  id: '01a20217-31d9-759b-be27-34edc8f244b6',
  at: NOW - 1000,
  user: ID,
  route: 'responses',
  model,
  outcome: 'settled',
  status: 200,
  bound: 900,
  charged: 1000,
  estimated: true,
  totalMs: 1200,
})

/** Every page, with names and reasons made up by whoever wants to. */
function pages(views: Views, name: string): string[] {
  const user = userOf(name, name)
  const days = [dayOf(NOW, { 3: 100 })]
  days[0]!.models = { [name]: days[0]!.total }
  const live = {
    health: { degraded: true, queued: 2 },
    today: today(days, terms, NOW),
    users: [userLine(user, terms, NOW)],
    sort: 'tokens' as const,
    next: `1~${ID}`,
    paged: true,
    events: [eventOf(name)],
  }
  const more = {
    history: history(days, [dateOf(NOW)], terms),
    blocks: blocksOf(user, NOW),
    cut: false,
    audit: [
      { at: NOW, action: 'block', user: 'abcdef', model: name, reason: name, ip: name } as const,
    ],
    origin: 'http://localhost:8787',
  }
  const of = {
    id: ID,
    ip: name,
    at: NOW,
    sessions: 1,
    limits,
    ...userDay(user, terms, NOW),
    days: userDays(user, [dateOf(NOW)]),
  }
  return [
    views.homePage({ origin: 'http://localhost:8787' }),
    views.loginPage(),
    views.loginPage({ error: name }),
    views.setupPage(),
    views.awayPage({ open: true, queued: 37 }),
    views.problemPage('Not found', name),
    views.overviewPage({ ...frame, live, more }),
    views.overviewPage({ ...frame, live }),
    views.userPage({
      ...frame,
      live: of,
      events: [eventOf(name)],
      looked: 500,
      more: { blocks: blocksOf(user, NOW), names: [name] },
    }),
  ].map(String)
}

const VIEWS = { homePage, loginPage, setupPage, awayPage, problemPage, overviewPage, userPage }
type Views = typeof VIEWS

test.each([
  [0, '0'],
  [9999, '9,999'],
  [12_345, '12.3K'],
  [1_234_567, '1.23M'],
])('writes %i in short as %s', (amount, text) => {
  expect(short(amount)).toBe(text)
})

test.each([
  [0, '0%'],
  [0.0001, '<1%'],
  [0.999, '99%'],
  [1, '100%'],
])('writes a part of %f as %s, and never as more than it is', (share, text) => {
  expect(percent(share)).toBe(text)
})

test('does not write less than a cent as nothing', () => {
  expect([usd(0), usd(0.001), usd(12.345)]).toEqual(['$0.00', '<$0.01', '$12.35'])
})

test('writes durations in the unit they are read in', () => {
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

  test('is compared with the same full hours of yesterday', () => {
    expect(today(days, terms, NOW).trend).toBe(1)
    expect(today(days.slice(0, 1), terms, NOW).trend).toBeUndefined()
  })

  test('has the hours that have begun', () => {
    expect(today(days, terms, NOW).hours).toEqual([0, 0, 0, 100, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 900])
  })

  test('tells requests that have not ended where everyone is limited together', () => {
    expect(today(days, terms, NOW).open).toBe(1)
    expect(today([{ ...dayOf(NOW, {}), quota: {} }], terms, NOW).open).toBeUndefined()
  })

  test('does not take requests that were cleared away for some that have not ended', () => {
    const [day = newDay('')] = days
    const cleared = { ...newDay(day.date), quota: day.quota, forgotten: day.total.requests }
    expect(today([cleared], terms, NOW).open).toBe(1)
  })

  test('costs what is known of the prices, and nothing is made up where none is', () => {
    expect(today(days, terms, NOW).cost).toBe(0.001)
    expect(today(days, { ...terms, prices: {} }, NOW).cost).toBeUndefined()
  })

  test('tells its models, the most used first, and what everyone has left of them', () => {
    const rowOf = (charged: number, users: number) => ({
      ...newDayRow(),
      ...{ requests: users + 1, charged, prompt: charged, users },
    })
    const day: DayDoc = {
      ...newDay(dateOf(NOW)),
      total: rowOf(700, 6),
      sessions: 3,
      models: { b: rowOf(100, 1), a: rowOf(400, 2), c: rowOf(200, 3) },
      quota: { '*': { tokens: 950, requests: 9 }, a: { tokens: 450, requests: 3 } },
    }
    const globalLimits = {
      total: limits,
      models: { a: limits, c: { tokensPerDay: 150, requestsPerDay: 10 } },
    }
    const prices = { ...terms.prices, b: { input: 4, output: 4 } }
    expect(today([day], { ...terms, globalLimits, prices }, NOW)).toEqual({
      total: day.total,
      sessions: 3,
      cost: 0.0008,
      resetAt: Date.UTC(2026, 2, 19),
      held: { tokens: 950, requests: 9 },
      limits,
      open: 2,
      hours: Array.from({ length: 15 }, () => 0),
      models: [
        { model: 'a', tokens: 400, requests: 3, users: 2, cost: 0.0004, left: 550 },
        { model: 'c', tokens: 200, requests: 4, users: 3, left: 0 },
        { model: 'b', tokens: 100, requests: 2, users: 1, cost: 0.0004 },
      ],
    })
  })

  test('holds what has ended where everyone is not limited, and never less than nothing open', () => {
    const day = dayOf(NOW, { 3: 100 })
    const none = { ...terms, globalLimits: undefined }
    expect(today([{ ...day, quota: {} }], none, NOW)).toMatchObject({
      held: { tokens: 100, requests: 2 },
      limits: undefined,
      models: [{ left: undefined }],
    })
    const quota = { '*': { tokens: 100, requests: 1 } }
    expect(today([{ ...day, quota }], terms, NOW).open).toBe(0)
  })
})

test('a part of a limit that allows nothing is all of it', () => {
  expect([part(1, 4), part(0, 4), part(0, 0), part(3, 0)]).toEqual([0.25, 0, 1, 1])
})

test('a history has every day asked for, the oldest first, and sums its models', () => {
  const dates = [0, 1, 2].map((back) => dateOf(NOW - back * 24 * HOUR_MS))
  const docs = [dayOf(NOW, { 1: 5 }), dayOf(NOW - 48 * HOUR_MS, { 1: 6 })]
  const { days, models, tokens } = history(docs, dates, terms)
  expect(days.map((day) => day.tokens)).toEqual([6, 0, 5])
  expect(tokens).toBe(11)
  expect(models).toEqual([{ model: 'a', tokens: 11, requests: 4, cost: 11e-6 }])
})

test('a history tells its models, the most used first, and costs what is known of the prices', () => {
  const rowOf = (charged: number) => ({ ...newDayRow(), requests: 1, charged, prompt: charged })
  const docOf = (at: number, models: DayDoc['models']): DayDoc => ({
    ...newDay(dateOf(at)),
    total: { ...rowOf(70), requests: 3, users: 2 },
    models,
  })
  const docs = [
    docOf(NOW, { c: rowOf(10), a: rowOf(20) }),
    docOf(NOW - DAY_MS, { b: rowOf(40), a: rowOf(30) }),
  ]
  const prices = { a: { input: 1e6, output: 1e6 }, b: { input: 2e6, output: 2e6 } }
  const dates = docs.map(({ date }) => date)
  expect(history(docs, dates, { ...terms, prices })).toEqual({
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

test('a user shows the limit of which most is used, the blocks in force and a report that is far off', () => {
  const line = userLine(userOf('a', 'why'), terms, NOW)
  expect(line).toMatchObject({ blocked: ['a'], differs: true, overshoot: 7 })
  expect(line.nearest).toMatchObject({ model: 'a', share: 0.9 })
})

test('the limit of which most is used may be one of requests, or that of all models together', () => {
  const rows = { a: { ...newRow(), charged: 300, requests: 6 }, b: { ...newRow(), charged: 500 } }
  const user = { ...newUser(ID, NOW), rows, seen: NOW - 7 }
  const withTotal = (total: Limits) => ({ ...terms, limits: { ...terms.limits, total } })
  expect(userLine(user, terms, NOW)).toEqual({
    id: ID,
    at: NOW - 7,
    tokens: 800,
    requests: 6,
    nearest: { model: 'a', share: 0.6 },
    blocked: [],
    overshoot: 0,
    differs: false,
  })
  expect(userLine(user, withTotal(limits), NOW).nearest).toEqual({ model: '*', share: 0.8 })
  const ample = { tokensPerDay: 1e6, requestsPerDay: 100 }
  expect(userLine(user, withTotal(ample), NOW).nearest).toEqual({ model: 'a', share: 0.6 })
  const none = { ...terms, limits: { models: {} } }
  expect(userLine(user, none, NOW)).toMatchObject({ tokens: 800, nearest: undefined })
  expect(userLine(newUser(ID, NOW), none, NOW).at).toBe(NOW)
})

describe('a day of a user', () => {
  const row = { ...newRow(), requests: 2, charged: 300, prompt: 200, held: 100 }
  const rows = { a: row, b: { ...row, charged: 400 } }
  const minute = { n: NOW / MINUTE_MS, rows: { a: { tokens: 9, requests: 1 } } }
  const user: UserDoc = { ...newUser(ID, NOW), rows, minute }

  test('has its models, the most used first, and what they cost', () => {
    expect(userDay(user, terms, NOW)).toMatchObject({
      tokens: 700,
      requests: 4,
      models: [
        { model: 'b', tokens: 400, requests: 2, limits, minute: undefined, cost: undefined },
        { model: 'a', tokens: 300, requests: 2, limits, minute: undefined, cost: 400e-6 },
      ],
    })
  })

  test('has no line for a block of all models, and what was yesterday costs nothing today', () => {
    const blocks = { '*': { at: NOW }, a: { at: NOW } }
    const { models } = userDay({ ...user, blocks }, terms, NOW + DAY_MS)
    expect(models).toMatchObject([{ model: 'a', tokens: 0, cost: 0 }])
  })

  test.each([
    [
      'tokensPerMinute',
      0,
      [
        { tokens: 0, requests: 0 },
        { tokens: 9, requests: 1 },
      ],
    ],
    [
      'requestsPerMinute',
      0,
      [
        { tokens: 0, requests: 0 },
        { tokens: 9, requests: 1 },
      ],
    ],
    ['requestsPerMinute', MINUTE_MS, [NOTHING, NOTHING]],
  ])('tells the minute where there is a limit of it: %s, %i ms later', (field, later, minutes) => {
    const byMinute = { default: { ...limits, [field]: 5 }, models: {} }
    const { models } = userDay(user, { ...terms, limits: byMinute }, NOW + later)
    expect(models.map(({ minute }) => minute)).toEqual(minutes)
  })

  test.each([
    [0, 0, 5000, 5001],
    [100, 100, 5000, 5001],
    [100_100, 100, 120_000, 120_001],
    [100_100, 100, 80_000, 79_999],
  ])('of %i tokens, %i held, %i is no report far off, %i is', (charged, held, near, far) => {
    const differs = (tokens: number) => {
      const reported = { a: { tokens, requests: 1 } }
      const one = { ...user, rows: { a: { ...row, charged, held } }, reported }
      return userDay(one, terms, NOW).models[0]?.differs
    }
    expect([differs(near), differs(far)]).toEqual([false, true])
  })
})

test('a report that is far off shows with a user, and one that never came does not', () => {
  const rows = { a: { ...newRow(), charged: 90_000 }, b: newRow() }
  const user: UserDoc = { ...newUser(ID, NOW), rows }
  expect(userLine(user, terms, NOW).differs).toBe(false)
  const reported = { a: { tokens: 1, requests: 1 }, b: { tokens: 0, requests: 0 } }
  expect(userLine({ ...user, reported }, terms, NOW).differs).toBe(true)
})

test('the blocks of a user that are in force are told with the latest first', () => {
  const blocks = {
    a: { at: 1 },
    b: { at: 3, until: NOW + 1, reason: 'why' },
    c: { at: 4, until: NOW },
    d: { at: 2 },
  }
  expect(blocksOf({ ...newUser(ID, NOW), blocks }, NOW)).toEqual([
    { at: 3, until: NOW + 1, reason: 'why', user: ID, model: 'b' },
    { at: 2, user: ID, model: 'd' },
    { at: 1, user: ID, model: 'a' },
  ])
})

test('the last days of a user are told with the oldest first', () => {
  const [date = '', yesterday = '', before = ''] = datesTo(NOW, 3)
  const past = { [yesterday]: { a: { charged: 7, requests: 1 }, b: { charged: 5, requests: 2 } } }
  const user = { ...newUser(ID, NOW), rows: { a: { ...newRow(), charged: 9, requests: 4 } }, past }
  expect(userDays(user, [date, yesterday, before])).toEqual([
    { date: before, tokens: 0, requests: 0 },
    { date: yesterday, tokens: 12, requests: 3 },
    { date, tokens: 9, requests: 4 },
  ])
})

test('what a refresh is tagged by does not change with time alone', () => {
  const user = userOf('a', 'why')
  const at = (now: number) =>
    JSON.stringify([userLine(user, terms, now), today([dayOf(NOW, { 3: 1 })], terms, now)])
  expect(at(NOW + 60_000)).toBe(at(NOW))
})

describe('hostile names and reasons', () => {
  const all = () => pages(VIEWS, HOSTILE)

  test('are text on every page', () => {
    for (const page of all())
      expect(page.match(/<script(?! type="module" src="\/admin.js">)/g)).toBeNull()
  })

  test('are cut to what somebody reads', () => {
    // The page of a problem says what the gateway says, and a form sends a name back as it is.
    const shown = all()
      .slice(6)
      .join('')
      .replaceAll(/value="[^"]*"|<option>[^<]*/g, '')
    expect(shown.match(/x{301}/)).toBeNull()
  })

  test('keep their writing direction to themselves', () => {
    for (const page of all().slice(6)) {
      const text = page.replaceAll(/="[^"]*"|<option>[^<]*/g, '')
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

test('the edge renders the pages as all of hono/jsx does', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'weir-'))
  try {
    await symlink(resolve('node_modules'), join(folder, 'node_modules'))
    const outfile = join(folder, 'views.mjs')
    const stdin = {
      resolveDir: resolve('src/views'),
      contents: ['home', 'login', 'overview', 'user']
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
