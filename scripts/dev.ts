/**
 * `npm run dev`: the edge bundles in workerd, with usage in a file and, if no key is set, a demo model.
 * It needs no database, no key and no network, and rebuilds on change. Secrets are made up once and kept.
 */
import { context, type BuildResult } from 'esbuild'
import { Log, LogLevel, Miniflare, Response, type MiniflareOptions, type Request } from 'miniflare'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import { ConfigError, VARIABLES, type Config } from '../src/config/config.ts'
import { loadEnvFiles } from '../src/platform/node/env-files.ts'
import { importOld } from '../src/migration/import-old.ts'
import { fieldsOf, imported } from '../src/migration/report.ts'
import { TIMEOUT_MS } from '../src/migration/start.ts'
import { answerDemo } from '../src/platform/node/demo/model.ts'
import { firstSteps } from '../src/platform/node/demo/first-steps.ts'
import { readTrial } from '../src/platform/node/demo/trial.ts'
import { assertFree, cannotListen } from '../src/platform/node/listening.ts'
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
import { readable } from './dev-log.ts'
import { PAGE_ROUTES, servePage } from './dev-pages.ts'
import { reapChildren } from './reaper.ts'

const HOST = '127.0.0.1'

loadEnvFiles()

try {
  await develop()
} catch (error) {
  const expected = error instanceof ConfigError || error instanceof StoreError
  const told = expected ? error.message : cannotListen(error)
  if (told === undefined) throw error
  console.error(told)
  process.exit(1)
}

async function develop(): Promise<void> {
  reapChildren()
  const trial = await readTrial(process.env, 'edge')
  const { config, vars, isDemoModel } = trial
  // workerd says the same with a dump of its stack.
  await assertFree(HOST, config.port)
  const store = config.redis ? undefined : await openUsage(config)

  const bindings: Record<string, string> = {}
  for (const name of VARIABLES) {
    const value = vars[name]
    if (value) bindings[name] = value
  }
  const serviceBindings: NonNullable<MiniflareOptions['serviceBindings']> = {}
  if (store) {
    serviceBindings.STORE = async (request: Request) =>
      new Response(await serveStore(store, await request.text()))
  }
  if (isDemoModel) {
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
    host: HOST,
    port: config.port,
    // Otherwise Miniflare asks the network where this machine is.
    cf: false,
    log: new Log(LogLevel.WARN),
    handleRuntimeStdio: showLog,
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
  const lines = startupLines({ ...config, host: HOST }, storage)
  if (await checkSecret(config).catch(() => false)) lines.push(SECRET_CHANGED)
  lines.push(`Weir listens on ${origin}`, ...firstSteps(trial, origin))
  for (const line of lines) console.log(line)
}

/** Prints what workerd prints, with one short line for each entry of the log. */
function showLog(...outputs: Readable[]): void {
  for (const output of outputs) {
    createInterface({ input: output }).on('line', (line) => console.log(readable(line)))
  }
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
