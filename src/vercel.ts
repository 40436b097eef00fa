/** The entry for Vercel. */
import { createEdgeApp } from './edge.ts'

/** The runtime, for Vercel and for scripts/build.ts: `edge`, or `nodejs` in its place, which is all there is to change. */
export const config = { runtime: 'edge' }

type VercelContext = { waitUntil(promise: Promise<unknown>): void }

let app: ReturnType<typeof createEdgeApp> | undefined

function handler(request: Request, context: VercelContext) {
  app ??= createEdgeApp({
    platform: 'vercel',
    vars: process.env,
    fetch: (input, init) => fetch(input, init),
    // Vercel overwrites it: https://vercel.com/docs/headers/request-headers#x-real-ip
    clientIp: (c) => c.req.header('x-real-ip'),
  })
  return app.fetch(
    request,
    {},
    {
      waitUntil: (promise: Promise<unknown>) => context.waitUntil(promise),
      passThroughOnException() {},
      props: {},
    },
  )
}

/** The edge calls a default export that is a function, Node its `fetch`; each passes on its own waitUntil. */
export default Object.assign(handler, { fetch: handler })
