/** The Dockerfile without an engine: its steps in a clean folder, and the result as a user who may write to /data only. */
import { execFile, spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { chmod, chown, cp, mkdir, mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { VARIABLES } from '../../src/config/config.ts'
import { ADMIN_KEY } from '../support/gateways.ts'

const run = promisify(execFile)
const file = (await readFile('Dockerfile', 'utf8')).replaceAll(/^#.*\n/gm, '')
const stages = file.split(/^(?=FROM )/m).filter(Boolean)
const [build = '', image = ''] = stages

/** The words of a step that is given as a list. */
const words = (step: RegExp): string[] => JSON.parse(step.exec(image)?.[1] ?? '[]') as string[]
const START = words(/^CMD (\[.+\])$/m)
const CHECK = words(/^HEALTHCHECK .*CMD (\[.+\])$/m)

let root: string
let app: string
let data: string
/** As in the image, where this user is called node. Only root can become somebody else. */
const user = process.getuid?.() === 0 ? { uid: 1000, gid: 1000 } : {}

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'weir-image-'))
  ;[app, data] = [join(root, 'app'), join(root, 'data')]
  await chmod(root, 0o755)
  for (const folder of [app, data]) await mkdir(folder)
  if (user.uid) await chown(data, user.uid, user.gid)
  const ignored = await readFile('.dockerignore', 'utf8')
  for (const [, names = '', target = ''] of build.matchAll(/^COPY (.+) (\S+)$/gm)) {
    for (const name of names.split(' ')) {
      expect(ignored).toContain(`!${name}\n`)
      await cp(name, join(app, target === './' ? name : target), { recursive: true })
    }
  }
  // In place of npm ci --omit=dev, which needs a registry: the packages that it would install.
  type Lock = { packages: Record<string, { dev?: boolean; devOptional?: boolean }> }
  const { packages } = JSON.parse(await readFile('package-lock.json', 'utf8')) as Lock
  for (const [path, { dev, devOptional }] of Object.entries(packages)) {
    if (!path.startsWith('node_modules/') || dev || devOptional || path.includes('weir-tests'))
      continue
    await cp(path, join(app, path), { recursive: true }).catch(() => undefined)
  }
})
afterAll(() => rm(root, { recursive: true }))

const variables = () => {
  const { PATH } = process.env
  const set = Object.fromEntries(
    [...(/^ENV (.+)$/m.exec(image)?.[1]?.matchAll(/(\w+)=(\S+)/g) ?? [])].map(([, name, value]) => [
      name,
      value?.replace(/^\/data/, data),
    ]),
  )
  // A root that cannot be written to has no folder for temporary files.
  return { PATH, HOME: '/nonexistent', TMPDIR: '/dev/null/nowhere', ADMIN_KEY, ...set, PORT: '0' }
}

test('it starts as another user on a root that cannot be written to, is healthy, and stops at SIGTERM', async () => {
  expect(build).toContain('RUN npm ci --omit=dev\n')
  expect(image).toMatch(/^USER node$/m)
  expect(image).toMatch(/^STOPSIGNAL SIGTERM$/m)
  const [command = '', ...args] = START
  const env = { ...variables(), GROQ_API_KEY: 'gsk_server_key' }
  const server: ChildProcess = spawn(command, args, { cwd: app, env, ...user })
  const ended = once(server, 'exit')
  let output = ''
  for (const stream of [server.stdout, server.stderr]) {
    stream?.on('data', (text: Buffer) => (output += text.toString()))
  }
  try {
    await expect.poll(() => output, { timeout: 20_000 }).toMatch(/listens on \S+\n/)
    const url = /listens on (\S+)/.exec(output)?.[1] ?? ''
    for (const [path, status] of Object.entries({ '/': 200, '/admin': 401, '/tracker.js': 200 })) {
      expect([path, (await fetch(url + path)).status]).toEqual([path, status])
    }
    const [node = '', ...check] = CHECK
    const { port } = new URL(url)
    await run(node, check, { cwd: app, env: { ...env, PORT: port }, ...user })
    const away = run(node, check, { cwd: app, env: { ...env, PORT: '1' }, ...user })
    await expect(away).rejects.toThrow('/api/health does not answer')
    server.kill('SIGTERM')
    expect((await ended)[0]).toBe(0)
  } finally {
    server.kill('SIGKILL')
  }
}, 40_000)

test('without a provider key the health check fails', async () => {
  const [command = '', ...args] = START
  const server = spawn(command, args, { cwd: app, env: variables(), ...user })
  try {
    let output = ''
    server.stdout.on('data', (text: Buffer) => (output += text.toString()))
    await expect.poll(() => output, { timeout: 20_000 }).toMatch(/listens on \S+\n/)
    const { port } = new URL(/listens on (\S+)/.exec(output)?.[1] ?? '')
    const [node = '', ...check] = CHECK
    const checked = run(node, check, { cwd: app, env: { ...variables(), PORT: port }, ...user })
    await expect(checked).rejects.toThrow('/api/health answers 503')
  } finally {
    server.kill('SIGKILL')
    await once(server, 'exit')
  }
}, 40_000)

test('compose.yaml gives Weir its variables, a Redis that keeps everything, and the time to stop', async () => {
  const compose = await readFile('compose.yaml', 'utf8')
  const names = [...compose.matchAll(/^ {6}([A-Z_]+): /gm)].map(([, name = '']) => name)
  expect(names.length).toBeGreaterThan(3)
  for (const name of names) expect(VARIABLES).toContain(name)
  expect(compose).toContain('--appendonly yes --maxmemory-policy noeviction')
  expect(compose).toContain('read_only: true')
  expect(compose).toContain('stop_grace_period: 310s')
  expect(compose).toContain("'127.0.0.1:8787:8787'")
})
