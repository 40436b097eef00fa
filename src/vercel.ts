/** The entry for Vercel. */
import { createEdgeApp } from './edge.ts'

export const config = { runtime: 'edge' }

type VercelContext = { waitUntil(promise: Promise<unknown>): void }

let app: ReturnType<typeof createEdgeApp> | undefined

/** Vercel calls a default export that is a function, with its own waitUntil. */
export default function handler(request: Request, context: VercelContext) {
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
