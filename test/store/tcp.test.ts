/** Tests for Redis over TCP only. */
import { build } from 'esbuild'
import { execFile, execFileSync, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createServer as createTlsServer } from 'node:tls'
import { inspect, promisify } from 'node:util'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { edgeBundle } from '../../scripts/bundle.ts'
import { restClient } from '../../src/store/redis/rest.ts'
import { StoreError, type Store } from '../../src/store/store.ts'
import { tcpClient, type TcpClient } from '../../src/store/redis/tcp.ts'
import { admitOf, AMPLE, NOON, settleOf } from '../support/commands.ts'
import { bundleText, useEntry } from '../support/entry.ts'
import { useDatabase } from '../support/database.ts'
import { redisStore, tcpStore, usersOf } from '../support/stores.ts'

const { redis, upstash } = useDatabase()
let pid: number
const opened: { remove(): Promise<void> | void }[] = []

const readPid = async () => {
  const info = String(await redis.command(['INFO', 'server']))
  return Number(/process_id:(\d+)/.exec(info)?.[1])
}

const freeze = () => process.kill(pid, 'SIGSTOP')
const thaw = () => process.kill(pid, 'SIGCONT')

const killRedis = async () => {
  pid = 0
  await redis.stop('SIGKILL')
}

const restart = async () => {
  await redis.restart()
  pid = await readPid()
}

beforeEach(async () => {
  pid = await readPid()
})

afterEach(async () => {
  if (pid) thaw()
  else await restart()
  vi.unstubAllEnvs()
  for (const one of opened.splice(0)) await one.remove()
})

function clientOf(url: string, timeoutMs = 10_000): TcpClient['redis'] {
  const client = tcpClient({ url, timeoutMs })
  opened.push({ remove: client.close })
  return client.redis
}

function storeOf(url: string, timeoutMs = 10_000): Store {
  const store = tcpStore(url, { timeoutMs })
  opened.push(store)
  return store
}

type Commands = TcpClient['redis']

const echo = (client: Commands, ...values: string[]) =>
  client.eval<string[], unknown>('return ARGV', [], values)

const add = (client: Commands, key: string) =>
  client.eval<[], number>('return redis.call("INCR", KEYS[1])', [key], [])

/** The error of a call, and the time until it was thrown. */
async function failing(call: () => Promise<unknown>): Promise<{ error: Error; ms: number }> {
  const from = performance.now()
  const error = await call().catch((cause: unknown) => cause)
  expect(error).toBeInstanceOf(Error)
  return { error: error as Error, ms: performance.now() - from }
}

const works = (client: Commands) =>
  expect.poll(() => echo(client, 'here').catch(String), { timeout: 5000 }).toEqual(['here'])

test('strings of any content come back unchanged', async () => {
  const client = clientOf(redis.url)
  const values = [
    ...['', ' ', '0', '12', '-1', '1.0', '1e3', '00123', '9007199254740993', 'NaN'],
    ...['true', 'null', '"q"', '{"a":1}', '[1,"2"]', '\\', '"', 'ü', '日本', '🦊', 'e\u0301'],
    ...['\u0000', 'a\r\nb', '\u2028', 'x'.repeat(200_000), 'é'.repeat(50_000)],
  ]
  expect(await echo(client, ...values)).toEqual(values)
  for (const [n, value] of values.entries()) {
    await redis.command(['SET', `s:${n}`, value])
    await redis.command(['RPUSH', 'list', value])
    await redis.command(['ZADD', 'set', n, value])
  }
  const keys = values.map((_, n) => `s:${n}`)
  expect(await client.mget(...keys, 'missing')).toEqual([...values, null])
  expect(await client.lrange('list', 0, -1)).toEqual(values)
  expect(await client.zrange('set', 0, -1)).toEqual(values)
  for (const value of values) {
    expect(await client.eval<string[], string>('return ARGV[1]', [], [value])).toBe(value)
  }
})

test('other answers are those of REST', async () => {
  await redis.command(['ZADD', 'set', '1.5', 'a', 'inf', 'b'])
  const clients = [restClient({ ...upstash, timeoutMs: 10_000 }), clientOf(redis.url)]
  const answers = await Promise.all(
    clients.map((client) =>
      Promise.all([
        client.eval('return 12', [], []),
        client.eval('return false', [], []),
        client.eval('return {1, "1", {false}}', [], []),
        client.eval('return redis.status_reply("FINE")', [], []),
        client.mget('missing'),
        client.zrange('set', 0, -1, { withScores: true }),
        client.lrange('missing', 0, -1),
      ]),
    ),
  )
  expect(answers[1]).toEqual(answers[0])
  expect(answers[1]).toEqual([12, null, [1, '1', [null]], 'FINE', [null], expect.anything(), []])
})

test('costs the same commands as REST and answers the same', async () => {
  const admits = ['1', '2', '3'].map((id) =>
    admitOf({ id, user: `user-${id}`, everyone: { total: AMPLE, model: AMPLE } }),
  )
  const use = async (store: Store) => {
    const answers: unknown[] = []
    for (const admit of admits) answers.push(await store.execute(admit))
    for (const admit of admits) answers.push(await store.execute(settleOf(admit)))
    answers.push(await store.execute(settleOf(admits[0]!)))
    const block = { at: NOON, reason: '12' }
    answers.push(await store.execute({ op: 'block', now: NOON, user: 'user-1', model: '*', block }))
    answers.push(await store.execute({ ...admits[0]!, id: '4' }))
    answers.push(await usersOf(store, { sort: 'lastActive', limit: 9, now: NOON }))
    answers.push(await usersOf(store, { sort: 'tokens', limit: 9, now: NOON }))
    answers.push(await store.days(['2026-11-22']), await store.events(9))
    return answers
  }
  const seen = []
  for (const store of [redisStore(upstash), storeOf(redis.url)]) {
    await redis.flush()
    await redis.command(['SCRIPT', 'FLUSH'])
    await redis.resetStats()
    seen.push({ answers: await use(store), commands: await redis.commandstats() })
  }
  expect(seen[0]?.commands).toMatchObject({ evalsha: 9, eval: 1 })
  expect(seen[1]).toEqual(seen[0])
})

test('a call to a database that hangs ends at the deadline', async () => {
  const store = storeOf(redis.url, 200)
  await store.events(9)
  freeze()
  const { error, ms } = await failing(() => store.execute(admitOf({ id: '1' })))
  expect(error).toBeInstanceOf(StoreError)
  expect(error.message).toBe('the database call failed (TimeoutError)')
  expect(ms).toBeGreaterThan(190)
  expect(ms).toBeLessThan(1000)
})

test('a command is never sent after its deadline, and late answers are ignored', async () => {
  const client = clientOf(redis.url, 100)
  await works(client)
  freeze()
  await failing(() => add(client, 'first'))
  await new Promise((resolve) => setImmediate(resolve))
  // Then the call waits for a new connection, which never opens.
  const later = async () => (await failing(() => add(client, 'later'))).error.name
  await expect.poll(later).toBe('TimeoutError')
  for (let round = 0; round < 3; round += 1) {
    const calls = Array.from({ length: 20 }, () => failing(() => add(client, 'later')))
    for (const { ms } of await Promise.all(calls)) expect(ms).toBeLessThan(1000)
  }
  thaw()
  await works(client)
  const many = Array.from({ length: 100 }, (_, n) => `${n}`)
  expect(await Promise.all(many.map((value) => echo(client, value)))).toEqual(
    many.map((value) => [value]),
  )
  expect(['1', null]).toContain(await redis.command(['GET', 'first']))
  expect(await redis.command(['GET', 'later'])).toBe(null)
})

test('a database that is slow but answers keeps its connection', async () => {
  const relay = await startRelay(redis.port)
  opened.push(relay)
  const client = clientOf(`redis://127.0.0.1:${relay.port}`, 300)
  await works(client)
  const held = relay.hold()
  const first = echo(client, 'first')
  await expect.poll(() => held.length).toBe(1)
  const second = failing(() => echo(client, 'second'))
  await expect.poll(() => held.length).toBe(2)
  held[0]?.()
  expect(await first).toEqual(['first'])
  expect((await second).error.name).toBe('TimeoutError')
  const third = echo(client, 'third')
  await expect.poll(() => held.length).toBe(3)
  held[1]?.()
  held[2]?.()
  expect(await third).toEqual(['third'])
  expect(relay.connections()).toBe(1)
})

test('a busy process keeps its connection and gets its answer', async () => {
  const connections = async () => {
    const info = String(await redis.command(['INFO', 'stats']))
    return Number(/total_connections_received:(\d+)/.exec(info)?.[1])
  }
  const client = clientOf(redis.url, 100)
  await works(client)
  const before = await connections()
  freeze()
  const call = echo(client, 'x')
  for (let n = 0; n < 5; n += 1) await new Promise((resolve) => setImmediate(resolve))
  thaw()
  for (const end = performance.now() + 200; performance.now() < end;);
  expect(await call).toEqual(['x'])
  expect(await connections()).toBe(before)
})

test('the waits between attempts grow up to a second', async () => {
  const times: number[] = []
  let up = false
  const ends = new Set<Socket>()
  const door = await listening(
    createServer((near) => {
      times.push(performance.now())
      near.on('error', () => undefined)
      if (!up) return void near.destroy()
      const far = connect(redis.port, '127.0.0.1').on('error', () => undefined)
      near.pipe(far).pipe(near)
      ends.add(near)
    }),
  )
  const cut = () => ends.forEach((end) => end.destroy())
  opened.push({
    remove() {
      cut()
      door.server.close()
    },
  })
  const client = clientOf(`redis://127.0.0.1:${door.port}`, 1000)
  await expect.poll(() => times.length, { timeout: 10_000 }).toBe(8)
  const gaps = times.slice(1).map((time, n) => time - (times[n] ?? 0))
  // A busy machine adds to each.
  expect(gaps[0]).toBeLessThan(1000)
  expect(gaps[4]).toBeGreaterThan(300)
  expect(gaps[6]).toBeGreaterThan(900)
  expect(Math.max(...gaps)).toBeLessThan(3000)
  up = true
  await works(client)
  cut()
  const from = performance.now()
  await works(client)
  expect(performance.now() - from).toBeLessThan(700)
}, 30_000)

test('a connection without an answer is replaced', async () => {
  const relay = await startRelay(redis.port)
  opened.push(relay)
  const client = clientOf(`redis://127.0.0.1:${relay.port}`, 200)
  await works(client)
  relay.swallow()
  expect((await failing(() => echo(client, 'lost'))).error.name).toBe('TimeoutError')
  await works(client)
})

test('calls to a killed database fail at once, and work after its restart', async () => {
  const store = storeOf(redis.url)
  await store.events(9)
  await killRedis()
  for (let n = 0; n < 50; n += 1) {
    const { error, ms } = await failing(() => store.execute(admitOf({ id: `${n}` })))
    expect(error).toBeInstanceOf(StoreError)
    expect(error.message).toMatch(/^the database call failed \(ConnectionError, ECONN[A-Z]+\)$/)
    expect(ms).toBeLessThan(1000)
  }
  await restart()
  await expect.poll(() => store.events(9).catch(String), { timeout: 5000 }).toEqual([])
  expect(await store.execute(admitOf({ id: 'x' }))).toMatchObject({ ok: true })
})

test('a cut connection fails its waiting calls and is opened again', async () => {
  const client = clientOf(redis.url)
  await works(client)
  freeze()
  const waiting = failing(() => add(client, 'n'))
  await new Promise((resolve) => setImmediate(resolve))
  await killRedis()
  const { error, ms } = await waiting
  expect(error).toMatchObject({ name: 'ConnectionError', message: 'ECONNRESET' })
  expect(ms).toBeLessThan(1000)
  await restart()
  await works(client)
  await redis.command(['CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes'])
  await works(client)
})

test('starts while the database is down, and works when it is available', async () => {
  await killRedis()
  const store = storeOf(redis.url)
  const { error, ms } = await failing(() => store.events(9))
  expect(error.message).toBe('the database call failed (ConnectionError, ECONNREFUSED)')
  expect(ms).toBeLessThan(1000)
  await restart()
  await expect.poll(() => store.events(9).catch(String), { timeout: 5000 }).toEqual([])
})

test('the first calls wait for the connection', async () => {
  const client = clientOf(redis.url)
  const values = ['1', '2', '3']
  expect(await Promise.all(values.map((value) => echo(client, value)))).toEqual(
    values.map((value) => [value]),
  )
})

test('a call to a server that never answers ends at its deadline', async () => {
  const mute = await listening(createServer())
  opened.push({ remove: () => void mute.server.close() })
  const sockets: Socket[] = []
  mute.server.on('connection', (socket) => sockets.push(socket))
  const client = clientOf(`redis://127.0.0.1:${mute.port}`, 100)
  const { error, ms } = await failing(() => echo(client, 'x'))
  expect(error.name).toBe('TimeoutError')
  expect(ms).toBeLessThan(1000)
  // The attempt to connect also times out. After that, there is no attempt to wait for.
  const patient = clientOf(`redis://127.0.0.1:${mute.port}`, 10_000)
  expect((await failing(() => echo(patient, 'x'))).error.message).toBe('ETIMEDOUT')
  await expect.poll(() => sockets.length, { timeout: 5000 }).toBeGreaterThan(1)
  for (const socket of sockets) socket.destroy()
})

test('a server with another protocol does not break the client', async () => {
  const other = await listening(
    createServer((socket) => {
      socket.on('error', () => undefined)
      socket.on('data', () => socket.write('HTTP/1.1 400 Bad Request\r\n\r\n'))
    }),
  )
  opened.push({ remove: () => void other.server.close() })
  const client = clientOf(`redis://127.0.0.1:${other.port}`, 300)
  for (let n = 0; n < 5; n += 1) await failing(() => echo(client, 'x'))
})

const PASSWORD = 'pass:w%rd/ü'

test('user, password and database number are taken from the URL', async () => {
  await redis.command(['ACL', 'SETUSER', 'weir@home', 'on', `>${PASSWORD}`, '~*', '+@all'])
  await redis.command(['CONFIG', 'SET', 'requirepass', PASSWORD])
  const address = (user: string) =>
    `redis://${encodeURIComponent(user)}:${encodeURIComponent(PASSWORD)}@127.0.0.1:${redis.port}`
  try {
    const whoami = 'return redis.call("ACL", "WHOAMI")'
    for (const user of ['', 'default', 'weir@home']) {
      expect(await add(clientOf(`${address(user)}/3`), 'n')).toBeGreaterThan(0)
    }
    expect(await add(clientOf(`${address('weir@home')}`), 'n')).toBe(1)
    expect(await add(clientOf(`${address('weir@home')}/3`), 'n')).toBe(4)
    await expect(clientOf(address('weir@home')).eval(whoami, [], [])).rejects.toThrow('ERR')
  } finally {
    await redis.command(['CONFIG', 'SET', 'requirepass', ''])
    await redis.command(['ACL', 'DELUSER', 'weir@home'])
  }
})

test('errors are told apart and give nothing away', async () => {
  await redis.command(['CONFIG', 'SET', 'requirepass', PASSWORD])
  try {
    const secrets = ['wrong-secret', PASSWORD, '127.0.0.1', `${redis.port}`, 'alice', 'weir:{2}']
    const host = `127.0.0.1:${redis.port}`
    const cases: [string, string][] = [
      [`redis://:wrong-secret@${host}`, 'ConnectionError, WRONGPASS'],
      [`redis://wrong-secret:wrong-secret@${host}`, 'ConnectionError, WRONGPASS'],
      [`redis://${host}`, 'UpstashError, NOAUTH'],
      [`redis://:${encodeURIComponent(PASSWORD)}@${host}/99`, 'ConnectionError, ERR'],
      [`redis://wrong-secret.invalid:${redis.port}`, 'ConnectionError, E[A-Z_]+'],
    ]
    for (const [url, kind] of cases) {
      const { error } = await failing(() => storeOf(url).execute(admitOf({ id: '1' })))
      expect(error).toBeInstanceOf(StoreError)
      expect(error.message).toMatch(new RegExp(`^the database call failed \\(${kind}\\)$`))
      const text = inspect(error, { depth: 9, showHidden: true })
      for (const secret of secrets) expect(text.replace(/\n +at .*/g, '')).not.toContain(secret)
    }
  } finally {
    await redis.command(['CONFIG', 'SET', 'requirepass', ''])
  }
})

test('errors of the client itself do not quote a command either', async () => {
  const client = clientOf(redis.url)
  await redis.command(['SET', 'key-in-command', 'x'])
  for (const call of [
    () => client.lrange('key-in-command', 0, -1),
    () => client.eval('return redis.call("NO-SUCH", ARGV[1])', [], ['value-in-command']),
    () => client.eval('return redis.error_reply("ERR " .. ARGV[1])', [], ['value-in-command']),
    () => client.eval('return redis.error_reply(ARGV[1])', [], ['value-in-command']),
  ]) {
    const { error } = await failing(call)
    expect(inspect(error, { depth: 9, showHidden: true })).not.toContain('in-command')
  }
})

test.skipIf(spawnSync('openssl', ['version']).error)(
  'rediss:// speaks TLS, with certificates that are trusted',
  async () => {
    const folder = await mkdtemp(join(tmpdir(), 'weir-tls-'))
    opened.push({ remove: () => rm(folder, { recursive: true }) })
    const [key, cert] = [join(folder, 'key.pem'), join(folder, 'cert.pem')]
    const subject = ['-subj', '/CN=localhost', '-days', '2', '-nodes']
    const files = ['-newkey', 'rsa:2048', '-keyout', key, '-out', cert]
    execFileSync('openssl', ['req', '-x509', ...files, ...subject], { stdio: 'ignore' })
    const tls = await listening(
      createTlsServer({ key: await readFile(key), cert: await readFile(cert) }, (socket) => {
        socket.on('error', () => undefined)
        socket.pipe(connect(redis.port, '127.0.0.1').on('error', () => undefined)).pipe(socket)
      }),
    )
    opened.push({ remove: () => void tls.server.close() })
    const url = `rediss://localhost:${tls.port}`
    const { error } = await failing(() => echo(clientOf(url), 'x'))
    expect(error).toMatchObject({
      name: 'ConnectionError',
      message: 'DEPTH_ZERO_SELF_SIGNED_CERT',
    })
    vi.stubEnv('NODE_TLS_REJECT_UNAUTHORIZED', '0')
    expect(await echo(clientOf(url), 'x')).toEqual(['x'])
  },
)

test('a closed client takes no calls', async () => {
  const client = tcpClient({ url: redis.url, timeoutMs: 10_000 })
  await works(client.redis)
  freeze()
  const waiting = failing(() => echo(client.redis, 'x'))
  await new Promise((resolve) => setImmediate(resolve))
  client.close()
  client.close()
  expect((await waiting).error.name).toBe('ConnectionError')
  expect((await failing(() => echo(client.redis, 'x'))).error.name).toBe('ConnectionError')
})

const ask = 'client.redis.mget("a").catch(() => undefined)'

test.each([
  ['is connected', 'redis:', async () => undefined, `await ${ask}`],
  ['is connecting', 'redis:', async () => void freeze(), ''],
  ['is connecting with TLS', 'rediss:', async () => void freeze(), ''],
  ['waits for a database that hangs', 'redis:', async () => void freeze(), ask],
  ['has nothing to connect to', 'redis:', killRedis, `await ${ask}`],
])(
  'close lets a process end whose client %s',
  async (_, scheme, prepare, use) => {
    await prepare()
    const folder = await mkdtemp(join(tmpdir(), 'weir-close-'))
    opened.push({ remove: () => rm(folder, { recursive: true }) })
    const script = join(folder, 'script.mjs')
    await bundleText(
      `
      import { tcpClient } from '../../src/store/redis/tcp.ts'
      const url = '${redis.url.replace('redis:', scheme)}'
      const client = tcpClient({ url, timeoutMs: 60_000 })
      ${use}
      await new Promise((resolve) => setTimeout(resolve, 50))
      client.close()
      const from = performance.now()
      await new Promise((resolve) => setImmediate(resolve))
      const timers = process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length
      process.on('exit', () => console.log(JSON.stringify({ timers, ms: performance.now() - from })))`,
      script,
    )
    const ended = await promisify(execFile)(process.execPath, [script], { timeout: 20_000 })
    expect(ended.stderr).toBe('')
    const { timers, ms } = JSON.parse(ended.stdout) as { timers: number; ms: number }
    expect(timers).toBe(0)
    expect(ms).toBeLessThan(1000)
  },
  30_000,
)

const entry = useEntry()

test('npm start keeps usage in Redis over TCP and reports that without the address', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'weir-run-'))
  opened.push({ remove: () => rm(folder, { recursive: true }) })
  const { PATH, HOME } = process.env
  const vars = { PORT: '0', ADMIN_KEY: 'admin-key-of-the-tests', STORE_TIMEOUT_MS: '5000' }
  const child = spawn(process.execPath, [entry.path], {
    env: { PATH, HOME, ...vars, REDIS_URL: `${redis.url}/5`, USAGE_FILE: join(folder, 'x.json') },
  })
  opened.push({ remove: () => void child.kill('SIGKILL') })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (data: Buffer) => (output += data.toString()))
  }
  await expect.poll(() => output, { timeout: 15_000 }).toContain('Weir listens on')
  expect(output).toContain('Storage: Redis over TCP\n')
  expect(output).not.toContain(`${redis.port}`)
  const url = /listens on (\S+)/.exec(output)?.[1] ?? ''
  const headers = { authorization: `Bearer ${vars.ADMIN_KEY}` }
  const answer = await fetch(`${url}/api/admin/usage`, { headers })
  expect(answer.status).toBe(200)
  const ended = once(child, 'exit')
  child.kill('SIGTERM')
  expect(await ended).toEqual([0, null])
}, 30_000)

test.each(['vercel', 'vercel-pages', 'worker', 'worker-pages'])(
  'the bundle of src/%s.ts does not contain it',
  async (entry) => {
    const bundle = edgeBundle(`src/${entry}.ts`, 'x.js')
    const { metafile } = await build({ ...bundle, write: false, metafile: true })
    const inputs = Object.keys(metafile.inputs)
    expect(inputs).toContain('src/store/redis/rest.ts')
    expect(inputs.filter((path) => /@redis\/client|tcp/.test(path))).toEqual([])
  },
)

async function listening<T extends Server>(server: T): Promise<{ server: T; port: number }> {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return { server, port: (server.address() as AddressInfo).port }
}

/** A relay between client and database. */
async function startRelay(port: number) {
  const ends: Socket[] = []
  let held: (() => void)[] | undefined
  let lost = false
  const relay = await listening(
    createServer((near) => {
      const far = connect(port, '127.0.0.1')
      for (const end of [near, far]) end.on('error', () => undefined)
      const lostBefore = lost
      near.on('data', (data: Buffer) => {
        if (lost === lostBefore) far.write(data)
      })
      far.on('data', (data: Buffer) => {
        if (held) held.push(() => near.write(data))
        else near.write(data)
      })
      near.on('close', () => far.destroy())
      ends.push(near, far)
    }),
  )
  return {
    port: relay.port,
    connections: () => ends.length / 2,
    /** Holds answers back until the test releases them. */
    hold: () => (held = []) as (() => void)[],
    /** Discards all data of the present connections. */
    swallow() {
      lost = true
    },
    remove() {
      for (const end of ends) end.destroy()
      relay.server.close()
    },
  }
}
