/** The deadline of a database call counts the time of the database, and not that of a busy process. */
import { build } from 'esbuild'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
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
    const client = clientOf(300)
    const patient = clientOf(10_000)
    await patient.redis.set('key', 'here')
    await patient.redis.get('key')
    const calls = Array.from({ length: 20 }, () => client.redis.get('key'))
    await turn()
    busyFor(1000)
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

/** A worker whose calls have our deadline, and which can be kept busy. No clock in it advances meanwhile. */
const BUSY_WORKER = `
  import { withDeadline } from './src/store/redis/deadline.ts'
  export default {
    async fetch(request, { DATABASE }) {
      const { pathname } = new URL(request.url)
      if (pathname === '/busy') {
        let sum = 0
        for (let n = 0; n < 3e8; n += 1) sum += n % 7
        return new Response(String(sum))
      }
      const call = (signal) => fetch(DATABASE, { signal }).then((answer) => answer.text())
      return new Response(await withDeadline(100, call).catch((error) => error.name))
    },
  }`

test('workerd: an isolate that is busy for longer than the deadline still reads the answer', async () => {
  const { Miniflare } = await import('miniflare')
  const stdin = { contents: BUSY_WORKER, resolveDir: process.cwd(), loader: 'js' } as const
  const { outputFiles } = await build({ stdin, bundle: true, format: 'esm', write: false })
  let arrived = () => {}
  const asked = new Promise<void>((resolve) => (arrived = resolve))
  const busy: Promise<unknown>[] = []
  const database = createServer((_, answer) => {
    busy.push(miniflare.dispatchFetch('http://weir/busy').then((response) => response.text()))
    setTimeout(() => answer.end('here'), 40)
    arrived()
  })
  await new Promise<void>((resolve) => database.listen(0, '127.0.0.1', resolve))
  const { port } = database.address() as AddressInfo
  const miniflare = new Miniflare({
    modules: true,
    script: outputFiles[0]?.text ?? '',
    bindings: { DATABASE: `http://127.0.0.1:${port}` },
  })
  try {
    const answer = miniflare.dispatchFetch('http://weir/').then((response) => response.text())
    await asked
    expect(await answer).toBe('here')
    await Promise.all(busy)
  } finally {
    await miniflare.dispose()
    database.close()
  }
}, 30_000)
