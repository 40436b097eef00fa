/** `/assets`: the files that the pages load. */
import { Hono } from 'hono/tiny'
import type { AppEnv } from '../context.ts'
import { ASSETS } from '../views/assets.ts'

export function assetRoutes(): Hono<AppEnv> {
  const app = new Hono<AppEnv>()
  app.use('/assets/*', async function keepNoMiss(c, next) {
    // During a deployment, another instance may have a file that this one does not have yet.
    c.header('cache-control', 'no-store')
    await next()
  })
  for (const { path, type, text } of Object.values(ASSETS)) {
    app.get(path, (c) =>
      c.body(text, 200, {
        'content-type': type,
        'cache-control': 'public, max-age=31536000, immutable',
        'x-content-type-options': 'nosniff',
      }),
    )
  }
  return app
}
