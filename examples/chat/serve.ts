/** Serves the example on a port of its own, as the site of an application. */
import { serve } from '@hono/node-server'
import { serveStatic } from '@hono/node-server/serve-static'
import { Hono } from 'hono'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('.', import.meta.url))
const port = Number(process.env.PORT ?? 8788)
const app = new Hono().get('/weir.json', (c) =>
  c.json({ base: process.env.WEIR_URL ?? 'http://127.0.0.1:8787' }),
)
app.get('/*', serveStatic({ root }))
serve({ fetch: app.fetch, port, hostname: '127.0.0.1' }, (info) =>
  console.log(`The example is at http://127.0.0.1:${info.port}`),
)
