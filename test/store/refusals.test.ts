/** What is kept of refusals, in every store. */
import { describe, expect, test } from 'vitest'
import type { Admit } from '../../src/ledger/commands.ts'
import { DAY_MS, MINUTE_MS, dateOf } from '../../src/ledger/windows.ts'
import type { Store } from '../../src/store/store.ts'
import { admitOf, NOON, settleOf } from '../support/commands.ts'
import { useStores } from '../support/contract.ts'

const { stores } = useStores()

const TODAY = dateOf(NOON)
const ONE = { model: { requestsPerDay: 1 } }

/** A store with a known user, whose limit is spent. */
async function spent(open: () => Promise<Store>) {
  const store = await open()
  let ids = 0
  const ask = (given: Partial<Admit> = {}) =>
    store.execute(admitOf({ id: `id-${(ids += 1)}`, limits: ONE, ...given }))
  await ask()
  return { store, ask }
}

describe.each(stores)('%s', (_, open) => {
  test('each refusal of a known user is counted, and one of a minute is kept', async () => {
    const { store, ask } = await spent(open)
    expect(await ask()).toMatchObject({ ok: false, counted: true })
    await ask({ now: NOON + 1000 })
    await ask({ now: NOON + MINUTE_MS })
    const { latest, days } = await store.refusals([TODAY], 10)
    expect(days).toEqual({ [TODAY]: { 'insufficient_quota a/one': 3 } })
    const entry = { user: 'alice', code: 'insufficient_quota', model: 'a/one' }
    expect(latest).toMatchObject([
      { ...entry, id: 'id-4', at: NOON + MINUTE_MS },
      { ...entry, id: 'id-2', at: NOON },
    ])
    expect(latest[0]?.limit).toEqual({
      of: 'user',
      model: 'a/one',
      unit: 'requests',
      window: 'day',
      limit: 1,
      used: 1,
      asked: 1,
    })
    expect(await store.refusals([TODAY], 1)).toMatchObject({ latest: [{ id: 'id-4' }] })
  })

  test('the entry of a refusal has the tag of its request', async () => {
    const { store, ask } = await spent(open)
    await ask({ tag: 'search' })
    await ask({ now: NOON + MINUTE_MS })
    const { latest } = await store.refusals([TODAY], 10)
    expect(latest.map(({ tag }) => tag)).toEqual([undefined, 'search'])
  })

  test('other codes, models and days have counters of their own', async () => {
    const { store, ask } = await spent(open)
    await ask()
    await ask({ limits: { model: { usdPerDay: 1 } } })
    await ask({ limits: { model: { tokensPerMinute: 1 } } })
    await ask({ limits: {}, everyone: { total: { requestsPerWeek: 1 } } })
    await ask({ limits: {}, model: 'b/two' })
    await ask({ model: 'b/two' })
    await ask({ now: NOON + DAY_MS, limits: { model: { requestsPerMonth: 1 } } })
    await ask({ model: 'made up', limits: { total: { requestsPerDay: 1 } } })
    const tomorrow = dateOf(NOON + DAY_MS)
    expect((await store.refusals([TODAY, tomorrow, '2020-01-01'], 0)).days).toEqual({
      [TODAY]: {
        'insufficient_quota a/one': 1,
        'model_not_priced a/one': 1,
        'rate_limit_exceeded a/one': 1,
        'global_quota a/one': 1,
        'insufficient_quota b/two': 1,
        // Nobody has used the made-up model.
        'insufficient_quota ?': 1,
      },
      [tomorrow]: { 'insufficient_quota a/one': 1 },
    })
  })

  test('a refusal of an unknown user writes nothing', async () => {
    const { store, ask } = await spent(open)
    const answer = await ask({ user: 'mallory', limits: { model: { requestsPerDay: 0 } } })
    expect(answer).toMatchObject({ ok: false, reason: 'limit' })
    expect(answer).not.toHaveProperty('counted')
    expect(await store.refusals([TODAY], 10)).toEqual({ latest: [], days: {} })
    expect(await store.user('mallory')).toBeUndefined()
  })

  test('what the sender has counted is added, whether the request is granted or not', async () => {
    const { store, ask } = await spent(open)
    const refusals = { [TODAY]: { 'invalid_key ?': 2 } }
    await ask({ limits: {}, refusals })
    await ask({ refusals: { [TODAY]: { 'insufficient_quota a/one': 5, 'invalid_key ?': 1 } } })
    await ask({ user: 'mallory', limits: { model: { requestsPerDay: 0 } }, refusals })
    expect((await store.refusals([TODAY], 0)).days).toEqual({
      [TODAY]: { 'invalid_key ?': 5, 'insufficient_quota a/one': 6 },
    })
  })

  test('the refusals of an erased user are deleted, and clearing deletes all of them', async () => {
    const { store, ask } = await spent(open)
    await ask({ user: 'bob' })
    await ask({ user: 'bob' })
    await ask()
    await store.execute({ op: 'erase', now: NOON, user: 'alice' })
    const { latest, days } = await store.refusals([TODAY], 10)
    expect(latest.map(({ user }) => user)).toEqual(['bob'])
    expect(days).toEqual({ [TODAY]: { 'insufficient_quota a/one': 2 } })
    await store.execute({ op: 'clear', now: NOON })
    expect(await store.refusals([TODAY], 10)).toEqual({ latest: [], days: {} })
  })

  test('a refusal changes no counter of a limit', async () => {
    const { store, ask } = await spent(open)
    await store.execute(settleOf(admitOf({ id: 'id-1', limits: ONE })))
    await ask()
    const { usage } = (await store.user('alice'))!
    expect(usage.windows.day).toMatchObject({ requests: 1, tokens: 15 })
  })
})
