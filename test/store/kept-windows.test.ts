/** Counters that outlive their user's document, since a limit of a week or a month is not over. */
import { describe, expect, test } from 'vitest'
import type { Store } from '../../src/store/store.ts'
import { DAY_MS, endOf } from '../../src/ledger/windows.ts'
import { admitOf, NOON, settleOf } from '../support/commands.ts'
import { useDatabase } from '../support/database.ts'
import { useLocalFiles } from '../support/local-files.ts'
import { redisStore } from '../support/stores.ts'

/** 22 November is a Sunday; eight days later it is still the same month, and the user's document has expired. */
const LATER = NOON + 8 * DAY_MS
const BY_MONTH = { model: { tokensPerMonth: 150, tokensPerDay: 1000 } }

const ask = (id: string, now: number, limits: object = BY_MONTH) =>
  admitOf({ id, now, limits, reserved: 100, ip: '192.0.2.7' })

/** A request of 100 tokens. */
async function spend(store: Store, limits: object = BY_MONTH) {
  const admit = ask('1', NOON, limits)
  await store.execute(admit)
  await store.execute(settleOf(admit, { charged: 100 }))
}

const refusal = { ok: false, window: 'month', unit: 'tokens', limit: 150, used: 100 }

describe('in files', () => {
  const { openStore, saved } = useLocalFiles()

  test('the counters of a month stay after userDays, alone, until the month ends', async () => {
    let now = NOON
    const settings = { now: () => now, retention: { userDays: 3 } }
    const store = await openStore(settings)
    await spend(store)
    await store.close()

    now = LATER
    // Expired data leaves the files when they are closed.
    await (await openStore(settings)).close()
    const again = await openStore(settings)
    expect(await again.user('alice')).toBeUndefined()
    expect(await again.execute(ask('2', now))).toMatchObject(refusal)
    const { usage, windows, past } = saved().state
    expect([usage, past]).toEqual([[], []])
    expect(windows).toMatchObject([{ id: 'alice', leases: {}, limitedUntil: endOf('month', NOON) }])
    expect(JSON.stringify(windows)).not.toContain('192.0.2.7')
    await again.close()

    now = endOf('month', NOON) + DAY_MS
    const last = await openStore(settings)
    expect(await last.execute(ask('3', now))).toMatchObject({ ok: true })
    await last.close()
    await (await openStore(settings)).close()
    expect(saved().state.windows).toEqual([])
  })

  test('nothing stays of a user whose limits end with the day', async () => {
    let now = NOON
    const settings = { now: () => now, retention: { userDays: 3 } }
    const store = await openStore(settings)
    await spend(store, { model: { tokensPerDay: 1000 } })
    await store.close()
    now = LATER
    await (await openStore(settings)).close()
    expect(saved().state).toMatchObject({ usage: [], windows: [] })
  })

  test('the counters of an erased user are deleted', async () => {
    let now = NOON
    const settings = { now: () => now, retention: { userDays: 3 } }
    const store = await openStore(settings)
    await spend(store)
    await store.close()
    now = LATER
    await (await openStore(settings)).close()
    const again = await openStore(settings)
    await again.execute({ op: 'erase', now, user: 'alice' })
    expect(await again.execute(ask('2', now))).toMatchObject({ ok: true })
    await again.close()
    expect(saved().state.windows).toEqual([])
  })
})

describe('in Redis', () => {
  const { redis, upstash } = useDatabase()
  const KEY = 'weir:{2}:windows:alice'
  const open = (userDays: number) => redisStore(upstash, { retention: { userDays } })
  const expire = () => redis.command(['DEL', 'weir:{2}:usage:alice', 'weir:{2}:past:alice'])

  test('the counters of a month stay after userDays, alone, until the month ends', async () => {
    const store = open(3)
    await spend(store)
    const left = Number(await redis.command(['PTTL', KEY]))
    // The user's clock is at the end of the request, a second after its start.
    expect(left).toBeGreaterThan(endOf('month', NOON) - NOON - 1000 - 60_000)
    expect(left).toBeLessThanOrEqual(endOf('month', NOON) - NOON)
    expect(await redis.command(['GET', KEY])).not.toContain('192.0.2.7')
    await expire()
    expect(await store.user('alice')).toBeUndefined()
    expect(await store.execute(ask('2', LATER))).toMatchObject(refusal)
    expect(await store.execute(ask('3', endOf('month', NOON)))).toMatchObject({ ok: true })
  })

  test('they are not kept apart where the user is kept longer, or the limits end with the day', async () => {
    await spend(open(35))
    expect(await redis.command(['EXISTS', KEY])).toBe(0)
    await redis.flush()
    await spend(open(3), { model: { tokensPerDay: 1000 } })
    expect(await redis.command(['EXISTS', KEY])).toBe(0)
  })

  test('the counters of an erased user are deleted', async () => {
    const store = open(3)
    await spend(store)
    await expire()
    await store.execute({ op: 'erase', now: LATER, user: 'alice' })
    expect(await redis.command(['EXISTS', KEY])).toBe(0)
    expect(await store.execute(ask('2', LATER))).toMatchObject({ ok: true })
  })
})
