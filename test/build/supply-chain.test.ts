import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'

/**
 * Every package that runs in production or at the start of the Node server, with the reason. `npm run lint` finds
 * packages that nothing imports.
 */
const WANTED: Record<string, string> = {
  hono: 'routes, cookies, CORS and JSX, on every platform',
  '@hono/node-server': 'the same app as a Node server',
  '@hono/zod-validator': 'checks the body of a sync',
  zod: 'checks forms and JSON (zod/mini)',
  '@upstash/redis': 'commands over REST',
  '@upstash/ratelimit': 'counts attempts per minute',
  '@redis/client': 'Redis over TCP, on Node only',
  uuid: 'ids of requests (v7)',
  undici: 'calls the provider and Redis over REST on Node, with a tenth of the CPU of fetch',
  'd3-array': 'the axes of charts (pages only)',
  'd3-shape': 'the stacked bars and the lines of charts (pages only)',
  tsx: 'runs TypeScript for npm start without a build',
  esbuild: 'bundles for the edge; one binary per platform, and only the matching one is installed',
}

/** The dependencies of these packages. */
const BROUGHT: Record<string, string> = {
  '@upstash/core-analytics': 'comes with @upstash/ratelimit; switched off',
  '@opentelemetry/api':
    'an optional part of @redis/client, installed for development; never switched on',
  internmap: 'comes with d3-array',
  'd3-path': 'comes with d3-shape',
  uncrypto: 'comes with @upstash/redis',
  fsevents: 'comes with tsx, on macOS only',
}

/** Licences that are compatible with MIT. Read a new licence before you add it. */
const LICENCES = new Set(['MIT', 'Apache-2.0', 'ISC', 'BSD-3-Clause', '0BSD'])

/**
 * Packages with an install script. The script of esbuild only makes its command start faster; its library
 * works without it.
 */
const SCRIPTS = ['esbuild']

type Entry = {
  dev?: boolean
  integrity?: string
  resolved?: string
  license?: string
  hasInstallScript?: boolean
  link?: boolean
  dependencies?: Record<string, string>
  devDependencies?: Record<string, string>
}

type Lock = { lockfileVersion: number; packages: Record<string, Entry> }

/** Those that come from a registry: all but the project itself and its workspace test/. */
function packagesOf({ packages }: Lock): [string, Entry][] {
  const own = ['', 'test', 'node_modules/weir-tests']
  return Object.entries(packages).filter(([path]) => !own.includes(path))
}

const read = (file: string) => JSON.parse(readFileSync(file, 'utf8')) as Record<string, unknown>
const lock = read('package-lock.json') as Lock
const packages = packagesOf(lock)
const nameOf = (path: string) =>
  path.slice(path.lastIndexOf('node_modules/') + 'node_modules/'.length)
const production = packages.filter(([, entry]) => !entry.dev)

test('production runs on the known few packages', () => {
  expect(Object.keys(read('package.json').dependencies as object).sort()).toEqual(
    Object.keys(WANTED).sort(),
  )
  const names = production
    .map(([path]) => nameOf(path))
    .filter((name) => !name.startsWith('@esbuild/'))
  expect(names.filter((name) => !(name in { ...WANTED, ...BROUGHT }))).toEqual([])
})

/** The lock file of the project, and that of the mutation tests, whose packages are installed when they run. */
test.each(['.', 'test/stryker'])(
  'every package of %s is locked by its hash, and comes from the registry of npm',
  (folder) => {
    const lock = read(join(folder, 'package-lock.json')) as Lock
    const packages = packagesOf(lock)
    expect(lock.lockfileVersion).toBeGreaterThanOrEqual(3)
    expect(packages.length).toBeGreaterThan(20)
    const loose = packages.filter(
      ([, { integrity, link }]) => link || !integrity?.startsWith('sha512-'),
    )
    expect(loose.map(([path]) => path)).toEqual([])
    const elsewhere = packages.filter(
      ([, { resolved }]) =>
        resolved !== undefined && !resolved.startsWith('https://registry.npmjs.org/'),
    )
    expect(elsewhere.map(([path]) => path)).toEqual([])
    const named = ['', 'test'].flatMap((own) => {
      const { dependencies, devDependencies } = lock.packages[own] ?? {}
      return Object.entries({ ...dependencies, ...devDependencies })
    })
    expect(named.filter(([, range]) => !/^\^?\d+\.\d+\.\d+$/.test(range))).toEqual([])
  },
)

test('what runs in production needs no script of its own to be installed', () => {
  const scripted = production.filter(([, { hasInstallScript }]) => hasInstallScript)
  expect(scripted.map(([path]) => nameOf(path)).filter((name) => name !== 'fsevents')).toEqual(
    SCRIPTS,
  )
  expect(readFileSync('.npmrc', 'utf8')).toContain('ignore-scripts=true\n')
  const { scripts } = read('package.json') as { scripts: Record<string, string> }
  for (const name of ['preinstall', 'install', 'postinstall', 'prepare'])
    expect(scripts[name]).toBeUndefined()
})

test('packages of production have licences that only require a notice', () => {
  const other = production.filter(([, { license }]) => !LICENCES.has(license ?? ''))
  expect(other.map(([path, { license }]) => [path, license])).toEqual([])
})

test('security.md lists them, with their licences', () => {
  const section = readFileSync('docs/security.md', 'utf8').split('## Packages in production\n')[1]
  const listed = [...(section ?? '').matchAll(/^\| `([^`]+)` +\| (\S+) +\| (.*?) +\|$/gm)]
  const licences = Object.fromEntries(
    production.map(([path, { license }]) => [nameOf(path), license]),
  )
  expect(listed.map(([, ...cells]) => cells)).toEqual(
    Object.entries({ ...WANTED, ...BROUGHT }).map(([name, why]) => [name, licences[name], why]),
  )
})

test('a plain install takes only what runs Weir', () => {
  expect(readFileSync('.npmrc', 'utf8')).toContain('workspaces=false\n')
  expect(read('package.json').devDependencies).toEqual({ miniflare: expect.any(String) })
  const { installCommand } = read('vercel.json')
  expect(installCommand).toBe('npm ci --omit=dev')
})

test('CI asks for known weaknesses of them, each week too', () => {
  const workflow = readFileSync('.github/workflows/ci.yml', 'utf8')
  expect(workflow).toMatch(/^ +- run: npm audit --omit=dev --audit-level=low$/m)
  expect(workflow).toMatch(/^ {2}schedule:\n +- cron: '\S+ \S+ \* \* \d'$/m)
  // This test file searches for secrets.
  expect(workflow).toMatch(/^ +- run: npm test$/m)
})

/** Patterns of secrets. The first group, if there is one, is the value. */
const SECRETS: RegExp[] = [
  /\bgsk_[A-Za-z0-9]{20,}/g,
  /\bsk-[A-Za-z0-9_-]{20,}/g,
  /\bAKIA[0-9A-Z]{16}\b/g,
  /\bgh[pousr]_[A-Za-z0-9]{30,}/g,
  /\bnpm_[A-Za-z0-9]{30,}/g,
  /\bxox[abprs]-[A-Za-z0-9-]{10,}/g,
  /\bAIza[A-Za-z0-9_-]{30,}/g,
  /-----BEGIN [A-Z ]*PRIVATE KEY-----/g,
  /\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}/g,
  /rediss?:\/\/[^:\s/]*:([^@\s$}]{8,})@/g,
  /(?:key|token|secret|password|auth)\w*['"]?\s*[:=]\s*['"`]([A-Za-z0-9+/_-]{32,}={0,2})['"`]/gi,
]

/** Values that look like secrets but are not: words of tests, and examples. */
const NONE = [/^PASSWORD$/, /^p%40s%2Fs%25$/, /^[a-z]+(-[a-z0-9]+)+$/]

function secretsIn(text: string): string[] {
  return SECRETS.flatMap((pattern) =>
    [...text.matchAll(pattern)]
      .filter(([whole, value]) => !NONE.some((none) => none.test(value ?? whole)))
      .map(([whole]) => whole),
  )
}

test('no file that is kept holds a secret', () => {
  const files = execFileSync('git', ['ls-files', '-z']).toString().split('\0').filter(Boolean)
  expect(files.length).toBeGreaterThan(100)
  const found = files
    .filter((file) => file !== 'package-lock.json')
    .flatMap((file) => secretsIn(readFileSync(file, 'utf8')).map((secret) => `${file}: ${secret}`))
  expect(found).toEqual([])
})

test('a secret would be found', () => {
  const long = 'aZ09'.repeat(10)
  for (const secret of [
    `gsk_${long}`,
    `AKIA${'A1'.repeat(8)}`,
    `-----BEGIN ${'RSA PRIVATE'} KEY-----`,
    `UPSTASH_TOKEN: "${long}"`,
    `api_key='${long}'`,
    `redis://default:${long}@host`,
  ]) {
    expect(secretsIn(secret)).toHaveLength(1)
  }
})
