/** The table of windows, and that the script in the database computes the same ones. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  DAY_MS,
  WINDOWS,
  WINDOW_NAMES,
  endOf,
  startOf,
  type Window,
} from '../../src/ledger/windows.ts'
import { admitOf, AMPLE } from '../support/commands.ts'
import { userOf } from '../support/contract.ts'
import { useDatabase } from '../support/database.ts'
import { redisStore } from '../support/stores.ts'

const { redis, upstash } = useDatabase()

const spanOf = (window: Window, at: string) =>
  [startOf(window, Date.parse(at)), endOf(window, Date.parse(at))].map((moment) =>
    new Date(moment).toISOString().replace(':00.000Z', ''),
  )

test.each<[Window, string, string, string]>([
  // A month ends with its last day, whatever its length.
  ['month', '2026-11-22T12:00Z', '2026-11-01T00:00', '2026-12-01T00:00'],
  ['month', '2026-01-31T23:59:59.999Z', '2026-01-01T00:00', '2026-02-01T00:00'],
  ['month', '2026-02-28T23:59:59.999Z', '2026-02-01T00:00', '2026-03-01T00:00'],
  ['month', '2024-02-29T23:59:59.999Z', '2024-02-01T00:00', '2024-03-01T00:00'],
  ['month', '2024-03-01T00:00Z', '2024-03-01T00:00', '2024-04-01T00:00'],
  ['month', '2100-02-28T23:59:59.999Z', '2100-02-01T00:00', '2100-03-01T00:00'],
  ['month', '2000-02-29T00:00Z', '2000-02-01T00:00', '2000-03-01T00:00'],
  // A year ends as a month does.
  ['month', '2026-12-31T23:59:59.999Z', '2026-12-01T00:00', '2027-01-01T00:00'],
  ['month', '2027-01-01T00:00Z', '2027-01-01T00:00', '2027-02-01T00:00'],
  ['month', '1970-01-01T00:00Z', '1970-01-01T00:00', '1970-02-01T00:00'],
  // A week begins on Monday, also where it begins in another month or year.
  ['week', '2026-11-22T23:59:59.999Z', '2026-11-16T00:00', '2026-11-23T00:00'],
  ['week', '2026-11-23T00:00Z', '2026-11-23T00:00', '2026-11-30T00:00'],
  ['week', '2027-01-01T12:00Z', '2026-12-28T00:00', '2027-01-04T00:00'],
  ['week', '2024-03-03T12:00Z', '2024-02-26T00:00', '2024-03-04T00:00'],
  ['week', '1970-01-01T00:00Z', '1969-12-29T00:00', '1970-01-05T00:00'],
  ['week', '1970-01-05T00:00Z', '1970-01-05T00:00', '1970-01-12T00:00'],
  ['day', '2024-02-29T12:00Z', '2024-02-29T00:00', '2024-03-01T00:00'],
  ['day', '2026-12-31T23:59:59.999Z', '2026-12-31T00:00', '2027-01-01T00:00'],
  // The hour that a place with summer time has twice is two hours in UTC.
  ['hour', '2026-10-25T01:59:59.999Z', '2026-10-25T01:00', '2026-10-25T02:00'],
  ['hour', '2026-12-31T23:30Z', '2026-12-31T23:00', '2027-01-01T00:00'],
  ['minute', '2026-12-31T23:59:30Z', '2026-12-31T23:59', '2027-01-01T00:00'],
])('the %s of %s is from %s to %s', (window, at, start, end) => {
  expect(spanOf(window, at)).toEqual([start, end])
})

/** Any moment from the epoch to the year 2100. */
const moment = fc.integer({ min: 0, max: Date.UTC(2100, 0) })

describe.each(WINDOW_NAMES)('of any moment the %s', (window) => {
  test('contains the moment, ends where the next one begins, and is at most as long as the table says', () =>
    fc.assert(
      fc.property(moment, (at) => {
        const [start, end] = [startOf(window, at), endOf(window, at)]
        expect(start <= at && at < end && end - start <= WINDOWS[window].longest).toBe(true)
        expect([startOf(window, start), startOf(window, end - 1)]).toEqual([start, start])
        expect(startOf(window, end)).toBe(end)
        expect(endOf(window, start - 1)).toBe(start)
      }),
    ))

  test('begins and ends at midnight, if it is a day or longer', () =>
    fc.assert(
      fc.property(moment, (at) => {
        if (WINDOWS[window].longest < DAY_MS) return
        expect([startOf(window, at) % DAY_MS, endOf(window, at) % DAY_MS].map(Math.abs)).toEqual([
          0, 0,
        ])
      }),
    ))
})

test('windows are counted in the database by the same calendar', async () => {
  const store = redisStore(upstash)
  const limits = { model: { ...AMPLE, requestsPerHour: 9, requestsPerMinute: 9 } }
  const moments = [
    '1970-01-01T00:00Z',
    '1999-12-31T23:59:59.999Z',
    '2000-02-29T00:00Z',
    '2024-02-29T23:59:59.999Z',
    '2024-03-01T00:00Z',
    '2026-12-31T23:59:59.999Z',
    '2027-01-01T00:00Z',
    '2027-01-04T00:00Z',
    '2100-02-28T23:59:59.999Z',
    '2100-03-01T00:00Z',
  ].map((at) => Date.parse(at))
  for (const at of [...moments, ...fc.sample(moment, 30)]) {
    await redis.flush()
    await store.execute(admitOf({ id: `${at}`, now: at, limits }))
    const { windows } = (await userOf(store)).usage
    const starts = Object.fromEntries(WINDOW_NAMES.map((window) => [window, startOf(window, at)]))
    const found = Object.entries(windows).map(([window, { start }]) => [window, start])
    expect(Object.fromEntries(found), new Date(at).toISOString()).toEqual(starts)
    // Without room, the refusal says when each window ends.
    for (const window of WINDOW_NAMES) {
      const name = `requestsPer${WINDOWS[window].name}` as const
      const none = admitOf({ id: 'none', now: at, limits: { model: { [name]: 0 } } })
      expect(await store.execute(none)).toMatchObject({ window, resetAt: endOf(window, at) })
    }
  }
})
