/** The gateway as it runs: on Node over sockets, and as the edge bundle in workerd. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { build } from 'esbuild'
import { Hono } from 'hono'
import type { Readable } from 'node:stream'
import {
  COMPATIBILITY_DATE,
  WORKERS,
  edgeBundle,
  workersOf,
  type WorkerScripts,
} from '../../scripts/bundle.ts'
import { readConfig, type Vars } from '../../src/config/config.ts'
import { createLog } from '../../src/log.ts'
import { openStore } from '../../src/platform/node/store.ts'
import { createApp } from '../../src/app.ts'
import { startServer } from '../../src/platform/node/server.ts'
import { STATIC_PATHS, staticFiles } from '../../src/platform/node/static-files.ts'
import type { Store } from '../../src/store/store.ts'
import type { Event } from '../../src/ledger/events.ts'

export type Gateway = { kind: Kind; url: string; log: string[]; close(): Promise<void> }
export type Kind = 'node' | 'workerd'
export const KINDS: Kind[] = ['node', 'workerd']

export const ADMIN_KEY = 'admin-key-of-the-tests'

/** An environment with high limits. A test sets the variables that it is about. */
const VARS: Vars = {
  GROQ_API_KEY: 'gsk_server_key',
  ADMIN_KEY,
  USER_HASH_SECRET: 'secret-of-the-tests',
  MODEL_LIMITS: '{"*":{"tokensPerDay":1000000000,"requestsPerDay":1000000}}',
  GLOBAL_LIMITS: '{}',
  NEW_USERS_PER_MINUTE: '1000000',
  STORE_TIMEOUT_MS: '10000',
  LOG_LEVEL: 'debug',
  PORT: '0',
}

export async function startGateway(kind: Kind, vars: Vars): Promise<Gateway> {
  const all = { ...VARS, ...vars }
  return kind === 'node' ? startNode(all) : startWorkerd(all)
}

async function startNode(vars: Vars): Promise<Gateway> {
  const config = readConfig(vars, 'node')
  const lines: string[] = []
  const log = createLog({
    level: config.logLevel,
    format: 'json',
    write: (line) => lines.push(line),
  })
  const folder = await mkdtemp(join(tmpdir(), 'weir-'))
  const { store, close } = await openStore(
    { ...config, usageFile: join(folder, 'usage.json') },
    log,
  )
  const server = await startServer({ createApp, config, store, log })
  return {
    kind: 'node',
    url: `http://127.0.0.1:${server.port}`,
    log: lines,
    async close() {
      await server.close()
      await close()
      await rm(folder, { recursive: true })
    },
  }
}

const files = new Hono().on('GET', STATIC_PATHS, staticFiles())

let bundles: Promise<WorkerScripts> | undefined

async function edgeScripts(): Promise<WorkerScripts> {
  const bundled = async (entry: string) =>
    (await build({ ...edgeBundle(entry, 'worker.js'), write: false })).outputFiles[0]?.text ?? ''
  const [proxy, pages] = await Promise.all([bundled(WORKERS.proxy), bundled(WORKERS.pages)])
  return { proxy, pages }
}

async function startWorkerd(vars: Vars): Promise<Gateway> {
  // Only here: it takes half a second to load, and half of the tests need it.
  const miniflares = await import('miniflare')
  const { Log: MiniflareLog, LogLevel, Miniflare, Response: MiniflareResponse } = miniflares
  bundles ??= edgeScripts()
  const lines: string[] = []
  const bindings: Record<string, string> = {}
  for (const [name, value] of Object.entries(vars)) if (value !== undefined) bindings[name] = value
  const miniflare = new Miniflare({
    workers: [
      ...workersOf(await bundles, bindings, { FILES: 'static' }),
      // The files that a page loads. Nothing answers before the gateway here, and Cloudflare's own workers for files would
      // take half of the time of each start; deploy.test.ts has them.
      {
        modules: true,
        compatibilityDate: COMPATIBILITY_DATE,
        name: 'static',
        routes: STATIC_PATHS.map((path) => `*${path}`),
        script: 'export default { fetch: (request, env) => env.FILES.fetch(request) }',
        serviceBindings: {
          async FILES({ url }: { url: string }) {
            const { status, headers, body } = await files.request(new URL(url).pathname)
            return new MiniflareResponse(body, { status, headers: [...headers] })
          },
        },
      },
    ],
    host: '127.0.0.1',
    port: 0,
    cf: false,
    log: new MiniflareLog(LogLevel.NONE),
    handleRuntimeStdio(stdout: Readable, stderr: Readable) {
      for (const stream of [stdout, stderr]) {
        stream.on('data', (data: Buffer) => lines.push(...data.toString().trimEnd().split('\n')))
      }
    },
  })
  const { origin } = await miniflare.ready
  return { kind: 'workerd', url: origin, log: lines, close: () => miniflare.dispose() }
}

/** Waits until the event of a request exists: settling continues after the answer. */
export async function eventOf(store: Store, id: string | null, seconds = 20): Promise<Event> {
  for (const end = Date.now() + seconds * 1000; Date.now() < end;) {
    const events = await store.events(1000)
    const event = events.find((one) => one.id === id)
    if (event) return event
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
  throw new Error(`request ${id} did not settle within ${seconds} s`)
}
