/** The effect of one user on others: a flood is refused without a queue, and a slow reader uses little memory. */
import { once } from 'node:events'
import { beforeEach, describe, expect, test } from 'vitest'
import { eventOf, KINDS, type Gateway } from '../support/gateways.ts'
import { dial, requestOf } from '../support/raw.ts'
import { transcripts } from '../support/transcripts.ts'
import { useWorld } from '../support/world.ts'

const world = useWorld()

const CHAT = '/api/groq/openai/v1/chat/completions'
const MODEL = 'openai/gpt-oss-20b'
const LIMITED = JSON.stringify({
  '*': { tokensPerDay: 1e9, requestsPerDay: 1e6, requestsPerMinute: 5 },
})

const chat = (gateway: Gateway, user: string, model = MODEL) =>
  fetch(gateway.url + CHAT, {
    method: 'POST',
    headers: { 'x-user-token': user },
    body: JSON.stringify({ model, messages: [] }),
  })

const flood = 'token-of-the-flood'
const quiet = 'token-of-a-quiet-user'

/** Waits, if needed, so that the minute of a limit does not end within a test. */
async function withinMinute(): Promise<void> {
  const left = 60_000 - (Date.now() % 60_000)
  if (left < 8000) await new Promise((resolve) => setTimeout(resolve, left + 50))
}

describe.each(KINDS)('on %s', (kind) => {
  let gateway: Gateway
  beforeEach(async () => {
    gateway = await world.gateway(kind, { MODEL_LIMITS: LIMITED })
  })

  test("a user's flood is refused from memory: neither the database nor upstream hears of it", async () => {
    await withinMinute()
    for (let n = 0; n < 6; n += 1) await (await chat(gateway, flood)).arrayBuffer()
    const before = world.upstash.log.length
    const started = Date.now()
    const answers = await Promise.all(
      Array.from({ length: 300 }, async () => {
        const response = await chat(gateway, flood)
        await response.arrayBuffer()
        return response.status
      }),
    )
    expect(new Set(answers)).toEqual(new Set([429]))
    expect(world.upstream.seen).toHaveLength(5)
    const asked = world.upstash.log
      .slice(before)
      .filter(({ commands: [args] }) => !args?.at(-1)?.includes('"op":"settle"'))
    // A refusal is remembered for two seconds. After that the store is asked again, once for all requests of that
    // moment.
    const seconds = (Date.now() - started) / 1000
    if (seconds < 1.5) expect(asked).toEqual([])
  }, 60_000)

  test('while all requests of one user wait for upstream, those of another are served', async () => {
    let release = () => {}
    const hold = new Promise<void>((resolve) => (release = resolve))
    world.upstream.on('slow/model', { hold })
    const open = await world.gateway(kind)
    const waiting = Array.from({ length: 100 }, () => chat(open, flood, 'slow/model'))
    await expect.poll(() => world.upstream.seen.length, { timeout: 10_000 }).toBe(100)
    for (let n = 0; n < 10; n += 1) {
      const response = await chat(open, quiet)
      expect(response.status).toBe(200)
      await response.arrayBuffer()
    }
    expect(world.upstream.seen.filter(({ finished }) => finished)).toHaveLength(10)
    release()
    for (const response of await Promise.all(waiting)) await response.arrayBuffer()
  })

  test('while the database keeps one user waiting, another is admitted', async () => {
    const open = await world.gateway(kind)
    // On Node, the admissions of one moment share a call. Later admissions do not wait for it.
    let release = () => {}
    const held = new Promise<void>((resolve) => (release = resolve))
    let first = true
    world.upstash.fault(async ({ commands }) => {
      if (!first || !JSON.stringify(commands).includes('admit')) return undefined
      first = false
      await held
      return undefined
    })
    const waiting = chat(open, flood)
    await expect.poll(() => first).toBe(false)
    const response = await chat(open, quiet)
    expect(response.status).toBe(200)
    await response.arrayBuffer()
    release()
    const late = await waiting
    expect(late.status).toBe(200)
    // No request waited for the time-out of the database.
    for (const { headers } of [response, late]) expect(headers.get('x-weir-degraded')).toBeNull()
  })

  test('a client that reads nothing stops upstream after a few megabytes, which is all that it holds', async () => {
    world.upstream.on('endless/stream', { transcript: transcripts.stream, endless: true })
    const short = await world.gateway(kind, { REQUEST_SECONDS: '4' })
    const body = JSON.stringify({ model: 'endless/stream', messages: [], stream: true })
    const arrives = world.upstream.next()
    const socket = await dial(short.url)
    socket.pause()
    const headers = ['Host: h', `X-User-Token: ${quiet}`, `Content-Length: ${body.length}`]
    socket.write(requestOf(`POST ${CHAT} HTTP/1.1`, headers, body))
    const seen = await arrives
    let before = -1
    // Waits until nothing is read from upstream for half a second.
    while (before !== seen.sent || seen.sent === 0) {
      before = seen.sent
      await new Promise((resolve) => setTimeout(resolve, 500))
    }
    expect(seen.finished).toBe(false)
    // The socket buffers of the system hold most of it: up to 6 MB in each direction on Linux.
    expect(seen.sent).toBeLessThan(24 * 1024 * 1024)
    const closed = once(socket, 'close')
    socket.on('error', () => undefined)
    socket.destroy()
    await closed
    await seen.gone
    const [event] = await expect
      .poll(() => world.store.events(1), { timeout: 20_000 })
      .toHaveLength(1)
      .then(() => world.store.events(1))
    expect(await eventOf(world.store, event?.id ?? null)).toMatchObject({ outcome: 'estimated' })
  }, 60_000)
})
