/**
 * `npm run bench:cold-start`: the time from loading the edge bundle to its first response, as a ratio to a minimal Hono
 * bundle in the same run.
 *
 * An existing isolate loads nothing, so each round has a new one: in workerd through its worker loader, in the edge
 * runtime as a new context. The response is a 404, for which the whole app must be built.
 */
import { EdgeRuntime } from 'edge-runtime'
import { build, type BuildOptions } from 'esbuild'
import { Miniflare } from 'miniflare'
import { gzipSync } from 'node:zlib'
import { COMPATIBILITY_DATE, edgeBundle } from '../scripts/bundle.ts'
import { median, ms, ratioOf, table } from './report.ts'

const ROUNDS = 40
/** The first rounds, which are not counted. */
const WARM_UP = 5
const PATH = '/api/nothing'

/** A configured gateway. Nothing at these addresses is called. */
const VARS = {
  GROQ_API_KEY: 'gsk_bench',
  ADMIN_KEY: 'admin-key-of-the-bench',
  USER_HASH_SECRET: 'secret-of-the-bench',
  KV_REST_API_URL: 'http://127.0.0.1:1',
  KV_REST_API_TOKEN: 'token',
  LOG_LEVEL: 'silent',
}

const HELLO = `
  import { Hono } from 'hono'
  const app = new Hono()
  app.get('*', (c) => c.text('hello', 404))
  export default `

async function bundle(options: BuildOptions): Promise<string> {
  const { outputFiles } = await build({ ...options, write: false })
  return outputFiles?.[0]?.text ?? ''
}

/** HELLO as a bundle; `exported` is the code that exports what the platform calls. */
const hello = (exported: string, more: BuildOptions) => {
  const { entryPoints: _, ...options } = edgeBundle('', 'hello.js')
  const stdin = { contents: HELLO + exported, resolveDir: process.cwd() }
  return bundle({ ...options, ...more, stdin })
}

type Platform = {
  name: string
  ours: string
  theirs: string
  /** Loads a script into a new isolate, waits for its first response, and returns the time in ms. */
  load(script: string, round: number): Promise<number>
  close?(): Promise<void>
}

async function onWorkerd(): Promise<Platform> {
  const loader = new Miniflare({
    modules: true,
    compatibilityDate: COMPATIBILITY_DATE,
    cf: false,
    workerLoaders: { LOADER: {} },
    bindings: { VARS, DATE: COMPATIBILITY_DATE },
    script: `export default {
      async fetch(request, { LOADER, VARS, DATE }) {
        const script = await request.text()
        const worker = LOADER.get(request.headers.get('x-round'), () => ({
          compatibilityDate: DATE,
          mainModule: 'index.js',
          modules: { 'index.js': script },
          env: VARS,
        }))
        return worker.getEntrypoint().fetch('http://weir.example${PATH}')
      },
    }`,
  })
  const url = await loader.ready
  return {
    name: 'workerd',
    ours: await bundle(edgeBundle('src/worker.ts', 'worker.js')),
    theirs: await hello('app', {}),
    async load(script, round) {
      const body = unseen(script, round)
      const started = performance.now()
      const headers = { 'x-round': `${script.length} ${round}` }
      const { status } = await fetch(url, { method: 'POST', headers, body })
      const took = performance.now() - started
      if (status !== 404) throw new Error(`workerd answered ${status}`)
      return took
    },
    close: () => loader.dispose(),
  }
}

async function onEdgeRuntime(): Promise<Platform> {
  const script: BuildOptions = { format: 'iife', globalName: 'entry' }
  return {
    name: 'edge-runtime',
    ours: await bundle({ ...edgeBundle('src/vercel.ts', 'vercel.js'), ...script }),
    theirs: await hello('(request) => app.fetch(request)', script),
    async load(code, round) {
      const runtime = new EdgeRuntime({
        extend: (context) => Object.assign(context, { process: { env: VARS } }),
      })
      const source = `${unseen(code, round)}
        addEventListener('fetch', (event) => event.respondWith(
          entry.default(event.request, { waitUntil: event.waitUntil.bind(event) })))`
      const started = performance.now()
      runtime.evaluate(source)
      const { status } = await runtime.dispatchFetch(`http://weir.example${PATH}`)
      const took = performance.now() - started
      if (status !== 404) throw new Error(`edge-runtime answered ${status}`)
      return took
    },
  }
}

/** Makes the script different in each round, so that no cache has its compiled code. */
const unseen = (script: string, round: number) => `/* ${round} */${script}`

const kb = (script: string) => `${(gzipSync(script).length / 1024).toFixed(1)} KB`

const rows: string[][] = []
for (const { name, ours, theirs, load, close } of [await onWorkerd(), await onEdgeRuntime()]) {
  const times = { ours: [] as number[], theirs: [] as number[] }
  for (let round = 0; round < WARM_UP + ROUNDS; round++) {
    // The order alternates, so that neither is always second.
    const order = [['ours', ours] as const, ['theirs', theirs] as const]
    for (const [whose, script] of round % 2 ? order.reverse() : order) {
      const took = await load(script, round)
      if (round >= WARM_UP) times[whose].push(took)
    }
  }
  await close?.()
  const of = (values: number[]) => `${ms(median(values))} ms`
  const ratio = median(times.ours) / median(times.theirs)
  rows.push([
    name,
    `${of(times.ours)} (${kb(ours)})`,
    `${of(times.theirs)} (${kb(theirs)})`,
    `${ratio.toFixed(2)}×`,
    ratioOf(times.ours, times.theirs).text,
  ])
}
console.log(`From loading the bundle to the first response, median of ${ROUNDS} rounds:\n`)
console.log(table(['', 'weir', 'hello world', 'of the medians', 'of the rounds'], rows))
