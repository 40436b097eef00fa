/** What the app gets from its platform, and what a handler finds in its context. */
import type { Context } from 'hono'
import type { Config } from './config/config.ts'
import type { Log } from './log.ts'
import type { Environment, Fetch, RelayPlatform } from './ports.ts'
import type { FallbackStore } from './store/fallback/store.ts'

export type Deps = {
  config: Readonly<Config>
  /** Absent if no storage is configured. */
  store: FallbackStore | undefined
  /** Calls upstream. */
  fetch: Fetch
  /** Epoch ms. */
  now(): number
  log: Log
  /** The client's address, as the platform reports it. */
  clientIp(c: Context): string | undefined
  relay: RelayPlatform
  environment: Environment
}

export type AppEnv = {
  Variables: {
    /** The id of the request, of its lease and of its event: a UUIDv7. */
    id: string
    /** The gateway is below a path (`BASE_PATH`). */
    below?: true
  }
}

export type AppContext = Context<AppEnv>
