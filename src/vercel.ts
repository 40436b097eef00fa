/** The entry for Vercel. */
import { createApp } from './app.ts'
import { createEdgeApp } from './platform/edge.ts'

/** The runtime, for Vercel and for scripts/build.ts. To use Node, change `edge` to `nodejs`; nothing else changes. */
export const config = { runtime: 'edge' }

type VercelContext = { waitUntil(promise: Promise<unknown>): void }

let app: ReturnType<typeof createEdgeApp> | undefined

function handler(request: Request, context: VercelContext) {
  app ??= createEdgeApp({
    createApp,
    platform: 'vercel',
    vars: process.env,
    fetch: (input, init) => fetch(input, init),
    // Vercel overwrites it: https://vercel.com/docs/headers/request-headers#x-real-ip
    clientIp: (c) => c.req.header('x-real-ip'),
    proxyHeaders: ['cf-connecting-ip', 'true-client-ip', 'fastly-client-ip'],
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

/** The edge calls the default export as a function, Node calls its `fetch`. Each passes its own waitUntil. */
export default Object.assign(handler, { fetch: handler })
