/** `GET /api/usage` and `GET /api/v1/key`: what a caller has used and has left. They write nothing. */
import { Hono } from 'hono/tiny'
import type { AppContext, AppEnv, Deps } from '../context.ts'
import { refusalError } from '../gateway/refusal.ts'
import { allowMethods } from '../http/methods.ts'
import type { Identify } from '../identity/caller.ts'
import { credentialRefused } from '../ledger/access.ts'
import { newPast, newProfile, newUsage } from '../ledger/new-documents.ts'
import { keyShape, ownUsage } from '../reports/own-usage.ts'
import { storeAnswer, storeOf } from '../store/required.ts'

/** The routes of a caller's own use. */
export function ownUsageRoutes(deps: Deps, identify: Identify): Hono<AppEnv> {
  const { config, now } = deps
  const app = new Hono<AppEnv>()

  /** What is known about the caller. Throws if the key or the token is not valid. */
  async function look(c: AppContext) {
    const caller = await identify(c)
    const store = storeOf(deps)
    const [known, policy] = await storeAnswer(Promise.all([store.user(caller.id), store.policy()]))
    const at = now()
    const user = known ?? {
      usage: newUsage(caller.id, at),
      profile: newProfile(caller.id),
      past: newPast(caller.id),
    }
    const refused = credentialRefused(caller, user.profile, at)
    if (refused) throw refusalError(refused, '', at)
    c.header('cache-control', 'no-store')
    return { caller, user, policy, at }
  }

  app.get('/usage', async (c) => {
    const { caller, user, policy, at } = await look(c)
    return c.json(ownUsage(user, { config, policy, claims: caller.claims }, at))
  })
  app.all('/usage', allowMethods('GET'))
  app.get('/v1/key', async (c) => {
    const { caller, user, policy, at } = await look(c)
    const key = caller.key && user.profile.keys[caller.key.id]
    return c.json({ data: keyShape(user, { config, policy, claims: caller.claims, key }, at) })
  })
  app.all('/v1/key', allowMethods('GET'))
  return app
}
