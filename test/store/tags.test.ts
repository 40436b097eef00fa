/** The tags of a day, in every store. */
import { describe, expect, test } from 'vitest'
import type { Store } from '../../src/store/store.ts'
import { DAY_MS } from '../../src/ledger/windows.ts'
import { admitOf, failureOf, NOON, settleOf } from '../support/commands.ts'
import { dayOf, enterOf, TODAY, TOMORROW, usageOf, useStores } from '../support/contract.ts'

const { stores } = useStores()

let ids = 0
/** A request with a tag that has ended. */
async function spend(store: Store, tag: string | undefined, charged: number, now = NOON) {
  const admit = admitOf({ id: `tagged-${(ids += 1)}`, now })
  await store.execute(admit)
  const more = {
    ...usageOf(charged),
    cost: String(charged * 10),
    ...(tag !== undefined && { tag }),
  }
  await store.execute(settleOf(admit, more))
}

describe.each(stores)('%s', (_, open) => {
  test('each tag has its requests, tokens and costs, also after the day', async () => {
    const store = await open()
    await spend(store, 'search', 5)
    await spend(store, 'search', 7)
    await spend(store, 'constructor', 1)
    await spend(store, undefined, 9)
    const failed = failureOf(admitOf({ id: 'f' }))
    await store.execute(admitOf({ id: 'f' }))
    await store.execute({ ...failed, event: { ...failed.event, tag: 'search' } })
    const tags = {
      search: { requests: 3, charged: 12, cost: 120 },
      constructor: { requests: 1, charged: 1, cost: 10 },
    }
    expect((await dayOf(store))?.tags).toEqual(tags)
    await spend(store, 'search', 2, NOON + DAY_MS)
    expect((await dayOf(store))?.tags).toEqual(tags)
    expect((await dayOf(store, TOMORROW))?.tags).toEqual({
      search: { requests: 1, charged: 2, cost: 20 },
    })
    // A request of yesterday that is counted late.
    const late = enterOf({ id: 'late' }, NOON + DAY_MS)
    await store.replay([{ ...late, event: { ...late.event, ...usageOf(3), tag: 'late' } }])
    expect((await dayOf(store))?.tags).toEqual({
      ...tags,
      late: { requests: 1, charged: 3, cost: 0 },
    })
    const events = (await store.events(10)).map(({ tag }) => tag)
    expect(events).toEqual([
      'late',
      'search',
      'search',
      undefined,
      'constructor',
      'search',
      'search',
    ])
  })

  test('fifty tags a day are counted apart, further ones as other', async () => {
    const store = await open()
    for (let n = 0; n < 52; n += 1) await spend(store, `tag-${n}`, 1)
    await spend(store, 'other', 1)
    await spend(store, 'tag-0', 1)
    const tags = (await dayOf(store))?.tags ?? {}
    expect(Object.keys(tags)).toHaveLength(51)
    expect(tags).toMatchObject({ other: { requests: 3 }, 'tag-0': { requests: 2 } })
    await store.execute({ op: 'clear', now: NOON + 2000 })
    expect((await dayOf(store, TODAY))?.tags ?? {}).toEqual({})
    await spend(store, 'new', 1)
    expect((await dayOf(store))?.tags).toEqual({ new: { requests: 1, charged: 1, cost: 10 } })
  })
})
