/** The entry for Node: a server of its own, on Redis or on files. */
import { serve, type HttpBindings } from '@hono/node-server'
import { existsSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
import { createApp } from './app.ts'
import { ConfigError, readConfig, type Config } from './config.ts'
import { createLog, type Log } from './log.ts'
import { startupLines } from './startup.ts'
import { openLocal } from './store/local.ts'
import { createRedisStore } from './store/redis.ts'
import { StoreError, type Store } from './store/store.ts'

/** An answer whose client has gone is read on until the request's deadline, which is what bounds it here. */
const DRAIN = { ms: Infinity, bytes: Infinity, atOnce: 64 }

for (const file of ['.env.local', '.env']) if (existsSync(file)) process.loadEnvFile(file)

try {
  await start(readConfig(process.env, 'node'))
} catch (error) {
  if (!(error instanceof ConfigError || error instanceof StoreError)) throw error
  console.error(error.message)
  process.exit(1)
}

async function start(config: Readonly<Config>): Promise<void> {
  const production = process.env.NODE_ENV === 'production'
  const log = createLog({
    level: config.logLevel,
    format: production ? 'json' : 'text',
    write: (line) => console.log(line),
  })
  const { store, storage, close } = await openStore(config, log)

  /** Work that outlives its answer; the process does not end before it. */
  const pending = new Set<Promise<unknown>>()
  const context = {
    waitUntil(promise: Promise<unknown>) {
      const tracked = promise.catch(() => undefined).finally(() => pending.delete(tracked))
      pending.add(tracked)
    },
    passThroughOnException() {},
    props: {},
  }

  const app = createApp({
    config,
    store,
    fetch,
    now: Date.now,
    log,
    clientIp(c) {
      const forwarded = config.trustProxy && c.req.header('x-forwarded-for')?.split(',').at(-1)
      return forwarded || (c.env as HttpBindings).incoming.socket.remoteAddress
    },
    drain: DRAIN,
  })
  const server = serve(
    { fetch: (request, env) => app.fetch(request, env, context), port: config.port },
    ({ port }: AddressInfo) => {
      for (const line of startupLines(config, storage)) console.log(line)
      console.log(`Weir listens on http://localhost:${port}`)
    },
  )

  let stopping = false
  const stop = () => {
    if (stopping) process.exit(1)
    stopping = true
    server.close(async () => {
      while (pending.size) await Promise.all(pending)
      await close()
      process.exit(0)
    })
  }
  process.on('SIGTERM', stop)
  process.on('SIGINT', stop)
}

type Opened = { store: Store; storage: string; close(): Promise<void> }

async function openStore(config: Readonly<Config>, log: Log): Promise<Opened> {
  const { redis, storeTimeoutMs: timeoutMs, usageFile: file } = config
  if (redis) {
    const store = createRedisStore({
      ...redis,
      timeoutMs,
      retention: config,
      batch: true,
      warn: log.warn,
    })
    return { store, storage: 'Redis over REST', close: async () => undefined }
  }
  const store = await openLocal({ file, retention: config, now: Date.now, warn: log.warn })
  return { store, storage: `the file ${file}`, close: () => store.close() }
}
