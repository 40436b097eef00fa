import fc from 'fast-check'
import { expect, test } from 'vitest'
import { createLog } from '../src/log.ts'
import { withFallback, type FallbackStore } from '../src/store/fallback.ts'
import { createMemory } from '../src/store/memory.ts'
import { memoryQueue } from '../src/store/queue.ts'
import {
  CommandError,
  StoreError,
  type Entry,
  type Retention,
  type Store,
} from '../src/store/store.ts'
import {
  DAY_MS,
  SECOND_MS,
  type Admit,
  type Command,
  type Limits,
  type Refusal,
} from '../src/usage/record.ts'
import { admitOf, AMPLE, NOON, settleOf } from './commands.ts'
import { reducerState } from './state.ts'

const RETENTION: Retention = { userDays: 7, historyDays: 90, eventsKept: 10_000 }

/** What happens to a call: it works, never arrives, loses its answer, or arrives after all when nobody waits any more. */
type Fate = 'works' | 'never arrives' | 'loses its answer' | 'arrives late'

/** A store that keeps its state like any other, and whose calls meet the fate that stands in `fate`. */
function world(mode: 'open' | 'closed' = 'open') {
  const state = reducerState(RETENTION)
  const ids: string[] = []
  const delayed: (() => void)[] = []
  const lines: Record<string, unknown>[] = []
  const here = { fate: 'works' as Fate, now: NOON, calls: 0, hangs: false }

  async function meet<T>(work: () => T): Promise<T> {
    here.calls += 1
    if (here.hangs) return new Promise(() => undefined)
    if (here.fate === 'works') return work()
    if (here.fate === 'loses its answer') work()
    if (here.fate === 'arrives late') delayed.push(work)
    throw new StoreError('the database call failed')
  }
  const run = (command: Command) => {
    const answer = state.do(command)
    if ('applied' in answer && answer.applied && 'event' in command) ids.push(command.event.id)
    return answer
  }
  const verb = (command: Command) => meet(() => run(command)) as Promise<never>
  const unused = () => Promise.reject(new Error('not asked for'))
  const store: Store = {
    admit: verb,
    settle: verb,
    setBlock: verb,
    clear: verb,
    replay: (entries: Entry[]) => meet(() => entries.map((entry) => run(entry) as never)),
    listUsers: () => meet(() => ({ users: [...state.users.values()] })),
    blockedUsers: unused,
    overview: unused,
    takeTurn: unused,
    days: unused,
    report: verb,
    erase: verb,
    login: verb,
    logout: verb,
    note: verb,
    session: unused,
    user: unused,
    audit: unused,
    events: unused,
    probe: () => meet(() => undefined),
  }
  const log = createLog({
    level: 'info',
    format: 'json',
    write: (line) => lines.push(JSON.parse(line) as Record<string, unknown>),
  })
  const fallback: FallbackStore = withFallback({
    store,
    mode,
    queue: memoryQueue(log),
    retention: RETENTION,
    connected: 'connected',
    now: () => here.now,
    log,
  })
  const logged = (msg: string) => lines.filter((line) => line.msg === msg)
  return { here, store, state, ids, delayed, fallback, lines, logged }
}

type World = ReturnType<typeof world>

/** Three calls that fail. */
async function goAway({ here, fallback }: World, fate: Fate = 'never arrives'): Promise<void> {
  here.fate = fate
  for (let n = 0; n < 3; n += 1) {
    await fallback.listUsers({ sort: 'tokens', limit: 1, now: here.now }).catch(() => undefined)
  }
  expect(fallback.health().degraded).toBe(true)
}

/** The store is well again, and enough time goes by. */
async function comeBack({ here, fallback }: World): Promise<void> {
  here.fate = 'works'
  for (let n = 0; n < 5; n += 1) {
    here.now += 6 * SECOND_MS
    await fallback.tend()
  }
}

test('three calls that fail in a row open the breaker, and then no call waits for the store', async () => {
  const it = world()
  await goAway(it)
  const { calls } = it.here
  it.here.hangs = true
  expect(await it.fallback.admit(admitOf({ id: '1' }))).toMatchObject({ ok: true, degraded: true })
  await expect(
    it.fallback.setBlock({ op: 'block', now: NOON, user: 'bob', model: '*' }),
  ).rejects.toThrow(StoreError)
  expect(it.here.calls).toBe(calls)
  expect(it.logged('store.down')).toHaveLength(1)
})

test('failures with successes between them do not open the breaker', async () => {
  const it = world()
  for (const fate of ['never arrives', 'never arrives', 'works', 'never arrives'] as const) {
    it.here.fate = fate
    await it.fallback.listUsers({ sort: 'tokens', limit: 1, now: NOON }).catch(() => undefined)
  }
  expect(it.fallback.health()).toEqual({ degraded: false, queued: 0 })
})

test('commands that shared a call and failed with it are one failure', async () => {
  const it = world()
  const lost = new StoreError('the database call failed')
  it.store.admit = () => Promise.reject(lost)
  for (let n = 0; n < 5; n += 1) await it.fallback.admit(admitOf({ id: `${n}` }))
  expect(it.fallback.health().degraded).toBe(false)
})

test('what fails of before the store came back does not send it away again', async () => {
  const it = world()
  const late: ((error: Error) => void)[] = []
  it.store.admit = () => new Promise((_, reject) => late.push(reject))
  const waiting = ['1', '2', '3'].map((id) => it.fallback.admit(admitOf({ id })))
  await goAway(it)
  await comeBack(it)
  for (const reject of late) reject(new StoreError('the database call failed'))
  await Promise.all(waiting)
  expect(it.fallback.health().degraded).toBe(false)
})

test('a command that the store cannot run says nothing about the store', async () => {
  const it = world()
  it.store.admit = () => Promise.reject(new CommandError('no'))
  for (let n = 0; n < 5; n += 1) {
    await expect(it.fallback.admit(admitOf({ id: `${n}` }))).rejects.toThrow(CommandError)
  }
  expect(it.fallback.health().degraded).toBe(false)
  expect(it.fallback.isUnacknowledged('0')).toBe(false)
})

test('the store is tried again with waits that double to five seconds', async () => {
  const it = world()
  await goAway(it)
  const tries: number[] = []
  for (let ms = 0; ms <= 30_000; ms += 50) {
    it.here.now = NOON + ms
    const work = it.fallback.tend()
    if (work) tries.push(ms)
    await work
  }
  expect(tries).toEqual([250, 750, 1750, 3750, 7750, 12_750, 17_750, 22_750, 27_750])
})

test('a try that its request took along does not keep others from trying', async () => {
  const it = world()
  await goAway(it)
  it.here.hangs = true
  it.here.now += SECOND_MS
  expect(it.fallback.tend()).toBeInstanceOf(Promise)
  expect(it.fallback.tend()).toBeUndefined()
  it.here.hangs = false
  it.here.now += 13 * SECOND_MS
  it.here.fate = 'works'
  await it.fallback.tend()
  expect(it.fallback.health().degraded).toBe(false)
})

test('what was served while the store was away is counted when it is back', async () => {
  const it = world()
  await goAway(it)
  const admit = admitOf({ id: '1', global: { total: AMPLE } })
  await it.fallback.admit(admit)
  expect(await it.fallback.settle(settleOf(admit))).toEqual({ applied: false, queued: true })
  expect(it.fallback.health()).toEqual({ degraded: true, queued: 1 })
  await comeBack(it)
  expect(it.fallback.health()).toEqual({ degraded: false, queued: 0 })
  const [day] = it.state.days.values()
  expect(day).toMatchObject({
    total: { requests: 1, charged: 15 },
    quota: { '*': { tokens: 15, requests: 1 } },
  })
  expect(it.logged('store.up')).toHaveLength(1)
  expect(it.logged('usage.replayed')).toMatchObject([{ events: 1 }])
})

test('what waits is told in the log as it would be replayed from there', async () => {
  const it = world()
  const sure = admitOf({ id: '1' })
  await it.fallback.admit(sure)
  await goAway(it)
  const unsure = admitOf({ id: '2', global: { total: AMPLE, model: AMPLE } })
  await it.fallback.admit(unsure)
  for (const admit of [sure, unsure]) await it.fallback.settle(settleOf(admit))
  expect(it.logged('usage.unrecorded')).toMatchObject([
    { op: 'settle', usage: settleOf(sure).event },
    { op: 'enter', usage: settleOf(unsure).event, scopes: ['*', 'a/one'] },
  ])
})

test('while the store is away the blocks it told of are kept, and lifted when they end', async () => {
  const it = world()
  const block = { at: NOON, reason: 'spam', until: NOON + 60 * SECOND_MS }
  await it.store.setBlock({ op: 'block', now: NOON, user: 'alice', model: '*', block })
  const refusal = { ok: false, reason: 'blocked', model: '*', why: 'spam', until: block.until }
  expect(await it.fallback.admit(admitOf({ id: '1' }))).toEqual(refusal)
  await goAway(it)
  const again = await it.fallback.admit(admitOf({ id: '2', now: NOON + SECOND_MS }))
  expect(again).toEqual({ ...refusal, degraded: true })
  const later = admitOf({ id: '3', now: block.until })
  expect(await it.fallback.admit(later)).toMatchObject({ ok: true, degraded: true })
})

test('a block that the store has lifted is forgotten', async () => {
  const it = world()
  const block = { op: 'block', now: NOON, user: 'alice', model: 'a/one' } as const
  await it.store.setBlock({ ...block, block: { at: NOON } })
  await it.fallback.admit(admitOf({ id: '1' }))
  await it.store.setBlock(block)
  await it.fallback.admit(admitOf({ id: '2' }))
  await goAway(it)
  expect(await it.fallback.admit(admitOf({ id: '3' }))).toMatchObject({ ok: true })
})

test('a block that was set or lifted through this isolate is known to it at once', async () => {
  const it = world()
  const block = { op: 'block', now: NOON, user: 'alice', model: '*' } as const
  await it.fallback.setBlock({ ...block, block: { at: NOON, reason: 'spam' } })
  await it.fallback.setBlock({ ...block, user: 'bob', block: { at: NOON } })
  await it.fallback.setBlock({ ...block, user: 'bob' })
  await goAway(it)
  const refusal = { ok: false, reason: 'blocked', why: 'spam', degraded: true }
  expect(await it.fallback.admit(admitOf({ id: '1' }))).toMatchObject(refusal)
  expect(await it.fallback.admit(admitOf({ id: '2', user: 'bob' }))).toMatchObject({ ok: true })
})

test('a block that could not be set is not remembered', async () => {
  const it = world()
  it.here.fate = 'never arrives'
  const block = { op: 'block', now: NOON, user: 'alice', model: '*', block: { at: NOON } } as const
  await expect(it.fallback.setBlock(block)).rejects.toThrow(StoreError)
  await goAway(it)
  expect(await it.fallback.admit(admitOf({ id: '1' }))).toMatchObject({ ok: true })
})

test('lifting blocks of users who are not remembered makes nobody forgotten', async () => {
  const it = world()
  const block = { op: 'block', now: NOON, user: 'alice', model: '*' } as const
  await it.fallback.setBlock({ ...block, block: { at: NOON } })
  for (let n = 0; n < 1000; n += 1) await it.fallback.setBlock({ ...block, user: `user-${n}` })
  await goAway(it)
  expect(await it.fallback.admit(admitOf({ id: '1' }))).toMatchObject({ reason: 'blocked' })
})

test('while the store is away users go on from what it last said they had used', async () => {
  const it = world()
  const limits: { model: Limits } = { model: { tokensPerDay: 350, requestsPerDay: 10 } }
  const first = admitOf({ id: '1', limits, bound: 100 })
  await it.fallback.admit(first)
  await it.fallback.settle(settleOf(first))
  await it.fallback.admit(admitOf({ id: '2', limits, bound: 100 }))
  await goAway(it)
  const third = await it.fallback.admit(admitOf({ id: '3', limits, bound: 200 }))
  expect(third).toMatchObject({ ok: true, day: { tokens: 315, requests: 3 } })
  const fourth = await it.fallback.admit(admitOf({ id: '4', limits, bound: 100 }))
  expect(fourth).toMatchObject({ ok: false, unit: 'tokens', used: 315, degraded: true })
  expect(it.fallback.isUnacknowledged('4')).toBe(false)
})

test('a user whom the store refused is refused while it is away', async () => {
  const it = world()
  const limits: { model: Limits } = { model: { tokensPerDay: 150, requestsPerDay: 10 } }
  const other = admitOf({ id: '1', limits, bound: 100 })
  await it.store.admit(other)
  expect(await it.fallback.admit(admitOf({ id: '2', limits, bound: 100 }))).toMatchObject({
    ok: false,
  })
  await goAway(it)
  const again = await it.fallback.admit(admitOf({ id: '3', limits, bound: 100 }))
  expect(again).toMatchObject({ ok: false, used: 100, degraded: true })
})

/** A memory by itself, with which a request meets what was learnt. */
function remembered() {
  const memory = createMemory({ userDays: 7 })
  const ask = (fields: Partial<Admit> = {}) =>
    memory.run(admitOf({ id: crypto.randomUUID(), ...fields }))
  return { ...memory, ask }
}

test('what the store answered is what is counted on, per model, in the day and in the minute', () => {
  const { learn, ask } = remembered()
  const told = { ok: true, at: NOON, day: { tokens: 900, requests: 7 } } as const
  learn(admitOf({ id: '1' }), { ...told, minute: { tokens: 400, requests: 3 } })
  const [day, minute] = [
    { tokens: 50, requests: 2 },
    { tokens: 20, requests: 1 },
  ]
  learn(admitOf({ id: '2', model: 'b/two' }), { ok: true, at: NOON + 1000, day, minute })
  const limits = { model: { ...AMPLE, tokensPerMinute: 500 } }
  expect(ask({ bound: 101, limits })).toMatchObject({ ok: false, per: 'minute', used: 400 })
  expect(ask({ bound: 100, limits })).toEqual({
    ok: true,
    at: NOON + 1000,
    day: { tokens: 1000, requests: 8 },
    minute: { tokens: 500, requests: 4 },
  })
  expect(ask({ model: 'b/two' })).toMatchObject({ day: { tokens: 150, requests: 3 } })
  expect(ask({ user: 'bob' })).toMatchObject({ day: { tokens: 100, requests: 1 } })
  expect(ask({ user: 'bob' })).toMatchObject({ day: { tokens: 200, requests: 2 } })
})

const DAY_LIMIT = { ok: false, reason: 'limit', of: 'user', model: 'a/one', per: 'day' } as const
const REST = { limit: 200, asked: 100, resetAt: NOON + DAY_MS }

test('a refusal tells what is used of the day, and nothing of the other unit', () => {
  const { learn, ask } = remembered()
  const admit = admitOf({ id: '1' })
  const day = { tokens: 100, requests: 5 }
  learn(admit, { ok: true, at: NOON, day, minute: day })
  learn(admit, { ...DAY_LIMIT, ...REST, unit: 'tokens', used: 150 })
  expect(ask()).toMatchObject({ day: { tokens: 250, requests: 6 } })
  learn(admit, { ...DAY_LIMIT, ...REST, unit: 'requests', used: 9 })
  expect(ask()).toMatchObject({ day: { tokens: 350, requests: 10 } })
  learn(admitOf({ id: '2', user: 'bob' }), { ...DAY_LIMIT, ...REST, unit: 'requests', used: 9 })
  expect(ask({ user: 'bob' })).toMatchObject({ day: { tokens: 100, requests: 10 } })
})

test.each<[string, Refusal]>([
  ['a minute', { ...DAY_LIMIT, ...REST, unit: 'tokens', used: 150, per: 'minute' }],
  ['everyone', { ...DAY_LIMIT, ...REST, unit: 'tokens', used: 150, of: 'everyone' }],
  ['all models', { ...DAY_LIMIT, ...REST, unit: 'tokens', used: 150, model: '*' }],
  ['a model too many', { ok: false, reason: 'models' }],
])("a refusal for the sake of %s tells nothing of a model's day", (_, refusal) => {
  const { learn, ask } = remembered()
  learn(admitOf({ id: '1' }), refusal)
  expect(ask()).toMatchObject({ ok: true, day: { tokens: 100, requests: 1 } })
})

test('an answer shows that the block of its model is lifted, and that of all, but no other', () => {
  const { learn, ask } = remembered()
  const count = { tokens: 100, requests: 1 }
  for (const model of ['a/one', 'b/two', '*']) {
    learn(admitOf({ id: '1' }), { ok: false, reason: 'blocked', model, why: `of ${model}` })
  }
  expect(ask()).toEqual({ ok: false, reason: 'blocked', model: '*', why: 'of *' })
  learn(admitOf({ id: '1' }), { ok: true, at: NOON, day: count, minute: count })
  expect(ask()).toMatchObject({ ok: true })
  expect(ask({ model: 'b/two' })).toMatchObject({ reason: 'blocked', why: 'of b/two' })
})

test('of more than a thousand users the one heard of longest ago is forgotten, and who was erased', () => {
  const { learn, forget, ask } = remembered()
  const block = (user: string) =>
    learn(admitOf({ id: '1', user }), { ok: false, reason: 'blocked', model: '*' })
  const isBlocked = (user: string) => 'reason' in ask({ user })
  for (let n = 0; n < 1000; n += 1) block(`${n}`)
  block('0')
  block('another')
  expect(['0', '2', 'another', '1'].map(isBlocked)).toEqual([true, true, true, false])
  forget('0')
  expect(isBlocked('0')).toBe(false)
})

test("everyone's day is remembered while a clock may still be behind, for two days", () => {
  const { ask } = remembered()
  const global = { total: { tokensPerDay: 150, requestsPerDay: 10 } }
  const later = (days: number) => ask({ user: `after ${days}`, now: NOON + days * DAY_MS })
  expect(ask({ global })).toMatchObject({ ok: true })
  expect(ask({ user: 'bob', global })).toMatchObject({ of: 'everyone', used: 100 })
  later(2)
  expect(ask({ user: 'bob', global })).toMatchObject({ of: 'everyone', used: 100 })
  later(3)
  expect(ask({ user: 'bob', global })).toMatchObject({ ok: true })
})

test('how old an event is counts from when it is handed over, however long it waited', async () => {
  const it = world()
  await goAway(it)
  await it.fallback.admit(admitOf({ id: '1' }))
  await it.fallback.settle(settleOf(admitOf({ id: '1' })))
  it.here.now += 7 * DAY_MS
  await comeBack(it)
  expect(it.ids).toEqual([])
})

test('a process that ends hands nothing over any more, and what waits stays', async () => {
  const it = world()
  await goAway(it)
  await it.fallback.admit(admitOf({ id: '1' }))
  await it.fallback.settle(settleOf(admitOf({ id: '1' })))
  it.fallback.pause()
  await comeBack(it)
  expect(it.fallback.health().queued).toBe(1)
})

test('closed, nothing is admitted while the store is away, and what was admitted before is still settled', async () => {
  const it = world('closed')
  const admit = admitOf({ id: '1' })
  await it.fallback.admit(admit)
  await goAway(it)
  await expect(it.fallback.admit(admitOf({ id: '2' }))).rejects.toThrow(StoreError)
  expect(it.fallback.isUnacknowledged('2')).toBe(false)
  expect(await it.fallback.settle(settleOf(admit))).toMatchObject({ queued: true })
  await comeBack(it)
  expect(it.ids).toEqual(['1'])
})

test('an entry that the store cannot run does not keep others waiting', async () => {
  const it = world()
  await goAway(it)
  for (const id of ['1', '2']) {
    await it.fallback.admit(admitOf({ id }))
    await it.fallback.settle(settleOf(admitOf({ id })))
  }
  const { replay } = it.store
  it.store.replay = async (entries) => {
    const answers = await replay(entries.filter(({ event }) => event.id !== '1'))
    return [{ error: true }, ...answers]
  }
  await comeBack(it)
  expect(it.ids).toEqual(['2'])
  expect(it.fallback.health().queued).toBe(0)
  expect(it.logged('usage.refused')).toMatchObject([{ usage: { id: '1' } }])
})

const fates = fc.constantFrom<Fate>('works', 'never arrives', 'loses its answer', 'arrives late')
const steps = fc.array(
  fc.oneof(
    { arbitrary: fc.record({ kind: fc.constant('fate' as const), fate: fates }), weight: 3 },
    {
      arbitrary: fc.record({
        kind: fc.constant('start' as const),
        user: fc.constantFrom('alice', 'bob'),
        everyone: fc.boolean(),
      }),
      weight: 5,
    },
    {
      arbitrary: fc.record({
        kind: fc.constant('end' as const),
        which: fc.nat(),
        cost: fc.nat(90),
      }),
      weight: 5,
    },
    { arbitrary: fc.record({ kind: fc.constant('late' as const) }), weight: 2 },
    {
      arbitrary: fc.record({ kind: fc.constant('wait' as const), ms: fc.nat(8000) }),
      weight: 3,
    },
  ),
  { minLength: 5, maxLength: 80 },
)

test.each(['open', 'closed'] as const)(
  '%s: whatever happens to calls, in the end exactly what was served is counted, once',
  async (mode) => {
    await fc.assert(
      fc.asyncProperty(steps, async (drawn) => {
        const it = world(mode)
        const running: { admit: ReturnType<typeof admitOf>; served: boolean }[] = []
        const served = new Map<string, number>()
        const end = async (which: number, cost: number) => {
          const [request] = running.splice(which, 1)
          if (!request) return
          const { admit } = request
          const charged = request.served ? cost : 0
          const usage = request.served
            ? { charged, prompt: cost, completion: 0, total: cost }
            : ({ charged, outcome: 'failed' } as const)
          if (request.served) served.set(admit.id, cost)
          await it.fallback.settle(settleOf(admit, usage, it.here.now))
        }
        for (const [index, step] of drawn.entries()) {
          if (step.kind === 'fate') it.here.fate = step.fate
          else if (step.kind === 'wait') {
            it.here.now += step.ms
            await it.fallback.tend()
          } else if (step.kind === 'late') it.delayed.shift()?.()
          else if (step.kind === 'end') await end(step.which % (running.length || 1), step.cost)
          else {
            const { user, everyone } = step
            const global = everyone ? { global: { total: AMPLE } } : {}
            const admit = admitOf({ id: `id-${index}`, user, now: it.here.now, ...global })
            const answer = await it.fallback.admit(admit).catch(() => undefined)
            if (answer?.ok) running.push({ admit, served: true })
            else if (it.fallback.isUnacknowledged(admit.id)) running.push({ admit, served: false })
          }
        }
        while (running.length) await end(0, 7)
        await comeBack(it)
        for (const arrive of it.delayed) arrive()

        const total = [...served.values()].reduce((sum, cost) => sum + cost, 0)
        const [day] = it.state.days.values()
        expect(day?.total.charged ?? 0).toBe(total)
        expect(new Set(it.ids).size).toBe(it.ids.length)
        expect(it.ids).toEqual(expect.arrayContaining([...served.keys()]))
        for (const user of it.state.users.values()) {
          expect(user.leases).toEqual({})
          for (const row of Object.values(user.rows)) {
            expect(row.held).toBe(0)
            expect(row.requests).toBe(row.settled + row.failed)
          }
        }
        expect(it.fallback.health()).toEqual({ degraded: false, queued: 0 })
      }),
      { numRuns: 2000 },
    )
  },
  60_000,
)
