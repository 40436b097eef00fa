/** What the app gets from its platform, and what a handler finds in its context. */
import type { Context } from 'hono'
import type { Alerts } from './alerts/alerts.ts'
import type { AdminKey } from './config/admins.ts'
import type { Config } from './config/config.ts'
import type { Log } from './log.ts'
import type { BodyPlatform, Environment, Fetch, RelayPlatform } from './ports.ts'
import type { FallbackStore } from './store/fallback/store.ts'

export type Deps = {
  config: Readonly<Config>
  /** Absent if no storage is configured. */
  store: FallbackStore | undefined
  /** Calls upstream. */
  fetch: Fetch
  /** Calls the issuers of signed tokens. */
  fetchKeys: Fetch
  /** Epoch ms. */
  now(): number
  log: Log
  /** The client's address, as the platform reports it. */
  clientIp(c: Context): string | undefined
  /**
   * The client's address by a header that is not trusted. If there is such a header, a proxy that is not configured may
   * be in front of Weir, and then `clientIp` is the address of that proxy.
   */
  claimedIp(c: Context): string | undefined
  /** Absent if no alerts are sent. */
  alerts?: Alerts | undefined
  relay: RelayPlatform
  /** Absent if bodies are read as streams. */
  bodies?: BodyPlatform
  environment: Environment
}

export type AppEnv = {
  Variables: {
    /** The id of the request, of its lease and of its event: a UUIDv7. */
    id: string
    /** Who uses an admin route. */
    admin: AdminKey
    /** The gateway is below a path (`BASE_PATH`). */
    below?: true
  }
}

export type AppContext = Context<AppEnv>
