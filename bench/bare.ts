/** The least that a gateway on Hono can do: the body up, the answer down, nothing else. */
import { serve } from '@hono/node-server'
import { Hono } from 'hono'
import { answerUsage, optionsOfParent, urlOf } from './child.ts'

const { upstream } = optionsOfParent<{ upstream: string }>()
const UP = ['accept', 'user-agent']

const app = new Hono()

app.post('/openai/v1/*', async (c) => {
  const headers = new Headers({
    authorization: 'Bearer gsk_bench',
    'content-type': 'application/json',
  })
  for (const name of UP) headers.set(name, c.req.header(name) ?? '')
  const {
    status,
    headers: down,
    body,
  } = await fetch(`${upstream}${c.req.path}`, {
    method: 'POST',
    headers,
    body: await c.req.arrayBuffer(),
  })
  return new Response(body, { status, headers: down })
})

serve({ fetch: app.fetch, port: 0, hostname: '127.0.0.1' }, (address) =>
  answerUsage(urlOf(address)),
)
