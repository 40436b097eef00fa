import { execFile } from 'node:child_process'
import { readdir, readFile } from 'node:fs/promises'
import { promisify } from 'node:util'
import { gunzipSync, gzipSync } from 'node:zlib'
import { beforeAll, expect, test } from 'vitest'
import { openapi } from '../../scripts/openapi.ts'
import { SHARED_HEADERS, STATIC_HEADERS } from '../../src/platform/node/static-files.ts'
import { ASSETS } from '../../src/views/assets.ts'
import { assetsOf, expectAssets } from '../support/assets.ts'

type Route = {
  src?: string
  handle?: string
  headers?: Record<string, string>
  continue?: boolean
}

const OUTPUT = '.vercel/output'
let printed: string

beforeAll(async () => {
  printed = (await promisify(execFile)('npx', ['tsx', 'scripts/build.ts'])).stdout
}, 60_000)

test('the build is one edge function, the static files and a route to each', async () => {
  const json = async (path: string) =>
    JSON.parse(await readFile(`${OUTPUT}/${path}`, 'utf8')) as unknown
  expect(await json('functions/index.func/.vc-config.json')).toEqual({
    runtime: 'edge',
    deploymentTarget: 'v8-worker',
    entrypoint: 'index.mjs',
  })
  const { version, routes } = (await json('config.json')) as { version: number; routes: Route[] }
  expect(version).toBe(3)
  const files = routes.findIndex(({ handle }) => handle === 'filesystem')
  expect(routes.slice(files)).toEqual([{ handle: 'filesystem' }, { src: '/(.*)', dest: '/index' }])
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

test('the edge bundle has at most 128 KB gzip, and the build prints its size', async () => {
  const bundle = await readFile(`${OUTPUT}/functions/index.func/index.mjs`)
  const gzip = gzipSync(bundle)
  expect(gunzipSync(gzip)).toEqual(bundle)
  expect(gzip.length).toBeLessThanOrEqual(128 * 1024)
  expect(printed).toContain(`${(gzip.length / 1024).toFixed(1)} KB gzip`)
})

test('the edge bundle exports a handler and its runtime, and needs no module of Node', async () => {
  const text = await readFile(`${OUTPUT}/functions/index.func/index.mjs`, 'utf8')
  expect(text).toMatch(/export\{\w+ as config,\w+ as default\}/)
  expect(text).not.toMatch(/(^|[;}])import\b|\brequire\(/)
})

test('the worker that wrangler.toml deploys has the same maximum size', async () => {
  const { length } = gzipSync(await readFile('dist/worker/index.js'))
  expect(length).toBeLessThanOrEqual(128 * 1024)
  expect(await readFile('wrangler.toml', 'utf8')).toContain('main = "dist/worker/index.js"')
})

test('source maps are kept for reading stack traces, and out of what is uploaded', async () => {
  for (const [entry, uploaded] of [
    ['vercel', `${OUTPUT}/functions/index.func/index.mjs`],
    ['worker', 'dist/worker/index.js'],
  ] as const) {
    const map = JSON.parse(await readFile(`dist/${entry}/index.js.map`, 'utf8')) as {
      sources: string[]
    }
    expect(map.sources).toContain(`../../src/${entry}.ts`)
    expect(await readFile(uploaded, 'utf8')).not.toContain('sourceMappingURL')
  }
  const files = await readdir(OUTPUT, { recursive: true })
  expect(files.filter((path) => path.endsWith('.map'))).toEqual([])
})

test('the edge function answers', async () => {
  const url = new URL(`../../${OUTPUT}/functions/index.func/index.mjs`, import.meta.url).href
  type Handler = (request: Request, context: object) => Promise<Response>
  const { default: handler, config } = (await import(/* @vite-ignore */ url)) as {
    default: Handler
    config: { runtime: string }
  }
  expect(config.runtime).toBe('edge')
  const request = new Request('https://weir.example/api/groq', { method: 'POST', body: '{}' })
  // The context of a platform may be an instance of a class.
  const context = new (class {
    waitUntil() {}
  })()
  const response = await handler(request, context)
  expect(response.headers.get('x-weir-id')).toMatch(/^[0-9a-f-]{36}$/)
  const get = (path: string) => handler(new Request(`https://weir.example${path}`), context)
  const paths = assetsOf(await (await get('/')).text())
  expect(paths).toEqual([ASSETS.style.path])
  await expectAssets(get, [ASSETS.style.path, ASSETS.script.path])
})

test('wrangler.toml and the development server have the same compatibility date', async () => {
  const { COMPATIBILITY_DATE } = await import('../../scripts/bundle.ts')
  expect(await readFile('wrangler.toml', 'utf8')).toContain(
    `compatibility_date = "${COMPATIBILITY_DATE}"`,
  )
})
