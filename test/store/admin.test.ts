/** Admin commands: blocks, sessions, the audit trail, and the erasure of a user. */
import { describe, expect, test } from 'vitest'
import type { Audit } from '../../src/ledger/events.ts'
import type { Block } from '../../src/ledger/documents.ts'
import { DAY_MS, HOUR_MS, SECOND_MS } from '../../src/ledger/windows.ts'
import type { Store } from '../../src/store/store.ts'
import { admitOf, NOON, settleOf } from '../support/commands.ts'
import {
  dayOf,
  enter,
  enterOf,
  idsOf,
  reportOf,
  rowOf,
  said,
  setBlock,
  spend,
  start,
  TODAY,
  usedByAll,
  userOf,
  useStores,
} from '../support/contract.ts'
import { redisStore } from '../support/stores.ts'

const { redis, upstash, stores, ledgers } = useStores()

describe.each(ledgers)('%s', (_, open) => {
  test('a block for one model refuses that model only', async () => {
    const ledger = await open()
    expect(await setBlock(ledger, 'a/one', { at: NOON, reason: 'spam' })).toEqual({ ok: true })
    expect(await ledger.execute(admitOf({ id: '1' }))).toEqual({
      ok: false,
      reason: 'blocked',
      model: 'a/one',
      why: 'spam',
    })
    expect(await ledger.execute(admitOf({ id: '2', model: 'b/two' }))).toMatchObject({ ok: true })
    expect(await ledger.execute(admitOf({ id: '3', user: 'bob' }))).toMatchObject({ ok: true })
  })

  test('a block for all models refuses each model and is reported before a block of the model', async () => {
    const ledger = await open()
    await setBlock(ledger, 'a/one', { at: NOON })
    await setBlock(ledger, '*', { at: NOON, reason: 'bill', until: NOON + HOUR_MS })
    for (const model of ['a/one', 'b/two']) {
      expect(await ledger.execute(admitOf({ id: model, model }))).toEqual({
        ok: false,
        reason: 'blocked',
        model: '*',
        why: 'bill',
        until: NOON + HOUR_MS,
      })
    }
  })

  test('a block ends at its time', async () => {
    const ledger = await open()
    const until = NOON + 5000
    await setBlock(ledger, 'a/one', { at: NOON, until })
    expect(await ledger.execute(admitOf({ id: '1', now: until - 1 }))).toEqual({
      ok: false,
      reason: 'blocked',
      model: 'a/one',
      until,
    })
    expect(await ledger.execute(admitOf({ id: '2', now: until }))).toMatchObject({ ok: true })
  })

  test('a lifted block refuses nothing, and lifting a missing block does nothing', async () => {
    const ledger = await open()
    expect(await setBlock(ledger, '*')).toEqual({ ok: true })
    await setBlock(ledger, 'a/one', { at: NOON })
    await setBlock(ledger, '*', { at: NOON })
    await setBlock(ledger, '*')
    expect(await ledger.execute(admitOf({ id: '1' }))).toMatchObject({ model: 'a/one' })
    await setBlock(ledger, 'a/one')
    expect(await ledger.execute(admitOf({ id: '2' }))).toMatchObject({ ok: true })
  })

  test('a reason comes back as it was written', async () => {
    const ledger = await open()
    for (const why of ['ü "quoted" \\ \u2028 \u0000 🦢', '', "it's </script>", '{"a":[1,{}]}']) {
      await setBlock(ledger, '*', { at: NOON, reason: why })
      expect(await ledger.execute(admitOf({ id: '1' }))).toMatchObject({ reason: 'blocked', why })
    }
  })
})

describe.each(stores)('%s', (_, open) => {
  describe('a block', () => {
    test('of an unknown user is kept, and does not count as activity', async () => {
      const store = await open()
      await setBlock(store, '*', { at: NOON, reason: 'spam' })
      const { usage, profile } = await userOf(store)
      expect(profile.blocks).toEqual({ '*': { at: NOON, reason: 'spam' } })
      expect(usage).toMatchObject({ at: 0, models: {}, leases: {} })
      expect(await idsOf(store)).toEqual([])
    })

    test('is removed when it is lifted, and by the next change after its end', async () => {
      const store = await open()
      await spend(store, { id: '1' })
      await setBlock(store, 'over', { at: NOON, until: NOON + 1 })
      await setBlock(store, 'a/one', { at: NOON })
      await store.execute({
        op: 'block',
        now: NOON + SECOND_MS,
        user: 'alice',
        model: '*',
        block: { at: NOON + SECOND_MS },
      })
      expect(Object.keys((await userOf(store)).profile.blocks).sort()).toEqual(['*', 'a/one'])
      await setBlock(store, '*')
      await setBlock(store, 'a/one')
      expect((await userOf(store)).profile.blocks).toEqual({})
    })

    test('is listed with its user until its end, the longest-lasting first', async () => {
      const store = await open()
      await spend(store, { id: '1', user: 'carol' })
      const block = (user: string, model: string, until?: number) => {
        const block: Block = until === undefined ? { at: NOON } : { at: NOON, until }
        return store.execute({ op: 'block', now: NOON, user, model, block })
      }
      await block('alice', '*')
      await block('alice', 'a/one', NOON + HOUR_MS)
      await block('bob', 'b/two', NOON + HOUR_MS)
      await block('dave', '*')
      await store.execute({ op: 'block', now: NOON, user: 'dave', model: '*' })
      const found = await store.blockedUsers(9)
      expect(found.map(({ id }) => id).sort()).toEqual(['alice', 'bob'])
      expect(found.find(({ id }) => id === 'alice')?.blocks).toEqual({
        '*': { at: NOON },
        'a/one': { at: NOON, until: NOON + HOUR_MS },
      })
      // If there are too many, the ones that end first are left out.
      await block('carol', 'a/one', NOON + 2 * HOUR_MS)
      const order = async (limit: number) => (await store.blockedUsers(limit)).map(({ id }) => id)
      expect(await order(9)).toEqual(['alice', 'carol', 'bob'])
      expect(await order(2)).toEqual(['alice', 'carol'])
      expect(await order(0)).toEqual([])
    })
  })

  describe('erasing', () => {
    const USER = 'alice-with-a-long-id'
    const erase = (store: Store, now = NOON + 5000) =>
      store.execute({ op: 'erase', now, user: USER })

    test('removes a user from everything except the totals', async () => {
      const store = await open()
      await spend(store, { id: '0', user: USER, now: NOON - DAY_MS })
      await spend(store, { id: '1', user: USER })
      await spend(store, { id: '2', user: 'bob' })
      await spend(store, { id: '3', user: USER, model: 'b/two' })
      for (const model of ['*', 'b/two']) {
        await store.execute({ op: 'block', now: NOON, user: USER, model, block: { at: NOON } })
        const block = { at: NOON, until: NOON + DAY_MS }
        await store.execute({ op: 'block', now: NOON, user: 'bob', model, block })
      }
      await store.execute(reportOf({ 'a/one': said(5) }, { user: USER }))
      const totals = async () => [await dayOf(store), await usedByAll(store)]
      const before = await totals()
      expect(await erase(store)).toEqual({ ok: true })
      expect(await store.user(USER)).toBeUndefined()
      for (const sort of ['lastActive', 'tokens'] as const) {
        expect(await idsOf(store, { sort })).toEqual(['bob'])
      }
      expect((await store.blockedUsers(9)).map(({ id }) => id)).toEqual(['bob'])
      expect((await store.events(9)).map(({ id }) => id)).toEqual(['2'])
      expect(await totals()).toEqual(before)
      expect(await store.audit(1)).toEqual([
        { v: 2, at: NOON + 5000, action: 'erase', user: 'alice-' },
      ])
      expect(JSON.stringify(await store.audit(9))).not.toContain(USER)
    })

    test('forgets earlier requests, and counts later ones', async () => {
      const store = await open()
      const running = await start(store, { id: '1', user: USER })
      await erase(store)
      expect(await store.execute(settleOf(running, {}, NOON + 6000))).toEqual({ applied: false })
      for (const now of [NOON, NOON + 5000]) {
        const served = enterOf({ id: `at ${now}`, user: USER, now }, NOON + HOUR_MS)
        expect(await enter(store, served)).toEqual({ applied: false })
      }
      expect(await store.user(USER)).toBeUndefined()
      expect(await store.events(9)).toEqual([])
      const later = enterOf({ id: '2', user: USER, now: NOON + 5001 }, NOON + HOUR_MS)
      expect(await enter(store, later)).toEqual({ applied: true })
      expect(await rowOf(store, 'a/one', USER)).toMatchObject({ requests: 1, charged: 15 })
    })

    test('lets a user begin without usage and without blocks', async () => {
      const store = await open()
      const limits = { model: { requestsPerDay: 1 } }
      await spend(store, { id: '1', user: USER, limits })
      await store.execute({ op: 'block', now: NOON, user: USER, model: '*', block: { at: NOON } })
      await erase(store)
      await spend(store, { id: '2', user: USER, limits, now: NOON + 6000 })
      expect(await rowOf(store, 'a/one', USER)).toMatchObject({ requests: 1 })
      expect((await store.events(9)).map(({ id }) => id)).toEqual(['2'])
    })

    test('of an unknown user is recorded and does nothing else', async () => {
      const store = await open()
      await spend(store, { id: '1' })
      const before = await userOf(store)
      expect(await erase(store)).toEqual({ ok: true })
      expect(await userOf(store)).toEqual(before)
      expect(await store.events(9)).toHaveLength(1)
      expect(await store.audit(9)).toHaveLength(1)
    })
  })

  describe('a session', () => {
    const login = (store: Store, session: string, until = NOON + HOUR_MS) =>
      store.execute({ op: 'login', now: NOON, session, until })

    test('is open from login until its end', async () => {
      const store = await open()
      expect(await store.session('one', NOON)).toBe(false)
      expect(await login(store, 'one')).toEqual({ ok: true })
      expect(await store.session('one', NOON)).toBe(true)
      expect(await store.session('one', NOON + HOUR_MS - 1)).toBe(true)
      expect(await store.session('one', NOON + HOUR_MS)).toBe(false)
      expect(await store.session('two', NOON)).toBe(false)
    })

    test('ends with logout, and other sessions stay open', async () => {
      const store = await open()
      await login(store, 'one')
      await login(store, 'two')
      const logout = { op: 'logout', now: NOON } as const
      expect(await store.execute({ ...logout, session: 'one' })).toEqual({ ok: true })
      await store.execute({ ...logout, session: 'never opened' })
      expect(await store.session('one', NOON)).toBe(false)
      expect(await store.session('two', NOON)).toBe(true)
    })

    test('that is over before it begins is never open', async () => {
      const store = await open()
      await login(store, 'one')
      await login(store, 'one', NOON)
      expect(await store.session('one', NOON)).toBe(false)
    })
  })

  describe('the audit trail', () => {
    test('lists actions of admins, the newest first', async () => {
      const store = await open()
      const ip = '192.0.2.1'
      const block = { at: NOON, reason: 'ü "spam"', until: NOON + DAY_MS }
      const user = 'alice-with-a-long-id'
      await store.execute({ op: 'login', now: NOON, session: 'hash', until: NOON + DAY_MS, ip })
      await store.execute({ op: 'block', now: NOON + 1, user, model: '*', block, ip })
      await store.execute({ op: 'block', now: NOON + 2, user: 'bob', model: 'b/two' })
      await store.execute({ op: 'note', now: NOON + 3, action: 'export', ip })
      await store.execute({ op: 'erase', now: NOON + 4, user, ip })
      await store.execute({ op: 'clear', now: NOON + 5 })
      await store.execute({ op: 'logout', now: NOON + 6, session: 'hash' })
      const trail: Audit[] = [
        { v: 2, at: NOON + 6, action: 'logout' },
        { v: 2, at: NOON + 5, action: 'clear' },
        { v: 2, at: NOON + 4, action: 'erase', user: 'alice-', ip },
        { v: 2, at: NOON + 3, action: 'export', ip },
        { v: 2, at: NOON + 2, action: 'unblock', user: 'bob', model: 'b/two' },
        {
          v: 2,
          at: NOON + 1,
          action: 'block',
          user: 'alice-',
          model: '*',
          reason: block.reason,
          until: block.until,
          ip,
        },
        { v: 2, at: NOON, action: 'login', ip },
      ]
      expect(await store.audit(100)).toEqual(trail)
      expect(await store.audit(2)).toEqual(trail.slice(0, 2))
      expect(await store.audit(0)).toEqual([])
    })

    test('has failed logins in a row as one entry an hour, and pushes nothing out for them', async () => {
      const store = await open()
      const fail = (now: number, ip?: string) =>
        store.execute({ op: 'note', now, action: 'failed login', ...(ip && { ip }) })
      await store.execute({ op: 'note', now: NOON, action: 'export' })
      for (let n = 1; n <= 30; n += 1) await fail(NOON + n, '192.0.2.1')
      const entry = { v: 2, action: 'failed login' }
      const first = { ...entry, at: NOON + 1, times: 30, ip: '192.0.2.1' }
      const done = { v: 2, at: NOON, action: 'export' }
      expect(await store.audit(9)).toEqual([first, done])
      // Of several addresses none is told.
      await fail(NOON + 31, '192.0.2.2')
      await fail(NOON + 32, '192.0.2.1')
      const { ip: _, ...several } = { ...first, times: 32 }
      expect(await store.audit(9)).toEqual([several, done])
      await fail(NOON + 1 + HOUR_MS, '192.0.2.1')
      const next = { ...entry, at: NOON + 1 + HOUR_MS, ip: '192.0.2.1' }
      expect(await store.audit(9)).toEqual([next, several, done])
      await store.execute({ op: 'logout', now: NOON + 2 * HOUR_MS, session: 's' })
      await fail(NOON + 2 * HOUR_MS)
      expect(await store.audit(9)).toHaveLength(5)
    })

    test('keeps the last thousand entries', async () => {
      const store = await open()
      for (let n = 0; n < 1003; n += 1) {
        await store.execute({ op: 'note', now: NOON + n, action: 'export' })
      }
      const times = (await store.audit(5000)).map(({ at }) => at - NOON)
      expect(times).toEqual(Array.from({ length: 1000 }, (_, n) => 1002 - n))
    })

    test('is not written by requests, reports and refusals', async () => {
      const store = await open()
      await spend(store, { id: '1' })
      await store.execute(admitOf({ id: '2', limits: { model: { requestsPerDay: 0 } } }))
      await store.execute(reportOf({ 'a/one': said(1) }))
      await enter(store, enterOf({ id: '3' }))
      expect(await store.audit(9)).toEqual([])
    })
  })
})

describe('in Redis', () => {
  const seconds = async (key: string) => Number(await redis.command(['PTTL', key])) / 1000

  test('only a mark with an expiry is left of an erased user, and events still expire', async () => {
    const store = redisStore(upstash)
    const user = 'alice-with-a-long-id'
    await spend(store, { id: '0', user, now: NOON - DAY_MS })
    await spend(store, { id: '1', user })
    await spend(store, { id: '2', user: 'bob' })
    await store.execute({ op: 'block', now: NOON, user, model: 'a/one', block: { at: NOON } })
    // Some unreadable documents were set aside before, and some are unreadable now.
    for (const kind of ['usage', 'past', 'profile']) {
      await redis.command(['SET', `weir:{2}:damaged:${kind}:${user}`, `spoilt before, of ${user}`])
    }
    await redis.command(['SET', `weir:{2}:usage:${user}`, `spoilt, of ${user}`])
    await store.execute({ op: 'erase', now: NOON, user })
    const left: string[] = []
    for (const key of (await redis.command(['KEYS', '*'])) as string[]) {
      if (`${key} ${JSON.stringify(await redis.command(['DUMP', key]))}`.includes(user))
        left.push(key)
    }
    expect(left).toEqual([`weir:{2}:erased:${user}`])
    expect(await seconds(`weir:{2}:erased:${user}`)).toBeCloseTo((7 * DAY_MS) / 1000, -2)
    expect(await seconds('weir:{2}:events')).toBeGreaterThan(0)
    expect(await dayOf(store, TODAY)).toMatchObject({ total: { requests: 2 } })
  })

  test('a session expires', async () => {
    const store = redisStore(upstash)
    await store.execute({ op: 'login', now: NOON, session: 'hash', until: NOON + DAY_MS })
    expect(await seconds('weir:{2}:session:hash')).toBeCloseTo(DAY_MS / 1000, -1)
    await store.execute({ op: 'logout', now: NOON, session: 'hash' })
    expect(await redis.command(['EXISTS', 'weir:{2}:session:hash'])).toBe(0)
  })
})
