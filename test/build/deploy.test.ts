/** The output of each platform's own build tool, run as close to the platform as possible offline. */
import { Log, LogLevel, Miniflare } from 'miniflare'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { createServer, type AddressInfo } from 'node:net'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { unstable_getMiniflareWorkerOptions } from 'wrangler'
import { copyCheckout, type Checkout } from '../support/checkout.ts'
import { ADMIN_KEY } from '../support/gateways.ts'
import { smoke } from '../support/smoke.ts'
import { serveOutput } from '../support/vercel-output.ts'
import { useWorld } from '../support/world.ts'

const world = useWorld()
const checkouts: Checkout[] = []
const closing: (() => Promise<unknown>)[] = []

const model = 'openai/gpt-oss-20b'
const target = (url: string) => ({ url, adminKey: ADMIN_KEY, model })
const vars = () => ({
  GROQ_API_KEY: 'gsk_key',
  GROQ_BASE_URL: world.upstream.url,
  KV_REST_API_URL: world.upstash.url,
  KV_REST_API_TOKEN: world.upstash.token,
  STORE_TIMEOUT_MS: '10000',
  LOG_LEVEL: 'warn',
  ADMIN_KEY,
})

async function checkout(): Promise<Checkout> {
  const copy = await copyCheckout()
  checkouts.push(copy)
  return copy
}

/** Builds a checkout with the Vercel CLI. Returns the folder of the output. */
async function vercelBuild(): Promise<string> {
  const { folder, run } = await checkout()
  const settings = { framework: null, installCommand: '' }
  const project = { orgId: 'team_none', projectId: 'prj_none', settings }
  await mkdir(join(folder, '.vercel'))
  await writeFile(join(folder, '.vercel/project.json'), JSON.stringify(project))
  await run('vercel', ['build', '--yes'])
  return join(folder, '.vercel/output')
}

/**
 * Builds a checkout with the runtime changed to Node. The Vercel CLI runs the same command and takes its output as it is,
 * whatever the runtime.
 */
async function nodeBuild(): Promise<string> {
  const { folder, run } = await checkout()
  const entry = join(folder, 'src/vercel.ts')
  const before = await readFile(entry, 'utf8')
  const after = before.replace("{ runtime: 'edge' }", "{ runtime: 'nodejs' }")
  const changed = after.split('\n').filter((line, at) => line !== before.split('\n')[at])
  expect(changed).toHaveLength(1)
  await writeFile(entry, after)
  await run('tsx', ['scripts/build.ts'])
  return join(folder, '.vercel/output')
}

/** Starts `vercel dev`, with files and the demo model. */
async function vercelDev(): Promise<string> {
  const { folder, start } = await checkout()
  const port = await freePort()
  const child = start('vercel', ['dev', '--local', '--yes', '--listen', `127.0.0.1:${port}`], {
    ADMIN_KEY,
    USAGE_FILE: join(folder, 'usage.json'),
  })
  const url = `http://127.0.0.1:${port}`
  closing.push(() => end(child, url))
  let output = ''
  await new Promise<void>((resolve, reject) => {
    const read = (data: Buffer) => {
      output += data.toString()
      if (output.includes('Ready!')) resolve()
    }
    child.stdout?.on('data', read)
    child.stderr?.on('data', read)
    child.once('exit', () => reject(new Error(`vercel dev ended: ${output}`)))
  })
  return url
}

/**
 * Ends a command and the processes that it started, as Ctrl-C does: `vercel dev` alone would leave our process
 * running.
 */
async function end(child: ChildProcess, url: string): Promise<void> {
  if (child.pid !== undefined) process.kill(-child.pid, 'SIGTERM')
  const gone = () =>
    fetch(url).then(
      () => false,
      () => true,
    )
  await vi.waitUntil(gone, { timeout: 20_000 })
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}

/** The part of a file for wrangler that builds the workers. */
const BUILD = '[build]\ncommand = "npm run build"\n'

type Upload = { folder: string; proxy: string; pages: string }

/** What `wrangler deploy` would upload: the script of each worker, and the folder of the checkout. */
async function wranglerBuild(): Promise<Upload> {
  const { folder, run } = await checkout()
  const scriptOf = async (file: string) => {
    const upload = join(folder, `upload-${file}`)
    await run('wrangler', ['deploy', '--dry-run', '-c', file, '--outdir', upload])
    return readFile(join(upload, 'index.js'), 'utf8')
  }
  const pages = await scriptOf('wrangler.pages.toml')
  // Both files build both workers, and one build is enough here.
  const file = join(folder, 'wrangler.toml')
  const settings = await readFile(file, 'utf8')
  const built = settings.replace(BUILD, '')
  expect(built).not.toContain('[build]')
  await writeFile(file, built)
  return { folder, proxy: await scriptOf('wrangler.toml'), pages }
}

let built: {
  edge: string
  node: string
  dev: string
  cloudflare: Upload
}

// All at once, because the CLI spends most of its time waiting.
beforeAll(async () => {
  const [edge, node, dev, cloudflare] = await Promise.all([
    vercelBuild(),
    nodeBuild(),
    vercelDev(),
    wranglerBuild(),
  ])
  built = { edge, node, dev, cloudflare }
}, 120_000)

afterAll(async () => {
  for (const close of closing) await close()
  for (const one of checkouts) await one.remove()
}, 60_000)

const launchesOf = (output: string) =>
  Promise.all(
    ['index', 'pages'].map(
      async (name) =>
        JSON.parse(
          await readFile(join(output, `functions/${name}.func/.vc-config.json`), 'utf8'),
        ) as unknown,
    ),
  )

/** The commands of each database call while many requests are in flight. */
async function callsInFlight(url: string): Promise<string[][]> {
  const ask = async (user: number) => {
    const response = await fetch(`${url}/api/groq/openai/v1/chat/completions`, {
      method: 'POST',
      headers: { authorization: `Bearer token-of-user-${user}` },
      body: JSON.stringify({ model, messages: [] }),
    })
    await response.arrayBuffer()
    expect(response.status).toBe(200)
  }
  const settlements = () =>
    world.upstash.log
      .flatMap(({ commands }) => commands.flat())
      .filter((arg) => arg.startsWith('{"op":"settle"'))
  world.upstash.log.length = 0
  const users = Array.from({ length: 32 }, (_, user) => user)
  for (let round = 0; round < 2; round += 1) await Promise.all(users.map(ask))
  await expect.poll(() => new Set(settlements()).size, { timeout: 10_000 }).toBeGreaterThan(63)
  return world.upstash.log.map(({ commands: [args = []] }) =>
    args.flatMap((arg) => /^{"op":"(\w+)"/.exec(arg)?.[1] ?? []),
  )
}

const count = (ops: string[], op: string) => ops.filter((one) => one === op).length

describe('vercel build', () => {
  let url: string
  beforeAll(async () => {
    const served = await serveOutput(built.edge, vars())
    closing.push(served.close)
    url = served.url
  })
  test('makes two edge functions', async () => {
    const launch = { runtime: 'edge', entrypoint: 'index.mjs' }
    expect(await launchesOf(built.edge)).toMatchObject([launch, launch])
  })
  smoke(() => target(url))
  test('requests carry settlements of others, and nothing else of them', async () => {
    const calls = await callsInFlight(url)
    expect(calls.some((ops) => count(ops, 'settle') > 0 && count(ops, 'admit') > 0)).toBe(true)
    expect(calls.some((ops) => count(ops, 'admit') > 1)).toBe(false)
  }, 60_000)
})

describe('a build with the runtime changed to nodejs', () => {
  let url: string
  beforeAll(async () => {
    const served = await serveOutput(built.node, vars())
    closing.push(served.close)
    url = served.url
  })
  test('makes two Node functions', async () => {
    const launch = {
      runtime: expect.stringMatching(/^nodejs\d+\.x$/) as string,
      launcherType: 'Nodejs',
      handler: 'index.mjs',
    }
    expect(await launchesOf(built.node)).toMatchObject([launch, launch])
  })
  smoke(() => target(url))
  test('requests share whole calls', async () => {
    const calls = await callsInFlight(url)
    expect(calls.some((ops) => count(ops, 'admit') > 1)).toBe(true)
    expect(calls.some((ops) => count(ops, 'settle') > 1)).toBe(true)
  }, 60_000)
})

describe('vercel dev', () => {
  smoke(() => target(built.dev))
})

describe('what wrangler deploys', () => {
  let url: string
  beforeAll(async () => {
    const { folder, ...scripts } = built.cloudflare
    const optionsOf = (file: string) =>
      unstable_getMiniflareWorkerOptions(join(folder, file)).workerOptions
    const { compatibilityDate, assets, serviceBindings } = optionsOf('wrangler.toml')
    if (!assets) throw new Error('wrangler.toml names no assets')
    const miniflare = new Miniflare({
      workers: [
        {
          name: 'weir',
          modules: true,
          script: scripts.proxy,
          bindings: vars(),
          serviceBindings: serviceBindings as Record<string, { name: string; entrypoint: string }>,
          compatibilityDate,
          assets: { ...assets, workerName: 'weir' },
        },
        {
          name: 'weir-pages',
          modules: true,
          script: scripts.pages,
          compatibilityDate: optionsOf('wrangler.pages.toml').compatibilityDate,
        },
      ],
      host: '127.0.0.1',
      port: 0,
      cf: false,
      log: new Log(LogLevel.NONE),
      handleRuntimeStdio: () => undefined,
    })
    closing.push(() => miniflare.dispose())
    url = (await miniflare.ready).origin
  })
  smoke(() => target(url))
})
