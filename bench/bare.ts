/** The smallest gateway on Hono: it passes the body up and the answer down, and does nothing else. */
import { Hono } from 'hono'

const UP = ['accept', 'user-agent']

/** The app, for Node and for workerd. */
export function bareApp(upstream: string): Hono {
  const app = new Hono()
  app.post('/openai/v1/*', async (c) => {
    const up = new Headers({
      authorization: 'Bearer gsk_bench',
      'content-type': 'application/json',
    })
    for (const name of UP) up.set(name, c.req.header(name) ?? '')
    const { status, headers, body } = await fetch(`${upstream}${c.req.path}`, {
      method: 'POST',
      headers: up,
      body: await c.req.arrayBuffer(),
    })
    return new Response(body, { status, headers })
  })
  return app
}
