/** Plans, own limits, boosts, lists of models, keys, revocations, resets and settings, in every store. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { Admit, ProfileFields, SetKey } from '../../src/ledger/commands.ts'
import { labelWords } from '../../src/ledger/labels.ts'
import { UNLIMITED, type Key, type PlanDoc, type StoredRows } from '../../src/ledger/documents.ts'
import { DAY_MS, SECOND_MS } from '../../src/ledger/windows.ts'
import type { Store } from '../../src/store/store.ts'
import { admitOf, NOON, settleOf } from '../support/commands.ts'
import { rowOf, useStores, userOf } from '../support/contract.ts'

const { stores } = useStores()

const DAILY = { tokensPerDay: 1000, requestsPerDay: 100 }

type Given = Partial<Admit>

/** A store with short commands. Every request asks for 100 tokens and has an id of its own. */
function helpers(store: Store) {
  let ids = 0
  const admit = (given: Given = {}) =>
    store.execute(admitOf({ id: `id-${(ids += 1)}`, limits: { model: DAILY }, ...given }))
  return {
    admit,
    /** The limit of tokens a day that held for a request. */
    async limit(given: Given = {}): Promise<number | undefined> {
      const answer = await admit(given)
      if (!answer.ok) throw new Error(JSON.stringify(answer))
      return answer.limits?.find(({ of, model }) => of === 'user' && model !== '*')?.limits
        .tokensPerDay
    },
    /** The limits that held for a request. */
    async rows() {
      const answer = await admit()
      return answer.ok ? answer.limits : undefined
    },
    plan: (name: string, plan?: Omit<PlanDoc, 'v'>) =>
      store.execute({ op: 'plan', now: NOON, name, ...(plan && { plan }) }),
    profile: (set: ProfileFields, clear: (keyof ProfileFields)[] = [], user = 'alice') =>
      store.execute({
        op: 'profile',
        now: NOON,
        user,
        set,
        clear: Object.fromEntries(clear.map((name) => [name, 1])),
      }),
    settings: (set: object, clear: Record<string, 1> = {}) =>
      store.execute({ op: 'settings', now: NOON, set, clear }),
    key: (id: string, command: object, now = NOON) =>
      store.execute({ op: 'key', now, user: 'alice', id, ...command } as SetKey),
    reset: (window?: 'day' | 'minute') =>
      store.execute({ op: 'reset', now: NOON, user: 'alice', ...(window && { window }) }),
  }
}

const key = (fields: Partial<Key> = {}): Key => ({
  hash: 'first',
  start: 'weir_1',
  last4: 'abcd',
  created: NOON,
  ...fields,
})

describe.each(stores)('%s', (_, open) => {
  const start = async () => {
    const store = await open()
    return { store, ...helpers(store) }
  }

  test('the environment holds until a plan is stored, and again when it is deleted', async () => {
    const { limit, plan } = await start()
    expect(await limit()).toBe(1000)
    await plan('default', { limits: { '*': { tokensPerDay: 5000 } } })
    expect(await limit()).toBe(5000)
    await plan('default')
    expect(await limit()).toBe(1000)
    expect(await plan('default')).toEqual({ ok: false, reason: 'unknown' })
  })

  test('the plan of the profile comes before that of the token, and that before the default one', async () => {
    const { admit, limit, plan, profile, settings } = await start()
    for (const [name, tokensPerDay] of [
      ['pro', 2000],
      ['team', 3000],
      ['free', 4000],
    ] as const) {
      await plan(name, { limits: { '*': { tokensPerDay } } })
    }
    const claims = { issuedAt: NOON, plan: 'team' }
    expect(await limit({ claims })).toBe(3000)
    await settings({ defaultPlan: 'free' })
    expect([await limit(), await limit({ claims })]).toEqual([4000, 3000])
    await profile({ plan: 'pro' })
    expect([await limit(), await limit({ claims })]).toEqual([2000, 2000])
    await profile({ plan: 'gone' })
    expect(await admit()).toMatchObject({ ok: true, plan: 'free', unknownPlan: 'gone' })
    await profile({}, ['plan'])
    expect(await admit({ claims })).toMatchObject({ ok: true, plan: 'team' })
  })

  test('a limit of one user has three states: a number, none, and that of the plan', async () => {
    const { store, rows, limit, plan, profile } = await start()
    await plan('default', {
      limits: { '*': { tokensPerDay: 700, requestsPerDay: 9 }, 'b/two': { tokensPerDay: 300 } },
    })
    await profile({ limits: { '*': { tokensPerDay: 2000 } } })
    expect(await limit()).toBe(2000)
    expect(await limit({ model: 'b/two' })).toBe(2000)
    expect((await rows())?.[0]?.limits).toEqual({ tokensPerDay: 2000, requestsPerDay: 9 })
    await profile({ limits: { 'a/one': { tokensPerDay: UNLIMITED } } })
    expect((await rows())?.[0]?.limits).toEqual({ requestsPerDay: 9 })
    expect(await limit({ model: 'b/two' })).toBe(300)
    await profile({ limits: {} })
    expect(await limit()).toBe(700)
    expect((await userOf(store)).profile.limits).toEqual({})
  })

  test('a changed limit holds for the next request, and keeps what was counted', async () => {
    const { admit, profile } = await start()
    for (let n = 0; n < 5; n += 1) await admit()
    await profile({ limits: { '*': { tokensPerDay: 550 } } })
    expect(await admit()).toMatchObject({ ok: false, reason: 'limit', limit: 550, used: 500 })
    await profile({ limits: { '*': { tokensPerDay: 600 } } })
    expect(await admit()).toMatchObject({ ok: true })
    expect(await admit()).toMatchObject({ ok: false, used: 600 })
  })

  test('a boost adds to limits that are there, until it ends', async () => {
    const { rows, limit, profile } = await start()
    const boost = {
      limits: { '*': { tokensPerDay: 500, tokensPerMinute: 7 } },
      until: NOON + SECOND_MS,
    }
    await profile({ boost })
    expect((await rows())?.[0]?.limits).toEqual({ ...DAILY, tokensPerDay: 1500 })
    expect(await limit({ now: NOON + SECOND_MS - 1 })).toBe(1500)
    expect(await limit({ now: NOON + SECOND_MS })).toBe(1000)
  })

  test('the models of the plan, of the user and of the key must all include a model', async () => {
    const { admit, plan, profile, key: setKey } = await start()
    const refused = { ok: false, reason: 'model' }
    await plan('default', { limits: {}, models: { 'a/*': 1, 'b/two': 1 } })
    expect(await admit({ model: 'c/three' })).toMatchObject(refused)
    expect(await admit({ model: 'b/two' })).toMatchObject({ ok: true })
    await profile({ models: { '*one': 1 } })
    expect(await admit({ model: 'b/two' })).toMatchObject(refused)
    expect(await admit({ model: 'a/one' })).toMatchObject({ ok: true })
    await setKey('k1', { action: 'create', key: key({ models: { 'a/other': 1 } }) })
    expect(await admit({ key: { id: 'k1', hash: 'first' } })).toMatchObject(refused)
    await profile({ models: {} })
    expect(await admit({ model: 'a/one' })).toMatchObject(refused)
    await profile({}, ['models'])
    expect(await admit({ model: 'a/one' })).toMatchObject({ ok: true })
  })

  test('a key is valid until it expires, is disabled, replaced or deleted, and that it is disabled is told first', async () => {
    const { admit, key: setKey } = await start()
    const ask = async (hash = 'first', now = NOON) => {
      const answer = await admit({ key: { id: 'k1', hash }, now })
      return answer.ok ? 'ok' : answer.reason === 'key' ? answer.why : answer.reason
    }
    expect(await ask()).toBe('unknown')
    expect(
      await setKey('k1', { action: 'create', key: key({ expires: NOON + 5000 }) }),
    ).toMatchObject({ ok: true })
    expect([await ask(), await ask('other'), await ask('first', NOON + 5000)]).toEqual([
      'ok',
      'unknown',
      'expired',
    ])
    await setKey('k1', { action: 'change', set: { disabled: 1 } })
    expect([await ask(), await ask('first', NOON + 5000)]).toEqual(['disabled', 'disabled'])
    await setKey('k1', { action: 'change', set: {}, clear: { disabled: 1, expires: 1 } })
    expect(await ask('first', NOON + 6000)).toBe('ok')
    await setKey('k1', { action: 'delete' })
    expect(await ask('first', NOON + 6000)).toBe('unknown')
    expect(await setKey('k1', { action: 'delete' })).toEqual({ ok: false, reason: 'unknown' })
  })

  test('after a rotation both secrets work until the grace ends; a second one ends the first grace', async () => {
    const { store, admit, key: setKey } = await start()
    const ask = async (hash: string, now: number) =>
      (await admit({ key: { id: 'k1', hash }, now })).ok
    const secret = (hash: string) => ({ hash, start: 'weir_1', last4: hash.slice(0, 4) })
    await setKey('k1', { action: 'create', key: key() })
    await admit({ key: { id: 'k1', hash: 'first' } })
    await setKey('k1', { action: 'rotate', secret: secret('second'), graceUntil: NOON + 3000 })
    expect((await userOf(store)).usage.windows.day).toMatchObject({ requests: 1, tokens: 100 })
    const both = async (now: number) => [await ask('first', now), await ask('second', now)]
    expect(await both(NOON + 2999)).toEqual([true, true])
    expect(await both(NOON + 3000)).toEqual([false, true])
    await setKey(
      'k1',
      { action: 'rotate', secret: secret('third'), graceUntil: NOON + 9000 },
      NOON + 3000,
    )
    await setKey('k1', { action: 'rotate', secret: secret('fourth'), graceUntil: 0 }, NOON + 3000)
    expect([await ask('second', NOON + 3001), await ask('third', NOON + 3001)]).toEqual([
      false,
      false,
    ])
    expect(await ask('fourth', NOON + 3001)).toBe(true)
    expect((await userOf(store)).usage.keysUsed).toEqual({ k1: NOON + 3001 })
  })

  test('a user has at most 20 keys, and two keys of one user count together', async () => {
    const { admit, key: setKey } = await start()
    for (let n = 0; n < 20; n += 1) {
      expect(await setKey(`k${n}`, { action: 'create', key: key() })).toMatchObject({ ok: true })
    }
    expect(await setKey('more', { action: 'create', key: key() })).toEqual({
      ok: false,
      reason: 'keys',
    })
    expect(await setKey('k1', { action: 'create', key: key() })).toEqual({
      ok: false,
      reason: 'exists',
    })
    const limits = { model: { requestsPerDay: 1 } }
    expect(await admit({ limits, key: { id: 'k1', hash: 'first' } })).toMatchObject({ ok: true })
    expect(await admit({ limits, key: { id: 'k2', hash: 'first' } })).toMatchObject({
      ok: false,
      reason: 'limit',
    })
  })

  test('a token that was issued before a moment is refused, and one that does not say when counts as old', async () => {
    const { admit, profile } = await start()
    const ask = async (issuedAt: number) => (await admit({ claims: { issuedAt } })).ok
    expect(await ask(0)).toBe(true)
    await profile({ notBefore: NOON })
    expect([await ask(0), await ask(NOON - 1), await ask(NOON)]).toEqual([false, false, true])
    await profile({}, ['notBefore'])
    expect(await ask(0)).toBe(true)
  })

  test("a plan's maximum of completion tokens refuses more, and is what others reserve", async () => {
    const { store, admit, plan } = await start()
    await plan('default', { limits: { '*': DAILY }, maxCompletionTokens: 30 })
    expect(await admit({ maximum: 31 })).toEqual({ ok: false, reason: 'maximum', limit: 30 })
    expect(await admit({ maximum: 30 })).not.toHaveProperty('maximum')
    const asked = { reserved: 150, completion: 120, completions: { count: 2, tokens: 60 } }
    const request = admitOf({ id: 'two', ...asked })
    expect(await store.execute(request)).toMatchObject({ ok: true, maximum: 30 })
    expect(await rowOf(store)).toMatchObject({ reserved: 100 + 150 - 2 * 30 })
    const event = settleOf(request, { charged: 15 })
    expect(await store.execute(event)).toEqual({ applied: true })
    expect(await rowOf(store)).toMatchObject({ reserved: 100, charged: 115 })
  })

  test('a plan bounds the requests that run at once; one that was never settled frees its place when it has ended', async () => {
    const { store, admit, plan } = await start()
    await plan('default', { limits: {}, concurrentRequests: 2 })
    const first = admitOf({ id: 'first', lasts: 5000 })
    expect(await store.execute(first)).toMatchObject({ ok: true })
    expect(await admit({ lasts: 5000 })).toMatchObject({ ok: true })
    expect(await admit()).toMatchObject({ ok: false, reason: 'running', limit: 2 })
    await store.execute(settleOf(first))
    expect(await admit({ lasts: 5000 })).toMatchObject({ ok: true })
    expect(await admit({ now: NOON + 5000 })).toMatchObject({ ok: false, reason: 'running' })
    expect(await admit({ now: NOON + 5001 })).toMatchObject({ ok: true })
  })

  test('stored limits of everyone take the place of those of the environment', async () => {
    const { admit, settings } = await start()
    const everyone = { total: { tokensPerDay: 100 } }
    expect(await admit({ everyone })).toMatchObject({ ok: true })
    expect(await admit({ everyone })).toMatchObject({ ok: false, of: 'everyone', limit: 100 })
    await settings({ globalLimits: { total: { tokensPerDay: 300 } } })
    expect(await admit({ everyone })).toMatchObject({ ok: true })
    await settings({ globalLimits: {} })
    expect(await admit({ everyone, reserved: 700 })).toMatchObject({ ok: true })
    await settings({}, { globalLimits: 1 })
    expect(await admit({ everyone })).toMatchObject({ ok: false, limit: 100 })
  })

  test('a reset leaves the reservations of running requests, in one window or in all; days stay', async () => {
    const { store, admit, reset } = await start()
    const limits = { model: { tokensPerMinute: 1e6, ...DAILY } }
    const running = admitOf({ id: 'running', limits })
    await store.execute(running)
    const ended = admitOf({ id: 'ended', limits })
    await store.execute(ended)
    await store.execute(settleOf(ended, { charged: 15 }))
    await reset('minute')
    const { windows, models } = (await userOf(store)).usage
    expect([windows.minute?.tokens, windows.day?.tokens]).toEqual([100, 115])
    expect(models['a/one']?.windows.minute?.tokens).toBe(100)
    await reset()
    const after = (await userOf(store)).usage
    expect(after.windows.day).toMatchObject({ requests: 1, tokens: 100 })
    expect(await rowOf(store)).toMatchObject({ requests: 2, charged: 115 })
    await store.execute(settleOf(running, { charged: 40 }))
    expect((await userOf(store)).usage.windows.day).toMatchObject({ requests: 1, tokens: 40 })
    expect(await admit()).toMatchObject({ ok: true })
  })

  test('callers who are not verified have a part of the limits of everyone together, and others the rest', async () => {
    const { admit } = await start()
    const everyone = { total: { tokensPerDay: 1000 } }
    const ask = (user: string, unverified?: number) =>
      admit({ user, everyone, ...(unverified !== undefined && { unverified }) })
    for (const user of ['a', 'b', 'c']) expect(await ask(user, 30)).toMatchObject({ ok: true })
    expect(await ask('d', 30)).toMatchObject({ ok: false, of: 'unverified', limit: 300, used: 300 })
    for (let n = 0; n < 7; n += 1) expect(await ask('known')).toMatchObject({ ok: true })
    expect(await ask('known')).toMatchObject({ ok: false, of: 'everyone', limit: 1000 })
  })

  test('what a request of a caller who is not verified did not use is given back to all of them', async () => {
    const { store, admit } = await start()
    const everyone = { total: { tokensPerDay: 1000 } }
    const request = admitOf({ id: 'x', reserved: 300, everyone, unverified: 30 })
    await store.execute(request)
    await store.execute({ ...settleOf(request, { charged: 10 }), unverified: 1 })
    expect(await admit({ user: 'b', reserved: 290, everyone, unverified: 30 })).toMatchObject({
      ok: true,
    })
  })

  test('a user is found by each word of a label, from a token or from an admin', async () => {
    const { store, admit, profile } = await start()
    const found = async (prefix: string) =>
      (await store.searchLabels(prefix, 10)).map(({ usage }) => usage.id).sort()
    const label = (text: string) => ({ label: text, words: labelWords(text) })
    await profile(label('Émile du Châtelet'))
    await admit({ user: 'bob', claims: { issuedAt: NOON, ...label('Bob Émond') } })
    expect(await found('ém')).toEqual(['alice', 'bob'])
    expect(await found('chat')).toEqual([])
    expect(await found('châ')).toEqual(['alice'])
    await admit({ user: 'bob', claims: { issuedAt: NOON, ...label('Robert') } })
    expect([await found('bob'), await found('rob')]).toEqual([[], ['bob']])
    await profile({}, ['label', 'words'])
    expect(await found('ém')).toEqual([])
    await store.execute({ op: 'erase', now: NOON, user: 'bob' })
    expect(await found('rob')).toEqual([])
  })

  test('profiles are listed page by page; one that has only blocks is not', async () => {
    const { store, profile } = await start()
    for (const user of ['c', 'a', 'b']) await profile({ note: user }, [], user)
    const block = { at: NOON, until: NOON + DAY_MS }
    await store.execute({ op: 'block', now: NOON, user: 'd', model: '*', block })
    const first = await store.listProfiles(2)
    expect(first.profiles.map(({ id }) => id)).toEqual(['a', 'b'])
    const second = await store.listProfiles(2, first.next)
    expect(second.profiles.map(({ id }) => id)).toEqual(['c'])
    await profile({}, ['note'], 'b')
    expect((await store.listProfiles(9)).profiles.map(({ id }) => id)).toEqual(['a', 'c'])
  })

  test('ids are found by their beginning, the latest active user first', async () => {
    const { store, admit } = await start()
    const users = ['abc-1', 'abd-2', 'abc-3', 'xabc']
    for (const [n, user] of users.entries()) await admit({ user, now: NOON + n * DAY_MS })
    expect(await store.searchIds('abc', 9)).toEqual(['abc-3', 'abc-1'])
    expect(await store.searchIds('abc', 1)).toEqual(['abc-3'])
    expect(await store.searchIds('b', 9)).toEqual([])
  })

  test('several users are read at once, in the order asked for, without those that nobody knows', async () => {
    const { store, admit, profile } = await start()
    await admit({ user: 'ann' })
    await profile({ label: 'Bob' }, [], 'bob')
    const users = await store.users(['bob', 'nobody', 'ann'])
    expect(users.map(({ profile: { id, label } }) => [id, label])).toEqual([
      ['bob', 'Bob'],
      ['ann', undefined],
    ])
    expect(await store.users([])).toEqual([])
  })

  test('an erased user has no keys, no plan and no label any more', async () => {
    const { store, admit, profile, key: setKey } = await start()
    await profile({ plan: 'pro', note: 'x' })
    await setKey('k1', { action: 'create', key: key() })
    await store.execute({ op: 'erase', now: NOON, user: 'alice' })
    expect(await store.user('alice')).toBeUndefined()
    expect(await admit({ key: { id: 'k1', hash: 'first' } })).toMatchObject({ why: 'unknown' })
    expect((await store.listProfiles(9)).profiles).toEqual([])
  })

  test('each change is in the audit trail, with what was changed and no secret', async () => {
    const { store, plan, profile, settings, key: setKey, reset } = await start()
    await plan('pro', { limits: {} })
    await profile({ plan: 'pro', limits: {} }, ['note'])
    await settings({ defaultPlan: 'pro' })
    await setKey('k1', { action: 'create', key: key() })
    await reset('day')
    const trail = await store.audit(10)
    expect(trail.map(({ action, user, what }) => [action, user, what])).toEqual([
      ['reset', 'alice', 'day'],
      ['create key', 'alice', 'k1'],
      ['settings', undefined, 'defaultPlan'],
      ['user', 'alice', 'limits note plan'],
      ['plan', undefined, 'pro'],
    ])
    expect(JSON.stringify(trail)).not.toContain('first')
  })

  test('however limits change in between, no request is granted beyond those in force', async () => {
    const change = fc.record({
      plan: fc.option(fc.integer({ min: 0, max: 900 })),
      own: fc.option(fc.integer({ min: 0, max: 900 })),
      boost: fc.option(fc.integer({ min: 0, max: 300 })),
    })
    const step = fc.oneof(
      fc.record({ kind: fc.constant('ask' as const), tokens: fc.integer({ min: 1, max: 200 }) }),
      fc.record({ kind: fc.constant('change' as const), change }),
      fc.record({ kind: fc.constant('reset' as const) }),
    )
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 30 }), async (steps) => {
        const store = await open()
        const user = `u${Math.random()}`
        const { plan, profile } = helpers(store)
        let [limit, used] = [1000, 0]
        let ids = 0
        for (const one of steps) {
          if (one.kind === 'reset') {
            // All of its requests still run, so nothing is given back.
            await store.execute({ op: 'reset', now: NOON, user })
          } else if (one.kind === 'change') {
            const { change: to } = one
            await (to.plan === null
              ? plan('p')
              : plan('p', { limits: { '*': { tokensPerDay: to.plan } } }))
            const limits: StoredRows = to.own === null ? {} : { '*': { tokensPerDay: to.own } }
            const boost = { limits: { '*': { tokensPerDay: to.boost ?? 0 } }, until: NOON + 1 }
            await profile({ plan: 'p', limits, boost }, [], user)
            limit = (to.own ?? to.plan ?? 1000) + (to.boost ?? 0)
          } else {
            const request = admitOf({
              id: `${user}-${(ids += 1)}`,
              user,
              reserved: one.tokens,
              limits: { model: DAILY },
            })
            const answer = await store.execute({
              ...request,
              now: NOON,
              limits: { model: { tokensPerDay: 1000 } },
            })
            expect(answer.ok).toBe(used + one.tokens <= limit)
            if (answer.ok) used += one.tokens
          }
        }
      }),
      { numRuns: 15 },
    )
  })
})
