/**
 * Writes Vercel's Build Output, one function and the static files, and the worker for Cloudflare.
 * https://vercel.com/docs/build-output-api
 */
import { copyFile, cp, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { basename } from 'node:path'
import { gzipSync } from 'node:zlib'
import { STATIC_HEADERS, TRACKER_HEADERS } from '../src/static-files.ts'
import { config } from '../src/vercel.ts'
import { buildEdge } from './bundle.ts'

const OUTPUT = '.vercel/output'
const FUNCTION = `${OUTPUT}/functions/index.func`
/** Each entry with its source map, which reads stack traces and is never in what is uploaded. */
const BUNDLES = 'dist'
const MAX_GZIP_BYTES = 60 * 1024

const json = (path: string, value: unknown) =>
  writeFile(path, `${JSON.stringify(value, null, 2)}\n`)

/** A file name as part of a regular expression. */
const escape = (name: string) => name.replace(/[.+^$*?()[\]{}|\\]/g, '\\$&')

/** How Vercel starts the function: https://vercel.com/docs/build-output-api/primitives#vercel-functions */
const LAUNCH =
  config.runtime === 'edge'
    ? { runtime: 'edge', deploymentTarget: 'v8-worker', entrypoint: 'index.mjs' }
    : {
        runtime: 'nodejs24.x',
        launcherType: 'Nodejs',
        handler: 'index.mjs',
        shouldAddHelpers: false,
        supportsResponseStreaming: true,
      }

for (const folder of [OUTPUT, BUNDLES]) await rm(folder, { recursive: true, force: true })
for (const entry of ['vercel', 'worker']) {
  const { code, map } = await buildEdge(`src/${entry}.ts`)
  await mkdir(`${BUNDLES}/${entry}`, { recursive: true })
  await writeFile(`${BUNDLES}/${entry}/index.js`, code)
  await writeFile(`${BUNDLES}/${entry}/index.js.map`, map)
}
await mkdir(FUNCTION, { recursive: true })
await copyFile(`${BUNDLES}/vercel/index.js`, `${FUNCTION}/index.mjs`)
await json(`${FUNCTION}/.vc-config.json`, LAUNCH)
// The file of headers is for Cloudflare to read.
const filter = (path: string) => basename(path) !== '_headers'
await cp('static', `${OUTPUT}/static`, { recursive: true, filter })
const files = (await readdir(`${OUTPUT}/static`)).map(escape).join('|')
await json(`${OUTPUT}/config.json`, {
  version: 3,
  routes: [
    { src: `^/(?:${files})$`, headers: STATIC_HEADERS, continue: true },
    { src: '^/tracker\\.js$', headers: TRACKER_HEADERS, continue: true },
    { handle: 'filesystem' },
    { src: '/(.*)', dest: '/index' },
  ],
})

const kb = (bytes: number) => `${(bytes / 1024).toFixed(1)} KB`
for (const path of [`${FUNCTION}/index.mjs`, `${BUNDLES}/worker/index.js`]) {
  const bundle = await readFile(path)
  const gzip = gzipSync(bundle).length
  console.log(`${path}: ${kb(bundle.length)}, ${kb(gzip)} gzip (at most ${kb(MAX_GZIP_BYTES)})`)
  if (gzip > MAX_GZIP_BYTES) {
    console.error('The edge bundle is too large.')
    process.exitCode = 1
  }
}
