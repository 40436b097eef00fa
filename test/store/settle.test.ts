/** Ends of requests: settled, late, lost, or entered without a lease. */
import { describe, expect, test } from 'vitest'
import type { Admit } from '../../src/ledger/commands.ts'
import { LATE_SETTLE_MS } from '../../src/ledger/capacity.ts'
import { runningOf } from '../../src/ledger/rows.ts'
import { DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, startOf } from '../../src/ledger/windows.ts'
import type { EventCursor, EventPage, Store } from '../../src/store/store.ts'
import { amounts } from '../support/amounts.ts'
import { admitOf, AMPLE, failureOf, NOON, settleOf } from '../support/commands.ts'
import {
  dayOf,
  enter,
  enterOf,
  MIDNIGHT,
  pastRowOf,
  quotasOf,
  rowOf,
  setBlock,
  spend,
  start,
  TODAY,
  TOMORROW,
  usageOf,
  usedByAll,
  usedOf,
  userOf,
  useStores,
  YESTERDAY,
} from '../support/contract.ts'

const { stores, ledgers } = useStores()

describe.each(ledgers)('%s', (_, open) => {
  test('two settlements at once charge once', async () => {
    const ledger = await open()
    const admit = await start(ledger, { id: '1' })
    const settle = settleOf(admit, { charged: 20 })
    const answers = await Promise.all([ledger.execute(settle), ledger.execute(settle)])
    expect(answers).toEqual([{ applied: true }, { applied: false }])
    expect(usedOf(await ledger.execute({ ...admit, id: '2', reserved: 1 }))).toEqual([2, 21])
  })

  test('a settlement before its admission does nothing', async () => {
    const ledger = await open()
    await spend(ledger, { id: '0' })
    const admit = admitOf({ id: '1' })
    expect(await ledger.execute(settleOf(admit))).toEqual({ applied: false })
    expect(usedOf(await ledger.execute(admit))).toEqual([2, 115])
  })

  test('beyond 256 leases that are past, the oldest are lost', async () => {
    const ledger = await open()
    const old = Array.from({ length: 258 }, (_, n) => admitOf({ id: `${n}`, now: NOON + n }))
    for (const admit of old) await ledger.execute(admit)
    const now = NOON + HOUR_MS
    await start(ledger, { id: 'next', now })
    const answers = []
    for (const n of [0, 1, 2]) answers.push(await ledger.execute(settleOf(old[n]!, {}, now)))
    expect(answers).toEqual([{ applied: false }, { applied: false }, { applied: true }])
  })

  test('a settlement for another user does nothing', async () => {
    const ledger = await open()
    const admit = await start(ledger, { id: '1', user: 'alice' })
    await start(ledger, { ...admit, id: '2', user: 'bob' })
    const settle = settleOf(admit)
    const foreign = { ...settle, user: 'bob', event: { ...settle.event, user: 'bob' } }
    expect(await ledger.execute(foreign)).toEqual({ applied: false })
    expect(await ledger.execute(settle)).toEqual({ applied: true })
  })

  test('a settlement is accepted until 24 hours after the admission, and not at 24 hours', async () => {
    const ledger = await open()
    const [early, late] = ['1', '2'].map((id) => admitOf({ id })) as [Admit, Admit]
    await ledger.execute(early)
    await ledger.execute(late)
    const last = NOON + LATE_SETTLE_MS - 1
    expect(await ledger.execute(settleOf(early, {}, last))).toEqual({ applied: true })
    expect(await ledger.execute(settleOf(late, {}, last + 1))).toEqual({ applied: false })
  })

  test('a request that is lost stays lost when the clock goes back', async () => {
    const ledger = await open()
    const admit = await start(ledger, { id: '1' })
    await start(ledger, { id: '2', now: NOON + DAY_MS })
    expect(await ledger.execute(settleOf(admit))).toEqual({ applied: false })
  })

  test('a settlement corrects the minute of its admission and does not change the next one', async () => {
    const ledger = await open()
    const limits = { model: { tokensPerMinute: 1e9 } }
    const minuteOf = async (id: string, now: number) => {
      const answer = await ledger.execute(admitOf({ id, now, limits }))
      return answer.ok && answer.limits?.[0]?.used['minute']
    }
    const [first, second] = ['1', '2'].map((id) => admitOf({ id, limits })) as [Admit, Admit]
    await ledger.execute(first)
    await ledger.execute(second)
    await ledger.execute(settleOf(first))
    expect(await minuteOf('3', NOON + 2000)).toEqual(amounts(3, 215))
    await minuteOf('4', NOON + MINUTE_MS)
    await ledger.execute(settleOf(second, {}, NOON + MINUTE_MS))
    expect(await minuteOf('5', NOON + MINUTE_MS)).toEqual(amounts(2, 200))
  })

  test('usage over the reservation is charged, also beyond a limit', async () => {
    const ledger = await open()
    const limits = { model: { tokensPerDay: 150 } }
    const admit = await start(ledger, { id: '1', reserved: 100, limits })
    await ledger.execute(settleOf(admit, { charged: 170 }))
    expect(await ledger.execute(admitOf({ id: '2', reserved: 1, limits }))).toMatchObject({
      ok: false,
      used: 170,
      asked: 1,
    })
  })

  test('a block does not prevent the settlement of running requests', async () => {
    const ledger = await open()
    const admit = await start(ledger, { id: '1' })
    await setBlock(ledger, '*', { at: NOON, reason: 'spam' })
    expect(await ledger.execute(settleOf(admit))).toEqual({ applied: true })
  })

  test('an entry counts beyond every limit, since its tokens are spent', async () => {
    const ledger = await open()
    const limits = { model: { requestsPerDay: 2 } }
    for (const id of ['1', '2', '3']) await enter(ledger, enterOf({ id, reserved: 100 }))
    expect(await ledger.execute(admitOf({ id: '4', reserved: 1, limits }))).toMatchObject({
      ok: false,
      unit: 'requests',
      used: 3,
    })
    const tokens = { model: { tokensPerDay: 45 } }
    expect(await ledger.execute(admitOf({ id: '4', reserved: 1, limits: tokens }))).toMatchObject({
      used: 45,
    })
  })

  test('an entry settles its lease if that exists', async () => {
    const ledger = await open()
    const admit = await start(ledger, { id: '1', everyone: { total: AMPLE } })
    expect(await enter(ledger, enterOf({ id: '1' }))).toEqual({ applied: true })
    expect(await ledger.execute(settleOf(admit))).toEqual({ applied: false })
    expect(usedOf(await ledger.execute({ ...admit, id: '2', reserved: 1 }))).toEqual([2, 16])
  })

  test('an event older than seven days is not entered', async () => {
    const ledger = await open()
    const inTime = enterOf({ id: '1' }, NOON + 7 * DAY_MS - 1)
    expect(await enter(ledger, inTime)).toEqual({ applied: true })
    expect(await enter(ledger, enterOf({ id: '2' }, NOON + 7 * DAY_MS))).toEqual({ applied: false })
  })
})

describe.each(stores)('%s', (_, open) => {
  /** The documents of Alice, of today and of everyone. */
  const known = async (store: Store) => [
    await userOf(store),
    await dayOf(store),
    await store.events(9),
    await quotasOf(store),
  ]

  test('a second settlement changes nothing', async () => {
    const store = await open()
    const admit = await start(store, { id: '1' })
    expect(await store.execute(settleOf(admit))).toEqual({ applied: true })
    const before = await known(store)
    expect(await store.execute(settleOf(admit, { charged: 70 }))).toEqual({ applied: false })
    expect(await known(store)).toEqual(before)
  })

  test('a settlement of an unknown request does nothing', async () => {
    const store = await open()
    await start(store, { id: '1' })
    const unknown = settleOf(admitOf({ id: 'x' }))
    expect(await store.execute(unknown)).toEqual({ applied: false })
    expect(await store.events(9)).toEqual([])
    expect(await store.days([TODAY])).toEqual([])
  })

  test('a request whose lease was lost with the document is entered, once', async () => {
    const store = await open()
    const admit = admitOf({ id: '1' })
    // Of Alice nothing is left, and Bob's document began after the admission.
    await start(store, { id: '2', user: 'bob', now: NOON + 1 })
    for (const user of ['alice', 'bob']) {
      const settle = settleOf({ ...admit, user, id: `of ${user}` }, { charged: 70 })
      expect(await store.execute(settle)).toEqual({ applied: true })
      expect(await store.execute(settle)).toEqual({ applied: false })
      expect(await enter(store, { ...settle, op: 'enter' })).toEqual({ applied: false })
    }
    expect(await rowOf(store)).toMatchObject({ requests: 1, exact: 1, charged: 70, reserved: 0 })
    expect(await usedByAll(store)).toEqual([3, 240])
    expect((await dayOf(store))?.total).toMatchObject({ requests: 2, charged: 140, users: 2 })
    // A user who was erased stays so.
    await start(store, { id: '3', user: 'carol' })
    await store.execute({ op: 'erase', now: NOON, user: 'carol' })
    const settle = settleOf({ ...admit, user: 'carol', id: '3' })
    expect(await store.execute(settle)).toEqual({ applied: false })
    expect(await store.user('carol')).toBeUndefined()
  })

  test('user, model, time and reservation of an event are those of the lease', async () => {
    const store = await open()
    const admit = await start(store, { id: '1' })
    const lies = { user: 'bob', model: 'b/two', at: NOON - DAY_MS, reserved: 1 }
    const settle = settleOf(admit)
    await store.execute({ ...settle, event: { ...settle.event, ...lies } })
    const [event] = await store.events(9)
    expect(event).toMatchObject({ user: 'alice', model: 'a/one', at: NOON, reserved: 100 })
    expect(await rowOf(store)).toMatchObject({ charged: 15, overReservation: 0 })
  })

  test('a failed request charges nothing, and counts for the user but not for everyone', async () => {
    const store = await open()
    const admit = await start(store, { id: '1' })
    expect(await usedByAll(store)).toEqual([1, 100])
    await store.execute(failureOf(admit))
    expect(await rowOf(store)).toMatchObject({ requests: 1, failed: 1, charged: 0, reserved: 0 })
    expect((await dayOf(store))?.total).toMatchObject({
      requests: 1,
      failed: 1,
      charged: 0,
      users: 0,
    })
    expect(await usedByAll(store)).toEqual([0, 0])
    expect(usedOf(await store.execute(admitOf({ id: '2' })))).toEqual([2, 100])
  })

  test('an estimated request is charged the estimate', async () => {
    const store = await open()
    const admit = await start(store, { id: '1' })
    const { prompt: _p, completion: _c, total: _t, ...bare } = settleOf(admit).event
    const event = { ...bare, outcome: 'estimated', charged: 33 } as const
    await store.execute({ op: 'settle', now: NOON + 1, user: 'alice', event })
    expect(await rowOf(store)).toMatchObject({ estimated: 1, exact: 0, charged: 33, prompt: 0 })
    expect((await dayOf(store))?.total).toMatchObject({ estimated: 1, charged: 33, users: 1 })
    expect(await store.events(1)).toEqual([event])
  })

  test('usage over the reservation is recorded for the user, the day and the model', async () => {
    const store = await open()
    const admit = await start(store, { id: '1', reserved: 100 })
    await store.execute(settleOf(admit, { charged: 170 }))
    await spend(store, { id: '2' }, 60)
    const over = { charged: 230, overReservation: 70 }
    expect(await rowOf(store)).toMatchObject(over)
    expect(await dayOf(store)).toMatchObject({ total: over, models: { 'a/one': over } })
  })

  test('a settlement in a later minute leaves no counter of the minute of its admission', async () => {
    const store = await open()
    const limits = { model: { ...AMPLE, tokensPerMinute: 1e6 } }
    const admit = await start(store, { id: '1', limits })
    await store.execute(settleOf(admit, {}, admit.now + 2 * MINUTE_MS))
    const { windows, models } = (await userOf(store)).usage
    const left = Object.fromEntries(
      (['month', 'week', 'day'] as const).map((window) => [
        window,
        { start: startOf(window, NOON), ...amounts(1, 15) },
      ]),
    )
    expect([windows, models['a/one']?.windows]).toEqual([left, left])
  })

  test('cached tokens reach the rows and days of their request, and change no other sum', async () => {
    const store = await open()
    const [first, second] = [admitOf({ id: '1' }), admitOf({ id: '2' })]
    for (const admit of [first, second]) await store.execute(admit)
    await store.execute(settleOf(first, { cached: 4 }))
    await store.execute(settleOf(second))
    const served = enterOf({ id: '3' })
    await enter(store, { ...served, event: { ...served.event, cached: 5 } })
    const sums = { requests: 3, exact: 3, charged: 45, prompt: 30, cached: 9, completion: 15 }
    expect(await rowOf(store)).toMatchObject(sums)
    expect(await dayOf(store)).toMatchObject({ total: sums, models: { 'a/one': sums } })
    expect((await store.events(9)).map(({ cached }) => cached)).toEqual([5, undefined, 4])

    const late = await start(store, { id: '4', model: 'b/two', now: MIDNIGHT - SECOND_MS })
    await start(store, { id: '5', now: MIDNIGHT })
    expect(await pastRowOf(store)).toMatchObject(sums)
    expect(await pastRowOf(store, TODAY, 'b/two')).toMatchObject({ requests: 1, cached: 0 })
    await store.execute(settleOf(late, { cached: 6 }, MIDNIGHT + SECOND_MS))
    expect(await pastRowOf(store, TODAY, 'b/two')).toMatchObject({ prompt: 10, cached: 6 })
    expect(await dayOf(store)).toMatchObject({
      total: { prompt: 40, cached: 15 },
      models: { 'b/two': { prompt: 10, cached: 6 } },
    })
    expect((await dayOf(store, TOMORROW))?.total.cached ?? 0).toBe(0)
  })

  test('a late settlement corrects the day of its admission and is marked late', async () => {
    const store = await open()
    const admit = await start(store, { id: '1', now: MIDNIGHT - 1000, lasts: 300_000 })
    await spend(store, { id: '2', now: MIDNIGHT + HOUR_MS }, 3)
    const settle = settleOf(admit, usageOf(40), MIDNIGHT + 2 * HOUR_MS)
    expect(await store.execute(settle)).toEqual({ applied: true })
    expect(await pastRowOf(store)).toMatchObject({ requests: 1, charged: 40, reserved: 0 })
    expect(await rowOf(store)).toMatchObject({ requests: 1, charged: 3 })
    const [day, next] = [await dayOf(store), await dayOf(store, TOMORROW)]
    expect(day?.total).toMatchObject({
      requests: 1,
      exact: 1,
      charged: 40,
      prompt: 40,
      users: 1,
      hours: { 23: 40 },
    })
    expect(next?.total).toMatchObject({ requests: 1, charged: 3, users: 1, hours: { 1: 3 } })
    expect(await usedByAll(store, '*', TOMORROW)).toEqual([1, 3])
    const [late, onTime] = await store.events(9)
    expect(late).toMatchObject({ id: '1', at: MIDNIGHT - 1000, late: true })
    expect(onTime).not.toHaveProperty('late')
  })

  test('a settlement is late after its lease has expired, and not before', async () => {
    const store = await open()
    const [inTime, late] = ['1', '2'].map((id) => admitOf({ id, lasts: 5000 })) as [Admit, Admit]
    for (const admit of [inTime, late]) await store.execute(admit)
    await store.execute(settleOf(inTime, {}, NOON + 5000))
    await store.execute(settleOf(late, {}, NOON + 5001))
    const events = await store.events(2)
    expect(events.map(({ id, late }) => [id, late])).toEqual([
      ['2', true],
      ['1', undefined],
    ])
  })

  test('a user whose requests settle out of order is counted once', async () => {
    const store = await open()
    const admits = ['1', '2', '3'].map((id) => admitOf({ id, now: MIDNIGHT - 1 }))
    for (const admit of admits) await store.execute(admit)
    for (const admit of admits.reverse()) {
      await store.execute(settleOf(admit, {}, MIDNIGHT + 1000))
    }
    expect((await dayOf(store))?.total).toMatchObject({ requests: 3, users: 1 })
  })

  test('a user whose answer cost nothing is not counted again by a late settlement', async () => {
    const store = await open()
    const [free, late] = ['a/one', 'b/two'].map((model) =>
      admitOf({ id: model, model, now: MIDNIGHT - 2000 }),
    ) as [Admit, Admit]
    await store.execute(free)
    await store.execute(late)
    await store.execute(settleOf(free, { charged: 0 }))
    await store.execute(settleOf(late, {}, MIDNIGHT))
    expect((await dayOf(store))?.total).toMatchObject({ requests: 2, users: 1 })
  })

  describe('a request that is never settled', () => {
    const LOST = NOON + LATE_SETTLE_MS

    test('is lost at 24 hours, and its reservation moves to its own day', async () => {
      const store = await open()
      await start(store, { id: '1', reserved: 70 })
      await start(store, { id: '2', now: LOST - 1 })
      expect(await pastRowOf(store)).toMatchObject({ lost: 0, reserved: 70, lostTokens: 0 })
      expect(Object.keys((await userOf(store)).usage.leases)).toEqual(['1', '2'])
      await start(store, { id: '3', now: LOST })
      const row = await pastRowOf(store)
      expect(row).toMatchObject({ requests: 1, lost: 1, charged: 70, reserved: 0, lostTokens: 70 })
      expect(runningOf(row)).toBe(0)
      expect(Object.keys((await userOf(store)).usage.leases)).toEqual(['2', '3'])
    })

    test('is charged its usage if it settles just before', async () => {
      const store = await open()
      const [late, lost] = [admitOf({ id: '1' }), admitOf({ id: '2', reserved: 30 })]
      await store.execute(late)
      await store.execute(lost)
      expect(await store.execute(settleOf(late, usageOf(40), LOST - 1))).toEqual({ applied: true })
      expect(await store.execute(settleOf(lost, {}, LOST))).toEqual({ applied: false })
      await start(store, { id: '3', now: LOST })
      expect(await pastRowOf(store)).toMatchObject({
        requests: 2,
        exact: 1,
        lost: 1,
        charged: 70,
        reserved: 0,
        lostTokens: 30,
        prompt: 40,
      })
      expect((await dayOf(store))?.total).toMatchObject({ requests: 1, exact: 1, charged: 40 })
      expect((await store.events(9)).map(({ id, late }) => [id, late])).toEqual([['1', true]])
    })

    test('is lost once, together with similar requests, after any next command of the user', async () => {
      const store = await open()
      for (const [id, model] of ['a/one', 'a/one', 'b/two'].entries()) {
        await start(store, { id: `${id}`, model, reserved: 10 + id })
      }
      await enter(store, enterOf({ id: 'x', now: LOST }, LOST))
      await spend(store, { id: 'y', now: LOST + DAY_MS })
      await spend(store, { id: 'z', now: LOST + 2 * DAY_MS })
      expect(await pastRowOf(store)).toMatchObject({ requests: 2, lost: 2, lostTokens: 21 })
      expect(await pastRowOf(store, TODAY, 'b/two')).toMatchObject({ lost: 1, lostTokens: 12 })
      expect(await pastRowOf(store, TOMORROW)).toMatchObject({ lost: 0, lostTokens: 0 })
    })

    test('is in no total of its day, and in no counter of the next day', async () => {
      const store = await open()
      await spend(store, { id: '1' })
      await start(store, { id: '2' })
      await spend(store, { id: '3', now: LOST + SECOND_MS })
      expect((await dayOf(store))?.total).toMatchObject({ requests: 1, charged: 15 })
      expect(await usedByAll(store, '*', TOMORROW)).toEqual([1, 15])
    })
  })

  describe('an entry', () => {
    test('counts once, as if it had been admitted then', async () => {
      const store = await open()
      const admit = await start(store, { id: '1', user: 'bob' })
      await store.execute(settleOf(admit))
      const twice = [enterOf({ id: '2' }), enterOf({ id: '3' }), enterOf({ id: '3' })]
      const answers = [{ applied: true }, { applied: true }, { applied: false }]
      expect(await store.replay(twice)).toEqual(answers)
      expect(await enter(store, enterOf({ id: '2' }))).toEqual({ applied: false })
      const once = await rowOf(store, 'a/one', 'bob')
      const sums = { requests: 2, exact: 2, charged: 30, prompt: 20, completion: 10 }
      expect(await rowOf(store)).toEqual({ ...once, ...sums })
      expect((await dayOf(store))?.total).toMatchObject({
        requests: 3,
        exact: 3,
        charged: 45,
        users: 2,
      })
      expect((await store.events(10)).map(({ id }) => id)).toEqual(['3', '2', '1'])
    })

    test('of a refused request counts nothing and makes no user, and prevents a late lease', async () => {
      const store = await open()
      const refused = { ...enterOf({ id: '1' }), refused: true } as const
      for (let n = 0; n < 2; n += 1) {
        expect(await enter(store, refused)).toEqual({ applied: false })
      }
      expect(await store.user('alice')).toBeUndefined()
      expect([await dayOf(store), await store.events(9)]).toEqual([undefined, []])
      await start(store, { id: '1' })
      expect(await store.user('alice')).toBeUndefined()
    })

    test('of a refused request ends a lease that it has as failed', async () => {
      const store = await open()
      await start(store, { id: '1' })
      const { event, ...rest } = enterOf({ id: '1' })
      const failed = { ...event, outcome: 'failed', charged: 0 } as const
      expect(await enter(store, { ...rest, event: failed, refused: true })).toEqual({
        applied: true,
      })
      expect(await rowOf(store)).toMatchObject({ requests: 1, failed: 1, charged: 0, reserved: 0 })
      expect((await userOf(store)).usage.leases).toEqual({})
    })

    test('removes its lease', async () => {
      const store = await open()
      await start(store, { id: '1' })
      expect(await enter(store, enterOf({ id: '1' }))).toEqual({ applied: true })
      expect(await rowOf(store)).toMatchObject({ requests: 1, exact: 1, charged: 15, reserved: 0 })
      expect((await userOf(store)).usage.leases).toEqual({})
      expect(await usedByAll(store)).toEqual([1, 15])
    })

    test('prevents a lease of a later admission', async () => {
      const store = await open()
      await enter(store, enterOf({ id: '1' }))
      const late = admitOf({ id: '1', now: NOON + SECOND_MS })
      expect(usedOf(await store.execute(late))).toEqual([1, 15])
      expect(await rowOf(store)).toMatchObject({ requests: 1, charged: 15, reserved: 0 })
      expect((await userOf(store)).usage.leases).toEqual({})
      expect(await usedByAll(store)).toEqual([1, 15])
    })

    test('counts for the day of its request, and not for the limits of today', async () => {
      const store = await open()
      await spend(store, { id: '1', now: NOON - DAY_MS })
      await spend(store, { id: '2' })
      await enter(store, enterOf({ id: '3', now: NOON - DAY_MS }))
      expect(await rowOf(store)).toMatchObject({ requests: 1, charged: 15 })
      expect(await pastRowOf(store, YESTERDAY)).toMatchObject({ requests: 2, charged: 30 })
      expect((await dayOf(store, YESTERDAY))?.total).toMatchObject({
        requests: 2,
        charged: 30,
        users: 1,
      })
      expect(await usedByAll(store)).toEqual([1, 15])
      expect(usedOf(await store.execute(admitOf({ id: '4', reserved: 1 })))).toEqual([2, 16])
    })
  })

  describe('the events', () => {
    test('are read newest first, at most the limit, with all observed fields', async () => {
      const store = await open()
      const admits = ['1', '2', '3'].map((id) => admitOf({ id }))
      const seen = { session: 's', cached: 3, reasoning: 2, ttfbMs: 4, mismatch: true } as const
      for (const admit of admits) {
        await store.execute(admit)
        await store.execute(settleOf(admit, seen, NOON))
      }
      const events = await store.events(10)
      expect(events).toEqual(admits.reverse().map((admit) => settleOf(admit, seen).event))
      expect(await store.events(2)).toEqual(events.slice(0, 2))
      expect(await store.events(0)).toEqual([])
    })

    test('are read in pages, each once, while new ones arrive', async () => {
      const store = await open()
      const ids = Array.from({ length: 12 }, (_, n) => `${n}`)
      for (const id of ids) await spend(store, { id })
      const read: string[] = []
      let from: EventCursor | undefined
      do {
        const { events, next }: EventPage = await store.eventPage(5, from)
        read.push(...events.map(({ id }) => id))
        from = next
        // More than a page.
        for (let n = 0; n < 6; n += 1) await spend(store, { id: `new ${read.length} ${n}` })
      } while (from)
      expect(read).toEqual(ids.toReversed())
    })

    test('have a maximum number', async () => {
      const store = await open({ retention: { eventsKept: 10 } })
      for (let n = 0; n < 100; n += 1) await spend(store, { id: `${n}` })
      const ids = (await store.events(1000)).map(({ id }) => id)
      expect(ids).toEqual(Array.from({ length: 10 }, (_, n) => `${99 - n}`))
    })

    test('are not kept if the maximum is 0', async () => {
      const store = await open({ retention: { eventsKept: 0 } })
      await spend(store, { id: '1' })
      expect(await store.events(10)).toEqual([])
      expect(await rowOf(store)).toMatchObject({ exact: 1 })
    })
  })
})
