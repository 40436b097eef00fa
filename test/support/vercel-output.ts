/**
 * Serves the output of `vercel build`: the routes of config.json that ours need, the static files, and the functions, in
 * the edge runtime or under the launcher of Vercel's own development server.
 */
import { serve } from '@hono/node-server'
import { serveStatic } from '@hono/node-server/serve-static'
import { EdgeRuntime, runServer } from 'edge-runtime'
import { build } from 'esbuild'
import { Hono } from 'hono'
import { proxy } from 'hono/proxy'
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import type { Server } from 'node:http'
import { createRequire } from 'node:module'
import type { AddressInfo } from 'node:net'
import { dirname, join } from 'node:path'
import type { Vars } from '../../src/config/config.ts'

type Served = { url: string; close(): Promise<void> }

type Route = {
  src?: string
  handle?: string
  headers?: Record<string, string>
  continue?: boolean
  dest?: string
}

type Launch = { runtime: string; entrypoint?: string; handler?: string }

const readJson = async <T>(path: string) => JSON.parse(await readFile(path, 'utf8')) as T

/** Serves a `.vercel/output`; the function gets `vars` as its environment. */
export async function serveOutput(output: string, vars: Vars): Promise<Served> {
  const { routes } = await readJson<{ routes: Route[] }>(join(output, 'config.json'))
  const { before, after } = phases(routes)
  const functions = new Map<string, Served>()
  for (const { dest } of after) {
    if (dest) functions.set(dest, await runFunction(join(output, `functions${dest}.func`), vars))
  }
  const runningAt = (path: string): Served => {
    const { dest = '' } = after.find((route) => matches(route, path)) ?? {}
    const running = functions.get(dest)
    if (!running) throw new Error(`no route to a function for ${path}`)
    return running
  }

  const app = new Hono()
  app.use(async (c, next) => {
    await next()
    for (const { headers = {} } of before.filter((route) => matches(route, c.req.path))) {
      for (const [name, value] of Object.entries(headers)) c.res.headers.set(name, value)
    }
  })
  app.get('*', serveStatic({ root: join(output, 'static') }))
  app.all('*', (c) => {
    const { pathname, search, host } = new URL(c.req.url)
    return proxy(runningAt(pathname).url + pathname + search, {
      raw: c.req.raw,
      headers: {
        ...c.req.header(),
        host,
        'x-forwarded-host': host,
        'x-forwarded-proto': 'http',
        'x-real-ip': '203.0.113.7',
      },
      redirect: 'manual',
    })
  })
  const server = serve({ fetch: app.fetch, port: 0, hostname: '127.0.0.1' }) as Server
  await once(server, 'listening')
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async close() {
      const closed = once(server, 'close')
      server.close()
      server.closeAllConnections()
      await closed
      for (const running of functions.values()) await running.close()
    },
  }
}

async function runFunction(folder: string, vars: Vars): Promise<Served> {
  const launch = await readJson<Launch>(join(folder, '.vc-config.json'))
  return launch.runtime === 'edge'
    ? runOnEdge(join(folder, launch.entrypoint ?? ''), vars)
    : runOnNode(folder, launch.handler ?? '', vars)
}

/** The routes before the files, and the routes after them; `vercel build` adds some for errors. */
function phases(routes: Route[]): { before: Route[]; after: Route[] } {
  const phase: Record<string, Route[]> = {}
  let name = 'start'
  for (const route of routes) {
    if (route.handle) name = route.handle
    else (phase[name] ??= []).push(route)
  }
  const { start: before = [], filesystem: after = [] } = phase
  if (before.some((route) => !route.continue)) throw new Error('a route that ends before the files')
  return { before, after }
}

const matches = ({ src = '' }: Route, path: string) => new RegExp(`^${src}$`).test(path)

/** Runs an edge function in the `edge-runtime` package, called as Vercel's wrapper calls it. */
async function runOnEdge(entrypoint: string, vars: Vars): Promise<Served> {
  // The runtime takes a script, not a module; the file is otherwise unchanged.
  const { outputFiles } = await build({
    entryPoints: [entrypoint],
    bundle: true,
    format: 'iife',
    globalName: 'entry',
    write: false,
  })
  const runtime = new EdgeRuntime({
    initialCode: `${outputFiles[0]?.text ?? ''}
      addEventListener('fetch', (event) => event.respondWith(
        entry.default(event.request, { waitUntil: event.waitUntil.bind(event) })))`,
    extend: (context) => Object.assign(context, { process: { env: vars } }),
  })
  const server = await runServer({ runtime, host: '127.0.0.1', port: 0 })
  return {
    url: server.url.replace(/\/$/, ''),
    async close() {
      await server.close()
    },
  }
}

/** Runs a Node function under the launcher of @vercel/node, which `vercel dev` uses. */
async function runOnNode(folder: string, handler: string, vars: Vars): Promise<Served> {
  const inVercel = createRequire(createRequire(import.meta.url).resolve('vercel/package.json'))
  const launcher = join(dirname(inVercel.resolve('@vercel/node')), 'dev-server.mjs')
  const { PATH } = process.env
  const child = fork(launcher, {
    cwd: folder,
    env: { PATH, VERCEL_DEV_ENTRYPOINT: handler, VERCEL_DEV_CONFIG: '{"helpers":false}', ...vars },
  })
  const [address] = (await once(child, 'message')) as [AddressInfo]
  return {
    url: `http://127.0.0.1:${address.port}`,
    async close() {
      const ended = once(child, 'exit')
      child.kill('SIGKILL')
      await ended
    },
  }
}
