/** Clients that would take all of a server: many requests at once, bodies that are held, and calls without end. */
import { once } from 'node:events'
import type { Socket } from 'node:net'
import { beforeEach, describe, expect, test } from 'vitest'
import { KINDS, type Gateway } from '../support/gateways.ts'
import { dial, raw, requestOf } from '../support/raw.ts'
import { useWorld } from '../support/world.ts'

const world = useWorld()

const CHAT = '/api/groq/openai/v1/chat/completions'
const MODELS = '/api/groq/openai/v1/models'
const TOKEN = 'X-User-Token: token-of-the-crowd'
const quiet = { 'x-user-token': 'token-of-a-quiet-user' }

const chat = (gateway: Gateway, headers: Record<string, string>, model = 'a/b') =>
  fetch(gateway.url + CHAT, {
    method: 'POST',
    headers,
    body: JSON.stringify({ model, messages: [] }),
  })

const statusOf = async (answer: Response): Promise<number> => {
  await answer.arrayBuffer()
  return answer.status
}

describe.each(KINDS)('on %s', (kind) => {
  let gateway: Gateway
  beforeEach(async () => {
    gateway = await world.gateway(kind)
  })

  test('calls of models within seconds are one call of upstream, with the same answer', async () => {
    const get = (path = MODELS) =>
      fetch(`${gateway.url}${path}?${kind}`, { headers: { ...quiet, accept: 'application/json' } })
    const first = await get()
    const body = await first.text()
    for (let n = 0; n < 10; n += 1) {
      const answer = await get()
      expect([answer.status, await answer.text()]).toEqual([200, body])
      expect(answer.headers.get('content-type')).toBe(first.headers.get('content-type'))
      expect(answer.headers.get('cache-control')).toBe('private, no-store')
      expect(answer.headers.get('x-weir-id')).not.toBe(first.headers.get('x-weir-id'))
    }
    expect(world.upstream.seen).toHaveLength(1)
    expect((await fetch(`${gateway.url}${MODELS}?${kind}`)).status).toBe(401)
    await statusOf(await get(`${MODELS}/openai/gpt-oss-20b`))
    expect(world.upstream.seen).toHaveLength(2)
  })

  test('an answer of models that is no success is not kept', async () => {
    world.upstream.on('', { status: 503, body: '{}' })
    const get = () => fetch(`${gateway.url}${MODELS}?failing`, { headers: quiet })
    expect([await statusOf(await get()), await statusOf(await get())]).toEqual([503, 503])
    expect(world.upstream.seen).toHaveLength(2)
  })

  test('a user has at most 128 calls of upstream in progress, and others are served', async () => {
    let release = () => {}
    const hold = new Promise<void>((resolve) => (release = resolve))
    world.upstream.on('slow/model', { hold })
    world.upstream.on('', { hold })
    const crowd = { 'x-user-token': 'token-of-the-crowd' }
    const waiting = Array.from({ length: 128 }, (_, n) =>
      n % 2
        ? chat(gateway, crowd, 'slow/model')
        : fetch(`${gateway.url}${MODELS}?n=${n}`, { headers: crowd }),
    )
    await expect.poll(() => world.upstream.seen.length, { timeout: 15_000 }).toBe(128)
    for (const more of [
      chat(gateway, crowd),
      fetch(`${gateway.url}${MODELS}?more`, { headers: crowd }),
    ]) {
      const refused = await more
      expect([refused.status, refused.headers.get('retry-after')]).toEqual([429, '1'])
      expect(await refused.json()).toMatchObject({
        error: {
          code: 'rate_limit_exceeded',
          message: expect.stringMatching(/128 calls in progress/) as string,
        },
      })
    }
    expect(await statusOf(await chat(gateway, quiet))).toBe(200)
    expect(world.upstream.seen).toHaveLength(129)
    release()
    for (const answer of await Promise.all(waiting)) await statusOf(answer)
    // The places are free again when the answers have been sent.
    await expect.poll(async () => statusOf(await chat(gateway, crowd))).toBe(200)
  })

  test.each([
    ['the simple form', '/api/groq', {}],
    ['a chat', CHAT, {}],
    ['a sync', '/api/tracking/sync', {}],
    [
      'a login',
      '/api/admin/login',
      { origin: 'http://weir.test', 'sec-fetch-site': 'same-origin' },
    ],
  ])('%s that is nested too deep is refused in a sentence', async (_, path, headers) => {
    const answer = await fetch(gateway.url + path, {
      method: 'POST',
      headers: { ...quiet, 'content-type': 'application/json', ...headers },
      body: `{"x":${'['.repeat(100)}${']'.repeat(100)}}`,
    })
    expect(answer.status).toBe(400)
    expect(await answer.json()).toMatchObject({
      error: {
        code: 'invalid_request',
        message: expect.stringMatching(/more than 64 lists and objects/) as string,
      },
    })
    expect(world.upstream.seen).toEqual([])
  })

  test('a prompt of the simple form goes up as it came, whatever is in it', async () => {
    for (const prompt of [
      'caf\u00e9 "漢" \\ / \n\u2028',
      'x'.repeat(70_000),
      `${'é"'.repeat(3000)}`,
    ]) {
      for (const body of [
        JSON.stringify({ prompt, max_tokens: 5 }),
        JSON.stringify({ model: 'a/b', prompt }).replace(
          /[^ -~]/g,
          (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`,
        ),
        `{ "temperature" : 0.5 , "pr\\u006fmpt" \n: ${JSON.stringify(prompt)} }`,
      ]) {
        const answer = await fetch(`${gateway.url}/api/groq`, {
          method: 'POST',
          headers: quiet,
          body,
        })
        expect(await statusOf(answer)).toBe(200)
        const { prompt: _, ...rest } = JSON.parse(body) as Record<string, unknown>
        const up: unknown = JSON.parse(
          Buffer.from(world.upstream.seen.at(-1)?.body ?? []).toString(),
        )
        expect(up).toEqual({
          model: 'openai/gpt-oss-20b',
          ...rest,
          messages: [{ role: 'user', content: prompt }],
        })
      }
    }
  })
})

describe('over connections to Node', () => {
  let gateway: Gateway
  beforeEach(async () => {
    gateway = await world.gateway('node')
  })

  test.each([
    ['of models', `GET ${MODELS} HTTP/1.1`, [TOKEN], ''],
    ['of nothing', 'GET /nope HTTP/1.1', [], ''],
    [
      'of chats',
      `POST ${CHAT} HTTP/1.1`,
      [TOKEN, 'Content-Length: 28'],
      '{"model":"a/b","messages":[]}'.slice(0, 28),
    ],
    ['whose bodies are not read', `POST ${CHAT} HTTP/1.1`, ['Content-Length: 2'], '{}'],
  ])(
    'a client that sends 2,000 requests %s at once is hung up on',
    async (_, line, headers, body) => {
      const request = requestOf(line, ['Host: h', ...headers], body)
      const { statuses } = await raw(gateway.url, request.repeat(2000))
      expect(statuses.length).toBeLessThan(200)
      expect(world.upstream.seen.length).toBeLessThan(3)
      expect(await statusOf(await chat(gateway, quiet))).toBe(200)
    },
  )

  test('a client that sends requests and reads nothing has at most one in progress', async () => {
    world.upstream.on('a/b', { body: 'x'.repeat(1024 * 1024) })
    const body = JSON.stringify({ model: 'a/b', messages: [] })
    const one = requestOf(
      `POST ${CHAT} HTTP/1.1`,
      ['Host: h', TOKEN, `Content-Length: ${body.length}`],
      body,
    )
    const socket = await dial(gateway.url)
    socket.on('error', () => undefined)
    socket.pause()
    socket.write(one.repeat(50))
    let before = -1
    while (before !== world.upstream.seen.length || before === 0) {
      before = world.upstream.seen.length
      await new Promise((resolve) => setTimeout(resolve, 300))
    }
    // The buffers of the system hold a few answers.
    expect(world.upstream.seen.length).toBeLessThan(30)
    expect(world.upstream.seen.filter(({ finished }) => !finished).length).toBeLessThan(2)
    const closed = once(socket, 'close')
    socket.destroy()
    await closed
  })

  test('a client whose body comes in tiny pieces gets an answer, and is hung up on', async () => {
    const head = requestOf(`POST ${CHAT} HTTP/1.1`, [
      'Host: h',
      TOKEN,
      'Transfer-Encoding: chunked',
    ])
    const { text, statuses } = await raw(gateway.url, head + '1\r\na\r\n'.repeat(100_000))
    expect(statuses).toEqual([400])
    expect(text).toContain('send it in pieces of at least 512 bytes')
    expect(await statusOf(await chat(gateway, quiet))).toBe(200)
  })

  test('bodies that are held give way to others, and what they hold is bounded', async () => {
    const size = 4 * 1024 * 1024 - 1
    const held = await Promise.all(
      Array.from({ length: 24 }, async () => {
        const socket = await dial(gateway.url)
        socket.on('error', () => undefined)
        let answer = ''
        socket.on('data', (data: Buffer) => (answer += data.toString()))
        socket.write(
          requestOf(`POST ${CHAT} HTTP/1.1`, ['Host: h', TOKEN, `Content-Length: ${size}`], ''),
        )
        const written = new Promise<void>((resolve) => {
          socket.write(Buffer.alloc(size - 1, 0x20), () => resolve())
          socket.once('close', () => resolve())
        })
        return { socket, written, status: () => answer.slice(9, 12) }
      }),
    )
    await Promise.all(held.map(({ written }) => written))
    await expect
      .poll(() => held.filter(({ status }) => status() === '429').length)
      .toBeGreaterThan(7)
    const body = JSON.stringify({ model: 'a/b', messages: [], x: 'x'.repeat(1024 * 1024) })
    const answer = await fetch(gateway.url + CHAT, { method: 'POST', headers: quiet, body })
    expect(await statusOf(answer)).toBe(200)
    const open = held.map(({ socket }) => socket).filter(({ destroyed }) => !destroyed)
    const closing = open.map((socket) => once(socket, 'close'))
    for (const socket of open) socket.destroy()
    await Promise.all(closing)
  }, 20_000)

  const partOf = (path: string, headers: string[], body: string) =>
    requestOf(`POST ${path} HTTP/1.1`, ['Host: h', ...headers], body)
  const whole = partOf(CHAT, [TOKEN, 'Content-Length: 29'], '{"model":"a/b","messages":[]}')
  const half = partOf(CHAT, [TOKEN, 'Content-Length: 500'], '{"model":')

  test.each<[string, string, (socket: Socket) => void]>([
    ['half a chat', half, (socket) => socket.resetAndDestroy()],
    ['a chat and half a second one', whole + half, (socket) => socket.resetAndDestroy()],
    ['three chats', whole.repeat(3), (socket) => socket.resetAndDestroy()],
    [
      'half a form',
      partOf(
        '/api/admin/login',
        ['Content-Type: application/x-www-form-urlencoded', 'Content-Length: 50'],
        'key=',
      ),
      (socket) => socket.resetAndDestroy(),
    ],
    [
      'half a chunk of a form',
      partOf(
        '/api/admin/login',
        ['Content-Type: application/x-www-form-urlencoded', 'Transfer-Encoding: chunked'],
        '40\r\nkey=',
      ),
      (socket) => socket.end(),
    ],
    [
      'a chunk that is none',
      partOf(
        '/api/tracking/sync',
        ['Content-Type: application/json', 'Transfer-Encoding: chunked'],
        '2\r\n{}\r\nzzz\r\n',
      ),
      (socket) => socket.end(),
    ],
  ])('a client that sends %s and leaves causes no error in the log', async (_, bytes, leave) => {
    const from = gateway.log.length
    for (let n = 0; n < 5; n += 1) {
      const socket = await dial(gateway.url)
      socket.on('error', () => undefined)
      const closed = once(socket, 'close')
      socket.resume().write(bytes)
      await new Promise((resolve) => setTimeout(resolve, 10))
      leave(socket)
      await closed
    }
    expect(await statusOf(await chat(gateway, quiet))).toBe(200)
    const lines = gateway.log.slice(from).filter((line) => /"level":"(error|warn)"/.test(line))
    expect(lines).toEqual([])
  })
})
