/** The deadline of a database call counts the time of the database, and not that of a busy process. */
import { expect, test, vi } from 'vitest'
import { restNodeClient } from '../../src/platform/node/rest.ts'
import { withDeadline } from '../../src/store/redis/deadline.ts'
import { restClient } from '../../src/store/redis/rest.ts'
import { tcpClient } from '../../src/store/redis/tcp.ts'
import { useDatabase } from '../support/database.ts'

const { redis, upstash } = useDatabase()

const busyFor = (ms: number): void => {
  for (const end = performance.now() + ms; performance.now() < end;);
}

const turn = () => new Promise((resolve) => setImmediate(resolve))

const CLIENTS = {
  'Node over TCP': (timeoutMs: number) => tcpClient({ url: redis.url, timeoutMs }),
  'Node over REST': (timeoutMs: number) => ({
    redis: restNodeClient({ ...upstash, timeoutMs }),
    close: () => undefined,
  }),
  'the edge over REST': (timeoutMs: number) => ({
    redis: restClient({ ...upstash, timeoutMs }),
    close: () => undefined,
  }),
}

test.each(Object.entries(CLIENTS))(
  '%s: a process that is busy for longer than the deadline still reads the answers',
  async (_, clientOf) => {
    const client = clientOf(100)
    const patient = clientOf(10_000)
    await patient.redis.set('key', 'here')
    await patient.redis.get('key')
    const calls = Array.from({ length: 20 }, () => client.redis.get('key'))
    await turn()
    busyFor(400)
    expect(new Set(await Promise.all(calls))).toEqual(new Set(['here']))
    client.close()
    patient.close()
  },
)

test('a flood whose every turn is longer than the deadline does not make the database late', async () => {
  const { redis: client, close } = tcpClient({ url: redis.url, timeoutMs: 50 })
  await client.set('key', 'here')
  let flooded = true
  const flood = async () => {
    for (; flooded; await turn()) busyFor(60)
  }
  const ended = flood()
  try {
    for (let n = 0; n < 5; n += 1) expect(await client.get('key')).toBe('here')
  } finally {
    flooded = false
    await ended
    close()
  }
})

test('a database that is silent is given up after the deadline, and its call is aborted', async () => {
  vi.useFakeTimers()
  try {
    let reason: unknown
    const call = withDeadline(300, (signal) => {
      signal.addEventListener('abort', () => (reason = signal.reason))
      return new Promise<never>(() => undefined)
    }).catch((error: unknown) => error)
    await vi.advanceTimersByTimeAsync(300)
    expect(reason).toBeUndefined()
    await vi.advanceTimersByTimeAsync(1)
    expect(await call).toMatchObject({ name: 'TimeoutError' })
    expect(reason).toBe(await call)
    expect(vi.getTimerCount()).toBe(0)
  } finally {
    vi.useRealTimers()
  }
})

test('a call that has ended leaves no timer', async () => {
  vi.useFakeTimers()
  try {
    expect(await withDeadline(300, () => Promise.resolve(1))).toBe(1)
    const failed = withDeadline(300, () => Promise.reject(new Error('refused')))
    await expect(failed).rejects.toThrow('refused')
    expect(vi.getTimerCount()).toBe(0)
  } finally {
    vi.useRealTimers()
  }
})
