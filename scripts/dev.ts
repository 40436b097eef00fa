/**
 * `npm run dev`: the edge bundles in workerd, with usage in a file and, if no key is set, a demo model.
 * It needs no database, no key and no network, and rebuilds on change.
 */
import { context, type BuildResult } from 'esbuild'
import { Log, LogLevel, Miniflare, Response, type MiniflareOptions, type Request } from 'miniflare'
import { randomBytes } from 'node:crypto'
import { ConfigError, readConfig, VARIABLES, type Config, type Vars } from '../src/config/config.ts'
import { loadEnvFiles } from '../src/platform/node/env-files.ts'
import { importOld } from '../src/migration/import-old.ts'
import { fieldsOf, imported } from '../src/migration/report.ts'
import { TIMEOUT_MS } from '../src/migration/start.ts'
import { connect } from '../src/platform/node/store.ts'
import {
  checkInDatabase,
  checkInFile,
  isSecretChanged,
  SECRET_CHANGED,
} from '../src/platform/node/secret-check.ts'
import { startupLines } from '../src/platform/node/startup.ts'
import { createLog } from '../src/log.ts'
import { onStopSignal } from '../src/platform/node/signals.ts'
import { serveStore } from '../src/store/binding.ts'
import { openLocal, type LocalStore } from '../src/store/local/store.ts'
import { StoreError } from '../src/store/store.ts'
import { COMPATIBILITY_DATE, WORKERS, edgeBundle, workersOf, type WorkerScripts } from './bundle.ts'
import { answerDemo } from './demo-model.ts'
import { PAGE_ROUTES, pages } from './demo-page.ts'
import { reapChildren } from './reaper.ts'

loadEnvFiles()

try {
  await develop()
} catch (error) {
  const expected = error instanceof ConfigError || error instanceof StoreError
  const taken = error instanceof Error && 'code' in error && error.code === 'ERR_ADDRESS_IN_USE'
  if (!expected && !taken) throw error
  console.error(error.message)
  process.exit(1)
}

async function develop(): Promise<void> {
  reapChildren()
  const generatedKey = process.env.ADMIN_KEY ? undefined : randomBytes(24).toString('base64url')
  const vars: Vars = { ...process.env, ...(generatedKey && { ADMIN_KEY: generatedKey }) }
  const config = readConfig(vars, 'edge')
  const demo = config.groqKey === undefined
  const store = config.redis ? undefined : await openUsage(config)

  const bindings: Record<string, string> = demo ? { GROQ_API_KEY: 'demo' } : {}
  for (const name of VARIABLES) {
    const value = vars[name]
    if (value) bindings[name] = value
  }
  const serviceBindings: NonNullable<MiniflareOptions['serviceBindings']> = {}
  if (store) {
    serviceBindings.STORE = async (request: Request) =>
      new Response(await serveStore(store, await request.text()))
  }
  if (demo) {
    serviceBindings.UPSTREAM = async (request: Request) => {
      const { pathname } = new URL(request.url)
      const { status, type, body } = answerDemo(request.method, pathname, await request.text())
      return new Response(body, { status, headers: { 'content-type': type } })
    }
  }

  const options = (scripts: WorkerScripts): MiniflareOptions => ({
    workers: [
      ...workersOf(scripts, bindings, serviceBindings),
      {
        name: 'pages',
        routes: PAGE_ROUTES,
        modules: true,
        script: 'export default { fetch: (request, env) => env.PAGES.fetch(request) }',
        compatibilityDate: COMPATIBILITY_DATE,
        serviceBindings: { PAGES: servePage },
      },
    ],
    host: '127.0.0.1',
    port: config.port,
    // Otherwise Miniflare asks the network where this machine is.
    cf: false,
    log: new Log(LogLevel.WARN),
  })

  const running: WorkerScripts = { proxy: '', pages: '' }
  let miniflare: Miniflare | undefined
  async function bundleOf(worker: keyof WorkerScripts) {
    async function rebuilt({ outputFiles, errors }: BuildResult): Promise<void> {
      const script = outputFiles?.[0]?.text
      if (errors.length || script === undefined || script === running[worker]) return
      running[worker] = script
      await miniflare?.setOptions(options(running))
      if (miniflare) console.log('Rebuilt.')
    }
    const { plugins = [], ...edge } = edgeBundle(WORKERS[worker], `${worker}.js`)
    const bundle = await context({
      ...edge,
      write: false,
      plugins: [...plugins, { name: 'rebuilt', setup: (build) => build.onEnd(rebuilt) }],
    })
    await bundle.rebuild()
    return bundle
  }
  const bundles = await Promise.all([bundleOf('proxy'), bundleOf('pages')])
  miniflare = new Miniflare(options(running))
  const { origin } = await miniflare.ready
  for (const bundle of bundles) await bundle.watch()

  // Replaces Miniflare's own handlers, which end the process at once: the store needs time to
  // close.
  onStopSignal(
    [
      ...bundles.map((bundle) => () => bundle.dispose()),
      () => miniflare?.dispose(),
      () => store?.close(),
    ],
    createLog({ level: 'error', format: 'text', write: (line) => console.error(line) }),
  )

  const storage = store ? `the file ${config.usageFile}` : 'Redis over REST'
  // Here a missing provider key means the demo model.
  const lines = startupLines({ ...config, groqKey: 'set' }, storage)
  if (await checkSecret(config).catch(() => false)) lines.push(SECRET_CHANGED)
  if (demo) lines.push('Provider: the built-in demo model, because GROQ_API_KEY is not set.')
  if (generatedKey) lines.push(`Admin key, generated for this run: ${generatedKey}`)
  lines.push(
    `Weir listens on ${origin}`,
    `Dashboard: ${origin}/admin (log in with the admin key)`,
    `Demo page: ${origin}/demo`,
    'Try it:',
    ...firstCalls(config, origin, `-H 'Authorization: Bearer ${generatedKey ?? '$ADMIN_KEY'}'`),
  )
  for (const line of lines) console.log(line)
}

/** Commands for a first look: a call by a user, or where no token can be made up, how to get a key or a signed token. */
function firstCalls({ userTokens }: Readonly<Config>, origin: string, asAdmin: string): string[] {
  const kind = ['any', 'issued', 'signed'].find((one) => userTokens.some((taken) => taken === one))
  const byKind: Record<string, string> = {
    any: `${origin}/api/groq -H 'x-user-token: my-first-user' -d '{"prompt":"Hello"}'`,
    issued: `${origin}/api/admin/keys ${asAdmin} -d '{"user":"my-first-user"}'`,
    signed: `${origin}/api/admin/tokens ${asAdmin} -d '{"user":"my-first-user","expires_in":3600}'`,
  }
  const first = kind === undefined ? [] : [`  curl ${byKind[kind]}`]
  return [...first, `  curl ${origin}/api/admin/usage ${asAdmin}`]
}

/** The store on files. A file of the old system is imported first. */
async function openUsage(config: Readonly<Config>): Promise<LocalStore> {
  const { usageFile: file, retention } = config
  const report = await importOld({ ...config, file, now: Date.now })
  if (report) console.log(imported(report), fieldsOf(report))
  const warn = (event: string, fields: Record<string, unknown>) => console.warn(event, fields)
  return openLocal({ file, retention, now: Date.now, warn })
}

async function checkSecret(config: Readonly<Config>): Promise<boolean> {
  const { redis: database, usageFile: file, userHashSecret: secret } = config
  if (!database) return isSecretChanged(secret, checkInFile(file))
  const { redis, disconnect } = await connect(database, TIMEOUT_MS)
  try {
    return await isSecretChanged(secret, checkInDatabase(redis, file))
  } finally {
    disconnect()
  }
}

/** Answers the pages and files that a browser requests beside the gateway. */
async function servePage({ url, method, headers }: Request): Promise<Response> {
  const asked = { method, headers: Object.fromEntries(headers) }
  const { body, status, headers: told } = await pages.request(url, asked)
  return new Response(body, { status, headers: Object.fromEntries(told) })
}
