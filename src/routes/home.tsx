/** `/`: a page that explains what Weir is, or what this one still needs. */
import { Hono } from 'hono/tiny'
import { version } from '../../package.json'
import type { AppEnv, Deps } from '../context.ts'
import { homePage } from '../views/home.tsx'
import { setupPage } from '../views/setup.tsx'
import { answerPage } from './answer-page.ts'
import { createSetupLook, isUnconfigured } from './setup.ts'

export function homeRoutes(deps: Deps): Hono<AppEnv> {
  const { basePath, userTokens: kinds, demo, helpUrl, homePage: isOn } = deps.config
  const look = createSetupLook(deps)
  const app = new Hono<AppEnv>()
  // Not for caches: the client chose the host that the page shows.
  app.get('/', async (c) => {
    if (isUnconfigured(deps)) return answerPage(c, setupPage(await look(c)))
    if (!isOn) return c.notFound()
    const origin = new URL(c.req.url).origin + basePath
    return answerPage(c, homePage({ kinds, origin, version, demo, helpUrl }))
  })
  return app
}
