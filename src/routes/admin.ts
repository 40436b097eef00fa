/** `/api/admin`: logging in and out, what was counted, blocking, erasing and export. */
import { Hono } from 'hono/tiny'
import * as z from 'zod/mini'
import type { AppContext, AppEnv, Deps } from '../context.ts'
import { ApiError } from '../errors.ts'
import type { Admin } from '../middleware/admin.ts'
import { limitBody } from '../middleware/limit-body.ts'
import { only } from '../middleware/methods.ts'
import { sameOrigin } from '../middleware/same-origin.ts'
import { answered, storeOf } from '../middleware/store.ts'
import { effectiveLimits, everyoneLimits } from '../ledger/policy.ts'
import type { Block } from '../ledger/shapes.ts'
import { dateOf, datesTo } from '../ledger/windows.ts'
import { parseBody, type Json } from '../proxy/body.ts'
import { formatCursor } from '../store/cursor.ts'
import { isScope } from '../usage/models.ts'
import { inOrder, modelStats, quotasToday, userReport } from '../usage/report.ts'
import { exportHandler } from './export.ts'
import { formOf, isForm } from './form.ts'
import { answerProblem } from './problem-page.ts'
import { readUserQuery, USER_ID } from './user-query.ts'

const EVENTS = 20
const AUDITS = 20
const MAX_BODY_BYTES = 64 * 1024

/** RFC 3339, section 5.6, and a day that there is. zod's own would bring all of its kinds of dates along. */
const MOMENT = /^(\d{4}-\d\d-\d\d)T([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)$/
const isMoment = (text: string): boolean => {
  const [, date = ''] = MOMENT.exec(text) ?? []
  const day = Date.parse(date)
  return !Number.isNaN(day) && dateOf(day) === date
}

export const blockBody = z.strictObject({
  userId: z.string().check(z.regex(USER_ID)),
  model: z.string(),
  blocked: z.boolean(),
  // Half a surrogate pair cannot be written as UTF-8.
  reason: z.optional(z.string().check(z.regex(/^\P{Cs}{0,500}$/u))),
  until: z.optional(z.union([z.int(), z.string().check(z.refine(isMoment))])),
})

/** The routes of the admin. */
export function adminRoutes(deps: Deps, admin: Admin): Hono<AppEnv> {
  const { config, now } = deps
  const app = new Hono<AppEnv>()
  app.use(sameOrigin, limitBody(MAX_BODY_BYTES))

  /** A form goes on to the dashboard, or is told on a page what went wrong. */
  async function onPage(c: AppContext, run: () => Promise<unknown>): Promise<Response> {
    try {
      await run()
    } catch (thrown) {
      return answerProblem(c, deps, thrown)
    }
    return c.redirect('/admin', 303)
  }

  app.get('/auth', async (c) => {
    c.header('cache-control', 'no-store')
    const session = config.adminKey === undefined ? undefined : await admin.session(c)
    return c.json(
      session ? { authenticated: true, expiresAt: session.until } : { authenticated: false },
    )
  })
  app.all('/auth', only('GET'))

  app.post('/login', async (c) => {
    c.header('cache-control', 'no-store')
    if (isForm(c)) {
      return onPage(c, async () => admin.login(c, (await formOf(c)).key ?? ''))
    }
    const { key } = await bodyOf(c)
    if (typeof key !== 'string') {
      throw new ApiError('invalid_request', 'Send the admin key: {"key": "…"}.', { param: 'key' })
    }
    const { until } = await admin.login(c, key)
    return c.json({ success: true, expiresAt: until })
  })
  app.all('/login', only('POST'))

  app.post('/logout', async (c) => {
    c.header('cache-control', 'no-store')
    if (isForm(c)) return onPage(c, () => admin.logout(c))
    await admin.logout(c)
    return c.json({ success: true })
  })
  app.all('/logout', only('POST'))

  app.use(admin.only)
  app.get('/export', exportHandler(deps, admin))
  app.all('/export', only('GET'))

  app.get('/usage', async (c) => {
    const { sort, limit, from, q } = readUserQuery(c.req.query())
    const at = now()
    const store = storeOf(deps)
    const users = { sort, limit: q === undefined ? limit : 0, from, now: at }
    const [{ days, page, events, quotas }, audit, asked] = await answered(
      Promise.all([
        store.overview({ dates: datesTo(at, config.statsDays), users, events: EVENTS }),
        store.audit(AUDITS),
        q === undefined ? undefined : store.user(q),
      ]),
    )
    const found = asked ? [asked] : inOrder(page.users, users)
    return c.json({
      users: found.map((user) => userReport(user, effectiveLimits(config.limits, user), at)),
      stats: modelStats(days, quotas, everyoneLimits(config.globalLimits), at),
      days: days.map(({ date, total }) => ({ date, ...total })),
      quotas: quotasToday(quotas, at),
      events,
      audit,
      nextCursor: page.next ? formatCursor(page.next) : null,
      ...store.health(),
      timestamp: at,
    })
  })

  app.post('/usage', async (c) => {
    const body = blockBody.safeParse(await bodyOf(c))
    if (!body.success) {
      const param = String(body.error.issues[0]?.path[0] ?? 'userId')
      throw new ApiError(
        'invalid_request',
        `\`${param}\` is wrong: send {userId, model ("*" for all), blocked, reason?, until? (ISO time or epoch ms)}.`,
        { param },
      )
    }
    const { userId, model, blocked, reason } = body.data
    if (!isScope(model)) {
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
      storeOf(deps).execute({
        op: 'block',
        ...admin.stamp(c),
        user: userId,
        model,
        block: blocked ? block : undefined,
      }),
    )
    return c.json({ success: true })
  })

  app.all('/usage', only('GET', 'POST'))

  app.delete('/users/:userId', async (c) => {
    const user = c.req.param('userId')
    if (!USER_ID.test(user)) {
      throw new ApiError(
        'invalid_request',
        'A user id has 22 characters: letters, digits, _ and -.',
      )
    }
    const store = storeOf(deps)
    const known = await answered(store.user(user))
    // Events and what is still to be counted may outlive the document.
    await answered(store.execute({ op: 'erase', user, ...admin.stamp(c) }))
    return c.json({ success: true, found: known !== undefined })
  })
  app.all('/users/:userId', only('DELETE'))
  return app
}

const bodyOf = async (c: AppContext): Promise<Json> =>
  parseBody(new Uint8Array(await c.req.arrayBuffer()))
