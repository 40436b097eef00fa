/** Text in the database that is not a valid document is set aside and reported, and requests continue. */
import { describe, expect, test } from 'vitest'
import type { Command } from '../../src/ledger/commands.ts'
import {
  dayKey,
  modelsKey,
  pastKey,
  profileKey,
  quotaKey,
  rowKey,
  usageKey,
} from '../../src/store/redis/keys.ts'
import { DAY_MS } from '../../src/ledger/windows.ts'
import { admitOf, NOON, settleOf } from '../support/commands.ts'
import {
  dayOf,
  enterOf,
  idsOf,
  MIDNIGHT,
  setBlock,
  spend,
  start,
  TODAY,
  usedByAll,
  usedOf,
  userOf,
} from '../support/contract.ts'
import { useDatabase } from '../support/database.ts'
import { redisStore, type Warning } from '../support/stores.ts'

const { redis, upstash } = useDatabase()

const get = async (key: string) => redis.command(['GET', key])
const put = async (key: string, text: string) => redis.command(['SET', key, text])
const asideOf = (key: string) => key.replace('weir:{2}:', 'weir:{2}:damaged:')

type Json = { [name: string]: Json }

/** Makes one change in a valid document. */
async function spoil(key: string, change: (doc: Json) => void): Promise<string> {
  const doc = JSON.parse(String(await get(key))) as Json
  change(doc)
  return JSON.stringify(doc)
}

const any = (value: unknown) => value as Json

/** A change in a model's data, which is a text inside the usage document. */
const inModel = (change: (use: Json) => void) => (doc: Json) => {
  const use = JSON.parse(String(doc['models']!['a/one'])) as Json
  change(use)
  doc['models']!['a/one'] = any(JSON.stringify(use))
}

/** Texts that are not a document of any kind. */
const NONE = [
  '',
  'not json',
  '[]',
  '"text"',
  '17',
  'null',
  '{}',
  '{"v":"2"}',
  '{"v":null}',
  '{"v":2',
]

const SPOILT: [kind: string, key: string, changes: [string, (doc: Json) => void][]][] = [
  [
    'usage',
    usageKey('alice'),
    [
      ['models that are a list', (doc) => void (doc['models'] = any(['a/one']))],
      ['models that are a text', (doc) => void (doc['models'] = any('none'))],
      ['a number as a text', inModel((use) => void (use['row']!['charged'] = any('100')))],
      [
        'a field that a row may have, as a text',
        inModel((use) => void (use['row']!['lost'] = any('1'))),
      ],
      ['a row that is a number', inModel((use) => void (use['row'] = any(5)))],
      ['a row that is a list', inModel((use) => void (use['row'] = any([1])))],
      [
        'a counter of a model that is a text',
        inModel((use) => void (use['windows'] = any('day:1:2:x:4'))),
      ],
      ['a model that is a number', (doc) => void (doc['models']!['a/one'] = any(5))],
      ['a model that is no JSON', (doc) => void (doc['models']!['a/one'] = any('{"row":'))],
      ['a model that is a list', (doc) => void (doc['models']!['a/one'] = any('[1]'))],
      [
        'a lease with a text as its time',
        (doc) => void (doc['leases']!['0']!['until'] = any('noon')),
      ],
      [
        'a lease with windows as a text',
        (doc) => void (doc['leases']!['0']!['windows'] = any('day')),
      ],
      ['a window that is a number', (doc) => void (doc['windows'] = any({ day: 5 }))],
      [
        'a counter that is a text',
        (doc) => void (doc['windows'] = any({ day: { start: 1, tokens: '100' } })),
      ],
      ['a last activity as a text', (doc) => void (doc['seen'] = any('noon'))],
      ['an address that is a number', (doc) => void (doc['ip'] = any(7))],
      ['a number that nobody can write', (doc) => void (doc['at'] = any(1e16))],
      ['an id that is a number', (doc) => void (doc['id'] = any(7))],
    ],
  ],
  [
    'profile',
    profileKey('alice'),
    [
      [
        'a block until a text',
        (doc) => void (doc['blocks'] = any({ x: { at: 1, until: 'noon' } })),
      ],
      ['a block that is a text', (doc) => void (doc['blocks'] = any({ x: 'yes' }))],
      ['blocks that are a list', (doc) => void (doc['blocks'] = any(['x']))],
    ],
  ],
  [
    'quota',
    quotaKey('*'),
    [
      ['a time that is a text', (doc) => void (doc['at'] = any('noon'))],
      ['windows that are a list', (doc) => void (doc['windows'] = any([1]))],
    ],
  ],
  [
    'quota of a model',
    quotaKey('a/one'),
    [['a text that is not windows', (doc) => void (doc['windows'] = any('day:1:2'))]],
  ],
  [
    'day that goes on',
    dayKey(TODAY),
    [
      ['a charge that is a text', (doc) => void (doc['total']!['charged'] = any('15'))],
      ['an hour that is a text', (doc) => void (doc['total']!['hours'] = any({ 12: 'x' }))],
      ['a model that is a number', (doc) => void (doc['models'] = any({ 'a/one': 5 }))],
    ],
  ],
  [
    'row',
    rowKey(TODAY, 'a/one'),
    [['users that are a text', (doc) => void (doc['users'] = any('1'))]],
  ],
]

/** Creates one request that ended yesterday, one that ended today, one that is running, and a block. */
async function fill(warnings: Warning[] = []) {
  const store = redisStore(upstash, { warnings })
  await spend(store, { id: 'y', now: NOON - DAY_MS })
  await spend(store, { id: 'x' })
  await start(store, { id: '0' })
  await setBlock(store, 'x', { at: NOON })
  return store
}

describe.each(SPOILT)('a damaged %s', (_, key, changes) => {
  test('is set aside and reported once, and requests continue', async () => {
    const warnings: Warning[] = []
    const store = await fill(warnings)
    const texts: [string, string][] = NONE.map((text) => [text, text])
    for (const [name, change] of changes) texts.push([name, await spoil(key, change)])
    for (const [n, [name, text]] of texts.entries()) {
      warnings.length = 0
      await put(key, text)
      const admit = admitOf({ id: `${n + 1}`, ip: '192.0.2.1' })
      expect(await store.execute(admit), name).toMatchObject({ ok: true })
      // A new session, so that the request also changes the day.
      const end = settleOf(admit, { session: `${n}` })
      expect(await store.execute(end), name).toEqual({ applied: true })
      expect(await get(asideOf(key)), name).toBe(text)
      expect(warnings, name).toEqual([
        { event: 'store.damaged', fields: { keys: [key], setAside: 'weir:{2}:damaged:' } },
      ])
      expect(await redis.command(['TTL', asideOf(key)])).toBeGreaterThan(29 * 86_400)
    }
  })

  test('loses no data of other documents', async () => {
    const store = await fill()
    await put(key, 'not json')
    await spend(store, { id: '1' })
    if (!key.includes('usage')) {
      expect((await userOf(store)).usage.models['a/one']?.row).toMatchObject({
        requests: 3,
        exact: 2,
      })
    }
    if (!key.includes('profile')) {
      expect((await userOf(store)).profile.blocks).toEqual({ x: { at: NOON } })
    }
    if (!key.includes('day')) {
      const rows = { requests: 2, exact: 2, charged: 30 }
      expect(await dayOf(store)).toMatchObject({ total: rows, models: { 'a/one': rows } })
    }
    if (!key.includes('quota')) expect(await usedByAll(store)).toEqual([3, 130])
  })
})

test('after a damaged usage document a used-up limit is free again, and the past stays', async () => {
  const store = await fill()
  await put(usageKey('alice'), 'not json')
  expect(usedOf(await store.execute(admitOf({ id: '1' })))).toEqual([1, 100])
  expect(Object.keys((await userOf(store)).past.days)).toEqual(['2026-11-21'])
})

test('a damaged past is set aside when a day moves to it', async () => {
  const warnings: Warning[] = []
  const store = await fill(warnings)
  for (const [n, text] of [
    'not json',
    '{"v":2,"days":{"2026-11-20":{"a":{"requests":"1"}}}}',
  ].entries()) {
    warnings.length = 0
    await put(pastKey('alice'), text)
    await start(store, { id: `${n}-`, now: MIDNIGHT + n * DAY_MS })
    expect(await get(asideOf(pastKey('alice')))).toBe(text)
    expect(warnings).toMatchObject([{ fields: { keys: [pastKey('alice')] } }])
    expect(Object.keys((await userOf(store)).past.days)).toHaveLength(1)
  }
})

test('a damaged day that has ended is set aside, and late settlements start a new document', async () => {
  const warnings: Warning[] = []
  const store = await fill(warnings)
  await start(store, { id: 'next', user: 'bob', now: MIDNIGHT })
  await put(dayKey(TODAY), '{"v":2,"models":{"a/one":{"charged":"15"}}}')
  expect(await store.execute(settleOf(admitOf({ id: '0' }), {}, MIDNIGHT))).toEqual({
    applied: true,
  })
  expect(warnings).toMatchObject([{ fields: { keys: [dayKey(TODAY)] } }])
  const day = await dayOf(store)
  expect(day).toMatchObject({ total: { requests: 1 }, models: { 'a/one': { requests: 1 } } })
})

test('the damaged model names of a day are set aside when they are needed, and new models are named', async () => {
  const warnings: Warning[] = []
  const store = await fill(warnings)
  await put(modelsKey(TODAY), 'not json')
  await spend(store, { id: '1', model: 'b/two' })
  expect(await get(asideOf(modelsKey(TODAY)))).toBe('not json')
  expect(warnings).toMatchObject([{ fields: { keys: [modelsKey(TODAY)] } }])
  expect((await dayOf(store))?.models).toMatchObject({ 'b/two': { requests: 1 } })
})

test('a batch sets aside each damaged document once, and answers each command', async () => {
  const warnings: Warning[] = []
  const store = await fill(warnings)
  const keys = [usageKey('alice'), quotaKey('*'), rowKey(TODAY, 'a/one')]
  for (const key of keys) await put(key, 'not json')
  const entries = [enterOf({ id: 'e1' }), enterOf({ id: 'e2' }), settleOf(admitOf({ id: '0' }))]
  expect(await store.replay(entries)).toEqual([
    { applied: true },
    { applied: true },
    // Its lease was in the damaged text.
    { applied: false },
  ])
  const [first, ...more] = warnings
  expect((first!.fields['keys'] as string[]).toSorted()).toEqual(keys.toSorted())
  expect(more).toEqual([])
})

test('a new block for a user with a damaged profile is in force, and the old profile is set aside', async () => {
  const warnings: Warning[] = []
  const store = await fill(warnings)
  await put(profileKey('alice'), '{"v":2,"blocks":17}')
  const block: Command = {
    op: 'block',
    now: NOON,
    user: 'alice',
    model: '*',
    block: { at: NOON },
  }
  await store.execute(block)
  expect((await userOf(store)).profile.blocks).toEqual({ '*': { at: NOON } })
  expect(warnings).toMatchObject([{ fields: { keys: [profileKey('alice')] } }])
})

test('a list leaves out unreadable documents, reports them, and changes nothing', async () => {
  const warnings: Warning[] = []
  const store = redisStore(upstash, { warnings })
  await spend(store, { id: '1' })
  await spend(store, { id: '2', user: 'bob' })
  await put(usageKey('alice'), 'not json')
  await put(dayKey(TODAY), '[]')
  await redis.command(['LPUSH', 'weir:{2}:events', 'null'])
  await redis.command(['LPUSH', 'weir:{2}:audit', '"x"'])
  expect(await idsOf(store)).toEqual(['bob'])
  expect(await store.days([TODAY])).toEqual([])
  expect(await store.events(9)).toHaveLength(2)
  expect(await store.audit(9)).toEqual([])
  expect(warnings.map(({ event, fields }) => [event, fields['key']])).toEqual([
    ['store.unreadable', usageKey('alice')],
    ['store.unreadable', dayKey(TODAY)],
    ['store.unreadable', 'weir:{2}:events'],
    ['store.unreadable', 'weir:{2}:audit'],
  ])
  expect(await get(usageKey('alice'))).toBe('not json')
  expect(await redis.command(['EXISTS', asideOf(usageKey('alice'))])).toBe(0)
})
