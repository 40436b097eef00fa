/** `/`: a page that explains what Weir is. */
import { Hono } from 'hono/tiny'
import type { Config } from '../config/config.ts'
import type { AppEnv } from '../context.ts'
import { homePage } from '../views/home.tsx'
import { answerPage } from './answer-page.ts'

export function homeRoutes({ basePath, userTokens: kinds }: Readonly<Config>): Hono<AppEnv> {
  const app = new Hono<AppEnv>()
  // Not for caches: the client chose the host that the page shows.
  app.get('/', (c) =>
    answerPage(c, homePage({ kinds, origin: new URL(c.req.url).origin + basePath })),
  )
  return app
}
