/** What calls carry for other requests, with a clock of the test. */
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { createRides } from '../../src/store/redis/rides.ts'

type Item = { text: string }
type Result = { of: string; call: number }

beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'performance'] }))
afterEach(() => void vi.useRealTimers())

/** Rides whose calls end when the test says so. */
function rides() {
  const calls: { texts: string[]; answer(): void; fail(): void }[] = []
  const { carry, ride } = createRides<Item, Result>((items) => {
    const texts = items.map(({ text }) => text)
    const call = calls.length
    return new Promise((resolve, reject) => {
      calls.push({
        texts,
        answer: () => resolve(texts.map((of) => ({ of, call }))),
        fail: () => reject(new Error('away')),
      })
    })
  })
  const texts = () => calls.map((call) => call.texts)
  return {
    ...{ calls, texts },
    carry: (text: string) => carry({ text }),
    /** A request that has ended. */
    ride: (text: string) => ride({ text }),
  }
}

const wait = (ms: number) => vi.advanceTimersByTimeAsync(ms)

test('the next call carries what is listed before its own, and the owner finds its answer', async () => {
  const { ride, carry, calls, texts } = rides()
  const [a, b] = [ride('a'), ride('b')]
  const own = carry('own')
  expect(texts()).toEqual([['a', 'b', 'own']])
  calls[0]!.answer()
  expect(await own).toEqual({ of: 'own', call: 0 })
  await wait(50)
  expect([await a, await b]).toEqual([
    { of: 'a', call: 0 },
    { of: 'b', call: 0 },
  ])
  expect(texts()).toHaveLength(1)
})

test('an owner whose entry nobody took sends it after 50 ms, and carries the others', async () => {
  const { ride, calls, texts } = rides()
  const all = ['a', 'b', 'c'].map(ride)
  await wait(49)
  expect(texts()).toEqual([])
  await wait(1)
  expect(texts()).toEqual([['b', 'c', 'a']])
  calls[0]!.answer()
  await wait(50)
  expect((await Promise.all(all)).map(({ of }) => of)).toEqual(['a', 'b', 'c'])
  expect(texts()).toHaveLength(1)
})

test('what a call has taken is left to it while it may be answered, also by a slow database', async () => {
  const { ride, carry, calls, texts } = rides()
  const a = ride('a')
  const first = carry('first')
  void carry('second')
  await wait(900)
  expect(texts()).toEqual([['a', 'first'], ['second']])
  calls[0]!.answer()
  await first
  await wait(50)
  expect(await a).toEqual({ of: 'a', call: 0 })
  expect(texts()).toHaveLength(2)
})

test('the owner sends what its carrier did not bring: at its next look if the call failed', async () => {
  const { ride, carry, calls, texts } = rides()
  const [a, b] = [ride('a'), ride('b')]
  const carrier = carry('carrier')
  await wait(75)
  calls[0]!.fail()
  await expect(carrier).rejects.toThrow('away')
  await wait(25)
  expect(texts()).toEqual([
    ['a', 'b', 'carrier'],
    ['b', 'a'],
  ])
  calls[1]!.answer()
  await wait(50)
  expect([await a, await b]).toMatchObject([{ call: 1 }, { call: 1 }])
})

test('the owner sends what its carrier did not bring: after a second if the carrier was cut', async () => {
  const { ride, carry, texts } = rides()
  void ride('a')
  void carry('a carrier that is cut')
  await wait(999)
  expect(texts()).toHaveLength(1)
  await wait(1)
  expect(texts()[1]).toEqual(['a'])
})

test('an entry whose owner was cut goes with a later call, also when its carrier was cut too', async () => {
  const { ride, carry, calls, texts } = rides()
  void ride('a')
  // The owner's timer never fires again: its request was cut.
  vi.clearAllTimers()
  void carry('a carrier that is cut')
  await wait(60_000)
  const next = carry('next')
  expect(texts()).toEqual([
    ['a', 'a carrier that is cut'],
    ['a', 'next'],
  ])
  calls[1]!.answer()
  await next
  void carry('another')
  expect(texts()[2]).toEqual(['another'])
})

test('an answer that a slow carrier brings after the owner has sent it changes nothing', async () => {
  const { ride, carry, calls, texts } = rides()
  const a = ride('a')
  const carrier = carry('carrier')
  await wait(1000)
  expect(texts()).toEqual([['a', 'carrier'], ['a']])
  calls[0]!.answer()
  expect(await carrier).toEqual({ of: 'carrier', call: 0 })
  calls[1]!.answer()
  expect(await a).toEqual({ of: 'a', call: 1 })
  await wait(1000)
  void carry('next')
  expect(texts()[2]).toEqual(['next'])
})

test('an owner whose own call fails is told, and nobody carries its entry any more', async () => {
  const { ride, carry, calls, texts } = rides()
  const failed = expect(ride('a')).rejects.toThrow('away')
  await wait(50)
  calls[0]!.fail()
  await failed
  await wait(1000)
  void carry('next')
  expect(texts()).toEqual([['a'], ['next']])
})

test('a call carries 16 entries, and the next one the rest', () => {
  const { ride, carry, texts } = rides()
  for (let n = 0; n < 20; n += 1) void ride(`${n}`)
  void carry('first')
  void carry('second')
  expect(texts().map((all) => all.length)).toEqual([17, 5])
})

test('a long entry goes by itself, and so do those beyond the thousandth', () => {
  const { ride, texts } = rides()
  void ride('x'.repeat(2049))
  expect(texts()).toEqual([['x'.repeat(2049)]])
  for (let n = 0; n < 1000; n += 1) void ride(`${n}`)
  expect(texts()).toHaveLength(1)
  void ride('the next')
  expect(texts()[1]).toHaveLength(17)
  expect(texts()[1]?.at(-1)).toBe('the next')
})

test('an entry that fails every call is carried three times at most', async () => {
  const { ride, carry, texts } = rides()
  void ride('poison')
  vi.clearAllTimers()
  for (let n = 0; n < 6; n += 1) {
    void carry('own').catch(() => undefined)
    await wait(1000)
  }
  expect(texts().map((all) => all.length)).toEqual([2, 2, 2, 1, 1, 1])
})
