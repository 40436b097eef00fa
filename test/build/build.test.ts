import { build } from 'esbuild'
import { execFile } from 'node:child_process'
import { readdir, readFile } from 'node:fs/promises'
import { promisify } from 'node:util'
import { gzipSync } from 'node:zlib'
import { beforeAll, expect, test, vi } from 'vitest'
import { edgeBundle } from '../../scripts/bundle.ts'
import { openapi } from '../../scripts/openapi.ts'
import { vercelRoutes } from '../../scripts/vercel-routes.ts'
import { isOfPages } from '../../src/app.ts'
import { SHARED_HEADERS, STATIC_HEADERS } from '../../src/platform/node/static-files.ts'
import { ASSETS } from '../../src/views/assets.ts'
import { assetsOf, expectAssets } from '../support/assets.ts'

type Route = {
  src?: string
  handle?: string
  headers?: Record<string, string>
  continue?: boolean
  dest?: string
}

const OUTPUT = '.vercel/output'
const BUNDLES = ['vercel', 'vercel-pages', 'worker', 'worker-pages']
let printed: string

beforeAll(async () => {
  printed = (await promisify(execFile)('npx', ['tsx', 'scripts/build.ts'])).stdout
}, 60_000)

test('the build is two edge functions, the static files and a route to each', async () => {
  const json = async (path: string) =>
    JSON.parse(await readFile(`${OUTPUT}/${path}`, 'utf8')) as unknown
  for (const name of ['index', 'pages']) {
    expect(await json(`functions/${name}.func/.vc-config.json`)).toEqual({
      runtime: 'edge',
      deploymentTarget: 'v8-worker',
      entrypoint: 'index.mjs',
    })
  }
  const { version, routes } = (await json('config.json')) as { version: number; routes: Route[] }
  expect(version).toBe(3)
  const files = routes.findIndex(({ handle }) => handle === 'filesystem')
  const [handle, ...functions] = routes.slice(files)
  expect(handle).toEqual({ handle: 'filesystem' })
  const functionOf = (path: string) =>
    functions.find(({ src = '' }) => new RegExp(`^${src}$`).test(path))?.dest
  for (const path of [
    '/',
    '/admin',
    '/admin/users/x',
    '/api/admin/usage',
    '/api/tokens',
    '/api/tracking/sync',
    '/usage',
    ASSETS.style.path,
  ]) {
    expect([path, functionOf(path), isOfPages(path)]).toEqual([path, '/pages', true])
  }
  for (const path of ['/api/groq', '/api/groq/openai/v1/models', '/api/test', '/administration']) {
    expect([path, functionOf(path), isOfPages(path)]).toEqual([path, '/index', false])
  }
  const told = (path: string) =>
    routes
      .slice(0, files)
      .filter(({ src = '' }) => new RegExp(src).test(path))
      .map(({ headers, continue: goesOn }) => (goesOn ? headers : undefined))
  for (const path of ['/tracker.js', '/api/openapi.json']) {
    expect(told(path)).toEqual([STATIC_HEADERS, SHARED_HEADERS])
  }
  expect(told('/favicon.svg')).toEqual([STATIC_HEADERS])
  for (const path of [
    '/',
    '/api/groq',
    '/trackerxjs',
    '/api/tracker.js',
    '/api/openapixjson',
    '/api',
    // The function sends these headers itself.
    ASSETS.style.path,
  ]) {
    expect(told(path)).toEqual([])
  }
  const listed = async (path: string) => (await readdir(path, { recursive: true })).sort()
  expect(await listed(`${OUTPUT}/static`)).toEqual(
    (await listed('static')).filter((name) => name !== '_headers'),
  )
  expect(await json('static/api/openapi.json')).toEqual(openapi())
})

test('below a path, the build has the same routes with the path and without it', () => {
  const [below, ...others] = vercelRoutes('/team/we.ir')
  expect(others).toEqual(vercelRoutes(''))
  const { src = '', dest = '', ...more } = below as Route
  expect(more).toEqual({ continue: true })
  const seen = (path: string) => path.replace(new RegExp(src), dest)
  expect(seen('/team/we.ir/')).toBe('/')
  expect(seen('/team/we.ir/tracker.js')).toBe('/tracker.js')
  expect(seen('/team/we.ir/admin/users/x')).toBe('/admin/users/x')
  for (const path of ['/team/we.ir', '/team/we.irs/admin', '/team/weXir/admin', '/admin']) {
    expect(seen(path)).toBe(path)
  }
})

test('a build with a wrong BASE_PATH says what is right', async () => {
  const env = { ...process.env, BASE_PATH: 'weir' }
  const built = promisify(execFile)('npx', ['tsx', 'scripts/build.ts'], { env })
  await expect(built).rejects.toMatchObject({
    code: 1,
    stderr: expect.stringContaining('BASE_PATH must be a path such as /weir') as string,
  })
})

test.each(BUNDLES)(
  'the bundle %s has at most 128 KB gzip, with the pages 224, and the build prints it',
  async (name) => {
    const bundle = await readFile(`dist/${name}/index.js`)
    const gzip = gzipSync(bundle)
    const most = name.endsWith('-pages') ? 224 : 128
    expect(gzip.length).toBeLessThanOrEqual(most * 1024)
    expect(printed).toContain(`${(gzip.length / 1024).toFixed(1)} KB gzip`)
  },
)

test('what an isolate loads for a call to the model has no pages and no package of theirs', async () => {
  for (const entry of ['vercel', 'worker']) {
    const map = await readFile(`dist/${entry}/index.js.map`, 'utf8')
    const { sources } = JSON.parse(map) as { sources: string[] }
    expect(sources).toContain('../../src/routes/proxy.ts')
    const others =
      /src\/(views|reports)\/|routes\/(admin|dashboard|tokens|sync)|hono\/dist\/jsx|ratelimit/
    expect(sources.filter((path) => others.test(path))).toEqual([])
  }
})

test('the proxy starts without zod', async () => {
  const options = { ...edgeBundle('src/worker.ts', 'worker.js'), write: false, metafile: true }
  const { inputs, outputs } = (await build(options)).metafile!
  const bundled = outputs['worker.js']!.inputs
  const loaded = new Set(['src/worker.ts'])
  for (const path of loaded) {
    for (const { kind, path: imported } of inputs[path]!.imports) {
      // Of a file that is in no bundle only the types are used, or what is for the pages.
      if (kind === 'import-statement' && bundled[path]?.bytesInOutput) loaded.add(imported)
    }
  }
  expect(loaded).toContain('src/config/rows.ts')
  expect(Object.keys(bundled).some((path) => path.includes('/zod/'))).toBe(true)
  expect([...loaded].filter((path) => path.includes('/zod/'))).toEqual([])
})

test('no error is made while a bundle loads, which V8 would parse a second time for its stack, and no formatter, which takes as long', async () => {
  const made: string[] = []
  vi.stubGlobal(
    'Error',
    class extends Error {
      constructor(message?: string, options?: ErrorOptions) {
        super(message, options)
        made.push(this.message)
      }
    },
  )
  const formatters = (['NumberFormat', 'DateTimeFormat', 'RelativeTimeFormat'] as const).map(
    (name) => vi.spyOn(Intl, name),
  )
  formatters.push(vi.spyOn(Number.prototype, 'toLocaleString') as never)
  try {
    // Node has no `cloudflare:workers`, which the fourth bundle imports.
    for (const name of ['vercel', 'vercel-pages', 'worker']) {
      await import(/* @vite-ignore */ new URL(`../../dist/${name}/index.js`, import.meta.url).href)
      const isProxy = name !== 'vercel-pages'
      for (const formatter of formatters) {
        if (isProxy) expect(formatter, name).not.toHaveBeenCalled()
        formatter.mockClear()
      }
    }
  } finally {
    vi.unstubAllGlobals()
    vi.restoreAllMocks()
  }
  expect(made).toEqual([])
})

test('the functions export a handler, the proxy also its runtime, and need no module of Node', async () => {
  for (const [name, exported] of [
    ['index', /export\{[\w$]+ as config,[\w$]+ as default\}/],
    ['pages', /export\{[\w$]+ as default\}/],
  ] as const) {
    const text = await readFile(`${OUTPUT}/functions/${name}.func/index.mjs`, 'utf8')
    expect(text).toMatch(exported)
    expect(text).not.toMatch(/(^|[;}])import\b|\brequire\(/)
  }
})

test('the workers are what the files of wrangler deploy', async () => {
  for (const [file, worker] of [
    ['wrangler.toml', 'worker'],
    ['wrangler.pages.toml', 'worker-pages'],
  ] as const) {
    expect(await readFile(file, 'utf8')).toContain(`main = "dist/${worker}/index.js"`)
    const text = await readFile(`dist/${worker}/index.js`, 'utf8')
    expect(text.match(/(^|[;}])import\b[^;]*/g) ?? []).toEqual(
      worker === 'worker' ? [] : [expect.stringContaining('"cloudflare:workers"')],
    )
  }
})

test('source maps are kept for reading stack traces, and out of what is uploaded', async () => {
  for (const entry of BUNDLES) {
    const map = JSON.parse(await readFile(`dist/${entry}/index.js.map`, 'utf8')) as {
      sources: string[]
    }
    expect(map.sources).toContain(`../../src/${entry}.ts`)
    expect(await readFile(`dist/${entry}/index.js`, 'utf8')).not.toContain('sourceMappingURL')
  }
  const files = await readdir(OUTPUT, { recursive: true })
  expect(files.filter((path) => path.endsWith('.map'))).toEqual([])
  for (const [name, entry] of [
    ['index', 'vercel'],
    ['pages', 'vercel-pages'],
  ]) {
    const uploaded = await readFile(`${OUTPUT}/functions/${name}.func/index.mjs`)
    expect(uploaded.equals(await readFile(`dist/${entry}/index.js`)), name).toBe(true)
  }
})

test('the edge functions answer', async () => {
  type Handler = (request: Request, context: object) => Promise<Response>
  const load = async (name: string) =>
    (await import(
      /* @vite-ignore */ new URL(
        `../../${OUTPUT}/functions/${name}.func/index.mjs`,
        import.meta.url,
      ).href
    )) as { default: Handler; config?: { runtime: string } }
  const { default: proxy, config } = await load('index')
  expect(config?.runtime).toBe('edge')
  const request = new Request('https://weir.example/api/groq', { method: 'POST', body: '{}' })
  // The context of a platform may be an instance of a class.
  const context = new (class {
    waitUntil() {}
  })()
  const response = await proxy(request, context)
  expect(response.headers.get('x-weir-id')).toMatch(/^[0-9a-f-]{36}$/)
  const { default: pages } = await load('pages')
  const get = (path: string) => pages(new Request(`https://weir.example${path}`), context)
  const paths = assetsOf(await (await get('/')).text())
  expect(paths).toEqual([ASSETS.style.path])
  await expectAssets(get, [ASSETS.style.path, ASSETS.script.path])
})

test('the files of wrangler and the development server have the same compatibility date', async () => {
  const { COMPATIBILITY_DATE } = await import('../../scripts/bundle.ts')
  for (const file of ['wrangler.toml', 'wrangler.pages.toml']) {
    expect(await readFile(file, 'utf8')).toContain(`compatibility_date = "${COMPATIBILITY_DATE}"`)
  }
})
