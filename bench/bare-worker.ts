/** The bare pass-through as a worker. */
import type { ExecutionContext, Hono } from 'hono'
import { bareApp, type BareOptions } from './bare.ts'

let app: Hono | undefined

export default {
  fetch(request: Request, { BARE }: { BARE: string }, context: ExecutionContext) {
    app ??= bareApp(JSON.parse(BARE) as BareOptions)
    return app.fetch(request, {}, context)
  },
}
