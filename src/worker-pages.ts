/**
 * The entry for the pages on workerd. Only the worker of the proxy calls it, and passes the variables, so that they are
 * set in one place.
 * https://developers.cloudflare.com/workers/runtime-apis/bindings/service-bindings/rpc/
 */
import { WorkerEntrypoint } from 'cloudflare:workers'
import { createPagesApp } from './app.ts'
import type { Vars } from './config/config.ts'
import { workerdApp, type Services } from './platform/cloudflare.ts'
import { turnTaker } from './store/redis/turns.ts'

let app: ReturnType<typeof workerdApp> | undefined

export class Pages extends WorkerEntrypoint<Services> {
  answer(request: Request, vars: Vars): Response | Promise<Response> {
    app ??= workerdApp({ createApp: createPagesApp, turnTaker }, vars, this.env)
    return app.fetch(request, {}, this.ctx)
  }
}

/** Cloudflare accepts only workers that handle an event. No address leads to this one. */
export default { fetch: () => new Response(null, { status: 404 }) }
