/** The numbers of the overview add up, are of one period, and are compared only with what is alike. */
import { describe, expect, test } from 'vitest'
import type { DayDoc, DayRow } from '../../src/ledger/documents.ts'
import type { Event } from '../../src/ledger/events.ts'
import { newDay, newDayRow } from '../../src/ledger/new-documents.ts'
import { VERSION } from '../../src/ledger/shapes.ts'
import { DAY_MS, HOUR_MS, MINUTE_MS, dateOf } from '../../src/ledger/windows.ts'
import { barsOf, lastDay, periodOf, type Measure, type Recent } from '../../src/reports/period.ts'
import { readRange } from '../../src/reports/range.ts'
import { stackedChart } from '../../src/views/chart.tsx'
import { figures, type Figures } from '../../src/views/overview-figures.tsx'
import { lookCard } from '../../src/views/overview-look.tsx'
import { modelsCard, useCard } from '../../src/views/overview-use.tsx'

const NOW = Date.UTC(2026, 2, 18, 14, 42)

const rowOf = (more: Partial<DayRow>): DayRow => ({ ...newDayRow(), ...more })
const dayOf = (at: number, total: Partial<DayRow>, models: DayDoc['models'] = {}): DayDoc => ({
  ...newDay(dateOf(at)),
  total: rowOf(total),
  models,
})
const eventOf = (at: number, more: Partial<Event> = {}): Event => ({
  v: VERSION,
  ...{ id: '01a20217-31d9-759b-be27-34edc8f244b6', at, user: 'ann', route: 'responses' },
  ...{ model: 'a', outcome: 'exact', status: 200, reserved: 9, charged: 9, totalMs: 1 },
  ...more,
})
const plain = (html: unknown) =>
  String(html)
    .replaceAll(/<button.*?<\/button>|<[^>]*>/gs, ' ')
    .replaceAll(/\s+/g, ' ')

const days = [
  dayOf(
    NOW,
    { requests: 9, exact: 6, failed: 3, charged: 70 },
    { a: rowOf({ requests: 6, charged: 70 }) },
  ),
  dayOf(
    NOW - DAY_MS,
    { requests: 5, exact: 5, charged: 50 },
    { b: rowOf({ requests: 5, charged: 50 }) },
  ),
]
const recent: Recent = { events: [], whole: true }

test('requests that failed before their model answered that day have a row of their own', () => {
  const period = periodOf(days, [dateOf(NOW), dateOf(NOW - DAY_MS)], {})
  expect(period.unanswered).toBe(3)
  expect(plain(modelsCard(period, undefined))).toMatch(/models without an answer – 0% \$0\.00 3 3/)
  const told = period.models.reduce((sum, { requests }) => sum + requests, period.unanswered)
  expect(told).toBe(period.requests)
})

const barsAt = (measure: Measure, asked: object, events = recent, docs = days) => {
  const range = readRange(asked, NOW, 90)
  const { models } = periodOf(docs, range.dates, {})
  return barsOf(docs, range, measure, events, { prices: {}, models, now: NOW })
}

test('they have a part of the bars too', () => {
  const { series } = barsAt('requests', { range: '7d' })
  expect(series.map(({ name, amounts }) => [name, amounts.at(-1)])).toContainEqual([
    'models without an answer',
    3,
  ])
})

test('a model has one colour, whatever the chart measures', () => {
  const docs = [
    dayOf(
      NOW,
      {},
      {
        a: rowOf({ requests: 1, charged: 90, cost: 1 }),
        b: rowOf({ requests: 7, charged: 50, cost: 9 }),
      },
    ),
  ]
  const colours = (measure: Measure) =>
    barsAt(measure, { range: '7d' }, recent, docs).series.map(({ name, kind }) => [name, kind])
  expect(colours('tokens')).toEqual([
    ['a', 's0'],
    ['b', 's1'],
  ])
  expect(colours('cost')).toEqual([
    ['b', 's1'],
    ['a', 's0'],
  ])
})

describe('24 hours', () => {
  test('are the same hours for requests as for tokens', () => {
    const first = Date.UTC(2026, 2, 17, 15)
    const events = [eventOf(NOW - 1), eventOf(first), eventOf(first - 1)]
    const { period } = lastDay(days, { events, whole: true }, {}, NOW)
    expect(period.requests).toBe(2)
  })

  test('have the models that failed only', () => {
    const events = [eventOf(NOW - 1, { model: 'new', outcome: 'failed', charged: 0 })]
    const { period } = lastDay([], { events, whole: true }, {}, NOW)
    expect(period.models).toMatchObject([{ model: 'new', requests: 1, failed: 1 }])
  })

  test('say that they are not complete only if the first bars lack requests', () => {
    const since = (ago: number) =>
      barsAt('cost', { range: '24h' }, { events: [eventOf(NOW), eventOf(NOW - ago)], whole: false })
        .since
    expect(since(24 * HOUR_MS)).toBeUndefined()
    expect(since(2 * HOUR_MS)).toBe(NOW - 2 * HOUR_MS)
  })
})

describe('the period before', () => {
  test('is only there while all of its days are kept', () => {
    const before = (asked: object) => readRange(asked, NOW, 90).before.length
    expect(before({ range: '30d' })).toBe(30)
    expect(before({ range: '90d' })).toBe(0)
    expect(before({ from: '2025-12-20', to: '2025-12-21' })).toBe(0)
    expect(before({ from: '2025-12-21', to: '2025-12-22' })).toBe(2)
  })

  const shown = (asked: object, more: Partial<Figures> = {}) => {
    const range = readRange(asked, NOW, 90)
    const period = { ...periodOf(days, range.dates, {}), cost: 200 }
    const before = { ...period, cost: 100 }
    return plain(
      figures(
        { range, period, before, since: undefined, today: undefined, ...more },
        undefined,
        NOW,
      ),
    )
  }

  test('is compared in percent only with days that have ended', () => {
    expect(shown({ from: '2026-03-16', to: '2026-03-17' })).toContain('+100%')
    for (const range of ['today', '24h', '7d', '30d'])
      expect(shown({ range })).not.toContain('+100%')
  })
})

test('an hour or a day that has not ended is faint and said to be so', () => {
  const range = readRange({ range: '7d' }, NOW, 90)
  const card = (asked: object) => {
    const bars = barsAt('tokens', asked)
    return String(
      useCard({ range: readRange(asked, NOW, 90), measure: 'tokens', bars, limit: undefined }),
    )
  }
  expect(range.current).toBe(true)
  expect(card({ range: '7d' })).toMatch(
    /class="bar current"><title>Mar 18\n.*faint: today, not over/s,
  )
  expect(card({ from: '2026-03-16', to: '2026-03-17' })).not.toContain('current"')
})

test('a chart of one series has its numbers once, under what they are of, and a unit', () => {
  const chart = String(
    stackedChart({
      ...{ id: 'c', caption: 'c', heading: 'Day (UTC)', unit: 'tokens', names: ['Mar 18'] },
      ...{ mark: String, short: String, exact: String, whole: true },
      series: [{ name: 'tokens', amounts: [7] }],
    }),
  )
  expect(chart).toContain('<title>Mar 18\n7 tokens</title>')
  expect(
    [...chart.matchAll(/<th scope="col"[^>]*>(?:<bdi[^>]*>)?([^<]*)/g)].map(([, one]) => one),
  ).toEqual(['Day (UTC)', 'tokens'])
})

test('why a user was refused is in words, with the code on hover', () => {
  const look = { kind: 'refused', user: 'ann', code: 'insufficient_quota', times: 1 } as const
  const card = lookCard({ now: [], more: [{ ...look, at: NOW - MINUTE_MS }], blocked: 0 }, NOW)
  expect(String(card)).toContain('<span title="insufficient_quota">over the user’s limit</span>')
})
