import { expect, test } from 'vitest'
import { gather } from '../../src/store/redis/gather.ts'

/** A gathered function that doubles numbers. The test decides when a batch is sent. */
function doubling(
  size: number,
  run?: (items: number[]) => Promise<number[]>,
  atOnce: number = Infinity,
) {
  const scheduled: (() => void)[] = []
  const batches: number[][] = []
  const call = gather<number, number>({
    size,
    atOnce,
    schedule: (go) => void scheduled.push(go),
    async run(items) {
      batches.push(items)
      return run ? run(items) : items.map((item) => item * 2)
    },
  })
  const go = () => {
    for (const one of scheduled.splice(0)) one()
  }
  return { call, go, batches, scheduled }
}

test('calls before the batch goes share one run, and each gets its own result', async () => {
  const { call, go, batches, scheduled } = doubling(10)
  const results = [3, 1, 2].map(call)
  expect(scheduled).toHaveLength(1)
  expect(batches).toEqual([])
  go()
  expect(await Promise.all(results)).toEqual([6, 2, 4])
  expect(batches).toEqual([[3, 1, 2]])
})

test('equal items are each run', async () => {
  const { call, go, batches } = doubling(10)
  const results = [5, 5].map(call)
  go()
  expect(await Promise.all(results)).toEqual([10, 10])
  expect(batches).toEqual([[5, 5]])
})

test('a call after the batch went waits for the next', async () => {
  const { call, go, batches } = doubling(10)
  const first = call(1)
  go()
  const second = call(2)
  expect(await first).toBe(2)
  expect(batches).toEqual([[1]])
  go()
  expect(await second).toBe(4)
  expect(batches).toEqual([[1], [2]])
})

test('a full batch goes at once, without being scheduled', async () => {
  const { call, batches, go } = doubling(3)
  const results = [1, 2, 3, 4].map(call)
  expect(batches).toEqual([[1, 2, 3]])
  expect(await Promise.all(results.slice(0, 3))).toEqual([2, 4, 6])
  go()
  expect(await results[3]).toBe(8)
  expect(batches).toEqual([[1, 2, 3], [4]])
})

test('no batch is larger than the size', async () => {
  const { call, batches, go } = doubling(64)
  const items = Array.from({ length: 200 }, (_, n) => n)
  const results = items.map(call)
  go()
  expect(await Promise.all(results)).toEqual(items.map((item) => item * 2))
  expect(batches.map(({ length }) => length)).toEqual([64, 64, 64, 8])
  expect(batches.flat()).toEqual(items)
})

test('a size of one gathers nothing', async () => {
  const { call, batches, scheduled } = doubling(1)
  expect(await Promise.all([1, 2].map(call))).toEqual([2, 4])
  expect(batches).toEqual([[1], [2]])
  expect(scheduled).toEqual([])
})

test('a schedule without waiting calls runs nothing', async () => {
  const { call, go, batches } = doubling(2)
  await Promise.all([1, 2].map(call))
  go()
  expect(batches).toEqual([[1, 2]])
})

test('a failure reaches every call of its batch and none of the others', async () => {
  const broken = new Error('broken')
  const { call, go } = doubling(2, async (items) => {
    if (items.includes(1)) throw broken
    return items
  })
  const calls = [1, 2, 3, 4].map(call)
  go()
  expect(await Promise.allSettled(calls)).toEqual([
    { status: 'rejected', reason: broken },
    { status: 'rejected', reason: broken },
    { status: 'fulfilled', value: 3 },
    { status: 'fulfilled', value: 4 },
  ])
})

test('a run that throws at once fails its calls, and the next batch is run', async () => {
  let broken = true
  const scheduled: (() => void)[] = []
  const call = gather<number, number>({
    size: 9,
    atOnce: 9,
    schedule: (go) => void scheduled.push(go),
    run(items) {
      if (broken) throw new Error('broken')
      return Promise.resolve(items)
    },
  })
  const first = call(1)
  scheduled.pop()?.()
  await expect(first).rejects.toThrow('broken')
  broken = false
  const second = call(2)
  scheduled.pop()?.()
  expect(await second).toBe(2)
})

test('a running batch does not delay the next', async () => {
  const waiting: (() => void)[] = []
  const { call, go } = doubling(
    9,
    (items) => new Promise((done) => waiting.push(() => done(items))),
  )
  const first = call(1)
  go()
  const second = call(2)
  go()
  waiting[1]?.()
  expect(await second).toBe(2)
  waiting[0]?.()
  expect(await first).toBe(1)
})

/** A gathered function whose runs end when the test says so. */
function held(size: number, atOnce: number) {
  const running: { items: number[]; done(): void; fail(error: Error): void }[] = []
  const run = (items: number[]) =>
    new Promise<number[]>((resolve, reject) =>
      running.push({ items, done: () => resolve(items), fail: reject }),
    )
  return { ...doubling(size, run, atOnce), running }
}

test('what is sent at once is bounded, and the rest goes in full batches when results come', async () => {
  const { call, go, running, batches } = held(3, 6)
  const results = Array.from({ length: 14 }, (_, n) => n).map(call)
  go()
  expect(batches).toEqual([
    [0, 1, 2],
    [3, 4, 5],
  ])
  running[1]?.done()
  await Promise.all(results.slice(3, 6))
  await expect.poll(() => batches).toHaveLength(3)
  expect(batches[2]).toEqual([6, 7, 8])
  for (let n = 0; n < 5; n += 1) {
    await expect.poll(() => running.length).toBeGreaterThan(n)
    running[n]?.done()
  }
  expect(await Promise.all(results)).toEqual(Array.from({ length: 14 }, (_, n) => n))
  expect(batches.slice(3)).toEqual([
    [9, 10, 11],
    [12, 13],
  ])
})

test('what waits for the results of others fails with them, and the next call is sent', async () => {
  const { call, running, go } = held(2, 2)
  const results = [1, 2, 3, 4, 5].map(call)
  const broken = new Error('broken')
  running[0]?.fail(broken)
  expect(await Promise.allSettled(results)).toEqual(
    results.map(() => ({ status: 'rejected', reason: broken })),
  )
  expect(running).toHaveLength(1)
  const next = call(6)
  go()
  running[1]?.done()
  expect(await next).toBe(6)
})
