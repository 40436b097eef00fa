/** Checks README.md and docs/: links, names, codes, routes, keys and log entries exist, and commands work. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { expect, test } from 'vitest'
import { readConfig, VARIABLES } from '../../src/config/config.ts'
import { imported, migrated } from '../../src/migration/report.ts'
import { UNRECORDED } from '../../src/store/fallback/queue.ts'
import { PREFIX, SWEEP_EVERY, SWEPT } from '../../src/store/redis/keys.ts'
import { AUDIT_KEPT, REFUSED_KEPT } from '../../src/store/store.ts'
import { CONNECTED } from '../../src/store/redis/store.ts'
import { QUOTA_DAYS } from '../../src/ledger/capacity.ts'
import { nextDay } from '../../src/ledger/windows.ts'
import { createIds } from '../../src/identity/ids.ts'
import { nextSync, useBrowser } from '../support/browser.ts'
import { ADMIN_KEY, startGateway } from '../support/gateways.ts'
import { issuedJwt, pairOf, startIssuer } from '../support/issuer.ts'
import { mayBeIn, tokensIn } from '../support/secrets.ts'
import { useWorld } from '../support/world.ts'

const world = useWorld()
const chromium = useBrowser()

const TOKEN = 'token-of-a-reader'
/** Made like the ids of the tests, see gateways.ts. */
const USER_ID = await createIds('secret-of-the-tests').user(TOKEN)

type Page = { path: string; text: string }

const read = (path: string): Page => ({ path, text: readFileSync(path, 'utf8') })
/** The files of a folder and of its subfolders. */
const filesOf = (folder: string, end: RegExp): string[] =>
  readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((name) => end.test(name))
    .map((name) => join(folder, name))
    .sort()

const DOCS = filesOf('docs', /\.md$/).map(read)
const PAGES = [
  ...['README.md', 'CHANGELOG.md', 'CONTRIBUTING.md', 'SECURITY.md', 'examples/README.md'].map(
    read,
  ),
  ...DOCS,
]
const all = PAGES.map(({ text }) => text).join('\n')
const doc = (name: string): string => read(`docs/${name}.md`).text

/** The code blocks of a language. Blocks in lists are indented. */
const fences = ({ text }: Page, language: string): string[] =>
  [...text.matchAll(new RegExp(`^( *)\`\`\`${language}\\n([^]*?)^ *\`\`\`$`, 'gm'))].map(
    ([, indent = '', code = '']) => code.replaceAll(new RegExp(`^${indent}`, 'gm'), ''),
  )

/** Fills in the values that a reader would replace. */
const filled = (code: string, url: string, keyId = ''): string =>
  code
    .replaceAll('KEY_ID', keyId)
    .replaceAll(/https:\/\/HOST|http:\/\/127\.0\.0\.1:8787/g, url)
    .replaceAll('THE_PRINTED_KEY', ADMIN_KEY)
    .replaceAll('USER_ID', USER_ID)
    .replaceAll(/\bTOKEN\b/g, TOKEN)

/** The names that the pages mention, by a pattern with one group. */
const mentioned = (pattern: RegExp): Set<string> =>
  new Set([...all.matchAll(pattern)].map(([, name = '']) => name))

/** The anchors of a page's headings on GitHub. */
const anchors = (text: string): string[] =>
  [...text.matchAll(/^#+ (.+)$/gm)].map(([, heading = '']) =>
    heading
      .toLowerCase()
      .replaceAll(/[^\w\- ]/g, '')
      .replaceAll(' ', '-'),
  )

test.each(PAGES)('every relative link of $path has a target', ({ path, text }) => {
  const prose = text.replaceAll(/^ *```[^]*?^ *```$/gm, '')
  const links = [...prose.matchAll(/\]\(([^)\s]+)\)|(?:src|srcset)="([^"]+)"/g)].map(
    ([, link, image]) => link ?? image ?? '',
  )
  for (const link of links.filter((one) => !/^https?:/.test(one))) {
    const [file = '', anchor] = link.split('#')
    const target = file === '' ? path : join(dirname(path), file)
    expect(existsSync(target), link).toBe(true)
    if (anchor !== undefined) expect(anchors(read(target).text), link).toContain(anchor)
  }
})

test('every test that security.md names is in the file that it links', () => {
  const named = [...doc('security').matchAll(/\]\(\.\.\/(test\/[\w./-]+)\)((?::|,)? "[^|;]*")?/g)]
  expect(named.length).toBeGreaterThan(40)
  for (const [, file = '', names = ''] of named) {
    const { text } = read(file)
    for (const [, name = ''] of names.matchAll(/"([^"]+)"/g))
      expect(text.replaceAll("\\'", "'"), file).toContain(name)
  }
})

const HARD_WORDS = /\b(afresh|anew|mending|reckon\w*|thrice|whoever|overshoot|lets go|told so)\b/gi

test('the pages are in plain words', () => {
  // The changelog names what was renamed.
  const pages = PAGES.filter(({ path }) => path !== 'CHANGELOG.md')
  for (const { path, text } of pages) expect([path, text.match(HARD_WORDS)]).toEqual([path, null])
})

test('the code is in plain words', () => {
  const folders = ['src', 'static', 'scripts', 'bench', 'examples']
  const code = folders.flatMap((folder) => filesOf(folder, /\.(tsx?|m?js|lua|css)$/)).map(read)
  expect(code.length).toBeGreaterThan(300)
  for (const { path, text } of code) expect([path, text.match(HARD_WORDS)]).toEqual([path, null])
})

test('every mentioned file exists', () => {
  const paths = mentioned(/`((?:src|test|static|scripts|bench|docs|\.ci)\/[\w./-]*)`/g)
  expect(paths.size).toBeGreaterThan(10)
  expect([...paths].filter((path) => !existsSync(path))).toEqual([])
})

test('architecture.md names files that exist, and says rightly which file has a function', () => {
  const text = doc('architecture')
  const files = ['src', 'test', 'scripts'].flatMap((folder) => filesOf(folder, /\.\w+$/))
  const at = (name: string) =>
    [...files, ...readdirSync('.')].filter((file) => `/${file}`.endsWith(`/${name}`))
  const named = [...text.matchAll(/`([\w./-]+\.(?:tsx?|js|mjs|lua))`/g)].map(
    ([, name = '']) => name,
  )
  expect(new Set(named).size).toBeGreaterThan(50)
  expect(named.filter((name) => at(name).length === 0)).toEqual([])
  const pairs = [...text.matchAll(/((?:`\w+`(?:, | and )?)+) of `([\w./-]+\.\w+)`/g)].flatMap(
    ([, names = '', file = '']) =>
      [...names.matchAll(/\w+/g)]
        .filter(([name]) => name !== 'and')
        .map(([name]) => ({ name, file })),
  )
  expect(pairs.length).toBeGreaterThan(15)
  const isIn = ({ name, file }: (typeof pairs)[number]) =>
    at(file).some((path) => new RegExp(`\\b${name}\\b`).test(readFileSync(path, 'utf8')))
  expect(pairs.filter((pair) => !isIn(pair))).toEqual([])
})

test('architecture.md has the rooms with about as many lines as they have, and no file is too long', () => {
  const lines = (file: string) => readFileSync(file, 'utf8').split('\n').length - 1
  const sizes = filesOf('src', /\.(tsx?|js|mjs|lua|css|html)$/).map(
    (file) => [file, lines(file)] as const,
  )
  const roomOf = (file: string) => file.split('/').slice(0, 2).join('/')
  const rows = doc('architecture').matchAll(/^\| `(src\/[^`]+)` +\|.*\| +([\d,]+) \|$/gm)
  const said = [...rows].flatMap(([, room = '', count = '']) => {
    const names = /^src\/\{(.*)\}\.ts$/
      .exec(room)?.[1]
      ?.split(',')
      .map((name) => `src/${name}.ts`)
    return [{ rooms: names ?? [room], count: Number(count.replace(',', '')) }]
  })
  expect(said.flatMap(({ rooms }) => rooms).sort()).toEqual(
    [...new Set(sizes.map(([file]) => roomOf(file)))].sort(),
  )
  for (const { rooms, count } of said) {
    const found = sizes.filter(([file]) => rooms.includes(roomOf(file)))
    const all = found.reduce((sum, [, size]) => sum + size, 0)
    expect(Math.abs(all - count), `${rooms.join()}: ${all} lines`).toBeLessThan(
      Math.max(60, all / 5),
    )
  }
  const scripts = filesOf('scripts', /\.tsx?$/).map((file) => [file, lines(file)] as const)
  expect(
    [...sizes, ...scripts].filter(([file, size]) => /\.tsx?$/.test(file) && size > 400),
  ).toEqual([])
})

test('every mentioned variable exists, and all are mentioned', () => {
  const others = [
    ...[
      'NODE_ENV',
      'WEIR_URL',
      'USER_ID',
      'KEY_ID',
      'WEIR_KEY',
      'THE_PRINTED_KEY',
      'TEST_URL',
      'TEST_MODEL',
    ],
    ...['HTTP_PROXY', 'HTTPS_PROXY', 'ALL_PROXY', 'NO_PROXY', 'STORAGE_KV_REST_API_URL'],
  ]
  const names = mentioned(/\b([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)(?=\b|_)/g)
  const known = (name: string) =>
    others.includes(name) || VARIABLES.some((one) => one === name || one.startsWith(`${name}_`))
  expect([...names].filter((name) => !known(name))).toEqual([])
  expect(VARIABLES.filter((name) => !all.includes(`\`${name}`))).toEqual([])
})

test('every mentioned npm command exists', () => {
  const { scripts } = JSON.parse(readFileSync('package.json', 'utf8')) as { scripts: object }
  const names = mentioned(/\bnpm run (\w[\w:-]*)/g)
  expect(names.size).toBeGreaterThan(3)
  expect([...names].filter((name) => !Object.hasOwn(scripts, name))).toEqual([])
})

test('every error code is listed with its status, and troubleshooting.md has all of them', () => {
  const table = readFileSync('src/errors.ts', 'utf8').matchAll(/^ {2}(\w+): \[(\d{3}), /gm)
  const codes = [...table].map(([, code, status]) => `${status} \`${code}\``)
  expect(codes.length).toBeGreaterThan(15)
  const named = mentioned(/\b([45]\d\d `[a-z_]+`)/g)
  expect([...named].filter((code) => !codes.includes(code))).toEqual([])
  const listed = doc('troubleshooting').split('## Error codes')[1] ?? ''
  expect(codes.filter((code) => !listed.includes(`| ${code} `))).toEqual([])
})

test('every mentioned route exists, with the mentioned method', async () => {
  const { url } = await world.gateway('node')
  const place = /(?:\b(GET|POST|PUT|DELETE) )?(?:https?:\/\/[\w.:]+)?(\/api\/[\w/:*-]+(?:\.json)?)/g
  const routes = new Map<string, string | undefined>()
  for (const [, method, path = ''] of all.matchAll(place)) {
    const exact = path.replace(/\*$/, 'models').replace(/\/$/, '')
    // A base URL is not a route.
    if (exact === '/api/groq/openai/v1') continue
    routes.set(`${method ?? ''} ${exact.replace(/:userId|USER_ID/, USER_ID)}`, method)
  }
  expect(routes.size).toBeGreaterThan(15)
  const headers = { authorization: `Bearer ${ADMIN_KEY}` }
  for (const [route, method] of routes) {
    const path = route.split(' ')[1] ?? ''
    const response = await fetch(url + path, { method: method ?? 'GET', headers })
    expect([route, await response.text()]).not.toEqual([route, expect.stringContaining('No such')])
    if (method) expect([route, response.status]).not.toEqual([route, 405])
  }
})

test('operations.md has every entry of the log, and no other', () => {
  const entry = /(?:\.(?:debug|info|warn|error)|\bwarn)\(\s*'([a-z]+\.[a-z_]+)'/g
  const sources = filesOf('src', /\.tsx?$/).map((path) => readFileSync(path, 'utf8'))
  const written = sources.flatMap((text) => [...text.matchAll(entry)].map(([, name = '']) => name))
  const rows = doc('operations')
    .split('## What to watch')[1]
    ?.split('\n## ')[0]
    ?.match(/^\|.*$/gm)
    ?.join('\n')
  const named = [...(rows ?? '').matchAll(/`([a-z]+\.[a-z_]+)`/g)].map(([, name]) => name)
  expect([...new Set(named)].toSorted()).toEqual([...new Set([...written, UNRECORDED])].toSorted())
  const report = { records: 0, leftOut: 0, damaged: 0, positions: [] }
  for (const phrase of [CONNECTED, migrated(report), imported(report)]) {
    expect(rows).toContain(`\`${phrase.replace(' 0 ', ' X ')}\``)
  }
})

test('storage.md has the days, the sweeps and the entries of the code', () => {
  const text = doc('storage')
  const number = (count: number) => count.toLocaleString('en-US')
  const days = [...text.matchAll(/after (\w+) days without a request/g)].map(([, said]) => said)
  expect(new Set(days)).toEqual(new Set([String(QUOTA_DAYS)]))
  expect(text).toContain(`every ${number(SWEEP_EVERY)}th after it`)
  expect(text).toContain(`at most ${number(SWEPT)} entries of each index`)
  expect(text).toContain(`the last ${number(AUDIT_KEPT)} actions of admins`)
  expect(text).toContain(`about ${number(REFUSED_KEPT)}, one of a user and code`)
})

test('storage.md has every key of the database', async () => {
  const { url } = await world.gateway('node')
  const ask = (path: string, init: RequestInit) =>
    fetch(url + path, init).then(async (response) => {
      await response.arrayBuffer()
      return response
    })
  const admin = { authorization: `Bearer ${ADMIN_KEY}` }
  const json = { 'content-type': 'application/json' }
  const chat = { method: 'POST', headers: { 'x-user-token': TOKEN }, body: '{"prompt":"Hi"}' }
  const day = { tokens: 1, requests: 1, resetAt: nextDay(Date.now()) }
  const block = { userId: USER_ID, model: '*', blocked: true }

  const { headers } = await ask('/api/groq', chat)
  const id = headers.get('x-weir-id')
  await expect
    .poll(async () => (await world.store.events(9)).map((event) => event.id))
    .toContain(id)
  const [event] = await world.store.events(1)
  if (event) {
    const late = { ...event, id: 'served-without-a-lease' }
    await world.store.replay([{ op: 'enter', now: Date.now(), user: late.user, event: late }])
  }
  await ask('/api/tracking/sync', {
    method: 'POST',
    headers: json,
    body: JSON.stringify({ userToken: TOKEN, modelUsage: { 'a/one': { day } } }),
  })
  const login = { method: 'POST', headers: json, body: JSON.stringify({ key: ADMIN_KEY }) }
  await ask('/api/admin/login', login)
  const post = { method: 'POST', headers: admin, body: JSON.stringify(block) }
  await ask('/api/admin/usage', post)
  const other = 'somebody-who-is-gone--'
  await ask(`/api/admin/users/${other}`, { method: 'DELETE', headers: admin })

  const keys = (await world.redis.command(['KEYS', '*'])) as string[]
  const listed = [...doc('storage').matchAll(/^\| `(weir:[^`]+)`/gm)].map(([, key = '']) => key)
  expect(listed.filter((key) => !key.startsWith(PREFIX))).toEqual([])
  const kinds = listed.map((key) => {
    const kind = key.slice(PREFIX.length).replaceAll(/\{\w+\}/g, '[^:]+')
    return new RegExp(`^${kind}$`)
  })
  const isListed = (key: string) =>
    key.startsWith(PREFIX) && kinds.some((kind) => kind.test(key.slice(PREFIX.length)))
  expect(keys.length).toBeGreaterThanOrEqual(15)
  expect(keys.filter((key) => !isListed(key))).toEqual([])
})

/** Lines that are not run here, with the reason. */
const NOT_RUN: [line: RegExp, reason: string][] = [
  [/^npx (vercel|wrangler) /, 'needs an account and the network'],
  [/^git clone /, 'needs the repository'],
  [/^npm (install|ci)\b/, 'needs a registry'],
  [/^docker /, 'needs an engine; build/container.test.ts runs the steps'],
  [/^(npm pack|npx --package=)/, 'build/pack.test.ts runs it'],
  [/^npm run deploy$/, 'needs an account and the network'],
  [/^(npm run dev|NODE_ENV=production npm start)$/, 'http/run.test.ts runs it'],
  [/^npx tsx examples\//, 'build/examples.test.ts runs it'],
  [/^npm run replay -- FILE$/, 'store/replay.test.ts runs it'],
  [/^npm run migrate -- (FILE|--kv)$/, 'migration/run.test.ts runs it'],
  [/^(npm test|npx vitest run test\/store\/admit\.test\.ts)$/, 'would run this test'],
  [/^npm run bench\b/, 'measures for minutes'],
  [/^openssl rand /, 'is no tool of this project'],
]

/** The commands of a page, with continued lines joined. */
const commands = (page: Page): string[] =>
  fences(page, 'sh')
    .flatMap((code) => code.replaceAll(/\\\n\s*/g, '').split('\n'))
    .filter((line) => line !== '')

const isVariable = (line: string) => VARIABLES.some((name) => line.startsWith(`${name}=`))

test('every command is run, or has a reason not to be run', () => {
  const lines = PAGES.flatMap(commands).filter(
    (line) => !line.startsWith('curl ') && !isVariable(line),
  )
  expect(lines.filter((line) => !NOT_RUN.some(([known]) => known.test(line)))).toEqual([])
  expect(NOT_RUN.filter(([known]) => !lines.some((line) => known.test(line)))).toEqual([])
})

/** The secret that identity.md tells to replace. */
const [, USER_TOKEN_SECRETS = ''] = /USER_TOKEN_SECRETS='(.+)'/.exec(doc('identity')) ?? []

/** The gateway that the scripts and calls of a page are about. */
const gatewayOf = (path: string) =>
  world.gateway('node', {
    ...(path.endsWith('identity.md') && { USER_TOKENS: 'signed', USER_TOKEN_SECRETS }),
    // Nobody listens there: the test is answered, and does not arrive.
    ...(path.endsWith('alerts.md') && {
      ALERT_WEBHOOK_URL: 'http://127.0.0.1:9/',
      ALERT_FORMAT: 'slack',
    }),
  })

async function run(command: string, args: string[], cwd: string, more = {}): Promise<string> {
  const env = { ...process.env, ADMIN_KEY, USER_TOKEN_SECRETS, ...more }
  const child = spawn(command, args, { cwd, env })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (data: Buffer) => (output += data.toString()))
  }
  const [code] = (await once(child, 'close')) as [number]
  expect([args.at(-1), code, output]).toEqual([args.at(-1), 0, output])
  return output
}

/** Creates a key of the reader. */
async function newKey(url: string): Promise<{ id: string; key: string }> {
  const headers = { authorization: `Bearer ${ADMIN_KEY}` }
  const body = JSON.stringify({ userId: USER_ID })
  const answer = await fetch(`${url}/api/admin/keys`, { method: 'POST', headers, body })
  return (await answer.json()) as { id: string; key: string }
}

test.each(PAGES.filter((page) => commands(page).some((line) => line.startsWith('curl '))))(
  'the calls with curl of $path succeed, one after the other',
  async (page) => {
    const { url } = await gatewayOf(page.path)
    const folder = await mkdtemp(join(tmpdir(), 'weir-docs-'))
    try {
      for (const table of fences(page, 'csv')) await writeFile(join(folder, 'users.csv'), table)
      const keyId = page.text.includes('KEY_ID') ? (await newKey(url)).id : ''
      for (const line of commands(page).filter((one) => one.startsWith('curl '))) {
        const call = filled(line, url, keyId).replace('curl ', 'curl -sS --fail-with-body ')
        const answer = await run('sh', ['-c', call], folder)
        // An answer may show a key or a token once, and curl prints it.
        for (const token of tokensIn(answer)) mayBeIn(['the output of a process'], token)
      }
    } finally {
      await rm(folder, { recursive: true })
    }
  },
)

test('the values of variables in commands are right', () => {
  const lines = PAGES.flatMap(commands).filter(isVariable)
  expect(lines.length).toBeGreaterThan(0)
  for (const line of lines) {
    const [, name = '', value = ''] = /^(\w+)='(.*)'$/.exec(line) ?? []
    expect(() => readConfig({ [name]: value }, 'edge'), line).not.toThrow()
  }
})

test.each(DOCS.flatMap((page) => fences(page, 'js').map((code) => ({ path: page.path, code }))))(
  'a script of $path answers: $code',
  async ({ path, code }) => {
    const { url } = await gatewayOf(path)
    const args = ['--input-type=module', '-e', filled(code, url)]
    const more = code.includes('WEIR_KEY') ? { WEIR_KEY: (await newKey(url)).key } : {}
    expect((await run(process.execPath, args, process.cwd(), more)).length).toBeGreaterThan(10)
  },
)

test.each(fences(read('docs/identity.md'), 'json'))(
  'an issuer of identity.md can be configured, and its tokens are taken: %s',
  async (code) => {
    const pair = pairOf('key')
    const local = await startIssuer('', pair)
    try {
      const [row] = readConfig({ JWT_ISSUERS: code }, 'edge').jwtIssuers
      const here = (address = '') =>
        address.replace(/^https:\/\/[^/]+/, new URL(local.row.jwksUrl).origin)
      const own = { ...row, issuer: here(row?.issuer), jwksUrl: here(row?.jwksUrl) }
      const { url, close } = await startGateway('node', {
        GROQ_BASE_URL: world.upstream.url,
        USER_TOKENS: 'signed',
        JWT_ISSUERS: JSON.stringify([own]),
      })
      const exp = Math.floor(Date.now() / 1000) + 60
      const payload = { iss: own.issuer, aud: own.audience, sub: 'user-7', exp }
      const call = async (told: object) => {
        const headers = { authorization: `Bearer ${issuedJwt(told, pair)}` }
        return (await fetch(`${url}/api/groq/openai/v1/models`, { headers })).status
      }
      expect(await call(payload)).toBe(200)
      expect(await call({ ...payload, aud: 'another' })).toBe(401)
      await close()
    } finally {
      await local.close()
    }
  },
)

test.each(PAGES.flatMap((page) => fences(page, 'html').map((code) => ({ path: page.path, code }))))(
  'a page of $path calls and syncs: $code',
  async ({ code }) => {
    const { url } = await world.gateway('node')
    const page = await (await chromium.profile(Date.now())).newPage()
    const errors: unknown[] = []
    page.on('pageerror', (error) => errors.push(error))
    await page.goto(world.upstream.url)
    const called = page.waitForResponse((answer) => answer.url().startsWith(`${url}/api/groq/`))
    await page.setContent(`<!doctype html><title>app</title>${filled(code, url)}`)
    expect((await called).status()).toBe(200)
    await page.evaluate(() => navigator.locks.query())
    const synced = await nextSync(page, 2000)
    expect(synced.url()).toBe(`${url}/api/tracking/sync`)
    expect(synced.status()).toBe(200)
    expect(errors).toEqual([])
  },
)
