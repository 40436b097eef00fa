/** Admissions: charges, refusals, and the effect of clocks. */
import { describe, expect, test } from 'vitest'
import type { Admit } from '../../src/ledger/commands.ts'
import type { Limits } from '../../src/ledger/policy.ts'
import { DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS } from '../../src/ledger/windows.ts'
import { amounts, inLong } from '../support/amounts.ts'
import { admitOf, AMPLE, failureOf, NOON, settleOf } from '../support/commands.ts'
import {
  dayOf,
  MIDNIGHT,
  pastRowOf,
  rowOf,
  setBlock,
  spend,
  start,
  TODAY,
  TOMORROW,
  usedByAll,
  usedOf,
  userOf,
  useStores,
} from '../support/contract.ts'

const { stores, ledgers } = useStores()

/** A minute limit that no test reaches, so that the minute is counted. */
const MINUTELY: Limits = { ...AMPLE, tokensPerMinute: 1e9 }

describe.each(ledgers)('%s', (_, open) => {
  test('an admission charges the reservation at once, and the settlement replaces it by the usage', async () => {
    const ledger = await open()
    const limits = { model: MINUTELY }
    const first = admitOf({ id: '1', reserved: 100, limits })
    const used = (requests: number, tokens: number) => ({
      of: 'user',
      model: 'a/one',
      limits: MINUTELY,
      used: { day: amounts(requests, tokens), minute: amounts(requests, tokens) },
    })
    expect(await ledger.execute(first)).toEqual({ ok: true, at: NOON, limits: [used(1, 100)] })
    expect(await ledger.execute(settleOf(first, { charged: 15 }))).toEqual({ applied: true })
    const next = admitOf({ id: '2', reserved: 7, now: NOON + SECOND_MS, limits })
    expect(await ledger.execute(next)).toEqual({
      ok: true,
      at: NOON + SECOND_MS,
      limits: [used(2, 22)],
    })
  })

  test('a refusal tells the limit that waiting does not help with, before those that are spent', async () => {
    const ledger = await open()
    const price = { input: 1000, output: 1000 }
    await ledger.execute(admitOf({ id: '1', reserved: 100, price }))
    const refusalOf = (limits: Admit['limits'], fields: Partial<Admit> = {}) =>
      ledger.execute(
        admitOf({ id: '2', reserved: 50, now: NOON + SECOND_MS, price, limits, ...fields }),
      )
    const spent = { tokensPerMonth: 110, tokensPerDay: 110 }
    expect(await refusalOf({ model: spent })).toMatchObject({ window: 'month', limit: 110 })
    const never = { model: { ...spent, tokensPerMinute: 49 } }
    expect(await refusalOf(never)).toMatchObject({ window: 'minute', limit: 49, asked: 50 })
    const total = { usdPerWeek: 49, usdPerDay: 49 }
    expect(await refusalOf({ model: spent, total })).toMatchObject({
      ...{ of: 'user', model: '*', unit: 'usd', window: 'week', limit: 49, asked: 50 },
    })
    const everyone = { total: { tokensPerHour: 1 } }
    expect(await refusalOf({ model: spent }, { everyone })).toMatchObject({
      ...{ of: 'everyone', window: 'hour', limit: 1 },
    })
    // Of several, the first.
    expect(await refusalOf({ ...never, total }, { everyone })).toMatchObject({ window: 'minute' })
  })

  test('an admission lists each limit in force, first those of the user and then those of everyone', async () => {
    const ledger = await open()
    await spend(ledger, { id: '1', user: 'bob', model: 'b/two', everyone: { total: AMPLE } })
    const rows = { model: { tokensPerDay: 500 }, total: { requestsPerDay: 50 } }
    const day = (requests: number, tokens: number) => ({ day: amounts(requests, tokens) })
    expect(await ledger.execute(admitOf({ id: '2', limits: rows, everyone: rows }))).toEqual({
      ok: true,
      at: NOON + SECOND_MS,
      limits: [
        { of: 'user', model: 'a/one', limits: rows.model, used: day(1, 100) },
        { of: 'user', model: '*', limits: rows.total, used: day(1, 100) },
        { of: 'everyone', model: '*', limits: rows.total, used: day(2, 115) },
        { of: 'everyone', model: 'a/one', limits: rows.model, used: day(1, 100) },
      ],
    })
  })

  test('an admission without limits is charged too', async () => {
    const ledger = await open()
    expect(await ledger.execute(admitOf({ id: '1', limits: {} }))).toEqual({ ok: true, at: NOON })
    expect(usedOf(await ledger.execute(admitOf({ id: '2' })))).toEqual([2, 200])
  })

  test('the same id admitted again gets the same answer and charges once', async () => {
    const ledger = await open()
    const admit = admitOf({ id: '1', everyone: { total: AMPLE, model: AMPLE } })
    const answer = await ledger.execute(admit)
    expect(await ledger.execute(admit)).toEqual(answer)
    const twice = [ledger.execute(admit), ledger.execute(admit)]
    expect(await Promise.all(twice)).toEqual([answer, answer])
    await ledger.execute(settleOf(admit))
    expect(usedOf(await ledger.execute({ ...admit, id: '2', reserved: 1 }))).toEqual([2, 16])
  })

  test('the same id is admitted again even if a new one would be refused', async () => {
    const ledger = await open()
    const admit = admitOf({ id: '1', limits: { model: { tokensPerDay: 100, requestsPerDay: 1 } } })
    const answer = await ledger.execute(admit)
    expect(await ledger.execute({ ...admit, id: '2' })).toMatchObject({ ok: false })
    expect(await ledger.execute(admit)).toEqual(answer)
  })

  type Place = {
    place: string
    of: 'user' | 'everyone'
    scope: string
    limit(limits: Limits): Partial<Admit>
    /** Another request that counts against the same limit. */
    beside: Partial<Admit>
    /** A request that does not count against it. */
    apart: Partial<Admit>
  }
  const places: Place[] = [
    {
      place: "a user's model",
      of: 'user',
      scope: 'a/one',
      limit: (model) => ({ limits: { model } }),
      beside: {},
      apart: { model: 'b/two' },
    },
    {
      place: "a user's total",
      of: 'user',
      scope: '*',
      limit: (total) => ({ limits: { model: AMPLE, total } }),
      beside: { model: 'b/two' },
      apart: { user: 'bob' },
    },
    {
      place: "everyone's total",
      of: 'everyone',
      scope: '*',
      limit: (total) => ({ limits: { model: AMPLE }, everyone: { total } }),
      beside: { user: 'bob', model: 'b/two' },
      apart: { now: NOON + DAY_MS, user: 'carol' },
    },
    {
      place: "everyone's model",
      of: 'everyone',
      scope: 'a/one',
      limit: (model) => ({ limits: { model: AMPLE }, everyone: { total: AMPLE, model } }),
      beside: { user: 'bob' },
      apart: { model: 'b/two' },
    },
  ]
  const windows = [
    { window: 'day', named: 'PerDay', resetAt: MIDNIGHT } as const,
    { window: 'minute', named: 'PerMinute', resetAt: NOON + MINUTE_MS } as const,
  ]
  const cases = places.flatMap(({ place, ...rest }) =>
    windows.map((span) => [`${place} per ${span.window}`, { ...rest, ...span }] as const),
  )

  test.each(cases)(
    '%s refuses the token too many and lets through what fits',
    async (_, { of, scope, limit, beside, apart, window, named, resetAt }) => {
      const ledger = await open()
      const limited = limit({ [`tokens${named}`]: 100 })
      await spend(ledger, { id: '1', reserved: 60, ...limited, ...beside }, 40)
      await start(ledger, { id: '2', reserved: 50, ...limited })
      const next = admitOf({ id: '3', reserved: 11, now: NOON + 2000, ...limited })
      expect(await ledger.execute(next)).toEqual({
        ok: false,
        counted: true,
        reason: 'limit',
        of,
        model: scope,
        window,
        unit: 'tokens',
        limit: 100,
        used: 90,
        asked: 11,
        resetAt,
      })
      // A request at another time would move everyone's clock.
      const fits = { ...next, id: '4', reserved: 10 }
      expect(await ledger.execute(fits)).toMatchObject({ ok: true })
      expect(await ledger.execute({ ...next, id: '5', reserved: 1 })).toMatchObject({ ok: false })
      expect(await ledger.execute({ ...next, id: '6', ...apart })).toMatchObject({ ok: true })
    },
  )

  test.each(cases)(
    '%s refuses the request too many',
    async (_, { of, scope, limit, beside, apart, window, named, resetAt }) => {
      const ledger = await open()
      const limited = limit({ [`requests${named}`]: 2 })
      await spend(ledger, { id: '1', ...limited, ...beside })
      const failing = await start(ledger, { id: '2', now: NOON + 1000, ...limited })
      expect(await ledger.execute({ ...failing, id: '3' })).toMatchObject({ ok: false, used: 2 })
      await ledger.execute(failureOf(failing))
      const next = admitOf({ id: '4', reserved: 5, now: NOON + 2000, ...limited })
      const refusal = {
        ok: false,
        counted: true,
        reason: 'limit',
        of,
        model: scope,
        window,
        unit: 'requests',
        limit: 2,
        used: 2,
        asked: 1,
        resetAt,
      }
      // A failed request counts for its user, but not for everyone.
      if (of === 'everyone') expect(await ledger.execute(next)).toMatchObject({ ok: true })
      expect(await ledger.execute({ ...next, id: '5' })).toEqual(refusal)
      expect(await ledger.execute({ ...next, id: '6', ...apart })).toMatchObject({ ok: true })
    },
  )

  test('a limit of zero lets nothing through', async () => {
    const ledger = await open()
    const none = { model: { tokensPerDay: 1e9, requestsPerDay: 0 } }
    expect(await ledger.execute(admitOf({ id: '1', limits: none }))).toMatchObject({
      reason: 'limit',
      unit: 'requests',
      limit: 0,
      used: 0,
    })
  })

  test('a new limit counts the usage of the day from before the limit', async () => {
    const ledger = await open()
    await spend(ledger, { id: '1', limits: {} }, 40)
    const limits = { total: { tokensPerDay: 100 } }
    const next = admitOf({ id: '2', reserved: 61, limits })
    expect(await ledger.execute(next)).toMatchObject({ ok: false, used: 40 })
    const everyone = { model: { requestsPerDay: 1 } }
    expect(await ledger.execute({ ...next, limits: {}, everyone })).toMatchObject({
      of: 'everyone',
      used: 1,
    })
  })

  test('a settlement frees what a refused request needed', async () => {
    const ledger = await open()
    const limits = { model: { tokensPerDay: 120, requestsPerDay: 9 } }
    const first = await start(ledger, { id: '1', limits })
    expect(await ledger.execute({ ...first, id: '2' })).toMatchObject({ ok: false, used: 100 })
    await ledger.execute(settleOf(first, { charged: 20 }))
    expect(await ledger.execute({ ...first, id: '2' })).toMatchObject({ ok: true })
  })

  test('100 admissions at once with room for 7 admit 7', async () => {
    const ledger = await open()
    const limits = { model: { tokensPerDay: 799, requestsPerDay: 1000 } }
    const answers = await Promise.all(
      Array.from({ length: 100 }, (_, n) => ledger.execute(admitOf({ id: `${n}`, limits }))),
    )
    expect(answers.filter((answer) => answer.ok)).toHaveLength(7)
  })

  test('100 users at once with room for 7 in all admit 7', async () => {
    const ledger = await open()
    const everyone = { total: { requestsPerDay: 7 } }
    const answers = await Promise.all(
      Array.from({ length: 100 }, (_, n) =>
        ledger.execute(admitOf({ id: `${n}`, user: `user-${n}`, everyone })),
      ),
    )
    expect(answers.filter((answer) => answer.ok)).toHaveLength(7)
  })

  test('so many new users of a network are admitted in a minute, and known ones always', async () => {
    const ledger = await open()
    const from = (user: string, network = 'net', now = NOON) =>
      ledger.execute(
        admitOf({ id: `${user} ${now}`, user, now, newUsers: { network, perMinute: 3 } }),
      )
    const users = Array.from({ length: 20 }, (_, n) => `user-${n}`)
    const answers = await Promise.all(users.map((user) => from(user)))
    const refusal = { ok: false, reason: 'newUsers', perMinute: 3, resetAt: NOON + MINUTE_MS }
    expect(answers.filter((answer) => !answer.ok)).toEqual(Array(17).fill(refusal))
    const [known = ''] = users.filter((_, n) => answers[n]?.ok)
    expect(await from(known, 'net', NOON + 1)).toMatchObject({ ok: true })
    expect(await from('another', 'other')).toMatchObject({ ok: true })
    expect(await from('later', 'net', NOON + MINUTE_MS)).toMatchObject({ ok: true })
  })

  test('the 65th model of a day is refused, the 64 stay open, and the next day begins with none', async () => {
    const ledger = await open()
    await Promise.all(
      Array.from({ length: 64 }, (_, n) =>
        ledger.execute(admitOf({ id: `${n}`, model: `m-${n}` })),
      ),
    )
    const next = admitOf({ id: 'x', model: 'm-64' })
    expect(await ledger.execute(next)).toEqual({
      ok: false,
      counted: true,
      reason: 'models',
      window: 'day',
    })
    expect(await ledger.execute({ ...next, model: 'm-63' })).toMatchObject({ ok: true })
    const tomorrow = { ...next, id: 'y', now: NOON + DAY_MS }
    expect(await ledger.execute(tomorrow)).toMatchObject({ ok: true })
  })

  test('day and minute start again at 0 after their end', async () => {
    const ledger = await open()
    const limits = { model: MINUTELY }
    const used = async (id: string, now: number) => {
      const answer = await ledger.execute(admitOf({ id, now, limits }))
      return answer.ok && answer.limits?.[0]?.used
    }
    const one = amounts(1, 100)
    await used('1', MIDNIGHT - MINUTE_MS - 1)
    expect(await used('2', MIDNIGHT - 1)).toEqual({
      day: amounts(2, 200),
      minute: one,
    })
    expect(await used('3', MIDNIGHT)).toEqual({ day: one, minute: one })
  })

  test('a clock that goes back never gives a fresh day or minute', async () => {
    const ledger = await open()
    const limits = { model: { requestsPerDay: 2, requestsPerMinute: 2 } }
    const first = await start(ledger, { id: '1', limits, now: MIDNIGHT + 1 })
    for (const now of [MIDNIGHT - 1, MIDNIGHT - 3 * DAY_MS]) {
      await ledger.execute({ ...first, id: '2', now })
      expect(await ledger.execute({ ...first, id: '3', now })).toMatchObject({
        reason: 'limit',
        used: 2,
        resetAt: MIDNIGHT + DAY_MS,
      })
    }
    expect(await ledger.execute({ ...first, id: '2', now: NOON })).toMatchObject({
      at: MIDNIGHT + 1,
    })
  })

  const odd = ['constructor', 'toString', 'hasOwnProperty', '__proto__', 'total', '123', '*x', 'ü']
  test.each(odd)('a model named %s is limited like any other', async (model) => {
    const ledger = await open()
    const limits = { model: { tokensPerDay: 100, requestsPerDay: 2 }, total: AMPLE }
    const everyone = { total: AMPLE, model: AMPLE }
    const admit = admitOf({ id: model, model, limits, everyone, reserved: 90 })
    expect(usedOf(await ledger.execute(admit))).toEqual([1, 90])
    expect(await ledger.execute(settleOf(admit))).toEqual({ applied: true })
    expect(await ledger.execute({ ...admit, id: '2' })).toMatchObject({ ok: false, used: 15 })
    await setBlock(ledger, model, { at: NOON })
    expect(await ledger.execute({ ...admit, id: '3', reserved: 1 })).toEqual({
      ok: false,
      counted: true,
      reason: 'blocked',
      model,
    })
  })
})

describe.each(stores)('%s', (_, open) => {
  test("a user's row has the reservations of running requests and the charges of ended ones", async () => {
    const store = await open()
    await spend(store, { id: '1' })
    await start(store, { id: '2', reserved: 7 })
    expect(await rowOf(store)).toEqual({
      requests: 2,
      exact: 1,
      estimated: 0,
      failed: 0,
      lost: 0,
      charged: 22,
      reserved: 7,
      lostTokens: 0,
      prompt: 15,
      cached: 0,
      completion: 0,
      overReservation: 0,
      cost: 0,
      reservedCost: 0,
      lostCost: 0,
      ...{ audioMs: 0, reservedAudioMs: 0, lostAudioMs: 0 },
      ...{ characters: 0, reservedCharacters: 0, lostCharacters: 0 },
    })
    const { usage } = await userOf(store)
    expect(usage.leases).toEqual({
      2: {
        model: 'a/one',
        at: NOON + SECOND_MS,
        until: NOON + SECOND_MS + 300_000,
        reserved: amounts(1, 7),
        windows: inLong(1),
      },
    })
  })

  test('a lease lists the windows of its reservation: month, week and day, and the windows with a limit', async () => {
    const store = await open()
    await start(store, { id: '1', limits: {} })
    await start(store, { id: '2', everyone: { total: { requestsPerMinute: 9 } } })
    const { leases } = (await userOf(store)).usage
    expect(leases['1']?.windows).toEqual(inLong(1))
    expect(leases['2']?.windows).toEqual({ ...inLong(1), minute: 1 })
  })

  test('a refusal changes nothing', async () => {
    const store = await open()
    await spend(store, { id: '1' })
    const known = async () => [await userOf(store), await dayOf(store), await usedByAll(store)]
    const before = await known()
    const limits = { model: { tokensPerDay: 20 } }
    const refused = admitOf({ id: '2', limits, ip: '192.0.2.9', now: NOON + HOUR_MS })
    expect(await store.execute(refused)).toMatchObject({ ok: false })
    await setBlock(store, 'b/two', { at: NOON })
    const blocked = await known()
    expect(blocked[0]).toMatchObject({ usage: (before[0] as { usage: object }).usage })
    expect(await store.execute(admitOf({ id: '3', model: 'b/two' }))).toMatchObject({ ok: false })
    expect(await known()).toEqual(blocked)
    expect(blocked.slice(1)).toEqual(before.slice(1))
  })

  test('a user who was only refused is not stored', async () => {
    const store = await open()
    const limits = { model: { requestsPerDay: 0 } }
    expect(await store.execute(admitOf({ id: '1', limits }))).toMatchObject({ ok: false })
    expect(await store.user('alice')).toBeUndefined()
    expect(await store.days([TODAY])).toEqual([])
  })

  test('the rows of a day move to the past when the next day begins', async () => {
    const store = await open()
    await start(store, { id: '1', now: MIDNIGHT - 2 })
    await start(store, { id: '2', now: MIDNIGHT - 1 })
    await spend(store, { id: '3', now: MIDNIGHT })
    expect((await userOf(store)).usage.date).toBe(TOMORROW)
    expect(await pastRowOf(store)).toMatchObject({ requests: 2, charged: 200, reserved: 200 })
    expect(await rowOf(store)).toMatchObject({ requests: 1, charged: 15, reserved: 0 })
  })

  test('a past row leaves out zeros', async () => {
    const store = await open()
    await spend(store, { id: '1' })
    await spend(store, { id: '2', now: NOON + DAY_MS })
    expect((await userOf(store)).past.days).toEqual({
      [TODAY]: { 'a/one': { requests: 1, exact: 1, charged: 15, prompt: 15 } },
    })
  })

  test('past days are kept for as long as users are', async () => {
    const store = await open({ retention: { userDays: 2 } })
    for (let day = 0; day < 5; day += 1) {
      await spend(store, { id: `${day}`, now: NOON + day * DAY_MS })
    }
    const { days } = (await userOf(store)).past
    expect(Object.keys(days).sort()).toEqual(['2026-11-24', '2026-11-25'])
  })

  test('the address is that of the last admitted request that had one', async () => {
    const store = await open()
    await spend(store, { id: '1', ip: '192.0.2.1' })
    await spend(store, { id: '2', ip: '192.0.2.2' })
    await spend(store, { id: '3' })
    expect((await userOf(store)).usage.ip).toBe('192.0.2.2')
  })

  const odd = ['constructor', '__proto__', 'toString', 'total', '123', '*x', 'ü']
  test.each(odd)('a model named %s is kept like any other', async (model) => {
    const store = await open()
    const user = `user-${model}`
    await spend(store, { id: model, user, model })
    await store.execute({ op: 'block', now: NOON, user, model, block: { at: NOON } })
    const { usage, profile } = await userOf(store, user)
    expect([Object.keys(usage.models), Object.keys(profile.blocks)]).toEqual([[model], [model]])
    expect(Object.keys((await dayOf(store))!.models)).toEqual([model])
    expect(await rowOf(store, model, user)).toMatchObject({ requests: 1, charged: 15 })
    const { quotas } = await store.overview({
      dates: [TODAY],
      users: { sort: 'tokens', limit: 0, now: NOON },
      events: 0,
    })
    expect(Object.keys(quotas).sort()).toEqual(['*', model].sort())
  })
})
