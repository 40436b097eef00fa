/** Tests for HTTP calls on Node: they do not use `fetch`, but must behave like it. */
import { once } from 'node:events'
import { spawn } from 'node:child_process'
import dns from 'node:dns'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { connect, type AddressInfo, type Socket } from 'node:net'
import { brotliCompressSync, deflateRawSync, deflateSync, gzipSync } from 'node:zlib'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest'
import { isDecoded } from '../../src/platform/node/decode.ts'
import { nodeFetch, bodyText, useProxies } from '../../src/platform/node/http.ts'
import { proxiesOf } from '../../src/platform/node/proxies.ts'
import type { UpstreamAnswer } from '../../src/ports.ts'
import { restNodeClient } from '../../src/platform/node/rest.ts'
import { restClient } from '../../src/store/redis/rest.ts'
import { startRedis, type Redis } from '../support/redis.ts'
import { startUpstash, type Upstash } from '../support/upstash.ts'

type Handler = (req: IncomingMessage, res: ServerResponse) => void

let server: Server
let url: string
let handle: Handler

beforeAll(async () => {
  server = createServer((req, res) => handle(req, res)).listen(0, '127.0.0.1')
  await once(server, 'listening')
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/path?q=1`
})

afterAll(() => {
  server.closeAllConnections()
  server.close()
})

const call = (handler: Handler, signal = new AbortController().signal): Promise<UpstreamAnswer> => {
  handle = handler
  const body = Buffer.from('a body')
  return nodeFetch(url, { method: 'POST', headers: {}, body, signal, redirect: 'manual' })
}

const failing = (promise: Promise<unknown>): Promise<Error> =>
  promise.then(
    () => Promise.reject(new Error('it did not fail')),
    (error: unknown) => error as Error,
  )

test('the request arrives unchanged', async () => {
  const answer = await call((req, res) => {
    const chunks: Buffer[] = []
    req.on('data', (chunk: Buffer) => chunks.push(chunk))
    req.on('end', () => {
      res.end(JSON.stringify([req.method, req.url, req.headers, Buffer.concat(chunks).toString()]))
    })
  })
  expect(JSON.parse(await bodyText(answer))).toEqual([
    'POST',
    '/path?q=1',
    expect.objectContaining({ 'content-length': '6', 'user-agent': 'node' }),
    'a body',
  ])
})

test('status and headers are as in fetch, and repeated headers are one value', async () => {
  const answer = await call((_, res) => {
    res.writeHead(429, 'Slow Down', [
      ['X-One', '1'],
      ['x-two', 'a'],
      ['X-Two', 'b'],
      ['x-latin', 'caf\u00e9'],
    ] as never)
    res.end('no')
  })
  expect(answer).toMatchObject({ status: 429, statusText: 'Slow Down', ok: false })
  const given = Object.fromEntries(answer.headers)
  expect(given).toMatchObject({ 'x-one': '1', 'x-two': 'a, b', 'x-latin': 'caf\u00e9' })
  expect(answer.headers.get('x-none') ?? null).toBeNull()
})

test.each([204, 304])('an answer of status %i has no body', async (status) => {
  const { body } = await call((_, res) => res.writeHead(status).end())
  expect(body).toBeNull()
})

test('a redirection is not followed', async () => {
  const { status } = await call((_, res) => res.writeHead(307, { location: url }).end())
  expect(status).toBe(307)
})

test('informational answers are ignored', async () => {
  const answer = await call((_, res) => {
    res.writeProcessing()
    res.end('the answer')
  })
  expect(answer.status).toBe(200)
  expect(await bodyText(answer)).toBe('the answer')
})

const TEXT = 'what was said '.repeat(10_000)
const packed = gzipSync(TEXT)
const twice = (pack: (data: Buffer) => Buffer) => pack(pack(Buffer.from(TEXT)))

test.each<[string, string | Buffer]>([
  ['gzip', packed],
  ['X-GZIP', packed],
  ['deflate', deflateSync(TEXT)],
  ['deflate', deflateRawSync(TEXT)],
  ['Deflate, deflate', twice(deflateRawSync)],
  ['br', brotliCompressSync(TEXT)],
  ['gzip, br', brotliCompressSync(packed)],
  ['gzip,gzip,gzip,gzip,gzip', [1, 2, 3, 4].reduce((data) => gzipSync(data), packed)],
  ['', TEXT],
  ['identity', TEXT],
  // A coding that is not known, also beside one that is: the bytes stay as they are.
  ['zstd', Buffer.from('28b52ffd0458', 'hex')],
  ['gzip, identity', packed],
  ['identity, gzip', packed],
  ['gzip,', packed],
  ['gzip;q=1', packed],
  ['constructor', packed],
  // Nothing, and an end within the compressed data.
  ['gzip', ''],
  ['deflate', ''],
  ['br', ''],
  ['gzip', packed.subarray(0, packed.length - 9)],
  ['gzip', 'this is no gzip'],
  ['deflate', 'this is not deflated'],
])(
  'an answer in %j is decoded as fetch decodes it, although it was not requested',
  async (coding, body) => {
    const send: Handler = (_, res) => res.writeHead(200, { 'content-encoding': coding }).end(body)
    const told = async (text: Promise<string>) => text.catch(() => 'an error')
    const answer = await call(send)
    const kept = (answer.headers.get('content-encoding') ?? '') !== '' && !isDecoded(coding)
    const found = await told(bodyText(answer))
    // Newer Node knows zstd; then the header stays with our bytes.
    if (coding !== 'zstd') expect(found).toBe(await told(fetch(url).then((one) => one.text())))
    expect(kept).toBe(found === body.toString() && body.length > 0 && coding !== '')
  },
)

const FINAL = 'HTTP/1.1 200 OK\r\nX-Final: 1\r\nContent-Length: 25\r\n\r\n'
// A body that looks like an informational answer stays a body.
const LIKE_ONE = 'HTTP/1.1 100 Continue\r\n\r\n'
const HINTS = 'HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n'

test.each([
  ['100 Continue', [LIKE_ONE + FINAL, LIKE_ONE]],
  ['102 Processing', ['HTTP/1.1 102 Processing\r\n\r\n', FINAL, LIKE_ONE]],
  ['103 Early Hints', [HINTS, FINAL + LIKE_ONE]],
  ['several', [LIKE_ONE, HINTS + LIKE_ONE, HINTS, FINAL, LIKE_ONE]],
  ['one in pieces', ['HTTP/1', '.1 10', '0 Continue\r\n', '\r\nHTTP/', FINAL.slice(5), LIKE_ONE]],
])('informational answers before the final one are skipped: %s', async (_, pieces) => {
  const send = async ({ socket }: ServerResponse) => {
    for (const piece of pieces) {
      socket?.write(piece)
      await new Promise((resolve) => setTimeout(resolve, 2))
    }
    socket?.end()
  }
  let closed: Promise<unknown> | undefined
  const answer = await call((req, res) => {
    closed = once(req.socket, 'close')
    req.resume()
    void send(res)
  })
  const told = [answer.status, answer.headers.get('x-final'), answer.headers.get('link')]
  expect(told).toEqual([200, '1', undefined])
  expect(await bodyText(answer)).toBe(LIKE_ONE)
  // The next test would be sent on this connection if its end had not arrived.
  await closed
})

test('a connection with informational answers is used again', async () => {
  const sockets = new Set<unknown>()
  for (let n = 0; n < 20; n += 1) {
    const answer = await call((req, res) => {
      sockets.add(req.socket)
      res.writeContinue()
      res.writeProcessing()
      req.resume().on('end', () => res.end(LIKE_ONE))
    })
    expect(await bodyText(answer)).toBe(LIKE_ONE)
  }
  // The tests before this one may have left some.
  expect(sockets.size).toBeLessThan(20)
})

test('an answer that switches protocols is an error, and not waited for', async () => {
  const switches = 'HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n'
  const answer = call((_, res) => void res.socket?.end(switches))
  expect(await failing(answer)).toBeInstanceOf(Error)
})

test('a body that nobody reads lets its connection go, decoded or not', async () => {
  for (const coding of ['gzip', 'identity']) {
    let closed: Promise<unknown> | undefined
    const answer = await call((_, res) => {
      closed = once(res, 'close')
      res.writeHead(200, { 'content-encoding': coding }).write(packed)
    })
    await answer.body?.cancel()
    await closed
  }
})

test('a broken encoding fails the reading, and nothing else', async () => {
  const answer = await call((_, res) => {
    res.writeHead(200, { 'content-encoding': 'gzip' }).end('this is no gzip')
  })
  await expect(bodyText(answer)).rejects.toThrow()
})

test('an answer that breaks off fails the reading', async () => {
  const answer = await call((_, res) => {
    res.writeHead(200, { 'content-length': '10' })
    res.write('half', () => res.destroy())
  })
  await expect(bodyText(answer)).rejects.toThrow()
})

test('a sender waits while nobody reads', async () => {
  const chunk = Buffer.alloc(64 * 1024)
  let sent = 0
  let full = () => {}
  const waiting = new Promise<void>((resolve) => (full = resolve))
  const { body } = await call((_, res) => {
    const more = () => {
      while (sent < 1000) {
        sent += 1
        if (res.write(chunk)) continue
        const stuck = setTimeout(full, 300)
        return void res.once('drain', () => (clearTimeout(stuck), more()))
      }
      res.end()
    }
    more()
  })
  await waiting
  expect(sent).toBeLessThan(1000)
  const reader = body?.getReader()
  let got = 0
  for (let read = await reader?.read(); read?.value; read = await reader?.read()) {
    got += read.value.length
  }
  expect(got).toBe(1000 * chunk.length)
})

describe('a signal', () => {
  const reason = new DOMException('enough', 'TimeoutError')

  test('that is already aborted prevents the call', async () => {
    let asked = false
    const error = await failing(call(() => void (asked = true), AbortSignal.abort(reason)))
    expect([error, asked]).toEqual([reason, false])
  })

  test('ends a call that waits for its answer', async () => {
    const controller = new AbortController()
    let leave = () => {}
    const gone = new Promise<void>((resolve) => (leave = resolve))
    const waiting = call((req) => {
      req.socket.once('close', leave)
      controller.abort(reason)
    }, controller.signal)
    expect(await failing(waiting)).toBe(reason)
    await gone
  })

  test('ends a call that is still connecting, at once', async () => {
    const controller = new AbortController()
    // An address that no host has: https://www.rfc-editor.org/rfc/rfc5737
    const waiting = nodeFetch('http://192.0.2.1/', {
      method: 'GET',
      headers: {},
      body: null,
      signal: controller.signal,
      redirect: 'manual',
    })
    setTimeout(() => controller.abort(reason), 20)
    const start = performance.now()
    await failing(waiting)
    expect(performance.now() - start).toBeLessThan(2000)
  })

  test('fails the reading of a body, and upstream is let go', async () => {
    const controller = new AbortController()
    let gone: Promise<unknown> | undefined
    const { body } = await call((req, res) => {
      gone = once(req.socket, 'close')
      res.write('the beginning')
    }, controller.signal)
    const reader = body?.getReader()
    await reader?.read()
    const next = failing(reader?.read() ?? Promise.resolve())
    controller.abort(reason)
    expect(await next).toBe(reason)
    await gone
  })
})

test('a reader that cancels lets upstream go', async () => {
  let gone: Promise<unknown> | undefined
  const { body } = await call((req, res) => {
    gone = once(req.socket, 'close')
    res.write('the beginning')
  })
  await body?.cancel()
  await gone
})

test('a closed port is an error with its code', async () => {
  const error = await failing(
    nodeFetch('http://127.0.0.1:1/', {
      method: 'GET',
      headers: {},
      body: null,
      signal: new AbortController().signal,
      redirect: 'manual',
    }),
  )
  expect(error).toMatchObject({ code: 'ECONNREFUSED' })
})

describe('the database over REST', () => {
  let redis: Redis
  let upstash: Upstash

  beforeAll(async () => {
    redis = await startRedis()
    upstash = await startUpstash(redis)
  })

  beforeEach(() => upstash.reset())

  afterAll(async () => {
    await upstash.close()
    await redis.stop()
  })

  const clients = (timeoutMs = 5000) => {
    const options = { url: upstash.url, token: upstash.token, timeoutMs }
    return { ours: restNodeClient(options), theirs: restClient(options) }
  }

  test('answers are those of the Upstash client', async () => {
    const { ours, theirs } = clients()
    const both = async (run: (client: typeof ours) => Promise<unknown>) => {
      const answer = await run(ours)
      expect(answer).toEqual(await run(theirs))
      return answer
    }
    expect(await both((client) => client.set('k', '{"a":1}', { ex: 60 }))).toBe('OK')
    expect(await both((client) => client.get('k'))).toBe('{"a":1}')
    expect(await both((client) => client.mget('k', 'none'))).toEqual(['{"a":1}', null])
    await ours.zadd('z', { score: 1.5, member: 'm' })
    await both((client) =>
      client.zrange('z', '+inf', 0, {
        byScore: true,
        rev: true,
        offset: 0,
        count: 5,
        withScores: true,
      }),
    )
    const [one, other] = upstash.log.slice(-2)
    expect(one?.commands).toEqual(other?.commands)
  })

  test.each<[string, (client: ReturnType<typeof clients>['ours']) => Promise<unknown>]>([
    ['an unknown script', (client) => client.evalsha('0'.repeat(40), [], [])],
    ['a wrong type', (client) => client.lrange('a-string', 0, 1)],
  ])('%s is an error of the same name and code', async (_, run) => {
    const { ours, theirs } = clients()
    await ours.set('a-string', 'text')
    const [error, other] = [await failing(run(ours)), await failing(run(theirs))]
    expect(error.name).toBe(other.name)
    expect(error.message.split(' ')[0]).toBe(other.message.split(' ')[0])
    expect(error.message).not.toContain('a-string')
  })

  test.each([
    ['503 without json', { status: 503, body: '<html>' }],
    ['500 without an error', { status: 500, body: '{}' }],
    ['null', { body: 'null' }],
  ])('%s is an error', async (_, fault) => {
    upstash.fault(() => fault)
    await expect(clients().ours.get('k')).rejects.toThrow()
  })

  test('a call ends at its deadline, also if only the headers have arrived', async () => {
    upstash.fault(() => ({ hang: true }))
    expect((await failing(clients(50).ours.get('k'))).name).toBe('TimeoutError')
    const hanging = createServer((_, res) => void res.writeHead(200).flushHeaders()).listen(0)
    await once(hanging, 'listening')
    const { port } = hanging.address() as AddressInfo
    const client = restNodeClient({ url: `http://127.0.0.1:${port}`, token: 't', timeoutMs: 50 })
    expect((await failing(client.get('k'))).name).toBe('TimeoutError')
    hanging.closeAllConnections()
    hanging.close()
  })

  test('a call whose answer is lost is sent once', async () => {
    upstash.fault(() => ({ apply: true, reset: true }))
    await failing(clients().ours.set('once', '1'))
    expect(upstash.log).toHaveLength(1)
  })

  test('the token of the last write is sent with the next call', async () => {
    const seen: unknown[] = []
    const fake = createServer((req, res) => {
      seen.push(req.headers['upstash-sync-token'])
      res.setHeader('upstash-sync-token', `after-${seen.length}`).end('{"result":"OK"}')
    }).listen(0)
    await once(fake, 'listening')
    const { port } = fake.address() as AddressInfo
    const client = restNodeClient({ url: `http://127.0.0.1:${port}/`, token: 't', timeoutMs: 5000 })
    await client.set('k', '1')
    await client.get('k')
    expect(seen).toEqual(['', 'after-1'])
    fake.closeAllConnections()
    fake.close()
  })
})

const get = async (address: string) => {
  const { signal } = new AbortController()
  const init = { method: 'GET', headers: {}, body: null, signal, redirect: 'manual' } as const
  return bodyText(await nodeFetch(address, init))
}

describe('a proxy', () => {
  let proxy: Server
  let address: string
  let asked: { target: string | undefined; auth: string | undefined }[]
  let redis: Redis
  let upstash: Upstash
  const ends: Socket[] = []

  beforeAll(async () => {
    proxy = createServer().listen(0, '127.0.0.1')
    await once(proxy, 'listening')
    address = `127.0.0.1:${(proxy.address() as AddressInfo).port}`
    proxy.on('connect', (req, near: Socket) => {
      asked.push({ target: req.url, auth: req.headers['proxy-authorization'] })
      if (req.url === 'refused.example:80') return near.end('HTTP/1.1 403 No\r\n\r\n')
      near.write('HTTP/1.1 200 OK\r\n\r\n')
      const to = req.url === 'database.example:80' ? new URL(upstash.url).port : new URL(url).port
      const far = connect(Number(to), '127.0.0.1')
      for (const end of [near, far]) end.on('error', () => undefined)
      near.pipe(far).pipe(near)
      return ends.push(near, far)
    })
    redis = await startRedis()
    upstash = await startUpstash(redis)
  })

  beforeEach(() => {
    asked = []
    handle = (_, res) => res.end('the answer')
  })

  afterEach(() => useProxies({}))

  afterAll(async () => {
    for (const end of ends) end.destroy()
    proxy.close()
    await upstash.close()
    await redis.stop()
  })

  test('is used for upstream and for the database over REST', async () => {
    useProxies({ HTTP_PROXY: `http://me:secret@${address}` })
    expect(await get('http://upstream.example/')).toBe('the answer')
    const database = { url: 'http://database.example', token: upstash.token, timeoutMs: 5000 }
    expect(await restNodeClient(database).set('k', '1')).toBe('OK')
    const auth = `Basic ${Buffer.from('me:secret').toString('base64')}`
    expect(asked).toEqual([
      { target: 'upstream.example:80', auth },
      { target: 'database.example:80', auth },
    ])
  })

  test('is not used for what NO_PROXY names, nor for another scheme', async () => {
    useProxies({ HTTP_PROXY: address, NO_PROXY: 'other.example, 127.0.0.1' })
    expect(await get(url)).toBe('the answer')
    useProxies({ HTTPS_PROXY: address })
    expect(await get(url)).toBe('the answer')
    expect(asked).toEqual([])
  })

  test('that refuses is an error without its password', async () => {
    useProxies({ HTTP_PROXY: `http://me:secret@${address}` })
    const error = await failing(get('http://refused.example/'))
    expect(error.message).toContain('403')
    expect(error.message).not.toContain('secret')
  })
})

test.each([
  [{ HTTPS_PROXY: 'http://a:1', https_proxy: 'http://b:1' }, { https: 'http://b:1' }],
  [{ HTTPS_PROXY: ' ', HTTP_PROXY: 'a:1' }, { http: 'http://a:1' }],
  [
    { all_proxy: 'https://a:1', HTTP_PROXY: 'b:1' },
    { http: 'http://b:1', https: 'https://a:1' },
  ],
  [{ NO_PROXY: 'a.example' }, { except: 'a.example' }],
])('of %j, the proxies are %j', (env, proxies) => {
  expect(proxiesOf(env)).toEqual({
    http: undefined,
    https: undefined,
    except: undefined,
    ...proxies,
  })
})

test.each(['socks5://me:secret@a:1', 'http://', 'a secret'])(
  'the proxy %s is an error that names the variable and no value',
  (HTTPS_PROXY) => {
    expect(() => proxiesOf({ HTTPS_PROXY })).toThrow(/HTTPS_PROXY must be .*http:\/\/proxy/)
    expect(() => proxiesOf({ HTTPS_PROXY })).not.toThrow(/secret/)
  },
)

test('a distant address gets the time for a lost packet, although another address refuses at once', async () => {
  const script = `const server = require('node:http').createServer((req, res) => res.end('far'))
    server.listen({ port: 0, host: '127.0.0.1', backlog: 1 }, () => console.log(server.address().port))`
  const far = spawn(process.execPath, ['-e', script])
  const [port] = (await once(far.stdout, 'data')) as [Buffer]
  const idle: Socket[] = []
  try {
    // While it is stopped, the system takes two connections for it and then drops packets.
    far.kill('SIGSTOP')
    for (let n = 0; n < 3; n += 1)
      idle.push(connect(Number(port), '127.0.0.1').on('error', () => undefined))
    await Promise.all(idle.slice(0, 2).map((socket) => once(socket, 'connect')))
    vi.spyOn(dns, 'lookup').mockImplementation(((_: string, __: unknown, done: Function) => {
      done(null, [
        { address: '127.0.0.1', family: 4 },
        { address: '::1', family: 6 },
      ])
    }) as never)
    const answer = get(`http://far.example:${Number(port)}/`)
    setTimeout(() => far.kill('SIGCONT'), 400)
    expect(await answer).toBe('far')
  } finally {
    vi.restoreAllMocks()
    for (const socket of idle) socket.destroy()
    far.kill('SIGKILL')
  }
})
