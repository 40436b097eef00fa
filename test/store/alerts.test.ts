/** Alerts in every store: who claims one, the outbox, and how deliveries are kept. */
import { describe, expect, test } from 'vitest'
import type { Admit, Settle, Watch } from '../../src/ledger/commands.ts'
import type { Limits } from '../../src/ledger/policy.ts'
import type { Alert } from '../../src/ledger/documents.ts'
import type { Event } from '../../src/ledger/events.ts'
import { DAY_MS, HOUR_MS, MINUTE_MS } from '../../src/ledger/windows.ts'
import type { Store } from '../../src/store/store.ts'
import { admitOf, failureOf, NOON, settleOf } from '../support/commands.ts'
import { useStores, usageOf, type AdmitFields } from '../support/contract.ts'

const { stores } = useStores()

const TO = 'receiver'
const watching = (user: Limits, everyone: Limits = {}): Watch => ({
  user: { model: user },
  everyone: { total: everyone },
})

/** Spends tokens of a user under limits that are watched. The ids are 1, 2, and so on. */
function spender(store: Store, watch: Watch) {
  let ids = 0
  const admit = async (fields: Partial<AdmitFields> = {}): Promise<Admit> => {
    const command = admitOf({ id: String((ids += 1)), watch: 1, ...fields })
    expect(await store.execute(command)).toMatchObject({ ok: true })
    return command
  }
  const settle = (admit: Admit, charged: number, fields: Partial<Event> = {}, now?: number) =>
    store.execute({ ...settleOf(admit, { ...usageOf(charged), ...fields }, now), watch })
  const spend = async (charged: number, fields: Partial<AdmitFields> = {}) =>
    settle(await admit({ reserved: charged, ...fields }), charged)
  return { admit, settle, spend }
}

const take = async (store: Store, now = NOON) =>
  Object.values((await store.execute({ op: 'take', now, to: TO })).alerts)
const tell = (store: Store, id: string, result: Partial<Alert>, now = NOON) => {
  const told = { state: 'delivered' as const, status: 200, ...result }
  return store.execute({ op: 'tried', now, to: TO, results: { [id]: told } })
}
const stateOf = async (store: Store) => (await store.alerts()).map(({ id, state }) => [id, state])

describe.each(stores)('%s', (_, open) => {
  test('each percentage of a limit is told once, by the settlement that reaches it', async () => {
    const store = await open()
    const { spend } = spender(store, watching({ tokensPerDay: 100 }))
    expect(await spend(79)).toEqual({ applied: true })
    expect(await spend(1)).toEqual({ applied: true, alerts: 1 })
    expect(await spend(10)).toEqual({ applied: true })
    expect(await spend(10)).toEqual({ applied: true, alerts: 1 })
    expect(await spend(10)).toEqual({ applied: true })
    const facts = { type: 'limit.threshold', of: 'user', user: 'alice', model: 'a/one' }
    const limit = { unit: 'tokens', window: 'day', limit: 100, resetAt: Date.UTC(2026, 10, 23) }
    expect(await store.alerts()).toEqual([
      ...[
        { id: '4-1', percent: 100, used: 100 },
        { id: '2-1', percent: 80, used: 80 },
      ].map((one) => ({
        ...{ ...facts, ...limit, ...one },
        ...{ at: NOON + 1000, state: 'pending', attempts: 0, due: NOON + 1000 },
      })),
    ])
  })

  test('what is reserved is not used, and the next day can be told again', async () => {
    const store = await open()
    const { admit, settle, spend } = spender(
      store,
      watching({ tokensPerDay: 100 }, { tokensPerDay: 1000 }),
    )
    const running = await admit({ reserved: 900 })
    await spend(70)
    expect(await store.alerts()).toEqual([])
    await settle(running, 10)
    expect(await stateOf(store)).toEqual([['1-1', 'pending']])
    await spend(90, { now: NOON + DAY_MS })
    expect(await store.alerts()).toMatchObject([{ id: '3-1', percent: 80, used: 90 }, {}])
  })

  test('limits of everyone are told at a half too, and minutes and hours never', async () => {
    const store = await open()
    const { spend } = spender(
      store,
      watching(
        { tokensPerMinute: 10, tokensPerHour: 10, usdPerMonth: 0 },
        { tokensPerDay: 200, tokensPerMonth: 1000, requestsPerWeek: 2 },
      ),
    )
    await spend(99)
    expect(await store.alerts()).toMatchObject([
      { id: '1-1', of: 'everyone', model: '*', unit: 'requests', window: 'week', percent: 50 },
    ])
    await spend(41, { user: 'bob' })
    const told = (await store.alerts()).map(({ unit, window, percent, used, user }) => [
      ...[unit, window, percent, used, user],
    ])
    expect(told.toSorted()).toEqual([
      ['requests', 'week', 100, 2, undefined],
      ['requests', 'week', 50, 1, undefined],
      ['tokens', 'day', 50, 140, undefined],
    ])
  })

  test('a higher limit and a reset can be told again, the same limit by another instance cannot', async () => {
    const store = await open()
    await spender(store, watching({ tokensPerDay: 100 })).spend(85)
    const again = async (watch: Watch, id: string, charged: number) => {
      const admit = admitOf({ id, watch: 1, reserved: charged })
      await store.execute(admit)
      return store.execute({ ...settleOf(admit, usageOf(charged)), watch })
    }
    expect(await again(watching({ tokensPerDay: 100 }), 'a', 1)).toEqual({ applied: true })
    expect(await again(watching({ tokensPerDay: 200 }), 'b', 80)).toEqual({
      applied: true,
      alerts: 1,
    })
    expect(await again(watching({ tokensPerDay: 200 }), 'c', 1)).toEqual({ applied: true })
    await store.execute({ op: 'reset', now: NOON, user: 'alice', window: 'month' })
    expect(await again(watching({ tokensPerDay: 200 }), 'd', 1)).toEqual({ applied: true })
    await store.execute({ op: 'reset', now: NOON, user: 'alice', window: 'day' })
    expect(await again(watching({ tokensPerDay: 200 }), 'e', 160)).toMatchObject({ alerts: 1 })
    expect((await stateOf(store)).map(([id]) => id)).toEqual(['e-1', 'b-1', '1-1'])
  })

  test('a request that is entered after an outage claims as well', async () => {
    const store = await open()
    const { user, event } = settleOf(admitOf({ id: 'x' }), usageOf(95))
    const watch = watching({ tokensPerDay: 100 })
    const [answer] = await store.replay([{ op: 'enter', now: NOON + 1000, user, event, watch }])
    expect(answer).toEqual({ applied: true, alerts: 1 })
    expect(await store.alerts()).toMatchObject([{ id: 'x-1', percent: 80, used: 95 }])
  })

  test('without alerts configured nothing is claimed and nothing more is kept', async () => {
    const store = await open()
    const admit = admitOf({ id: '1' })
    await store.execute(admit)
    expect(await store.execute(settleOf(admit, usageOf(100)))).toEqual({ applied: true })
    expect(await store.alerts()).toEqual([])
    const { quotas } = await store.overview({
      ...{ dates: [], events: 0 },
      users: { sort: 'tokens', limit: 0, now: NOON },
    })
    expect(Object.keys(quotas['*'] ?? {}).sort()).toEqual(['at', 'v', 'windows'])
  })

  test('the label is told, and erasing the user erases their alerts', async () => {
    const store = await open()
    const set = { label: 'Ada', words: { ada: 1 as const } }
    await store.execute({ op: 'profile', now: NOON, user: 'alice', set })
    const { spend } = spender(store, watching({ tokensPerDay: 100 }, { tokensPerDay: 100 }))
    await spend(80)
    expect(await store.alerts()).toMatchObject([
      { of: 'everyone' },
      { user: 'alice', label: 'Ada' },
    ])
    await store.execute({ op: 'erase', now: NOON + 2000, user: 'alice' })
    expect(await store.alerts()).toMatchObject([{ of: 'everyone' }])
  })

  test('a block is told with its end, and who set it', async () => {
    const store = await open()
    const block = { op: 'block', now: NOON, user: 'alice', model: '*', by: 'ann' } as const
    await store.execute({ ...block, alert: 'b1', block: { at: NOON, until: NOON + 5000 } })
    await store.execute({ ...block, alert: 'b2' })
    await store.execute({ ...block, block: { at: NOON } })
    expect(await store.alerts()).toEqual([
      {
        ...{ id: 'b1', type: 'user.blocked', at: NOON, user: 'alice', model: '*', by: 'ann' },
        ...{ until: NOON + 5000, state: 'pending', attempts: 0, due: NOON },
      },
    ])
  })

  test('a key in use is told once, a week before its end', async () => {
    const store = await open()
    const key = { hash: 'h', start: 'weir_1', last4: 'abcd', created: NOON - 30 * DAY_MS }
    const make = (id: string, expires: number, created = key.created) =>
      store.execute({
        ...{ op: 'key', now: NOON, user: 'alice', id, action: 'create' },
        key: { ...key, created, expires },
      })
    await make('soon', NOON + 6 * DAY_MS)
    await make('late', NOON + 8 * DAY_MS)
    await make('short', NOON + DAY_MS, NOON)
    let ids = 0
    const use = (id: string) =>
      store.execute(admitOf({ id: String((ids += 1)), watch: 1, key: { id, hash: 'h' } }))
    for (const id of ['soon', 'soon', 'late', 'short', 'soon']) await use(id)
    expect(await store.alerts()).toMatchObject([
      { id: '1-key', type: 'key.expiring', user: 'alice', key: 'soon', until: NOON + 6 * DAY_MS },
    ])
    await store.execute({
      ...{ op: 'key', now: NOON, user: 'alice', id: 'soon', action: 'change' },
      set: { expires: NOON + 7 * DAY_MS },
    })
    await use('soon')
    expect((await stateOf(store)).map(([id]) => id)).toEqual(['6-key', '1-key'])
    // The settlement of the same request brings it to its sender.
    const settle: Settle = { ...settleOf(admitOf({ id: '6' })), watch: {} }
    expect(await store.execute(settle)).toMatchObject({ alerts: 1 })
  })

  test('a provider that fails more than a tenth of twenty calls is told once in half an hour', async () => {
    const store = await open()
    let ids = 0
    const call = async (now: number, fields: Partial<Event> = {}) => {
      const admit = admitOf({ id: String((ids += 1)), watch: 1, now })
      await store.execute(admit)
      const { event, ...rest } =
        fields.outcome === 'failed' ? failureOf(admit, now) : settleOf(admit, {}, now)
      return store.execute({ ...rest, event: { ...event, ...fields }, watch: {} })
    }
    const failed = { outcome: 'failed', status: 502 } as const
    for (let n = 0; n < 17; n += 1) await call(NOON)
    // A request that the provider finds wrong is no fault of the provider.
    await call(NOON, { outcome: 'failed', status: 400 })
    for (let n = 0; n < 2; n += 1) await call(NOON, failed)
    expect(await store.alerts()).toEqual([])
    expect(await call(NOON, failed)).toEqual({ applied: true, alerts: 1 })
    await call(NOON, failed)
    expect(await store.alerts()).toMatchObject([
      { id: '21-1', type: 'upstream.errors', calls: 21, failures: 3 },
    ])
    for (let n = 0; n < 20; n += 1) await call(NOON + 10 * MINUTE_MS, failed)
    expect(await store.alerts()).toHaveLength(1)
    for (let n = 0; n < 20; n += 1) await call(NOON + 30 * MINUTE_MS, failed)
    expect(await store.alerts()).toHaveLength(2)
  })

  test('a spending limit at the provider is told once in an hour', async () => {
    const store = await open()
    let ids = 0
    const call = async (now: number) => {
      const admit = admitOf({ id: String((ids += 1)), now })
      await store.execute(admit)
      return store.execute({ ...failureOf(admit, now), watch: { spendBlocked: 1 } })
    }
    expect(await call(NOON)).toEqual({ applied: true, alerts: 1 })
    expect(await call(NOON)).toEqual({ applied: true })
    await call(NOON + HOUR_MS)
    expect(await store.alerts()).toMatchObject([
      { id: '3-1', type: 'upstream.spend_blocked', model: 'a/one' },
      { id: '1-1' },
    ])
  })

  test('who takes an alert has a minute; then it is due again, under the same id', async () => {
    const store = await open()
    await store.execute({ op: 'raise', now: NOON, alert: { id: 'a', type: 'test' }, by: 'ann' })
    expect(await take(store)).toMatchObject([{ id: 'a', attempts: 0 }])
    expect(await take(store, NOON + MINUTE_MS - 1)).toEqual([])
    expect(await take(store, NOON + MINUTE_MS)).toMatchObject([{ id: 'a' }])
    const later = NOON + MINUTE_MS + 5000
    expect(await tell(store, 'a', { state: 'pending', status: 500, due: later })).toEqual({
      ok: true,
      due: later,
    })
    expect(await take(store, later - 1)).toEqual([])
    expect(await take(store, later)).toMatchObject([{ id: 'a', attempts: 1, status: 500 }])
    expect(await tell(store, 'a', {}, later)).toEqual({ ok: true })
    // An attempt of before that ends later changes nothing.
    await tell(store, 'a', { state: 'failed', status: 0 }, later)
    expect(await store.alerts()).toMatchObject([
      { id: 'a', state: 'delivered', status: 200, attempts: 2, triedAt: later },
    ])
    await store.execute({ op: 'raise', now: NOON, alert: { id: 'a', type: 'test' }, by: 'ann' })
    expect(await stateOf(store)).toEqual([['a', 'delivered']])
    expect((await store.audit(9)).map(({ action, by }) => [action, by])).toEqual([
      ['test alert', 'ann'],
      ['test alert', 'ann'],
    ])
  })

  test('a settlement brings what is due to its sender, and to nobody else within a minute', async () => {
    const store = await open()
    const { spend } = spender(store, {})
    await store.execute({ op: 'raise', now: NOON, alert: { id: 'a', type: 'test' } })
    expect(await spend(1)).toEqual({ applied: true, alerts: 1 })
    expect(await spend(1)).toEqual({ applied: true })
    const minute = { now: NOON + MINUTE_MS }
    expect(await spend(1, minute)).toEqual({ applied: true, alerts: 1 })
    await take(store, NOON + MINUTE_MS + 1000)
    await tell(store, 'a', {}, NOON + MINUTE_MS + 1000)
    expect(await spend(1, { now: NOON + 3 * MINUTE_MS })).toEqual({ applied: true })
  })

  test('a receiver that is gone gets tests only, until one arrives', async () => {
    const store = await open()
    const raise = (id: string, type: Alert['type']) =>
      store.execute({ op: 'raise', now: NOON, alert: { id, type } })
    await raise('a', 'store.recovered')
    await raise('b', 'store.recovered')
    await take(store)
    await tell(store, 'a', { state: 'failed', status: 410 })
    expect(await stateOf(store)).toEqual([
      ['b', 'failed'],
      ['a', 'failed'],
    ])
    await raise('c', 'store.recovered')
    await raise('d', 'test')
    expect((await take(store)).map(({ id }) => id)).toEqual(['d'])
    // Another receiver is not gone.
    await raise('e', 'store.recovered')
    const { alerts } = await store.execute({ op: 'take', now: NOON, to: 'another' })
    expect(Object.keys(alerts)).toEqual(['e'])
    await tell(store, 'd', {})
    await raise('f', 'store.recovered')
    expect((await take(store)).map(({ id }) => id)).toEqual(['f'])
    expect(await store.alerts()).toMatchObject([
      ...[{ id: 'f' }, { id: 'e' }, { id: 'd', state: 'delivered' }],
      { id: 'c', state: 'failed', status: 410 },
      ...[{}, {}],
    ])
  })

  test('a hundred are kept, and what waits is kept longest', async () => {
    const store = await open()
    for (let n = 0; n < 104; n += 1) {
      const id = `n${String(n).padStart(3, '0')}`
      const state = n === 2 ? 'delivered' : 'pending'
      await store.execute({ op: 'raise', now: NOON + n, alert: { id, type: 'test', state } })
    }
    const kept = (await store.alerts()).map(({ id }) => id)
    expect([kept.length, kept.at(-1), kept.includes('n002')]).toEqual([100, 'n004', false])
    const first = await take(store, NOON + 200)
    expect(first.map(({ id }) => id).sort()).toEqual(['n004', 'n005', 'n006', 'n007', 'n008'])
  })
})
