import { describe, expect, test } from 'vitest'
import type { Vars } from '../../src/config/config.ts'
import { whole } from '../../src/ledger/rows.ts'
import { streamPipe, transformPipe } from '../../src/gateway/pipe.ts'
import { createRelay } from '../../src/gateway/relay.ts'
import type { Bytes } from '../../src/ports.ts'
import { eventOf, KINDS } from '../support/gateways.ts'
import { transcripts } from '../support/transcripts.ts'
import { useWorld } from '../support/world.ts'
import { usersOf } from '../support/stores.ts'

const world = useWorld()

const FRAME = { isEventStream: false }

const transcript = transcripts.stream
const text = new TextDecoder().decode(transcript.body)
const events = text.split(/(?<=\n\n)/)
/** The finish chunk with usage, and [DONE], as piece numbers. */
const USAGE = events.findIndex((event) => event.includes('"usage"'))
const DONE = events.findIndex((event) => event.includes('[DONE]'))

/** Asks for the stream and leaves after `pieces` of its events have arrived. */
const CLIENT = new Request('http://weir.test/')

async function leaveAfter(
  url: string,
  pieces: number,
  user = 'token-of-a-user',
): Promise<string | null> {
  const controller = new AbortController()
  const response = await fetch(`${url}/api/groq/openai/v1/chat/completions`, {
    method: 'POST',
    headers: { 'x-user-token': user },
    body: JSON.stringify({
      model: 'abort/stream',
      stream: true,
      max_tokens: 2000,
      messages: [{ role: 'user', content: 'hi' }],
    }),
    signal: controller.signal,
  })
  const wanted = events.slice(0, pieces).join('').length
  let got = 0
  const reader = response.body?.getReader()
  while (reader && got < wanted) got += (await reader.read()).value?.length ?? Infinity
  controller.abort()
  return response.headers.get('x-weir-id')
}

describe.each(KINDS)('on %s', (kind) => {
  describe.each(['drain', 'cancel'] as const)('with ON_CLIENT_ABORT=%s', (mode) => {
    const vars: Vars = { ON_CLIENT_ABORT: mode }

    test.each([
      ['at the first chunk', 1],
      ['in the middle', 3],
      ['after usage', USAGE + 1],
      ['after [DONE]', DONE + 1],
    ])('a client that leaves %s is charged by the rules', async (_, pieces) => {
      const gateway = await world.gateway(kind, vars)
      let leave = () => {}
      const left = new Promise<void>((resolve) => (leave = resolve))
      // Upstream sends later pieces only after the client has left.
      world.upstream.on('abort/stream', {
        transcript,
        gate: async (piece) => (piece >= pieces ? left : undefined),
        pause: 5,
      })
      const seen = world.upstream.next()
      const id = await leaveAfter(gateway.url, pieces)
      leave()
      const event = await eventOf(world.store, id)
      const request = await seen
      await request.done
      // After the usage, upstream may have ended its answer before the gateway let it go.
      if (mode === 'drain' || (pieces > USAGE && event.outcome === 'exact')) {
        expect(event).toMatchObject({ outcome: 'exact', charged: 397, total: 397 })
      } else {
        expect(event).toMatchObject({ outcome: 'estimated', charged: event.reserved })
      }
      if (mode === 'drain') expect(request.finished).toBe(true)
      const [user] = await usersOf(world.store, { sort: 'lastActive', limit: 1, now: Date.now() })
      expect(user?.usage.leases).toEqual({})
      expect(whole(user?.usage.models['abort/stream']?.row ?? {})).toMatchObject({
        requests: 1,
        charged: event.charged,
        reserved: 0,
      })
    })
  })

  // workerd reports only with a write that a client has left.
  test.runIf(kind === 'node')(
    'with cancel, upstream is not called for a client that has already left',
    async () => {
      const gateway = await world.gateway(kind, { ON_CLIENT_ABORT: 'cancel' })
      const controller = new AbortController()
      let admitted = () => {}
      const held = new Promise<void>((resolve) => (admitted = resolve))
      world.upstash.fault(async () => void (await held))
      const gone = fetch(`${gateway.url}/api/groq`, {
        method: 'POST',
        headers: { 'x-user-token': 'token-of-a-user' },
        body: '{"model":"abort/stream","messages":[]}',
        signal: controller.signal,
      }).catch(() => undefined)
      await expect.poll(() => world.upstash.log.length).toBeGreaterThan(0)
      controller.abort()
      await gone
      // When this is answered, the gateway knows that the client has left.
      await fetch(`${gateway.url}/api/nothing`)
      admitted()
      await expect.poll(() => world.store.events(9)).toHaveLength(1)
      expect(await world.store.events(9)).toMatchObject([{ outcome: 'failed', charged: 0 }])
      expect(world.upstream.seen).toEqual([])
    },
  )

  // workerd tells only with a write that a client has left, and a short answer has one.
  test.runIf(kind === 'node').each([
    ['drain', 'api/groq/openai/v1/chat/completions', { messages: [] }],
    ['drain', 'api/groq', { prompt: 'Hello' }],
    ['cancel', 'api/groq/openai/v1/chat/completions', { messages: [] }],
    ['cancel', 'api/groq', { prompt: 'Hello' }],
  ])(
    'with %s, a client that leaves %s before the first piece of a short answer is charged by the rules',
    async (mode, path, body) => {
      const gateway = await world.gateway(kind, { ON_CLIENT_ABORT: mode })
      let release = () => {}
      const held = new Promise<void>((resolve) => (release = resolve))
      // The headers, with their length, have come.
      world.upstream.on('abort/short', { gate: () => held })
      const seen = world.upstream.next()
      const client = new AbortController()
      const asked = fetch(`${gateway.url}/${path}`, {
        method: 'POST',
        headers: { 'x-user-token': 'token-of-a-user' },
        body: JSON.stringify({ model: 'abort/short', ...body }),
        signal: client.signal,
      }).catch(() => undefined)
      const request = await seen
      // When this is answered, the gateway has the headers.
      await fetch(`${gateway.url}/api/nothing`)
      client.abort()
      await asked
      if (mode === 'cancel') await request.gone
      release()
      await request.done
      await expect.poll(() => world.store.events(9)).toHaveLength(1)
      const [event] = await world.store.events(9)
      if (mode === 'drain') expect(event).toMatchObject({ outcome: 'exact', total: event?.charged })
      else expect(event).toMatchObject({ outcome: 'estimated', charged: event?.reserved })
    },
  )

  test('with cancel, a silent upstream is let go', async () => {
    // workerd notices with its next write that a client has left, so the deadline of the request ends it there.
    const gateway = await world.gateway(kind, {
      ON_CLIENT_ABORT: 'cancel',
      REQUEST_SECONDS: kind === 'workerd' ? '1' : '60',
    })
    world.upstream.on('abort/stream', { transcript, stall: events.slice(0, 3).join('').length })
    const seen = world.upstream.next()
    const id = await leaveAfter(gateway.url, 3)
    await (
      await seen
    ).gone
    expect(await eventOf(world.store, id)).toMatchObject({ outcome: 'estimated' })
  })

  test('a drained answer without an end is cut at the limit and charged its reservation', async () => {
    const gateway = await world.gateway(kind, { REQUEST_SECONDS: '1' })
    world.upstream.on('abort/stream', { transcript, endless: true, pause: 0 })
    const seen = world.upstream.next()
    const id = await leaveAfter(gateway.url, 1)
    await (
      await seen
    ).gone
    const event = await eventOf(world.store, id)
    expect(event).toMatchObject({ outcome: 'estimated', charged: event.reserved })
    expect(event.totalMs).toBeLessThan(4000)
  })

  test('a request whose time is up is cut, and charged its reservation', async () => {
    const gateway = await world.gateway(kind, { REQUEST_SECONDS: '1' })
    world.upstream.on('abort/stream', { transcript, stall: 700 })
    const seen = world.upstream.next()
    const response = await fetch(`${gateway.url}/api/groq`, {
      method: 'POST',
      headers: { 'x-user-token': 'token-of-a-user' },
      body: JSON.stringify({ model: 'abort/stream', stream: true, messages: [] }),
    })
    // workerd ends a chunked answer normally in any case, so the stream itself says that it broke off.
    if (kind === 'node') await expect(response.text()).rejects.toThrow()
    else {
      const [arrived = '', last] = (await response.text()).split('\n\nevent: error\n')
      expect(text.startsWith(arrived)).toBe(true)
      expect(last).toContain('broke off')
    }
    await (
      await seen
    ).gone
    const event = await eventOf(world.store, response.headers.get('x-weir-id'))
    expect(event).toMatchObject({ outcome: 'estimated', charged: event.reserved })
  })

  test.each([
    ['its usage', USAGE],
    ['[DONE]', DONE],
  ])('usage that upstream reported is not final if its answer is cut after %s', async (_, last) => {
    const gateway = await world.gateway(kind, { REQUEST_SECONDS: '1' })
    const stall = new TextEncoder().encode(events.slice(0, last + 1).join('')).length
    // The headers announce a longer body.
    world.upstream.on('abort/stream', { transcript, body: `${text}: more\n\n`, stall })
    const response = await fetch(`${gateway.url}/api/groq`, {
      method: 'POST',
      headers: { 'x-user-token': 'token-of-a-user' },
      body: JSON.stringify({ model: 'abort/stream', stream: true, messages: [] }),
    })
    await response.text().catch(() => undefined)
    const event = await eventOf(world.store, response.headers.get('x-weir-id'))
    expect(event).toMatchObject({ outcome: 'estimated', charged: event.reserved })
    expect(event.total).toBeUndefined()
  })

  test('a client that reads nothing holds its request until its time is up, not longer', async () => {
    const gateway = await world.gateway(kind, { REQUEST_SECONDS: '1' })
    world.upstream.on('abort/stream', { transcript, endless: true })
    const seen = world.upstream.next()
    const response = await fetch(`${gateway.url}/api/groq`, {
      method: 'POST',
      headers: { 'x-user-token': 'token-of-a-user' },
      body: JSON.stringify({ model: 'abort/stream', stream: true, messages: [] }),
    })
    await (
      await seen
    ).gone
    const event = await eventOf(world.store, response.headers.get('x-weir-id'))
    expect(event).toMatchObject({ outcome: 'estimated' })
    await response.body?.cancel().catch(() => undefined)
  })

  test('an upstream that does not answer in time is a 504 that is charged its reservation', async () => {
    const gateway = await world.gateway(kind, { UPSTREAM_TIMEOUT_MS: '300' })
    let release = () => {}
    world.upstream.on('abort/stream', { hold: new Promise<void>((resolve) => (release = resolve)) })
    const response = await fetch(`${gateway.url}/api/groq`, {
      method: 'POST',
      headers: { 'x-user-token': 'token-of-a-user' },
      body: JSON.stringify({ model: 'abort/stream', messages: [] }),
    })
    release()
    expect(response.status).toBe(504)
    expect(await response.json()).toMatchObject({ error: { code: 'upstream_timeout' } })
    const event = await eventOf(world.store, response.headers.get('x-weir-id'))
    expect(event).toMatchObject({ outcome: 'estimated', charged: event.reserved, status: 504 })
  })

  test('32 requests at once all answer, whether their clients stay or leave', async () => {
    const gateway = await world.gateway(kind, {})
    world.upstream.on('abort/stream', { transcript, pause: 3 })
    const calls = Array.from({ length: 32 }, async (_, index) => {
      const response = await fetch(`${gateway.url}/api/groq`, {
        method: 'POST',
        headers: { 'x-user-token': `token-of-user-${index % 5}` },
        body: JSON.stringify({ model: 'abort/stream', stream: true, messages: [] }),
      })
      if (index % 4 === 0) await response.body?.cancel()
      else expect(await response.text()).toBe(text)
      return eventOf(world.store, response.headers.get('x-weir-id'))
    })
    for (const event of await Promise.all(calls)) {
      expect(event).toMatchObject({ outcome: 'exact', charged: 397 })
    }
  })
})

/** An answer whose length is not known is a stream. */
function streamOf(body: unknown): ReadableStream<Bytes> {
  if (body instanceof ReadableStream) return body as ReadableStream<Bytes>
  throw new Error('no stream')
}

test.each([
  ['streamPipe', () => streamPipe()],
  ['transformPipe', transformPipe],
])(
  'an answer that Weir cut is cut although its reader reports the end, with %s',
  async (_, pipe) => {
    const relay = createRelay({ pipe, drain: { ms: 1000, bytes: 1000, atOnce: 1 } })
    const upstream = new AbortController()
    const body = new ReadableStream<Bytes>({ start: () => undefined })
    const { done } = relay({
      client: CLIENT,
      body,
      frame: FRAME,
      meter: undefined,
      upstream,
      onClientAbort: 'drain',
    })
    upstream.abort()
    expect(await done).toMatchObject({ ended: false, cut: true })
  },
)

test.each([
  ['drain', 10],
  ['cancel', 60_000],
] as const)(
  'with %s, a short answer whose client has left is not waited for beyond the limit of drains',
  async (onClientAbort, ms) => {
    const relay = createRelay({ pipe: () => streamPipe(), drain: { ms, bytes: 1000, atOnce: 1 } })
    const client = new AbortController()
    const { done } = relay({
      client: CLIENT,
      left: client.signal,
      body: new ReadableStream<Bytes>({ start: () => undefined }),
      frame: { isEventStream: false, length: 100 },
      meter: undefined,
      upstream: new AbortController(),
      onClientAbort,
    })
    client.abort()
    expect(await done).toMatchObject({ ended: false, cut: true })
  },
)

describe('the limit on drains at once', () => {
  test('lets further answers go whose clients have left', async () => {
    const gateway = await world.gateway('node', {})
    let release = () => {}
    const held = new Promise<void>((resolve) => (release = resolve))
    world.upstream.on('abort/stream', {
      transcript,
      gate: async (piece) => (piece >= 2 ? held : undefined),
    })
    const leaving = (count: number, user: (n: number) => string) =>
      Promise.all(Array.from({ length: count }, (_, n) => leaveAfter(gateway.url, 1, user(n))))
    const one = await leaving(20, () => 'token-of-a-user')
    const ids = [...one, ...(await leaving(50, (n) => `token-of-user-${n}`))]
    // Requests beyond the limit are settled although upstream is still silent.
    const isCut = async (id: string | null) =>
      eventOf(world.store, id, 1).then(Boolean, () => false)
    const cut = await Promise.all(ids.map(isCut))
    // Of one user 16 are read to their end, and 64 in all.
    expect(cut.slice(0, one.length).filter(Boolean)).toHaveLength(20 - 16)
    expect(cut.filter(Boolean)).toHaveLength(20 - 16 + (16 + 50 - 64))
    release()
    for (const id of ids) await eventOf(world.store, id)
  })

  test.each([
    ['streamPipe', () => streamPipe()],
    ['transformPipe', transformPipe],
  ])('is not used up by answers that upstream breaks off, with %s', async (_, pipe) => {
    const relay = createRelay({ pipe, drain: { ms: 1000, bytes: 1000, atOnce: 1 } })
    const start = (body: ReadableStream<Bytes>) =>
      relay({
        client: CLIENT,
        body,
        frame: FRAME,
        meter: undefined,
        upstream: new AbortController(),
        onClientAbort: 'drain',
      })
    const broken = new ReadableStream<Bytes>({ pull: (answer) => answer.error(new Error('cut')) })
    const first = start(broken)
    await expect(
      streamOf(await first.body)
        .getReader()
        .read(),
    ).rejects.toThrow()
    await first.done

    let end = () => {}
    const drained = start(
      new ReadableStream({ start: (answer) => void (end = () => answer.close()) }),
    )
    await streamOf(await drained.body).cancel()
    end()
    expect(await drained.done).toMatchObject({ cut: false })
  })
})
