/** Documents of a newer version: a command that touches them fails completely and leaves them unchanged. */
import { readFile } from 'node:fs/promises'
import { describe, expect, test } from 'vitest'
import type { Command, Settle } from '../../src/ledger/commands.ts'
import { DAY_MS, HOUR_MS, SECOND_MS } from '../../src/ledger/windows.ts'
import {
  dayKey,
  modelsKey,
  pastKey,
  profileKey,
  quotaKey,
  rowKey,
  usageKey,
} from '../../src/store/redis/keys.ts'
import { NewerError, StoreError, type Store } from '../../src/store/store.ts'
import { admitOf, NOON, settleOf } from '../support/commands.ts'
import {
  enterOf,
  MIDNIGHT,
  reportOf,
  rowOf,
  said,
  start,
  TODAY,
  usedByAll,
  YESTERDAY,
} from '../support/contract.ts'
import { redisStore } from '../support/stores.ts'
import { fixture, useFixtures, type Json } from '../support/versions.ts'

const { redis, upstash, warnings, remote, restore, filesOf, document, dump } = useFixtures()

describe('a document of a newer version', () => {
  const running = admitOf({ id: 'running' })
  const admit = admitOf({ id: 'n', now: NOON + SECOND_MS })
  const settle = settleOf(running)
  const late: Settle = settleOf(admitOf({ id: 'y2', model: 'b/two', now: NOON - 23 * HOUR_MS }))
  const enter = enterOf({ id: 'e' })
  const report = reportOf({ 'a/one': said(9) })
  const block: Command = {
    op: 'block',
    now: NOON,
    user: 'alice',
    model: '*',
    block: { at: NOON },
  }
  const clear: Command = { op: 'clear', now: NOON + SECOND_MS }
  const tomorrow = { ...admit, now: NOON + DAY_MS }

  /** By kind of document, the commands that fail while a newer one exists. */
  const CASES: [string, string, Command[]][] = [
    ['usage', usageKey('alice'), [admit, settle, enter, report, tomorrow, late]],
    [
      'past',
      pastKey('alice'),
      [late, tomorrow, { ...enter, ...enterOf({ id: 'e', now: NOON - DAY_MS }) }],
    ],
    ['profile', profileKey('alice'), [admit, block, report]],
    ['quota', quotaKey('*'), [admit, settle, enter, report, block, clear, tomorrow]],
    ['quota of a model', quotaKey('a/one'), [admit, settle, enter]],
    ['names of a day', modelsKey(TODAY), [enterOf({ id: 'e', model: 'd/four' }), clear]],
    ['row of a day', rowKey(TODAY, 'a/one'), [settle, enter]],
    ['day that goes on', dayKey(TODAY), [settle, enter, clear]],
    ['day', dayKey(YESTERDAY), [late]],
  ]

  /** Changes a document to version 3, with fields that this version might have. */
  async function renew(key: string): Promise<string> {
    const doc = await document(key)
    const text = JSON.stringify({ ...doc, v: 3, fresh: { a: 1 } })
    await redis.command(['SET', key, text])
    return text
  }

  test.each(CASES)(
    'fails the commands that touch it, and nothing changes: %s',
    async (_, key, all) => {
      await restore('v2')
      await renew(key)
      const before = await dump()
      for (const command of all) {
        const call =
          command.op === 'enter'
            ? remote().replay([command])
            : remote()
                .execute(command)
                .catch((error: unknown) => error)
        const result = await call
        if (command.op === 'enter') expect(result).toEqual([{ error: 'newer' }])
        else expect(result, command.op).toBeInstanceOf(NewerError)
        expect(await dump(), command.op).toEqual(before)
      }
      expect(warnings).toEqual([])
    },
  )

  test('does not fail the other commands of the same batch', async () => {
    await restore('v2')
    const text = await renew(usageKey('alice'))
    const store = redisStore(upstash, { sharing: 'calls', warnings })
    const calls = [
      admitOf({ id: '1', user: 'bob' }),
      admit,
      admitOf({ id: '2', user: 'carol', model: 'b/two' }),
    ].map((command) => store.execute(command))
    const [first, second, third] = await Promise.allSettled(calls)
    expect([first, third]).toMatchObject([{ value: { ok: true } }, { value: { ok: true } }])
    expect(second).toMatchObject({ reason: expect.any(NewerError) })
    const settles = [
      settleOf(admitOf({ id: '1', user: 'bob' })),
      settle,
      enterOf({ id: 'e', user: 'dave' }),
    ]
    expect(await store.replay(settles)).toEqual([
      { applied: true },
      { error: 'newer' },
      { applied: true },
    ])
    expect(await redis.command(['GET', usageKey('alice')])).toBe(text)
    expect(await rowOf(store, 'a/one', 'bob')).toMatchObject({ requests: 2, exact: 2 })
    // Everyone's usage includes the first two requests, but not the third.
    expect(await usedByAll(store)).toEqual([8, 443])
  })

  test('is shown as far as it can be', async () => {
    await restore('v2')
    const keys = CASES.map(([, key]) => key)
    const before = await readAll(remote())
    for (const key of keys) await renew(key)
    const dumped = await dump()
    const shown = await readAll(remote())
    const plain = (value: unknown) =>
      JSON.parse(
        JSON.stringify(value, (name, inside: unknown) => (name === 'fresh' ? undefined : inside)),
      ) as unknown
    expect(plain(shown)).toEqual(plain(before))
    expect(await dump()).toEqual(dumped)
    expect(warnings).toEqual([])
  })

  /** Everything that pages and exports read. */
  const readAll = async (store: Store) => ({
    alice: await store.user('alice'),
    days: await store.days([YESTERDAY, TODAY]),
    blocked: await store.blockedUsers(9),
    overview: await store.overview({
      dates: [YESTERDAY, TODAY],
      users: { sort: 'lastActive', limit: 9, now: NOON },
      events: 9,
    }),
  })

  test('goes with its user, who is erased whatever the version', async () => {
    await restore('v2')
    for (const key of [usageKey('alice'), pastKey('alice'), profileKey('alice')]) await renew(key)
    await remote().execute({ op: 'erase', now: NOON, user: 'alice' })
    expect(await remote().user('alice')).toBeUndefined()
  })

  test.each([
    ['row', rowKey(TODAY, 'a/one')],
    ['names', modelsKey(TODAY)],
    ['day', dayKey(TODAY)],
  ])('keeps its day from being folded, which waits for those who can: %s', async (_, key) => {
    await restore('v2')
    const text = await renew(key)
    const before = await readAll(remote())
    await start(remote(), { id: '1', user: 'zoe', now: MIDNIGHT })
    expect(await redis.command(['GET', key])).toBe(text)
    expect((await readAll(remote())).days).toEqual(before.days)
    // An instance that can read the day folds it with the first request of a later day.
    await redis.command(['SET', key, text.replace('"v":3', '"v":2')])
    await start(remote(), { id: '2', user: 'zoe', now: MIDNIGHT + DAY_MS })
    expect(await redis.command(['EXISTS', rowKey(TODAY, 'a/one'), modelsKey(TODAY)])).toBe(0)
    expect(await redis.command(['TTL', dayKey(TODAY)])).toBeGreaterThan(0)
    const [, today] = await remote().days([YESTERDAY, TODAY])
    expect(today?.models['a/one']).toMatchObject({ requests: 3, charged: 63 })
  })

  test.each<[string, (saved: Json) => void]>([
    ['the snapshot itself', (saved) => void (saved['v'] = 3)],
    ['a user in it', (saved) => void ((saved['state'] as { usage: Json[] }).usage[0]!['v'] = 3)],
  ])('keeps files from being opened, and they stay as they are: %s', async (_, change) => {
    const saved = JSON.parse(await fixture('v2/snapshot.txt')) as Json
    change(saved)
    const texts = { snapshot: JSON.stringify(saved), journal: '' }
    const { file, store } = await filesOf(texts)
    const error = await store().catch((cause: unknown) => cause)
    expect(error).toBeInstanceOf(StoreError)
    expect((error as Error).message).toContain('newer version of Weir')
    expect(await readFile(file, 'utf8')).toBe(texts.snapshot)
    expect(await readFile(`${file}.journal`, 'utf8')).toBe('')
  })
})
