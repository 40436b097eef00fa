/**
 * Writes Vercel's Build Output, two functions and the static files, and the two workers for Cloudflare.
 * https://vercel.com/docs/build-output-api
 */
import { build } from 'esbuild'
import { copyFile, cp, mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { basename } from 'node:path'
import { gzipSync } from 'node:zlib'
import { path as pathOf } from '../src/config/parse.ts'
import { config } from '../src/vercel.ts'
import { edgeBundle } from './bundle.ts'
import { OPENAPI_PATH, openapiText } from './openapi.ts'
import { vercelRoutes } from './vercel-routes.ts'

const OUTPUT = '.vercel/output'
/** Each entry with its source map. The map is for reading stack traces and is not uploaded. */
const BUNDLES = 'dist'
/** The entries of Vercel's functions, by the name of the function. */
const FUNCTIONS = { index: 'vercel', pages: 'vercel-pages' }
const WORKERS = ['worker', 'worker-pages']
/** In bytes. Calls to the model wait for the proxy to load, and only admins and browser reports for the pages. */
const MOST_GZIP = { proxy: 128 * 1024, pages: 224 * 1024 }

const json = (path: string, value: unknown) =>
  writeFile(path, `${JSON.stringify(value, null, 2)}\n`)

/** `BASE_PATH` of the build. */
function basePath(): string {
  const parsed = pathOf(process.env.BASE_PATH?.trim() || '/')
  if ('value' in parsed) return parsed.value
  console.error(`BASE_PATH ${parsed.problem}.`)
  process.exit(1)
}

/** How Vercel starts the function: https://vercel.com/docs/build-output-api/primitives#vercel-functions */
const LAUNCH = {
  edge: { runtime: 'edge', deploymentTarget: 'v8-worker', entrypoint: 'index.mjs' },
  nodejs: {
    runtime: 'nodejs24.x',
    launcherType: 'Nodejs',
    handler: 'index.mjs',
    shouldAddHelpers: false,
    supportsResponseStreaming: true,
  },
}

const base = basePath()
for (const folder of [OUTPUT, BUNDLES]) await rm(folder, { recursive: true, force: true })
for (const entry of [...Object.values(FUNCTIONS), ...WORKERS]) {
  const bundle = edgeBundle(`src/${entry}.ts`, `${BUNDLES}/${entry}/index.js`)
  await build({ ...bundle, sourcemap: 'external' })
}
for (const [name, entry] of Object.entries(FUNCTIONS)) {
  const folder = `${OUTPUT}/functions/${name}.func`
  await mkdir(folder, { recursive: true })
  await copyFile(`${BUNDLES}/${entry}/index.js`, `${folder}/index.mjs`)
  await json(`${folder}/.vc-config.json`, LAUNCH[config.runtime as keyof typeof LAUNCH])
}
// The file `_headers` is for Cloudflare.
const filter = (path: string) => basename(path) !== '_headers'
await cp('static', `${OUTPUT}/static`, { recursive: true, filter })
await writeFile(`${OUTPUT}/static${OPENAPI_PATH}`, openapiText())
await json(`${OUTPUT}/config.json`, {
  version: 3,
  routes: vercelRoutes(base),
})

const kb = (bytes: number) => `${(bytes / 1024).toFixed(1)} KB`
for (const entry of [...Object.values(FUNCTIONS), ...WORKERS]) {
  const path = `${BUNDLES}/${entry}/index.js`
  const bundle = await readFile(path)
  const gzip = gzipSync(bundle).length
  const most = MOST_GZIP[entry.endsWith('-pages') ? 'pages' : 'proxy']
  console.log(`${path}: ${kb(bundle.length)}, ${kb(gzip)} gzip (at most ${kb(most)})`)
  if (gzip > most) {
    console.error('The edge bundle is too large.')
    process.exitCode = 1
  }
}
