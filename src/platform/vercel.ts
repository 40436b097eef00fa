/** What the two functions on Vercel have in common. */
import { createEdgeApp, type EdgePart } from './edge.ts'

/**
 * Whether this is the Node runtime, whose instance is one process for all its requests, which may wait for each other.
 * The edge has no such process: https://vercel.com/docs/functions/runtimes/edge
 */
const isNode =
  !('EdgeRuntime' in globalThis) && typeof globalThis.process?.versions?.node === 'string'

type VercelContext = { waitUntil(promise: Promise<unknown>): void }

/**
 * Builds the default export of a function. The edge calls it as a function, Node calls its `fetch`. Each passes its
 * own waitUntil.
 */
export function vercelHandler(part: EdgePart) {
  let app: ReturnType<typeof createEdgeApp> | undefined

  function handler(request: Request, context: VercelContext) {
    app ??= createEdgeApp({
      ...part,
      platform: 'vercel',
      sharing: isNode ? 'calls' : 'settlements',
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
  return Object.assign(handler, { fetch: handler })
}
