/**
 * The old system's file, without input or output: the array is split, records become requests, and requests become a
 * state.
 */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { amounts } from '../support/amounts.ts'
import { windowsOf } from '../support/seed.ts'
import { queueOf } from '../../src/migration/chunks.ts'
import { eventOf } from '../../src/migration/old-event.ts'
import { gatherRequests, readOldRecord, type OldRequest } from '../../src/migration/old-records.ts'
import { createRebuild } from '../../src/migration/rebuild.ts'
import { splitArray } from '../../src/migration/split.ts'
import { newProfile } from '../../src/ledger/new-documents.ts'
import type { Chunk } from '../../src/store/redis/import.ts'
import type { State } from '../../src/store/local/state.ts'
import type { UserParts } from '../../src/ledger/merge.ts'
import { MAX_TOKENS } from '../../src/ledger/capacity.ts'
import type { Event } from '../../src/ledger/events.ts'
import { DAY_MS, HOUR_MS } from '../../src/ledger/windows.ts'
import { createIds } from '../../src/identity/ids.ts'
import { NOON } from '../support/commands.ts'
import { lineOf, linesOf, oldRequests, type OldLine } from '../support/old-file.ts'
import { reducerState } from '../support/state.ts'
import { RETENTION } from '../support/stores.ts'

async function* inPieces(bytes: Buffer, cuts: number[] = []): AsyncGenerator<Buffer> {
  let from = 0
  for (const cut of [...cuts.toSorted((a, b) => a - b), bytes.length]) {
    yield bytes.subarray(from, cut)
    from = cut
  }
}

async function split(text: string | Buffer, cuts?: number[]) {
  const elements = []
  for await (const { position, text: piece, value } of splitArray(
    inPieces(Buffer.from(text), cuts),
  ))
    elements.push([position, value === undefined ? String(piece) : value])
  return elements
}

describe('the array', () => {
  const json = fc.jsonValue({ maxDepth: 3 })
  const pieces = fc.array(fc.nat(), { maxLength: 8 })

  test('gives each element, with any cuts of the bytes and any white space', () =>
    fc.assert(
      fc.asyncProperty(fc.array(json), pieces, fc.nat(3), async (values, at, indent) => {
        const bytes = Buffer.from(JSON.stringify(values, null, indent))
        const cuts = at.map((cut) => cut % (bytes.length + 1))
        expect(await split(bytes, cuts)).toEqual(
          (JSON.parse(String(bytes)) as unknown[]).map((value, index) => [index + 1, value]),
        )
      }),
    ))

  test('with garbage in it gives the same, with any cuts of the bytes', () =>
    fc.assert(
      fc.asyncProperty(
        fc.array(
          fc.oneof(
            fc.constantFrom(
              '{"id":1}',
              '{ "id" : "2" }',
              '{"id":"3',
              '[',
              '"',
              '\\',
              ']',
              ',',
              '\n',
            ),
            fc.string(),
          ),
        ),
        pieces,
        async (parts, at) => {
          const bytes = Buffer.from(`[${parts.join('')}`)
          const cuts = at.map((cut) => cut % (bytes.length + 1))
          const whole = await split(bytes)
          expect(await split(bytes, cuts)).toEqual(whole)
          expect(whole.map(([position]) => position)).toEqual(whole.map((_, index) => index + 1))
        },
      ),
    ))

  test('that breaks off keeps complete elements, and the rest unchanged', async () => {
    const text = Buffer.from(JSON.stringify([lineOf(), lineOf({ id: '2' }), lineOf({ id: '3' })]))
    const third = text.lastIndexOf('{"id"')
    for (let end = third + 1; end < text.length - 2; end += 1) {
      const elements = await split(text.subarray(0, end))
      expect(elements.slice(0, 2)).toEqual([
        [1, lineOf()],
        [2, lineOf({ id: '2' })],
      ])
      expect(elements[2]).toEqual([3, String(text.subarray(third, end)).trim()])
    }
    expect(await split(text.subarray(0, -1))).toHaveLength(3)
  })

  test.each(['{"id":"2","date":"20', '{"id":"2","metadata":{"x":[', '{"id":"2" "a"', 'x"y', '{'])(
    'continues with the next record after %s',
    async (damaged) => {
      const [one, three, four] = ['1', '3', '4'].map((id) => lineOf({ id }))
      const text = [one, three, four].map((line) => JSON.stringify(line, null, 2))
      expect(await split(`[${text[0]},${damaged},${text[1]},${text[2]}]`)).toEqual([
        [1, one],
        [2, `${damaged},`],
        [3, three],
        [4, four],
      ])
    },
  )

  test('loses no data after its end, and continues after a string without an end', async () => {
    expect(await split('[1] 2')).toEqual([
      [1, 1],
      [2, 2],
    ])
    const endless = `"${'x'.repeat(3_000_000)}`
    const elements = await split(`[${endless},${JSON.stringify(lineOf())}]`)
    expect(elements.at(-1)?.[1]).toEqual(lineOf())
    expect(
      elements
        .slice(0, -1)
        .map(([, text]) => text)
        .join(''),
    ).toHaveLength(endless.length)
  })
})

const read = (fields: Record<string, unknown>) => readOldRecord({ ...lineOf(), ...fields }, NOON)

describe('an old record', () => {
  test('has its time in ms or as ISO text', () => {
    expect(read({})).toMatchObject({ timestamp: NOON, userId: 'token-of-alice', tokensUsed: 10 })
    const iso = '2026-11-22T14:00:00.000+02:00'
    expect(read({ timestamp: iso })).toMatchObject({ timestamp: NOON })
  })

  test.each<Record<string, unknown>>([
    { timestamp: 'yesterday' },
    { timestamp: '2026-11-22' },
    { timestamp: null },
    { timestamp: -1 },
    { timestamp: 1.5 },
    { timestamp: NOON + 2 * HOUR_MS },
    { model: '' },
    { model: 'a model' },
    { model: 7 },
    { model: undefined },
    { tokensUsed: -1 },
    { tokensUsed: 0.5 },
    { tokensUsed: '10' },
    { tokensUsed: MAX_TOKENS + 1 },
    { tokenType: 'sum' },
    { userId: 7 },
    { sessionId: {} },
  ])('with %j is damaged', (fields) => {
    expect(read(fields)).toBeUndefined()
  })

  test('may have no user or session', () => {
    for (const none of [null, undefined, '']) {
      const record = read({ userId: none, sessionId: none })
      expect(record).toMatchObject({ userId: undefined, sessionId: undefined })
    }
  })
})

function gather(lines: OldLine[], open?: number): OldRequest[] {
  const requests = gatherRequests(open)
  const closed = lines.flatMap((line) => {
    const record = readOldRecord(line, NOON)
    return record ? requests.add(record) : []
  })
  return [...closed, ...requests.end()]
}

describe('records', () => {
  test('with the same time, session and model are one request, and its total is not counted again', () => {
    expect(gather(linesOf(0))).toEqual([
      {
        at: NOON,
        user: 'token-of-alice',
        session: 'session-1',
        model: 'a/one',
        tokens: { prompt: 20, completion: 5 },
        records: 3,
      },
    ])
  })

  test('that are only a total count as a total', () => {
    expect(gather(linesOf(4))).toMatchObject([{ tokens: { total: 25 }, records: 1 }])
  })

  test.each<Partial<OldLine>>([
    { timestamp: NOON + 1 },
    { sessionId: 'session-2' },
    { model: 'b/two' },
  ])('that differ in %j are two requests', (fields) => {
    const requests = gather([
      lineOf({ tokenType: 'prompt', tokensUsed: 1 }),
      lineOf({ tokenType: 'total', tokensUsed: 2, ...fields }),
    ])
    expect(requests.map(({ tokens }) => tokens)).toEqual([
      { prompt: 1, completion: 0 },
      { total: 2 },
    ])
  })

  test('of different users at the same time are charged to each user', () => {
    const requests = gather([
      lineOf({ tokenType: 'prompt', tokensUsed: 1 }),
      lineOf({ tokenType: 'completion', tokensUsed: 2, userId: 'token-of-bob' }),
      lineOf({ tokenType: 'total', tokensUsed: 3, userId: 'token-of-carol' }),
    ])
    expect(requests.map(({ user, tokens }) => [user, tokens])).toEqual([
      ['token-of-alice', { prompt: 1, completion: 0 }],
      ['token-of-bob', { prompt: 0, completion: 2 }],
    ])
  })

  test('are combined in any order among the open requests', () =>
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 1_000_000 }), (seed) => {
        const lines = [...oldRequests(12)].flat()
        const shuffled = lines
          .map((line, index) => ({ line, key: Math.imul(index + 1, seed * 2 + 1) >>> 0 }))
          .sort((a, b) => a.key - b.key)
          .map(({ line }) => line)
        const sorted = (requests: OldRequest[]) => requests.toSorted((a, b) => a.at - b.at)
        expect(sorted(gather(shuffled, 12))).toEqual(sorted(gather(lines)))
      }),
    ))

  test('are kept open up to a maximum number', () => {
    const requests = gatherRequests(2)
    const records = [0, 1, 2].map((n) => readOldRecord(lineOf({ timestamp: NOON - n }), NOON))
    const closed = records.map((record) => (record ? requests.add(record).length : -1))
    expect(closed).toEqual([0, 0, 1])
  })
})

const ids = createIds('secret')

async function eventsOf(lines: OldLine[]): Promise<Event[]> {
  return Promise.all(gather(lines).map((request, n) => eventOf(`id-${n}`, request, ids)))
}

const byId = <T extends { id: string } | { date: string }>(items: Iterable<T>) =>
  Object.fromEntries([...items].map((item) => ['id' in item ? item.id : item.date, item]))

describe('the state that is rebuilt', () => {
  const options = { retention: RETENTION, now: NOON }

  test('is what the ledger computes for each request at its time', async () => {
    const events = await eventsOf([...oldRequests(300)].flat())
    const rebuild = createRebuild(options)
    const state = reducerState(RETENTION)
    for (const event of events) {
      expect(rebuild.enter(event)).toBe(true)
      state.do({ op: 'enter', now: event.at, user: event.user, event })
    }
    const rebuilt = rebuild.state()
    expect(byId(rebuilt.usage)).toEqual(Object.fromEntries(state.usage))
    expect(byId(rebuilt.past)).toEqual(Object.fromEntries(state.past))
    expect(Object.fromEntries(rebuilt.quotas)).toEqual(Object.fromEntries(state.quotas))
    expect(byId(rebuilt.days)).toEqual(Object.fromEntries(state.days))
    expect(rebuilt.events.map(({ id }) => id)).toEqual(events.map(({ id }) => id))
    expect(rebuilt.days.reduce((sum, { total }) => sum + total.charged, 0)).toBe(300 * 25)
  })

  test('has the same sums for any order of requests', async () => {
    const events = await eventsOf([...oldRequests(100)].flat())
    const [forward, backward] = [createRebuild(options), createRebuild(options)]
    for (const event of events) forward.enter(event)
    for (const event of events.toReversed()) backward.enter(event)
    const sums = (rebuild: typeof forward) => {
      const { days, events, usage, quotas } = rebuild.state()
      return {
        days: byId(days.map(({ date, total }) => ({ date, ...total, at: 0 }))),
        events,
        users: byId(usage.map(({ id, models, windows }) => ({ id, models, windows }))),
        quotas: Object.fromEntries(quotas),
      }
    }
    expect(sums(backward)).toEqual(sums(forward))
  })

  test('names users as the gateway does, with one name for all unknown users', async () => {
    const of = async (userId: string | null) => (await eventsOf([lineOf({ userId })]))[0]?.user
    expect(await of('token-of-alice')).toBe(await ids.user('token-of-alice'))
    expect(await of(null)).toBe(await of(''))
    expect((await eventsOf([lineOf()]))[0]?.session).toBe(await ids.session('session-1'))
  })

  test('leaves out expired days, users and events', async () => {
    const retention = { userDays: 2, historyDays: 5, eventsKept: 3 }
    const rebuild = createRebuild({ ...options, retention })
    const at = (days: number, user: string) =>
      lineOf({ timestamp: NOON - days * DAY_MS, userId: `token-of-${user}` })
    const lines = [at(6, 'old'), at(5, 'a'), at(4, 'b'), at(3, 'c'), at(2, 'd'), at(0, 'e')]
    const entered = (await eventsOf(lines)).map((event) => rebuild.enter(event))
    expect(entered).toEqual([false, true, true, true, true, true])
    const { usage, past, days, events } = rebuild.state()
    expect(usage).toHaveLength(2)
    expect(past).toEqual([])
    expect(days.map(({ date }) => date)).toEqual([
      '2026-11-17',
      '2026-11-18',
      '2026-11-19',
      '2026-11-20',
      '2026-11-22',
    ])
    expect(events).toHaveLength(3)
  })

  test('has the usage of everyone on the latest day', async () => {
    const rebuild = createRebuild(options)
    const before = lineOf({ timestamp: NOON - DAY_MS })
    const lines = [lineOf(), lineOf({ model: 'b/two', timestamp: NOON - 1 }), before]
    for (const event of await eventsOf(lines)) rebuild.enter(event)
    const quotas = Object.fromEntries(rebuild.state().quotas)
    // The request of the day before counts in the month and the week.
    const of = (today: number, all: number) => ({
      ...windowsOf(amounts(today, 10 * today), NOON),
      ...windowsOf(amounts(all, 10 * all), NOON, 'week'),
      ...windowsOf(amounts(all, 10 * all), NOON, 'month'),
    })
    expect(quotas).toMatchObject({
      '*': { at: NOON, windows: of(2, 3) },
      'a/one': { at: NOON, windows: of(1, 2) },
      'b/two': { windows: of(1, 1) },
    })
  })
})

test('chunks contain everything once, first the clock and then days, and have a maximum size', async () => {
  const rebuild = createRebuild({ retention: RETENTION, now: NOON })
  for (const event of await eventsOf([...oldRequests(200)].flat())) rebuild.enter(event)
  const rebuilt = rebuild.state()
  const blocked = { ...newProfile('blocked'), blocks: { '*': { at: NOON } } }
  const [first] = rebuilt.usage
  const known = { ...newProfile(first?.id ?? ''), blocks: { '*': { at: NOON } } }
  const state: State = { ...rebuilt, profiles: [known, blocked], entered: [['x', NOON]] }
  const most = { items: 7, bytes: 2000 }
  const queue = queueOf(state)
  const chunks: Chunk[] = []
  for (let done = 0; done < queue.length; done += chunks.at(-1)?.items.length ?? NaN) {
    chunks.push(queue.from(done, most))
  }
  const of = (kind: string) =>
    chunks.filter((chunk) => chunk.kind === kind).flatMap(({ items }) => items as unknown[])
  const users = of('users') as UserParts[]
  expect(users.flatMap(({ usage }) => usage ?? [])).toEqual(state.usage)
  expect(users.flatMap(({ past }) => past ?? [])).toHaveLength(state.past.length)
  expect(users.at(0)).toMatchObject({ usage: first, profile: known })
  expect(users.at(-1)).toEqual({ id: 'blocked', profile: blocked })
  expect(users).toHaveLength(state.usage.length + 1)
  expect(of('quotas')).toEqual(state.quotas)
  expect(of('days')).toEqual(state.days.toSorted((a, b) => (a.date < b.date ? -1 : 1)))
  expect(of('events')).toEqual(state.events.toReversed())
  expect(of('entered')).toEqual(state.entered)
  const order = ['quotas', 'days', 'users', 'entered', 'events']
  const kinds = chunks.map(({ kind }) => order.indexOf(kind))
  expect(kinds).toEqual(kinds.toSorted((a, b) => a - b))
  for (const { items } of chunks) {
    expect(items.length).toBeLessThanOrEqual(most.items)
    const bytes = Buffer.byteLength(items.map((item) => JSON.stringify(item)).join(''))
    if (items.length > 1) expect(bytes).toBeLessThanOrEqual(most.bytes)
  }
})
