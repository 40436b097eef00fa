/**
 * The smallest gateway on Hono: it passes the body up and the answer down. On demand it also calls a database before and
 * after, as Weir does, with calls as long as Weir's.
 */
import { Hono } from 'hono'

export type BareOptions = {
  upstream: string
  /** The database over REST, and how often a request calls it. */
  rest?: { url: string; token: string }
  calls?: 0 | 1 | 2
}

const UP = ['accept', 'user-agent']

/** As long as what Weir sends. The answer has the same length. */
const ECHO = JSON.stringify(['ECHO', 'x'.repeat(1500)])

/** Calls a provider and returns the answer. */
export type Send = (
  url: string,
  init: { method: 'POST'; headers: Record<string, string>; body: Uint8Array<ArrayBuffer> },
) => Promise<Response>

/** The app, for Node and for workerd. */
export function bareApp({ upstream, rest, calls = 0 }: BareOptions, send: Send = fetch): Hono {
  const app = new Hono()

  async function callDatabase(): Promise<void> {
    if (!rest) return
    const headers = { authorization: `Bearer ${rest.token}`, 'content-type': 'application/json' }
    const answer = await fetch(rest.url, { method: 'POST', headers, body: ECHO })
    await answer.json()
  }

  app.post('/openai/v1/*', async (c) => {
    if (calls > 0) await callDatabase()
    const up: Record<string, string> = {
      authorization: 'Bearer gsk_bench',
      'content-type': 'application/json',
    }
    for (const name of UP) up[name] = c.req.header(name) ?? ''
    const answer = await send(`${upstream}${c.req.path}`, {
      method: 'POST',
      headers: up,
      body: new Uint8Array(await c.req.arrayBuffer()),
    })
    if (calls > 1) c.executionCtx.waitUntil(callDatabase())
    const { status, headers, body } = answer
    return new Response(body, { status, headers })
  })
  return app
}
