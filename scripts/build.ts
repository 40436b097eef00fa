/**
 * Writes Vercel's Build Output: one edge function and the static files.
 * https://vercel.com/docs/build-output-api
 */
import { build } from 'esbuild'
import { cp, mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { gzipSync } from 'node:zlib'
import { edgeBundle } from './bundle.ts'

const OUTPUT = '.vercel/output'
const FUNCTION = `${OUTPUT}/functions/index.func`
const MAX_GZIP_BYTES = 60 * 1024

const json = (path: string, value: unknown) =>
  writeFile(path, `${JSON.stringify(value, null, 2)}\n`)

await rm(OUTPUT, { recursive: true, force: true })
await mkdir(FUNCTION, { recursive: true })
await build(edgeBundle('src/vercel.ts', `${FUNCTION}/index.js`))
await json(`${FUNCTION}/.vc-config.json`, {
  runtime: 'edge',
  deploymentTarget: 'v8-worker',
  entrypoint: 'index.js',
})
await cp('static', `${OUTPUT}/static`, { recursive: true })
await json(`${OUTPUT}/config.json`, {
  version: 3,
  routes: [{ handle: 'filesystem' }, { src: '/(.*)', dest: '/index' }],
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
