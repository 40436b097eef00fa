/** What the app knows of the world, and what a handler finds in its context. */
import type { Context } from 'hono'
import type { Config } from './config.ts'
import type { Log } from './log.ts'
import type { RelayPlatform } from './proxy/relay.ts'
import type { Fetch } from './proxy/upstream.ts'
import type { FallbackStore } from './store/fallback.ts'

export type Deps = {
  config: Readonly<Config>
  /** Absent when nothing to store in is configured. */
  store: FallbackStore | undefined
  /** Calls upstream. */
  fetch: Fetch
  /** Epoch ms. */
  now(): number
  log: Log
  /** The client's address as the platform vouches for it. */
  clientIp(c: Context): string | undefined
  relay: RelayPlatform
  environment: Environment
}

/** Where the app runs and keeps its counts. */
export type Environment = {
  platform: 'vercel' | 'workerd' | 'node'
  storage: 'database' | 'file' | 'none'
}

export type AppEnv = {
  Variables: {
    /** Request id, lease id and event id at once: a UUIDv7. */
    id: string
  }
}

export type AppContext = Context<AppEnv>
