/** Attacks over a socket: paths, headers and bodies that two parsers could read differently. */
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { once } from 'node:events'
import type { Server } from 'node:http'
import { gzipSync } from 'node:zlib'
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest'
import { createIds } from '../../src/identity/ids.ts'
import { logIn, SAME_ORIGIN } from '../support/admin.ts'
import { eventOf, KINDS, type Gateway } from '../support/gateways.ts'
import { dial, raw, requestOf } from '../support/raw.ts'
import { transcripts } from '../support/transcripts.ts'
import { startUpstream, type Upstream } from '../support/upstream.ts'
import { useWorld } from '../support/world.ts'

const world = useWorld()

const CHAT = '/api/groq/openai/v1/chat/completions'
const MODELS = '/api/groq/openai/v1/models'
const TOKEN = 'Authorization: Bearer token-of-a-user'
const MODEL = 'openai/gpt-oss-20b'

const chat = (model = MODEL) => JSON.stringify({ model, messages: [] })

/** The calls that the database got, without settlements of the previous test. A call may carry some of these too. */
const asked = () =>
  world.upstash.log.filter(({ commands: [args] }) => !args?.at(-1)?.includes('"op":"settle"'))

let evil: Upstream
beforeAll(async () => {
  evil = await startUpstream()
})
beforeEach(() => evil.reset())
afterAll(() => evil?.close())

/** EVIL stands for the host and port of a server that must never be called, HERE for the gateway's own. */
const TARGETS = [
  `${MODELS}/../files`,
  `${MODELS}/..`,
  `${MODELS}/../../../../x`,
  `${MODELS}/%2e%2e/files`,
  `${MODELS}/%2E%2E/files`,
  `${MODELS}/%2e%2e%2ffiles`,
  `${MODELS}/..%2ffiles`,
  `${MODELS}/..%2Ffiles%2Ffile_1%2Fcontent`,
  `${MODELS}/.%2e/files`,
  `${MODELS}/a%2f..%2f..%2ffiles`,
  `${MODELS}/a/..%2f..%2f..%2f..%2fx`,
  `${MODELS}/%252e%252e%252ffiles`,
  `${MODELS}/..%5cfiles`,
  `${MODELS}/..\\files`,
  `${MODELS}\\..\\files`,
  `${MODELS}/..;/files`,
  `${MODELS};x/files`,
  `${MODELS}/%c0%ae%c0%ae/files`,
  `${MODELS}/%u002e%u002e/files`,
  `${MODELS}/\u00e2\u0080\u00a4\u00e2\u0080\u00a4/files`,
  `${MODELS}/%EF%BC%8E%EF%BC%8E%EF%BC%8Ffiles`,
  `${MODELS}/%00`,
  `${MODELS}/a%0d%0aHost:%20EVIL`,
  `${MODELS}/a%20HTTP/1.1%0d%0aHost:%20EVIL`,
  `${MODELS}/%23`,
  `${MODELS}/%3f`,
  `${MODELS}/a#/../../files`,
  `${MODELS}/?/../../files`,
  `${MODELS}?x=..%2f..&y=%0d%0aHost:EVIL`,
  `${MODELS}/@EVIL/`,
  `${MODELS}/http://EVIL/`,
  `${MODELS}/http:%2f%2fEVIL%2f`,
  `${MODELS}//EVIL/`,
  `${MODELS}@EVIL/`,
  `//EVIL${MODELS}`,
  `///EVIL${MODELS}`,
  `/\\EVIL${MODELS}`,
  `http://EVIL${MODELS}`,
  `http://EVIL/`,
  `http://HERE@EVIL${MODELS}`,
  `http://EVIL\\@HERE${MODELS}`,
  `https://EVIL${MODELS}`,
  `ftp://EVIL${MODELS}`,
  `file:///etc/passwd`,
  `EVIL`,
  `*`,
  `/api//groq/openai/v1/models`,
  `/api/groq//EVIL/v1/models`,
  `/api/groq/openai/v1/../../openai/v1/models`,
  `/api/groq/openai/v1/%6dodels`,
  `/api/groq/open%61i/v1/models/openai/v1/files`,
  `/api/groq%2fopenai%2fv1%2fmodels`,
  `/API/GROQ/openai/v1/models`,
  `/api/groq/openai/v1/chat%2fcompletions`,
  `/api/groq/openai/v1/chat/completions/`,
  `/api/groq/openai/v1/chat/completions/../../files`,
  `/api/groq/openai/v1/chat/completions/%2e%2e/%2e%2e/files`,
  `/api/groq/openai/v1/chat/completions%00`,
  `/api/groq/openai/v1/chat/completions;/files`,
  `/api/groq/openai/v1/files`,
  `/api/groq/openai/v1/models/x/../../fine_tuning/jobs`,
  `/openai/v1/models`,
]

/** The only paths that may reach upstream. */
const ALLOWED_UP = /^\/openai\/v1\/(chat\/completions|models(\/[A-Za-z0-9._:/-]+)?)$/

describe.each(KINDS)('on %s', (kind) => {
  let gateway: Gateway
  beforeEach(async () => {
    gateway = await world.gateway(kind)
  })

  test.each(TARGETS)('%s reaches no other host and no other route', async (written) => {
    const here = new URL(gateway.url).host
    const target = written.replaceAll('EVIL', new URL(evil.url).host).replaceAll('HERE', here)
    const body = chat()
    for (const line of [`GET ${target} HTTP/1.1`, `POST ${target} HTTP/1.1`]) {
      const headers = [`Host: ${here}`, TOKEN, 'Connection: close']
      if (line.startsWith('POST')) headers.push(`Content-Length: ${body.length}`)
      const { statuses } = await raw(
        gateway.url,
        requestOf(line, headers, line.startsWith('POST') ? body : ''),
        kind === 'workerd',
      )
      expect(statuses.length).toBeLessThanOrEqual(1)
      // Miniflare's own front answers an invalid URL with a 500.
      if (kind === 'node') expect(statuses.filter((status) => status >= 500)).toEqual([])
    }
    for (const { path, headers } of world.upstream.seen) {
      const [pathname = ''] = path.split('?')
      expect(decodeURIComponent(pathname)).toMatch(ALLOWED_UP)
      expect(decodeURIComponent(pathname)).not.toContain('..')
      expect(headers.host).toBe(new URL(world.upstream.url).host)
    }
    expect(evil.seen).toEqual([])
  })

  test.each([
    ['a Host of another server', ['Host: EVIL']],
    ['a Host with another behind an @', ['Host: HERE@EVIL']],
    ['a Host with a path', ['Host: EVIL/x?']],
    ['two Hosts', ['Host: HERE', 'Host: EVIL']],
    ['no Host', []],
    ['a forwarded host', ['Host: HERE', 'X-Forwarded-Host: EVIL', 'Forwarded: host=EVIL']],
    ['another URL in a header', ['Host: HERE', 'X-Original-URL: /x', 'X-Rewrite-URL: /x']],
    ['another method in a header', ['Host: HERE', 'X-HTTP-Method-Override: DELETE']],
    ['a header made hop-by-hop', ['Host: HERE', 'Connection: authorization, x-weir-id']],
    ['an upgrade', ['Host: HERE', 'Connection: upgrade', 'Upgrade: h2c', 'HTTP2-Settings: AAAA']],
  ])('%s changes neither what is asked of upstream nor of whom', async (_, lines) => {
    const here = new URL(gateway.url).host
    const headers = lines.map((line) =>
      line.replaceAll('EVIL', new URL(evil.url).host).replaceAll('HERE', here),
    )
    const body = chat()
    const all = [...headers, TOKEN, 'Connection: close', `Content-Length: ${body.length}`]
    const request = requestOf(`POST ${CHAT} HTTP/1.1`, all, body)
    const { statuses } = await raw(gateway.url, request, kind === 'workerd')
    expect(statuses).toHaveLength(1)
    expect(kind === 'node' ? [200, 400] : [200, 400, 500]).toContain(statuses[0])
    expect(world.upstream.seen).toHaveLength(statuses[0] === 200 ? 1 : 0)
    for (const seen of world.upstream.seen) {
      expect([seen.method, seen.path]).toEqual(['POST', '/openai/v1/chat/completions'])
      expect(seen.headers.host).toBe(new URL(world.upstream.url).host)
      expect(seen.headers.authorization).toBe('Bearer gsk_server_key')
      for (const name of Object.keys(seen.headers))
        expect(name).not.toMatch(/^x-|forwarded|upgrade/)
    }
    expect(evil.seen).toEqual([])
  })

  test.each([
    'Location: http://127.0.0.1:9/',
    'X-A: b\r\nSet-Cookie: weir_session=x',
    'X-A: b\nSet-Cookie: weir_session=x',
    'X-A: b\r Set-Cookie: weir_session=x',
  ])('a header with %j in it comes back as no header', async (line) => {
    const encoded = encodeURIComponent(line)
    const target = `${MODELS}/x?${encoded}`
    const headers = [`Host: ${new URL(gateway.url).host}`, `X-User-Token: ${line}`]
    const close = 'Connection: close'
    for (const request of [
      requestOf(`GET ${target} HTTP/1.1`, [`Host: h`, TOKEN, close]),
      requestOf(`GET ${MODELS} HTTP/1.1`, [...headers, close]),
      requestOf(`OPTIONS ${CHAT} HTTP/1.1`, [
        ...headers,
        'Origin: https://a.example',
        'Access-Control-Request-Method: POST',
        `Access-Control-Request-Headers: ${line}`,
        close,
      ]),
    ]) {
      const { text } = await raw(gateway.url, request, kind === 'workerd')
      const [head = ''] = text.split('\r\n\r\n')
      expect(head).not.toMatch(/^set-cookie:/im)
      expect(head).not.toMatch(/^location:/im)
    }
  })

  test.each([
    ['no token', CHAT, []],
    ['a packed body', CHAT, [TOKEN, 'Content-Encoding: gzip']],
    ['no such route', '/api/nothing', []],
    ['the wrong method', '/api/test', []],
    ['no admin', '/api/admin/usage', []],
  ] as const)(
    'a refusal for %s, which needs no look at the body, leaves the connection to the next request',
    async (_, path, headers) => {
      for (const size of [100, 30_000, 200_000]) {
        const socket = await dial(gateway.url)
        let text = ''
        socket.on('data', (part: Buffer) => (text += part.toString('latin1')))
        socket.on('error', () => undefined)
        const answers = () => [...text.matchAll(/HTTP\/1\.1 (\d)/g)].map(([, first]) => first)
        const lines = ['Host: h', ...headers, `Content-Length: ${size}`]
        socket.write(requestOf(`POST ${path} HTTP/1.1`, lines, 'x'.repeat(size)))
        await expect.poll(answers).toEqual(['4'])
        socket.write(requestOf('GET /api/test HTTP/1.1', ['Host: h']))
        await expect.poll(answers).toEqual(['4', '2'])
        socket.destroy()
      }
    },
  )

  test('a malformed chunk is a mistake of the client, and no error in the log', async () => {
    const before = gateway.log.length
    for (const path of [CHAT, '/api/groq', '/api/tracking/sync', '/api/admin/login']) {
      const headers = ['Host: h', TOKEN, 'Transfer-Encoding: chunked']
      const request = requestOf(`POST ${path} HTTP/1.1`, headers, '5\r\nhello\r\nZZ\r\nfoo\r\n')
      const { statuses } = await raw(gateway.url, request)
      expect([path, statuses]).toEqual([path, [400]])
    }
    const lines = gateway.log.slice(before).filter((line) => line.startsWith('{'))
    expect(lines.filter((line) => line.includes('"level":"error"'))).toEqual([])
    expect(world.upstream.seen).toEqual([])
  })

  test('no cache keeps an answer with a host that the client made up, and no other host is ours', async () => {
    const { host } = new URL(gateway.url)
    const paths = [
      '/',
      '/?x',
      '/admin',
      '/admin/users/x',
      '/api/openapi.json',
      '/tracker.js',
      '/api/test',
    ]
    for (const path of [...paths, '/api/groq', '/api/admin/usage', '/nothing', '//']) {
      for (const [target, own] of [
        [`http://evil.example${path}`, host],
        [`HTTPS://evil.example:443${path}`, host],
        [path, 'evil.example'],
      ] as const) {
        const headers = [`Host: ${own}`, 'X-Forwarded-Host: evil.example', 'Connection: close']
        const request = requestOf(`GET ${target} HTTP/1.1`, headers)
        const { text } = await raw(gateway.url, request, kind === 'workerd')
        const [head = '', ...body] = text.split('\r\n\r\n')
        const told = [target, own, head.split('\r\n')[0]]
        if (text.includes('evil.example')) {
          expect([...told, /^cache-control: *no-store/im.test(head)]).toEqual([...told, true])
        }
        expect([...told, /^location:.*evil/im.test(head)]).toEqual([...told, false])
        // On workerd, the platform makes the address of a request.
        if (kind === 'workerd' || own !== host) continue
        expect([...told, body.join().includes('evil.example')]).toEqual([...told, false])
        expect([...told, /^strict-transport-security/im.test(head)]).toEqual([...told, false])
      }
    }
  })

  test('a redirection of upstream is passed on, and our key is not led elsewhere by it', async () => {
    const location = `${evil.url}/openai/v1/models`
    for (const model of ['', MODEL])
      world.upstream.on(model, { status: 307, headers: { location }, body: '{}' })
    const call = { headers: { 'x-user-token': 'token-of-a-user' }, redirect: 'manual' } as const
    for (const answer of [
      // An answer without this query may be kept.
      await fetch(`${gateway.url}${MODELS}?redirected`, call),
      await fetch(`${gateway.url}${CHAT}`, { ...call, method: 'POST', body: chat() }),
    ]) {
      expect([answer.status, answer.headers.get('location')]).toEqual([307, location])
      await answer.arrayBuffer()
    }
    expect(world.upstream.seen).toHaveLength(2)
    expect(evil.seen).toEqual([])
  })

  test('a body has at most 64 KB for everything else than a model', async () => {
    const headers = { ...(await logIn(gateway)), ...SAME_ORIGIN, 'x-user-token': 'token-of-a-user' }
    const user = 'A'.repeat(22)
    for (const [path, type] of [
      ['/api/tracking/sync', 'application/json'],
      ['/api/admin/login', 'application/json'],
      ['/api/admin/login', 'application/x-www-form-urlencoded'],
      ['/api/admin/usage', 'application/json'],
      ['/admin/find', 'application/x-www-form-urlencoded'],
      [`/admin/users/${user}/block`, 'application/x-www-form-urlencoded'],
    ] as const) {
      const answer = await fetch(`${gateway.url}${path}`, {
        method: 'POST',
        headers: { ...headers, 'content-type': type },
        body: ' '.repeat(64 * 1024 + 1),
      })
      expect([path, answer.status]).toEqual([path, 413])
      await answer.arrayBuffer()
    }
  })

  test('a request body that is packed is refused and never unpacked, whatever route it is for', async () => {
    const bomb = gzipSync(Buffer.alloc(16 * 1024 * 1024, 0x20))
    for (const path of [CHAT, '/api/groq', '/api/tracking/sync', '/api/admin/login']) {
      for (const encoding of [
        'gzip',
        'GZIP',
        'x-gzip',
        'gzip, identity',
        'deflate',
        'br',
        'zstd',
      ]) {
        const response = await fetch(`${gateway.url}${path}`, {
          method: 'POST',
          headers: {
            'x-user-token': 'token-of-a-user',
            'content-type': 'application/json',
            'content-encoding': encoding,
          },
          body: bomb,
        })
        expect([path, encoding, response.status]).toEqual([path, encoding, 415])
        await response.arrayBuffer()
      }
    }
    expect(world.upstream.seen).toEqual([])
    expect(asked()).toEqual([])
  })

  test('an answer that unpacks to a hundred times its size passes through, and is metered no further than the reservation', async () => {
    const size = 48 * 1024 * 1024
    world.upstream.on('bomb/plain', {
      headers: { 'content-type': 'application/json', 'content-encoding': 'gzip' },
      body: gzipSync(Buffer.alloc(size, 0x20)),
    })
    const response = await fetch(`${gateway.url}${CHAT}`, {
      method: 'POST',
      headers: { 'x-user-token': 'token-of-a-user', 'accept-encoding': 'identity' },
      body: chat('bomb/plain'),
    })
    let length = 0
    for await (const chunk of response.body as unknown as AsyncIterable<Uint8Array>) {
      length += chunk.length
    }
    expect(length).toBe(size)
    const event = await eventOf(world.store, response.headers.get('x-weir-id'))
    expect(event).toMatchObject({ outcome: 'estimated', charged: event.reserved })
    expect(world.upstream.seen[0]?.headers['accept-encoding']).toBe('identity')
  })

  test('the simple form, which has to read an answer whole, gives up one that is too large', async () => {
    world.upstream.on('bomb/form', {
      headers: { 'content-type': 'application/json', 'content-encoding': 'gzip' },
      body: gzipSync(Buffer.alloc(48 * 1024 * 1024, 0x20)),
    })
    const response = await fetch(`${gateway.url}/api/groq`, {
      method: 'POST',
      headers: { 'x-user-token': 'token-of-a-user' },
      body: JSON.stringify({ model: 'bomb/form', prompt: 'hi' }),
    })
    expect(response.status).toBe(502)
    expect(await response.json()).toMatchObject({
      error: {
        code: 'upstream_unreachable',
        message: expect.stringMatching(/too large/) as string,
      },
    })
  })

  test('a body that does not come holds no lease and nobody else up, and is not sent on when it breaks off', async () => {
    const slow = await Promise.all(
      Array.from({ length: 40 }, async () => {
        const socket = await dial(gateway.url)
        socket.on('error', () => undefined)
        const headers = [
          `Host: ${new URL(gateway.url).host}`,
          'Authorization: Bearer token-of-the-slow',
          'Content-Length: 1000',
        ]
        socket.write(`${requestOf(`POST ${CHAT} HTTP/1.1`, headers)}{"model":`)
        return socket
      }),
    )
    const other = await fetch(`${gateway.url}${CHAT}`, {
      method: 'POST',
      headers: { 'x-user-token': 'token-of-another' },
      body: chat(),
    })
    expect(other.status).toBe(200)
    await other.arrayBuffer()
    const { user } = await eventOf(world.store, other.headers.get('x-weir-id'))
    const closed = slow.map((socket) => once(socket, 'close'))
    for (const socket of slow) socket.destroy()
    await Promise.all(closed)
    const last = await fetch(`${gateway.url}${MODELS}?last`, {
      headers: { 'x-user-token': 'token-of-x' },
    })
    expect(last.status).toBe(200)
    await last.arrayBuffer()
    expect(world.upstream.seen.map(({ path }) => path)).toEqual([
      '/openai/v1/chat/completions',
      '/openai/v1/models?last',
    ])
    const ids = createIds('secret-of-the-tests')
    expect(await world.store.user(await ids.user('token-of-the-slow'))).toBeUndefined()
    expect((await world.store.user(user))?.usage.leases).toEqual({})
  })
})

/** A second request, hidden so that only one of two parsers sees it. */
const HIDDEN = requestOf(
  `POST ${CHAT} HTTP/1.1`,
  ['Host: h', 'Authorization: Bearer token-of-victim', 'Content-Length: 44'],
  JSON.stringify({ model: 'smuggled/x', messages: [], n: 1 }).padEnd(44),
)
const chunk = (text: string) => `${text.length.toString(16)}\r\n${text}\r\n`

const shape = (headers: string[], body: string, version = '1.1') =>
  requestOf(`POST ${CHAT} HTTP/${version}`, ['Host: h', TOKEN, ...headers], body)

const SHAPES: [string, string][] = [
  [
    'a length and chunks',
    shape(['Content-Length: 5', 'Transfer-Encoding: chunked'], `0\r\n\r\n${HIDDEN}`),
  ],
  [
    'chunks and a length',
    shape(['Transfer-Encoding: chunked', 'Content-Length: 5'], `0\r\n\r\n${HIDDEN}`),
  ],
  ['two lengths', shape(['Content-Length: 2', 'Content-Length: 200'], `{}${HIDDEN}`)],
  ['two lengths in a list', shape(['Content-Length: 2, 200'], `{}${HIDDEN}`)],
  ['the same length twice', shape(['Content-Length: 2', 'Content-Length: 2'], `{}${HIDDEN}`)],
  ['a length with a sign', shape(['Content-Length: +2'], `{}${HIDDEN}`)],
  ['a negative length', shape(['Content-Length: -2'], `{}${HIDDEN}`)],
  ['a length in hex', shape(['Content-Length: 0x2'], `{}${HIDDEN}`)],
  ['a length with a blank in it', shape(['Content-Length: 2 2'], `{}${HIDDEN}`)],
  ['a length beyond numbers', shape(['Content-Length: 18446744073709551618'], `{}${HIDDEN}`)],
  ['a blank before the colon', shape(['Content-Length : 2'], `{}${HIDDEN}`)],
  ['an unknown coding', shape(['Transfer-Encoding: xchunked'], `0\r\n\r\n${HIDDEN}`)],
  ['a coding after chunked', shape(['Transfer-Encoding: chunked, gzip'], `0\r\n\r\n${HIDDEN}`)],
  [
    'two transfer codings',
    shape(['Transfer-Encoding: chunked', 'Transfer-Encoding: identity'], `0\r\n\r\n${HIDDEN}`),
  ],
  ['a coding after a tab', shape(['Transfer-Encoding:\tidentity'], `0\r\n\r\n${HIDDEN}`)],
  [
    'a vertical tab before chunked',
    shape(['Transfer-Encoding: \x0bchunked'], `0\r\n\r\n${HIDDEN}`),
  ],
  [
    'a coding on a folded line',
    shape(['Transfer-Encoding:\r\n identity', 'Content-Length: 5'], `0\r\n\r\n${HIDDEN}`),
  ],
  [
    'a coding behind a bare line feed',
    shape(['X: a\nTransfer-Encoding: chunked', 'Content-Length: 5'], `0\r\n\r\n${HIDDEN}`),
  ],
  [
    'a coding behind a bare carriage return',
    shape(['X: a\rTransfer-Encoding: chunked', 'Content-Length: 5'], `0\r\n\r\n${HIDDEN}`),
  ],
  ['chunks in HTTP/1.0', shape(['Transfer-Encoding: chunked'], `0\r\n\r\n${HIDDEN}`, '1.0')],
  [
    'a chunk size that is no number',
    shape(['Transfer-Encoding: chunked'], `xyz\r\n{}\r\n${HIDDEN}`),
  ],
  ['a chunk size with a sign', shape(['Transfer-Encoding: chunked'], `-2\r\n{}\r\n${HIDDEN}`)],
  [
    'a chunk size beyond numbers',
    shape(['Transfer-Encoding: chunked'], `10000000000000002\r\n{}\r\n0\r\n\r\n${HIDDEN}`),
  ],
  ['a chunk that is too long', shape(['Transfer-Encoding: chunked'], `2\r\n{}xx\r\n${HIDDEN}`)],
  [
    'a bare line feed after a chunk size',
    shape(['Transfer-Encoding: chunked'], `2\n{}\n0\n\n${HIDDEN}`),
  ],
  [
    'a line feed in a chunk extension',
    shape(['Transfer-Encoding: chunked'], `2;x\n{}\r\n0\r\n\r\n${HIDDEN}`),
  ],
  ['a null byte in a header', shape(['X: a\0b', 'Content-Length: 2'], `{}${HIDDEN}`)],
  ['a header without a name', shape([': a', 'Content-Length: 2'], `{}${HIDDEN}`)],
  ['a version that is none', shape(['Content-Length: 2'], `{}${HIDDEN}`, '1.1x')],
]

describe('over one connection', () => {
  let gateway: Gateway
  beforeEach(async () => {
    gateway = await world.gateway('node')
  })

  test.each(SHAPES)(
    '%s: what hides behind it is never served, nor anything twice',
    async (_, bytes) => {
      const { statuses } = await raw(gateway.url, bytes)
      // Without ambiguity, the hidden request may count as a separate request. Then the gateway has refused the first
      // one.
      expect(statuses.every((status) => status >= 400 && status < 500)).toBe(true)
      expect(world.upstream.seen).toEqual([])
      expect(asked()).toEqual([])
    },
  )

  test('requests that come at once are answered in their order, each with its own answer, each once', async () => {
    const count = 40
    const models = Array.from({ length: count }, (_, n) => `own/model-${n}`)
    let most = 0
    for (const model of models) {
      world.upstream.on(model, () => {
        most = Math.max(most, world.upstream.seen.filter(({ finished }) => !finished).length)
        return { body: JSON.stringify({ mine: model }) }
      })
    }
    const bytes = models.map((model, n) => {
      const body = chat(model)
      const headers = ['Host: h', `Authorization: Bearer token-of-user-${n % 7}`]
      if (n === count - 1) headers.push('Connection: close')
      return n % 2
        ? requestOf(`POST ${CHAT} HTTP/1.1`, [...headers, `Content-Length: ${body.length}`], body)
        : requestOf(
            `POST ${CHAT} HTTP/1.1`,
            [...headers, 'Transfer-Encoding: chunked'],
            `${chunk(body.slice(0, 9))}3;ext=1;x="y"\r\n${body.slice(9, 12)}\r\n${chunk(body.slice(12))}0\r\nX-Trailer: 1\r\n\r\n`,
          )
    })
    const { text, statuses } = await raw(gateway.url, bytes.join(''))
    expect(statuses).toEqual(Array(count).fill(200))
    // Each is served when the one before it has been answered.
    expect(most).toBe(1)
    expect([...text.matchAll(/"mine":"([^"]+)"/g)].map(([, model]) => model)).toEqual(models)
    expect(world.upstream.seen.map(({ model }) => model).sort()).toEqual([...models].sort())
    for (const seen of world.upstream.seen) {
      expect(Buffer.from(seen.body).toString()).toBe(chat(seen.model))
      expect(Object.keys(seen.headers)).not.toContain('x-trailer')
    }
  })

  test('an answer to HTTP/1.0 has no chunks and ends the connection', async () => {
    const body = chat()
    const bytes = shape([`Content-Length: ${body.length}`], body, '1.0')
    const { text, statuses } = await raw(gateway.url, bytes)
    expect(statuses).toEqual([200])
    expect(text).not.toMatch(/^transfer-encoding/im)
    expect(world.upstream.seen.map(({ model }) => model)).toEqual([MODEL])
  })

  test.each([
    ['one header of 20 KB', [`X: ${'a'.repeat(20_000)}`], [431]],
    ['a cookie of 20 KB', [`Cookie: weir_session=${'a'.repeat(20_000)}`], [431]],
    ['a URL of 20 KB', [], [414, 431]],
    [
      'a thousand headers',
      Array.from({ length: 1000 }, (_, n) => `X-${n}: ${'a'.repeat(20)}`),
      [431],
    ],
  ])('%s is refused before anything else', async (name, headers, expected) => {
    const target = name.startsWith('a URL') ? `${MODELS}/${'a'.repeat(20_000)}` : MODELS
    const bytes = requestOf(`GET ${target} HTTP/1.1`, ['Host: h', TOKEN, ...headers])
    const { statuses } = await raw(gateway.url, bytes)
    expect(statuses).toHaveLength(1)
    expect(expected).toContain(statuses[0])
    expect(world.upstream.seen).toEqual([])
  })

  test('a client has two minutes for its headers and its body, whatever it does, and as long to be idle', async () => {
    const starts = 'http.server.request.start'
    let server: Server | undefined
    const note = (message: unknown) => {
      const { server: one, request } = message as { server: Server; request: { url: string } }
      if (request.url === '/api/admin/auth') server = one
    }
    subscribe(starts, note)
    try {
      await (await fetch(`${gateway.url}/api/admin/auth`)).arrayBuffer()
    } finally {
      unsubscribe(starts, note)
    }
    const { headersTimeout = 0, requestTimeout = 0, keepAliveTimeout = 0 } = server ?? {}
    // Zero would mean no time-out.
    for (const timeout of [headersTimeout, requestTimeout]) {
      expect(timeout).toBeGreaterThan(0)
      expect(timeout).toBeLessThanOrEqual(130_000)
    }
    // Longer than proxies in front keep idle connections, which then are never closed under a request.
    expect(keepAliveTimeout).toBeGreaterThan(120_000)
    expect(keepAliveTimeout).toBeLessThanOrEqual(130_000)
    expect(headersTimeout).toBeGreaterThan(keepAliveTimeout)
  })

  test('an answer that breaks off writes nothing past the log, and is not taken for whole', async () => {
    const told = vi.fn()
    const spies = (['error', 'info', 'log', 'warn'] as const).map((name) =>
      vi.spyOn(console, name).mockImplementation(told),
    )
    try {
      world.upstream.on('cut/stream', { transcript: transcripts.stream, cut: 700 })
      const response = await fetch(`${gateway.url}${CHAT}`, {
        method: 'POST',
        headers: { 'x-user-token': 'token-of-a-user' },
        body: JSON.stringify({ model: 'cut/stream', messages: [], stream: true }),
      })
      await expect(response.text()).rejects.toThrow()
      expect(await eventOf(world.store, response.headers.get('x-weir-id'))).toMatchObject({
        outcome: 'estimated',
      })
      expect(told).not.toHaveBeenCalled()
    } finally {
      for (const spy of spies) spy.mockRestore()
    }
  })

  test('an upload that never ends is refused and hung up on', async () => {
    const socket = await dial(gateway.url)
    socket.on('error', () => undefined)
    const closed = new Promise((resolve) => socket.once('close', resolve))
    socket.write(shape(['Transfer-Encoding: chunked'], ''))
    const piece = chunk('x'.repeat(64 * 1024))
    let sent = 0
    const more = () => {
      while (!socket.destroyed && socket.writable) {
        sent += piece.length
        if (!socket.write(piece)) return
      }
    }
    socket.on('drain', more)
    more()
    await closed
    // The server reads 4 MB, and then for half a second the data in transit, at most 64 MB.
    expect(sent).toBeLessThan(100 * 1024 * 1024)
    expect(world.upstream.seen).toEqual([])
    expect(asked()).toEqual([])
  })
})
