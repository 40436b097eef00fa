/** What the two workers on workerd have in common. */
import type { Vars } from '../config/config.ts'
import { bindingStore, type Fetcher } from '../store/binding.ts'
import { createEdgeApp, type EdgePart } from './edge.ts'

/** In development, two services: the store, and the demo model, which replaces upstream. */
export type Services = { STORE?: Fetcher; UPSTREAM?: { fetch: typeof fetch } }

/** Builds the app of a worker. */
export const workerdApp = (part: EdgePart, vars: Vars, { STORE, UPSTREAM }: Services) =>
  createEdgeApp({
    ...part,
    platform: 'workerd',
    // workerd cancels a request that waits for a promise of another one.
    sharing: 'settlements',
    vars,
    store: STORE && bindingStore(STORE),
    fetch: UPSTREAM
      ? (input, init) => UPSTREAM.fetch(input, init)
      : (input, init) => fetch(input, init),
    // Cloudflare overwrites it: https://developers.cloudflare.com/fundamentals/reference/http-headers/#cf-connecting-ip
    clientIp: (c) => c.req.header('cf-connecting-ip'),
  })
