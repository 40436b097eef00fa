/** The commands of the README, as separate processes in an empty folder. */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, readdir, rm, stat, writeFile } from 'node:fs/promises'
import { connect, createServer, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { keptSecrets } from '../../src/platform/node/demo/kept-secrets.ts'
import { bundleText, useEntry } from '../support/entry.ts'
import { mayBeIn } from '../support/secrets.ts'
import { startUpstream, type Upstream } from '../support/upstream.ts'

const ADMIN_KEY = 'admin-key-of-the-tests'

/** For tests of what the program does, and not of the command that starts it. */
const entry = useEntry()
const dev = useEntry('scripts/dev.ts')

let folder: string
let upstream: Upstream
let running: Running[]

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'weir-run-'))
  upstream = await startUpstream()
  running = []
})

afterEach(async () => {
  for (const one of running) await one.end('SIGKILL')
  await upstream.close()
  await rm(folder, { recursive: true, force: true })
})

type Running = {
  url: string
  output(): string
  signal(signal: NodeJS.Signals): void
  /** Sends a signal and returns the exit code. */
  end(signal: NodeJS.Signals): Promise<number | null>
}

type Vars = Record<string, string>

type Package = { scripts: Record<'start', string> }

/** Starts a script, or Node with other arguments, or another command, and waits for its address, or for its end. */
async function run(script: string | string[], vars: Vars = {}): Promise<Running> {
  const { PATH, HOME } = process.env
  const args = typeof script === 'string' ? ['--import', 'tsx', script] : script
  const [command = '', ...rest] = args[0] === 'unshare' ? args : [process.execPath, ...args]
  const child: ChildProcess = spawn(command, rest, {
    env: { PATH, HOME, PORT: '0', USAGE_FILE: join(folder, 'logs/token_usage.json'), ...vars },
  })
  const isDev = /\/dev\.m?[jt]s$/.test(args.at(-1) ?? '')
  let output = ''
  const ended = once(child, 'close')
  const ready = new Promise<string>((resolve, reject) => {
    const read = (data: Buffer) => {
      output += data.toString()
      const [, url] = /Weir listens on (\S+)/.exec(output) ?? []
      if (url && (!isDev || output.includes('Authorization'))) resolve(url)
    }
    child.stdout?.on('data', read)
    child.stderr?.on('data', read)
    void ended.then(() => reject(new Error(`${args.at(-1)} ended: ${output}`)))
  })
  const one: Running = {
    url: '',
    output: () => output,
    signal(signal) {
      if (child.exitCode === null && child.signalCode === null) child.kill(signal)
    },
    async end(signal) {
      one.signal(signal)
      await ended
      return child.exitCode
    },
  }
  running.push(one)
  one.url = await ready
  return one
}

const chat = (url: string, user: string) =>
  fetch(`${url}/api/groq`, {
    method: 'POST',
    headers: { 'x-user-token': `token-of-${user}` },
    body: '{"prompt":"Hello"}',
  })

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}

type Totals = { days: { requests: number; exact: number; charged: number }[] }

async function totals(url: string, key = ADMIN_KEY): Promise<Totals['days'][number] | undefined> {
  const response = await fetch(`${url}/api/admin/usage`, {
    headers: { authorization: `Bearer ${key}` },
  })
  return ((await response.json()) as Totals).days[0]
}

/** The bundles stand for the commands, which take up to four times as long. */
const SERVED: [string, () => string[]][] = [
  ['npm run dev', () => [dev.path]],
  ['npm start', () => [entry.path]],
]

test.each(SERVED)(
  '%s keeps usage over a restart and over kill -9',
  async (_, script) => {
    // The same port each time: the previous run must have released it.
    const PORT = String(await freePort())
    const vars = { ADMIN_KEY, GROQ_API_KEY: 'gsk_key', GROQ_BASE_URL: upstream.url, PORT }
    let settled = 0
    for (const signal of ['SIGKILL', 'SIGTERM'] as const) {
      const weir = await run(script(), vars)
      if (settled)
        expect(await totals(weir.url)).toMatchObject({ exact: settled, charged: 35 * settled })
      for (const user of ['one', 'two']) expect((await chat(weir.url, user)).status).toBe(200)
      settled += 2
      await expect.poll(async () => (await totals(weir.url))?.exact).toBe(settled)
      const code = await weir.end(signal)
      if (signal !== 'SIGKILL') expect(code).toBe(0)
    }
  },
  60_000,
)

test('npm run dev works without variables, and the printed command works', async () => {
  const weir = await run('scripts/dev.ts')
  const output = weir.output()
  expect(output).toMatch(/Storage: the file .*token_usage\.json/)
  expect(output).toContain('demo model')
  expect(output).toContain('anyone can make up a token')
  const [, key = ''] = /made up and kept in \S+: (\S+)/.exec(output) ?? []
  // Nobody else has set it, so only here the admin can read it.
  mayBeIn(['the output of a process'], key)
  expect(output).not.toContain('ADMIN_KEY is short')
  const lines = output.split('\n').filter((line) => line.startsWith('  curl '))
  expect(lines).toHaveLength(2)

  const shell = async (line: string) => {
    const child = spawn('sh', ['-c', line.replace('curl', 'curl -s')])
    let text = ''
    child.stdout.on('data', (data: Buffer) => (text += data.toString()))
    await once(child, 'close')
    return JSON.parse(text) as { content?: string; users?: unknown[] }
  }
  const answer = await shell(lines[0] ?? '')
  expect(answer.content).toContain('demo model')
  await expect.poll(() => totals(weir.url, key)).toMatchObject({ exact: 1 })
  expect((await shell(lines[1] ?? '')).users).toHaveLength(1)

  const stream = await fetch(`${weir.url}/api/groq/openai/v1/chat/completions`, {
    method: 'POST',
    headers: { authorization: 'Bearer token-of-one' },
    body: '{"model":"openai/gpt-oss-20b","stream":true,"messages":[{"role":"user","content":"Hi"}]}',
  })
  expect(stream.headers.get('content-type')).toBe('text/event-stream')
  expect(await stream.text()).toMatch(/"usage":\{.*\n\ndata: \[DONE\]\n\n$/s)
  await expect.poll(() => totals(weir.url, key)).toMatchObject({ exact: 2 })

  const wrong = await fetch(`${weir.url}/api/groq`, {
    method: 'POST',
    headers: { 'x-user-token': 'token-of-one' },
    body: '{"prompt":"Hi","model":"openai/gpt-oss-20"}',
  })
  expect(wrong.status).toBe(404)
  expect(await wrong.json()).toMatchObject({ error: { code: 'model_not_found' } })

  const calls = () => weir.output().match(/^\d\d:\d\d:\d\d \d{3} .*$/gm) ?? []
  await expect.poll(calls).toHaveLength(3)
  expect(calls()[0]).toMatch(
    / 200 openai\/gpt-oss-20b: \d+ tokens \(exact\), \d+ ms, user \S+, id /,
  )
  expect(weir.output()).not.toContain('{"time"')
}, 30_000)

test('npm start with DEMO=1 answers without a provider and makes up its secrets once', async () => {
  const vars = { DEMO: '1', HOST: '127.0.0.1' }
  const first = await run([entry.path], vars)
  expect(first.url).toMatch(/^http:\/\/127\.0\.0\.1:/)
  expect((await chat(first.url, 'one')).status).toBe(200)
  await expect.poll(() => first.output()).toContain('Authorization')
  const keyOf = (output: string) => /made up and kept in \S+: (\S+)/.exec(output)?.[1] ?? ''
  const key = keyOf(first.output())
  mayBeIn(['the output of a process', 'a document'], key)
  expect(await totals(first.url, key)).toMatchObject({ requests: 1 })
  await first.end('SIGTERM')

  const again = await run([entry.path], vars)
  await expect.poll(() => keyOf(again.output())).toBe(key)
  expect(again.output()).not.toMatch(/USER_HASH_SECRET (is not set|has changed)/)
  expect(await totals(again.url, key)).toMatchObject({ requests: 1 })
  const file = join(folder, 'logs/token_usage.json.secrets')
  expect((await stat(file)).mode & 0o777).toBe(0o600)
  expect(await readFile(file, 'utf8')).toMatch(/^ADMIN_KEY=\S{32}\nUSER_HASH_SECRET=\S{32}\n$/)
}, 20_000)

test('a try makes up no secret for users that a deployment or an earlier run knows', async () => {
  const database = { KV_REST_API_URL: 'https://weir.invalid', KV_REST_API_TOKEN: 'token-of-it' }
  const file = join(folder, 'usage.json')
  expect(Object.keys(await keptSecrets(database, 'node', file))).toEqual(['ADMIN_KEY'])
  await writeFile(`${file}.secret`, 'a check value')
  expect(Object.keys(await keptSecrets({}, 'node', file))).toEqual(['ADMIN_KEY'])
  expect(await keptSecrets({ ADMIN_KEYS: 'anna:viewer:key-of-anna-here' }, 'node', file)).toEqual(
    {},
  )
})

test.each(['start', 'run dev'])(
  'SIGTERM to npm %s leaves no process, also with a silent open connection',
  async (command) => {
    const { PATH, HOME } = process.env
    const port = await freePort()
    const vars = { PORT: String(port), USAGE_FILE: join(folder, 'logs/usage.json') }
    const npm = spawn('npm', command.split(' '), {
      env: { PATH, HOME, DEMO: '1', ...vars },
      detached: true,
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    let output = ''
    npm.stdout.on('data', (data: Buffer) => (output += data.toString()))
    await expect.poll(() => output, { timeout: 20_000 }).toMatch(/Authorization/)
    const [, key = ''] = /made up and kept in \S+: (\S+)/.exec(output) ?? []
    mayBeIn(['the output of a process'], key)
    const silent = connect(port, '127.0.0.1')
    await once(silent, 'connect')
    silent.on('error', () => undefined)
    silent.write('POST /api/groq HTTP/1.1\r\n')
    process.kill(npm.pid ?? 0, 'SIGTERM')
    // The whole group: npm, its shell, Node and workerd.
    const isLeft = () => {
      try {
        return process.kill(-(npm.pid ?? 0), 0)
      } catch {
        return false
      }
    }
    await expect.poll(isLeft).toBe(false)
    silent.destroy()
    // The files and the port are free again.
    const again = await run([entry.path], vars)
    expect(await again.end('SIGTERM')).toBe(0)
  },
  40_000,
)

test('npm start ends too if its shell ends while it still loads', async () => {
  const { PATH, HOME } = process.env
  // Loaded before all else: it tells when Node has begun.
  const first = `import 'file://${process.cwd()}/src/platform/node/parent.mjs'; console.log('began')`
  const child = spawn('sh', ['-c', `node ${(await startArgs()).join(' ')}; true`], {
    env: {
      ...{ PATH, HOME, PORT: '0', USAGE_FILE: join(folder, 'usage.json') },
      npm_lifecycle_event: 'start',
      NODE_OPTIONS: `--import="data:text/javascript,${encodeURIComponent(first)}"`,
    },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  // Node has the other end of the pipe as long as it runs.
  const ended = once(child.stdout, 'close')
  await once(child.stdout, 'data')
  child.kill('SIGTERM')
  child.stdout.resume()
  await ended
}, 20_000)

test('npm start without a provider key reports that and answers 503', async () => {
  const weir = await run([entry.path])
  expect(weir.output()).toContain('GROQ_API_KEY is not set')
  const response = await chat(weir.url, 'one')
  expect(response.status).toBe(503)
  expect(await response.json()).toMatchObject({ error: { code: 'upstream_not_configured' } })
})

test.each(SERVED)(
  '%s with an invalid environment reports every problem and ends',
  async (_, script) => {
    const failure = run(script(), { CAP: 'soft', EVENTS_KEPT: '1e3', ADMIN_KEY: 'short' })
    await expect(failure).rejects.toThrow(/ADMIN_KEY must[^]*CAP must[^]*EVENTS_KEPT must/)
    await expect(failure).rejects.not.toThrow(/at .*\.ts:/)
  },
)

test.each(SERVED)('%s on files that are in use reports the owner and ends', async (_, script) => {
  await run([entry.path])
  await expect(run(script())).rejects.toThrow(/process \d+ already uses these files/)
})

test.each(SERVED)('%s on a port that is in use reports that and ends', async (_, script) => {
  const failure = run(script(), { PORT: new URL(upstream.url).port })
  await expect(failure).rejects.toThrow(
    /^[^\n]*ended: (serveStatic[^\n]*\n)*The port is in use by another program [^\n]*\n$/,
  )
})

/** Opens streams that upstream ends when the test allows it. */
async function openStreams(count: number, more: Vars = {}) {
  let release = () => {}
  const held = new Promise<void>((resolve) => (release = resolve))
  upstream.on('openai/gpt-oss-20b', { gate: (piece) => (piece > 1 ? held : Promise.resolve()) })
  const vars = { ADMIN_KEY, GROQ_API_KEY: 'gsk_key', GROQ_BASE_URL: upstream.url, ...more }
  const weir = await run([entry.path], vars)
  const streams = await Promise.all(
    Array.from({ length: count }, (_, user) =>
      fetch(`${weir.url}/api/groq`, {
        method: 'POST',
        headers: { 'x-user-token': `token-of-${user}` },
        body: '{"model":"openai/gpt-oss-20b","stream":true,"messages":[]}',
      }),
    ),
  )
  return { weir, vars, streams, release }
}

/** Whether a server accepts a new connection. */
async function takesConnections(url: string): Promise<boolean> {
  const socket = connect(Number(new URL(url).port), '127.0.0.1')
  return once(socket, 'connect').then(
    () => {
      socket.destroy()
      return true
    },
    () => false,
  )
}

test('SIGTERM lets 20 running streams end and settle, also if it arrives twice at once', async () => {
  const { weir, vars, streams, release } = await openStreams(20)
  weir.signal('SIGTERM')
  await expect.poll(() => takesConnections(weir.url), { interval: 10 }).toBe(false)
  const ended = weir.end('SIGTERM')
  release()
  for (const stream of streams) expect(await stream.text()).toMatch(/data: \[DONE\]\n\n$/)
  expect(await ended).toBe(0)
  const again = await run([entry.path], vars)
  const day = { requests: 20, exact: 20, charged: 20 * 397 }
  expect(await totals(again.url)).toMatchObject(day)
}, 30_000)

test('a stream that does not end delays a stop until its own deadline, not longer', async () => {
  const { weir, vars } = await openStreams(1, { REQUEST_SECONDS: '2' })
  const started = performance.now()
  expect(await weir.end('SIGTERM')).toBe(0)
  expect(performance.now() - started).toBeLessThan(10_000)
  const again = await run([entry.path], vars)
  expect(await totals(again.url)).toMatchObject({ requests: 1, estimated: 1 })
}, 30_000)

test('a second SIGTERM ends at once', async () => {
  const { weir } = await openStreams(1)
  const ended = weir.end('SIGTERM')
  await expect.poll(() => takesConnections(weir.url)).toBe(false)
  // An earlier signal would count as a repetition of the first one.
  await new Promise((resolve) => setTimeout(resolve, 1000))
  const started = performance.now()
  weir.signal('SIGTERM')
  expect(await ended).toBe(1)
  expect(performance.now() - started).toBeLessThan(5000)
}, 20_000)

test('a kept-alive connection sends no more requests after a server begins to stop', async () => {
  const { weir, release, streams } = await openStreams(1)
  const socket = connect(Number(new URL(weir.url).port), '127.0.0.1')
  let answer = ''
  socket.on('data', (data: Buffer) => (answer += data.toString()))
  socket.write('POST /api/groq HTTP/1.1\r\nhost: weir\r\ncontent-length: 2\r\n\r\n{')
  // When this is answered, the server has read those bytes.
  await fetch(`${weir.url}/api/nothing`)
  const ended = weir.end('SIGTERM')
  await expect.poll(() => takesConnections(weir.url)).toBe(false)
  const closed = once(socket, 'end')
  socket.write('}')
  await closed
  expect(answer).toMatch(/^HTTP\/1\.1 40[01] [^]*\r\nconnection: close\r\n/i)
  release()
  expect(await streams[0]?.text()).toContain('[DONE]')
  expect(await ended).toBe(0)
}, 20_000)

test('a body that never arrives delays a stop for some seconds, not for ever', async () => {
  const weir = await run([entry.path], { GROQ_API_KEY: 'gsk_key', GROQ_BASE_URL: upstream.url })
  const socket = connect(Number(new URL(weir.url).port), '127.0.0.1')
  const closed = once(socket, 'close')
  socket.on('error', () => undefined)
  socket.write('POST /api/groq HTTP/1.1\r\nhost: weir\r\ncontent-length: 9\r\n\r\n{"')
  // When this is answered, the server has read those bytes.
  await fetch(`${weir.url}/api/nothing`)
  expect(await weir.end('SIGTERM')).toBe(0)
  await closed
}, 20_000)

test('a SIGTERM to the group that npm start runs in lets a stream end', async () => {
  let release = () => {}
  const held = new Promise<void>((resolve) => (release = resolve))
  upstream.on('openai/gpt-oss-20b', { gate: (piece) => (piece > 1 ? held : Promise.resolve()) })
  const { PATH, HOME } = process.env
  const port = await freePort()
  const npm = spawn('npm', ['start'], {
    detached: true,
    env: {
      ...{ PATH, HOME, PORT: String(port), USAGE_FILE: join(folder, 'usage.json') },
      ...{ GROQ_API_KEY: 'gsk_key', GROQ_BASE_URL: upstream.url },
    },
  })
  const url = `http://127.0.0.1:${port}`
  await expect.poll(() => takesConnections(url), { timeout: 10_000 }).toBe(true)
  const stream = await fetch(`${url}/api/groq`, {
    method: 'POST',
    headers: { 'x-user-token': 'token-of-one' },
    body: '{"model":"openai/gpt-oss-20b","stream":true,"messages":[]}',
  })
  const ended = once(npm, 'close')
  process.kill(-(npm.pid ?? 0), 'SIGTERM')
  await expect.poll(() => takesConnections(url)).toBe(false)
  release()
  expect(await stream.text()).toMatch(/data: \[DONE\]\n\n$/)
  await ended
}, 30_000)

/** What a process in the folder finds in its variables after it has read the files. */
async function readEnvFiles(vars: Vars = {}): Promise<string> {
  const { PATH, HOME } = process.env
  const script = join(folder, 'env.mjs')
  await bundleText(
    `import { loadEnvFiles } from '../../src/platform/node/env-files.ts'
    loadEnvFiles()
    const { CAP, DEFAULT_MODEL, PORT } = process.env
    console.log(CAP, DEFAULT_MODEL, PORT)`,
    script,
  )
  const child = spawn(process.execPath, [script], { cwd: folder, env: { PATH, HOME, ...vars } })
  let output = ''
  child.stdout.on('data', (data: Buffer) => (output += data.toString()))
  await once(child, 'close')
  return output.trim()
}

test('an empty variable in .env.local leaves the one in .env in force', async () => {
  await writeFile(join(folder, '.env.local'), 'CAP=\nDEFAULT_MODEL=of-local\n')
  await writeFile(join(folder, '.env'), 'CAP=strict\nDEFAULT_MODEL=of-env\n')
  expect(await readEnvFiles()).toBe('strict of-local undefined')
})

test('no JSX is made while files load, so that the server starts where tsx does not find tsconfig.json', async () => {
  const TSX_TSCONFIG_PATH = join(folder, 'tsconfig.json')
  await writeFile(TSX_TSCONFIG_PATH, '{}')
  const vars = { GROQ_API_KEY: 'gsk_test', GROQ_BASE_URL: upstream.url }
  const weir = await run('src/node.ts', { ...vars, ADMIN_KEY, TSX_TSCONFIG_PATH })
  expect((await fetch(`${weir.url}/api/health`)).status).toBe(200)
})

test('npm start is one program with its arguments, as each shell starts it', async () => {
  const { scripts } = JSON.parse(await readFile('package.json', 'utf8')) as Package
  expect(scripts.start).toMatch(/^node( [\w./-]+)+$/)
})

test.each<[string, BufferEncoding, string]>([
  ['UTF-8 with a byte order mark', 'utf8', '\ufeff'],
  ['UTF-16 with a byte order mark', 'utf16le', '\ufeff'],
  ['UTF-16 without one', 'utf16le', ''],
])('.env.local is read in %s', async (_, encoding, mark) => {
  await writeFile(join(folder, '.env.local'), `${mark}CAP=strict\r\nDEFAULT_MODEL=é\r\n`, encoding)
  expect(await readEnvFiles({ PORT: '1' })).toBe('strict é 1')
})

/** The arguments of `npm start`. */
async function startArgs(): Promise<string[]> {
  const { scripts } = JSON.parse(await readFile('package.json', 'utf8')) as Package
  return scripts.start.replace('node', '').trim().split(' ')
}

const NOWHERE = '/dev/null/nowhere'

/** In mounts of its own, everything is read-only but an empty folder, as in a container with a volume. */
const READ_ONLY =
  'mount -o remount,bind,ro / && mount -t tmpfs none "$VOLUME" && ! touch "$PWD/x" 2>/dev/null && exec "$0" "$@"'
const canMount =
  spawnSync('unshare', ['-rm', 'sh', '-c', READ_ONLY, 'true'], {
    env: { ...process.env, VOLUME: tmpdir() },
  }).status === 0

test.runIf(canMount)(
  'npm start serves and counts with a read-only root, a volume for USAGE_FILE and no folder for temporary files',
  async () => {
    const vars = {
      ...{ VOLUME: folder, TMPDIR: NOWHERE, HOME: NOWHERE },
      USAGE_FILE: join(folder, 'usage.json'),
      ...{ ADMIN_KEY, GROQ_API_KEY: 'gsk_key', GROQ_BASE_URL: upstream.url },
    }
    const command = ['unshare', '-rm', 'sh', '-c', READ_ONLY, process.execPath]
    const weir = await run([...command, ...(await startArgs())], vars)
    expect((await chat(weir.url, 'one')).status).toBe(200)
    await expect.poll(async () => (await totals(weir.url))?.exact).toBe(1)
    expect(await weir.end('SIGTERM')).toBe(0)
    // Nothing was written outside of the volume.
    expect(await readdir(folder)).toEqual([])
  },
  20_000,
)

// The test above shows this too, where it can run.
test.skipIf(canMount)(
  'npm start needs no folder for temporary files: only USAGE_FILE is written',
  async () => {
    const vars = { TMPDIR: NOWHERE, HOME: NOWHERE, GROQ_API_KEY: 'gsk_key' }
    const weir = await run(await startArgs(), vars)
    expect(await weir.end('SIGTERM')).toBe(0)
    expect(await readdir(folder)).toEqual(['logs'])
  },
  20_000,
)

test('a step of a stop that fails is logged, the later steps run, and the process ends with 1', async () => {
  const script = join(folder, 'stop.mjs')
  await bundleText(
    `import { onStopSignal } from '../../src/platform/node/signals.ts'
    const steps = [() => Promise.reject(new Error('one')), () => { throw new Error('two') }, () => console.log('three')]
    onStopSignal(steps, { error: (event, { error }) => console.log(event, error.message) })
    setInterval(() => {}, 1000)
    console.log('Weir listens on nothing')`,
    script,
  )
  const child = await run([script])
  expect(await child.end('SIGTERM')).toBe(1)
  expect(child.output().split('\n').slice(1)).toEqual([
    'stop.failed one',
    'stop.failed two',
    'three',
    '',
  ])
}, 20_000)

test('a process whose files another one has taken over says so and ends', async () => {
  const vars = { ADMIN_KEY, GROQ_API_KEY: 'gsk_key', GROQ_BASE_URL: upstream.url }
  const weir = await run([entry.path], vars)
  expect((await chat(weir.url, 'somebody')).status).toBe(200)
  const lock = join(folder, 'logs/token_usage.json.lock')
  await rm(lock)
  const other = await run([entry.path], vars)
  // Not a signal: it ends by itself.
  expect(await weir.end('SIGWINCH')).toBe(1)
  expect(weir.output()).toContain('lock.lost')
  expect((await chat(other.url, 'somebody')).status).toBe(200)
  await expect.poll(() => totals(other.url)).toMatchObject({ requests: 2, exact: 2 })
  await other.end('SIGKILL')
  const again = await run([entry.path], vars)
  expect(await totals(again.url)).toMatchObject({ requests: 2, exact: 2 })
}, 20_000)
