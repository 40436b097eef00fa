/** A fleet of this version and the next one on one database. */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { Settle } from '../../src/ledger/commands.ts'
import type { Admitted } from '../../src/ledger/answers.ts'
import { createLog } from '../../src/log.ts'
import { withFallback } from '../../src/store/fallback/store.ts'
import { usageKey } from '../../src/store/redis/keys.ts'
import { memoryQueue } from '../../src/store/fallback/queue.ts'
import { LEDGER_SCRIPT } from '../../src/store/redis/script-files.ts'
import { NewerError } from '../../src/store/store.ts'
import { admitOf, NOON, settleOf } from '../support/commands.ts'
import {
  dayOf,
  enterOf,
  MIDNIGHT,
  rowOf,
  spend,
  start,
  TOMORROW,
  usedByAll,
} from '../support/contract.ts'
import { RETENTION } from '../support/stores.ts'
import { useFixtures } from '../support/versions.ts'

const { redis, remote, restore, document, dump } = useFixtures()

/** Replaces text in the script. Throws if a pattern does not match. */
function edited(script: string, changes: [RegExp, string][]): string {
  return changes.reduce((text, [from, to]) => {
    if (!from.test(text)) throw new Error(`The script has no ${String(from)}.`)
    return text.replace(from, to)
  }, script)
}

/** A possible next version: its usage documents have another meaning and another version number. */
const NEXT = edited(LEDGER_SCRIPT, [
  [/(\blocal VERSIONS = \{.*\busage = )2\b/, '$13'],
  [
    /local UPGRADES = \{\}/,
    `local UPGRADES = { usage = { [2] = function(doc)
      doc.upgrades = (doc.upgrades or 0) + 1
      return doc
    end } }`,
  ],
])

const versionOf = async (key: string) => (await document(key))['v']

test('the next version takes over what this one has left', async () => {
  await restore('v2')
  const next = remote(NEXT)
  expect(await next.execute(settleOf(admitOf({ id: 'running' })))).toEqual({ applied: true })
  const usage = await document(usageKey('alice'))
  expect(usage).toMatchObject({
    v: 3,
    upgrades: 1,
    models: { 'a/one': expect.stringContaining('"requests":3') as string },
  })
  await spend(next, { id: '1' })
  expect(await document(usageKey('alice'))).toMatchObject({ v: 3, upgrades: 1 })
  await spend(next, { id: '2', user: 'zoe' })
  expect(await versionOf(usageKey('zoe'))).toBe(3)
})

test('a user with documents of the next version is refused by this one, and both serve the others', async () => {
  const [old, next] = [remote(), remote(NEXT)]
  await spend(old, { id: '1' })
  await spend(old, { id: '2', user: 'bob' })
  const running = await start(old, { id: '3' })
  await spend(next, { id: '4' })
  const before = await dump()
  for (const command of [admitOf({ id: '5' }), settleOf(running)]) {
    await expect(old.execute(command)).rejects.toBeInstanceOf(NewerError)
  }
  expect(await old.replay([enterOf({ id: '6' })])).toEqual([{ error: 'newer' }])
  expect(await dump()).toEqual(before)
  await spend(old, { id: '7', user: 'bob' })
  await spend(old, { id: '8', user: 'carol' })
  // Both versions write blocks, because the block document has not changed.
  const block = {
    op: 'block',
    now: NOON,
    user: 'alice',
    model: 'x',
    block: { at: NOON },
  } as const
  expect(await old.execute(block)).toEqual({ ok: true })
  expect(await next.execute(settleOf(running))).toEqual({ applied: true })
  await spend(next, { id: '9', user: 'bob' })
  for (const store of [old, next]) {
    expect(await rowOf(store)).toMatchObject({ requests: 3, exact: 3, charged: 45 })
    expect((await dayOf(store))?.total).toMatchObject({ requests: 7, charged: 105, users: 3 })
  }
  await spend(next, { id: '10', user: 'bob', now: MIDNIGHT })
  expect((await dayOf(old))?.total).toMatchObject({ requests: 7, charged: 105 })
  expect((await dayOf(old, TOMORROW))?.total).toMatchObject({ requests: 1 })
})

test('every settlement counts exactly once after the instances of this version have been replaced', async () => {
  const USERS = ['alice', 'bob', 'carol', 'dave', 'erin', 'frank']
  const MODELS = ['a/one', 'b/two']
  const step = fc.record({
    user: fc.constantFrom(...USERS),
    model: fc.constantFrom(...MODELS),
    // The rollout is slow: most requests go to old instances, and some users never reach a new one.
    isNew: fc.integer({ min: 0, max: 4 }).map((n) => n === 0),
    charged: fc.integer({ min: 0, max: 90 }),
    /** The running request that ends after this one. */
    ends: fc.nat(20),
    endsInNew: fc.boolean(),
    twice: fc.boolean(),
  })
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 20, maxLength: 60 }), async (steps) => {
      await redis.flush()
      const log = createLog({ level: 'error', format: 'json', write: () => undefined })
      const [queues, now] = [[memoryQueue(log), memoryQueue(log)], () => NOON]
      const [old, next] = [remote(), remote(NEXT)].map((store, n) =>
        withFallback({ store, mode: 'open', queue: queues[n]!, retention: RETENTION, now, log }),
      ) as [ReturnType<typeof withFallback>, ReturnType<typeof withFallback>]
      const running: { id: string; settle: Settle }[] = []
      const ended = new Map<string, Settle>()
      let refused = 0
      for (const [n, { user, model, isNew, charged, ends, endsInNew, twice }] of steps.entries()) {
        // Only old instances serve the last two users.
        const byNew = isNew && !USERS.slice(4).includes(user)
        const admit = admitOf({ id: `${n}`, user, model })
        const answer = await (byNew ? next : old).execute(admit).catch((error: unknown) => error)
        if (answer instanceof NewerError) refused += 1
        else {
          expect(answer).toMatchObject({ ok: true })
          const usage = { charged, prompt: charged, completion: 0, total: charged }
          const { at } = answer as Admitted
          running.push({ id: admit.id, settle: settleOf({ ...admit, now: at }, usage) })
        }
        const [one] = running.splice(ends % Math.max(1, running.length), 1)
        if (!one) continue
        const where = endsInNew && !USERS.slice(4).includes(one.settle.user) ? next : old
        ended.set(one.id, one.settle)
        await where.execute(one.settle)
        if (twice) await where.execute(one.settle)
      }
      for (const { settle } of running) {
        ended.set(settle.event.id, settle)
        await old.execute(settle)
      }
      expect(queues[1]!.length).toBe(0)
      // Instances of this version try to send their queues, and lose nothing.
      const waiting = queues[0]!.length
      await old.tend()
      if (waiting > 0) expect(queues[0]!.length).toBeGreaterThan(0)
      // The old instances are replaced: their queues go to the next version.
      await queues[0]!.drain(async (entries) => {
        for (const answer of await next.replay(entries)) expect(answer).not.toHaveProperty('error')
        return []
      })
      expect(queues[0]!.length).toBe(0)
      const events = await next.events(1000)
      expect(events.map(({ id }) => id).sort()).toEqual([...ended.keys()].sort())
      expect(ended.size + refused).toBe(steps.length)
      const all = [...ended.values()].map(({ event }) => event)
      const sum = all.reduce((total, { charged }) => total + charged, 0)
      expect((await dayOf(next))?.total).toMatchObject({
        requests: all.length,
        exact: all.length,
        charged: sum,
      })
      expect(await usedByAll(next)).toEqual([all.length, sum])
      for (const user of new Set(all.map((event) => event.user))) {
        for (const model of MODELS) {
          const mine = all.filter((event) => event.user === user && event.model === model)
          expect(await rowOf(next, model, user)).toMatchObject({
            requests: mine.length,
            exact: mine.length,
            charged: mine.reduce((total, { charged }) => total + charged, 0),
            reserved: 0,
          })
        }
      }
      for (const user of USERS.slice(4)) {
        if (all.some((event) => event.user === user)) {
          expect(await versionOf(usageKey(user))).toBe(2)
        }
      }
    }),
    { numRuns: 15 },
  )
}, 60_000)
