/** `/api/admin`: what was counted, and blocking. */
import { Hono } from 'hono/tiny'
import * as z from 'zod/mini'
import type { AppEnv, Deps } from '../context.ts'
import { ApiError } from '../errors.ts'
import { adminOnly } from '../middleware/admin.ts'
import { answered, storeOf } from '../middleware/store.ts'
import { limitBody } from '../middleware/limit-body.ts'
import { MODEL_NAME, parseBody } from '../proxy/body.ts'
import { ALL_MODELS, DAY_MS, dateOf, type Block } from '../usage/record.ts'
import { modelStats, userReport } from '../usage/report.ts'

const USERS = 50
const MOST_USERS = 200
const MAX_BODY_BYTES = 64 * 1024

const usageQuery = z.object({
  sort: z._default(z.enum(['lastActive', 'tokens']), 'lastActive'),
  limit: z._default(z.coerce.number().check(z.int(), z.minimum(1), z.maximum(MOST_USERS)), USERS),
})

const blockBody = z.strictObject({
  userId: z.string().check(z.regex(/^[A-Za-z0-9_-]{22}$/)),
  model: z.string(),
  blocked: z.boolean(),
  // Half a surrogate pair cannot be written as UTF-8.
  reason: z.optional(z.string().check(z.maxLength(500), z.regex(/^\P{Cs}*$/u))),
  until: z.optional(z.union([z.int(), z.iso.datetime({ offset: true })])),
})

/** The routes of the admin, all behind the admin key. */
export function adminRoutes(deps: Deps): Hono<AppEnv> {
  const { config, now } = deps
  const app = new Hono<AppEnv>()
  app.use(adminOnly(deps), limitBody(MAX_BODY_BYTES))

  app.get('/usage', async (c) => {
    const query = usageQuery.safeParse(c.req.query())
    if (!query.success) {
      throw new ApiError(
        'invalid_request',
        `\`sort\` is lastActive or tokens, \`limit\` 1 to ${MOST_USERS}.`,
      )
    }
    const at = now()
    const dates = Array.from({ length: config.statsDays }, (_, ago) => dateOf(at - ago * DAY_MS))
    const store = storeOf(deps)
    const [users, days, events] = await answered(
      Promise.all([
        store.listUsers({ ...query.data, now: at }),
        store.days(dates),
        store.events(20),
      ]),
    )
    return c.json({
      users: users.users.map((user) => userReport(user, config.limits, at)),
      stats: modelStats(days, config.globalLimits, at),
      days: days.map(({ date, total, quota }) => ({ date, ...total, quota })),
      events,
      nextCursor: null,
      timestamp: at,
    })
  })

  app.post('/usage', async (c) => {
    const body = blockBody.safeParse(parseBody(new Uint8Array(await c.req.arrayBuffer())))
    if (!body.success) {
      const param = String(body.error.issues[0]?.path[0] ?? 'userId')
      throw new ApiError(
        'invalid_request',
        `\`${param}\` is wrong: send {userId, model ("*" for all), blocked, reason?, until? (ISO time or epoch ms)}.`,
        { param },
      )
    }
    const { userId, model, blocked, reason } = body.data
    if (model !== ALL_MODELS && !MODEL_NAME.test(model)) {
      throw new ApiError(
        'invalid_request',
        '`model` must be the name of a model, or "*" for all.',
        {
          param: 'model',
        },
      )
    }
    const at = now()
    const until = body.data.until === undefined ? undefined : new Date(body.data.until).getTime()
    if (until !== undefined && !(until > at)) {
      throw new ApiError('invalid_request', '`until` must be in the future.', { param: 'until' })
    }
    const block: Block = { at, reason, until }
    await answered(
      storeOf(deps).setBlock({
        op: 'block',
        now: at,
        user: userId,
        model,
        block: blocked ? block : undefined,
      }),
    )
    return c.json({ success: true })
  })

  app.all('/usage', (c) => {
    throw new ApiError(
      'method_not_allowed',
      `${c.req.method} is not possible here; use GET or POST.`,
      {
        headers: { allow: 'GET, POST' },
      },
    )
  })
  return app
}
