/**
 * Writes Vercel's Build Output, two functions and the static files, and the two workers for Cloudflare.
 * https://vercel.com/docs/build-output-api
 */
import { build } from 'esbuild'
import { copyFile, cp, mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { basename } from 'node:path'
import { gzipSync } from 'node:zlib'
import { PAGES_PATHS } from '../src/app.ts'
import {
  SHARED_HEADERS,
  SHARED_PATHS,
  STATIC_HEADERS,
  STATIC_PATHS,
} from '../src/platform/node/static-files.ts'
import { config } from '../src/vercel.ts'
import { edgeBundle } from './bundle.ts'
import { OPENAPI_PATH, openapiText } from './openapi.ts'

const OUTPUT = '.vercel/output'
/** Each entry with its source map. The map is for reading stack traces and is not uploaded. */
const BUNDLES = 'dist'
/** The entries of Vercel's functions, by the name of the function. */
const FUNCTIONS = { index: 'vercel', pages: 'vercel-pages' }
const WORKERS = ['worker', 'worker-pages']
const MAX_GZIP_BYTES = 128 * 1024

const json = (path: string, value: unknown) =>
  writeFile(path, `${JSON.stringify(value, null, 2)}\n`)

/** A regular expression that matches these paths only. */
const only = (paths: string[]) =>
  `^(?:${paths.map((path) => path.replace(/[.+^$*?()[\]{}|\\]/g, '\\$&')).join('|')})$`

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
  routes: [
    { src: only(STATIC_PATHS), headers: STATIC_HEADERS, continue: true },
    { src: only(SHARED_PATHS), headers: SHARED_HEADERS, continue: true },
    { handle: 'filesystem' },
    { src: `^(?:/|(?:${PAGES_PATHS.join('|')})(?:/.*)?)$`, dest: '/pages' },
    { src: '/(.*)', dest: '/index' },
  ],
})

const kb = (bytes: number) => `${(bytes / 1024).toFixed(1)} KB`
for (const entry of [...Object.values(FUNCTIONS), ...WORKERS]) {
  const path = `${BUNDLES}/${entry}/index.js`
  const bundle = await readFile(path)
  const gzip = gzipSync(bundle).length
  console.log(`${path}: ${kb(bundle.length)}, ${kb(gzip)} gzip (at most ${kb(MAX_GZIP_BYTES)})`)
  if (gzip > MAX_GZIP_BYTES) {
    console.error('The edge bundle is too large.')
    process.exitCode = 1
  }
}
