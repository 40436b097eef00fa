/**
 * Writes Vercel's Build Output: one edge function and the static files.
 * https://vercel.com/docs/build-output-api
 */
import { build } from 'esbuild'
import { cp, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { basename } from 'node:path'
import { gzipSync } from 'node:zlib'
import { STATIC_HEADERS, TRACKER_HEADERS } from '../src/static-files.ts'
import { edgeBundle } from './bundle.ts'

const OUTPUT = '.vercel/output'
const FUNCTION = `${OUTPUT}/functions/index.func`
const MAX_GZIP_BYTES = 60 * 1024

const json = (path: string, value: unknown) =>
  writeFile(path, `${JSON.stringify(value, null, 2)}\n`)

/** A file name as part of a regular expression. */
const escape = (name: string) => name.replace(/[.+^$*?()[\]{}|\\]/g, '\\$&')

await rm(OUTPUT, { recursive: true, force: true })
await mkdir(FUNCTION, { recursive: true })
await build(edgeBundle('src/vercel.ts', `${FUNCTION}/index.js`))
await json(`${FUNCTION}/.vc-config.json`, {
  runtime: 'edge',
  deploymentTarget: 'v8-worker',
  entrypoint: 'index.js',
})
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

const bundle = await readFile(`${FUNCTION}/index.js`)
const gzip = gzipSync(bundle).length
const kb = (bytes: number) => `${(bytes / 1024).toFixed(1)} KB`
console.log(
  `${FUNCTION}/index.js: ${kb(bundle.length)}, ${kb(gzip)} gzip (at most ${kb(MAX_GZIP_BYTES)})`,
)
if (gzip > MAX_GZIP_BYTES) {
  console.error('The edge bundle is too large.')
  process.exit(1)
}
