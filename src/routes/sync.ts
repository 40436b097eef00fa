/** `/api/tracking/sync`: a browser reports its usage, and gets the server's counts. */
import { Hono } from 'hono/tiny'
import type { AppEnv, Deps } from '../context.ts'
import { ApiError } from '../errors.ts'
import { refusalError, tooManyUsers } from '../gateway/refusal.ts'
import { SYNCS_PER_MINUTE } from '../ledger/capacity.ts'
import type { AnswerOf } from '../ledger/answers.ts'
import type { Report } from '../ledger/commands.ts'
import { MINUTE_MS, minuteOf } from '../ledger/windows.ts'
import type { Identify } from '../identity/caller.ts'
import { pageJsonBody } from '../http/json-body.ts'
import type { Bodies } from '../http/bodies.ts'
import { limitBody } from '../http/limit-body.ts'
import { allowMethods } from '../http/methods.ts'
import { secondsUntil } from '../retry-after.ts'
import { storeAnswer, storeOf } from '../store/required.ts'
import { syncReport } from '../reports/usage.ts'
import { SYNC_REFUSAL, syncBody } from './sync-schemas.ts'

/** The route of browser reports. Reports are not trusted: they neither count as usage nor lift a limit. */
export function syncRoutes(deps: Deps, bodies: Bodies, identify: Identify): Hono<AppEnv> {
  const { config, now } = deps
  const strangers = createStrangers(deps)
  const app = new Hono<AppEnv>()

  app.post('/sync', limitBody(bodies), pageJsonBody(syncBody, SYNC_REFUSAL), async (c) => {
    const { userToken, modelUsage } = c.req.valid('json')
    const caller = await identify(c, userToken)
    const store = storeOf(deps)
    const models = Object.fromEntries(
      Object.entries(modelUsage).map(([model, { day }]) => [model, day]),
    )
    const report = {
      op: 'report',
      now: now(),
      user: caller.id,
      models,
      limits: config.limits,
      ...(caller.key && { key: caller.key }),
      ...(caller.claims && { claims: caller.claims }),
    } as const
    const answer = await strangers(caller.network, () => storeAnswer(store.execute(report)))
    if (!answer.ok && answer.reason !== 'syncs') throw refusalError(answer, '', now())
    if (!answer.ok) {
      throw new ApiError(
        'rate_limit_exceeded',
        `A user may sync ${SYNCS_PER_MINUTE} times a minute.`,
        { headers: { 'retry-after': String(secondsUntil(answer.resetAt, now())) } },
      )
    }
    c.header('cache-control', 'no-store')
    return c.json({ success: true, ...syncReport(answer) })
  })

  app.all('/sync', allowMethods('POST'))
  return app
}

/** The most networks that are remembered in a minute. */
const REMEMBERED = 1000

/**
 * Limits the syncs of users who have sent no request, since anybody can make such users up: a network may have as many
 * in a minute as it may have new users. Only the store knows whether a user is known, so each sync takes a turn first,
 * and known users give it back. Throws `too_many_users`.
 */
function createStrangers({ config, now }: Deps) {
  const { newUsersPerMinute: perMinute } = config
  let minute = 0
  let turns = new Map<string, number>()

  return async (
    network: string | undefined,
    ask: () => Promise<AnswerOf<Report>>,
  ): Promise<AnswerOf<Report>> => {
    if (network === undefined) return ask()
    if (minuteOf(now()) !== minute) turns = new Map()
    minute = minuteOf(now())
    const mine = turns
    const taken = mine.get(network) ?? 0
    if (taken >= perMinute) {
      throw tooManyUsers({ perMinute, resetAt: (minute + 1) * MINUTE_MS }, now())
    }
    const [oldest] = mine.keys()
    if (taken === 0 && mine.size >= REMEMBERED && oldest !== undefined) mine.delete(oldest)
    mine.set(network, taken + 1)
    let isStranger = false
    try {
      const answer = await ask()
      isStranger = answer.ok && !answer.known
      return answer
    } finally {
      if (!isStranger) mine.set(network, Math.max(0, (mine.get(network) ?? 0) - 1))
    }
  }
}
