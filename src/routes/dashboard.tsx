/** `/admin`: the pages of the admin. Forms redirect to the page that shows what they did. */
import { Hono } from 'hono/tiny'
import type { AppContext, AppEnv, Deps } from '../context.ts'
import { ApiError, asApiError } from '../errors.ts'
import type { Admin } from '../middleware/admin.ts'
import { limitBody } from '../middleware/limit-body.ts'
import { sameOrigin } from '../middleware/same-origin.ts'
import { answered, storeOf } from '../middleware/store.ts'
import { MODEL_NAME } from '../proxy/body.ts'
import { formatCursor, parseCursor } from '../store/cursor.ts'
import {
  blocksOf,
  differs,
  history,
  today,
  usedOf,
  userDays,
  userLine,
} from '../usage/dashboard.ts'
import {
  ALL_MODELS,
  DAY_MS,
  MINUTE_MS,
  dateOf,
  limitsOf,
  minuteOf,
  own,
  type Block,
  type Event,
  type UserDoc,
} from '../usage/record.ts'
import { userReport } from '../usage/report.ts'
import { NOTHING, sum } from '../usage/tally.ts'
import { base64url, createIds } from '../usage/user-id.ts'
import { awayPage, loginPage, problemPage, setupPage } from '../views/login.tsx'
import { Notice, overviewLive, overviewPage, type Live } from '../views/overview.tsx'
import { DURATIONS, REASON_CHARS, userLive, userPage, type UserLive } from '../views/user.tsx'
import { answerPage, type View } from './answer-page.ts'

const USERS = 50
const EVENTS = 50
const BLOCKED = 100
const AUDIT = 20
/** Days of the long chart, where so many are kept. */
const HISTORY_DAYS = 90
/** Among so many of everyone's events those of a user are looked for. */
const LOOKED = 500
const MAX_BODY_BYTES = 64 * 1024

/** Set by static/admin.js: only what changes is sent. */
const LIVE = 'x-weir-live'

/** What a page says of what a form did. */
const NOTICES: Record<string, string> = {
  blocked: 'Blocked. Their next call is refused within two seconds.',
  unblocked: 'Unblocked. Their next call is let through within two seconds.',
  erased: 'Erased. Nothing is kept of that user but the totals.',
}
const PROBLEMS: Record<string, string> = {
  nobody: 'There is no user with this id or token.',
  block:
    'Nothing was changed: a block ends in the future, and its reason has at most 500 characters.',
  sure: 'Nothing was erased: tick the box to say that you are sure.',
}

export function dashboardRoutes(deps: Deps, admin: Admin): Hono<AppEnv> {
  const { config, now, environment, log } = deps
  const app = new Hono<AppEnv>()
  const ids = createIds(config.userHashSecret)
  const place = `${environment.platform} · ${environment.storage}`

  app.onError((thrown, c) => {
    const { status, code, message, cause } = asApiError(thrown)
    if (code === 'store_unavailable') {
      const { queued = 0 } = deps.store?.health() ?? {}
      return answerPage(c, awayPage({ open: config.onStoreDown === 'open', queued }), status)
    }
    if (code === 'not_configured' && config.adminKey === undefined) {
      return answerPage(c, setupPage(), status)
    }
    if (status === 500) log.error('request.failed', { id: c.var.id, code, status, error: cause })
    const title = status === 404 ? 'Not found' : 'That did not work'
    return answerPage(c, problemPage({ title, message }), status)
  })

  app.use(sameOrigin, async function loggedIn(c, next) {
    if (!(await admin.session(c))) return answerPage(c, loginPage(), 401)
    await next()
  })

  const told = (c: AppContext) => {
    const done = c.req.query('done') ?? ''
    const [notice, problem] = [own(NOTICES, done), own(PROBLEMS, done)]
    return (notice || problem) && <Notice bad={problem !== undefined}>{notice ?? problem}</Notice>
  }

  app.get('/', async (c) => {
    const store = storeOf(deps)
    const at = now()
    const sort = c.req.query('sort') === 'tokens' ? 'tokens' : 'lastActive'
    const from = parseCursor(c.req.query('cursor') ?? '')
    const refresh = c.req.header(LIVE) !== undefined
    const kept = refresh ? 2 : Math.max(2, Math.min(HISTORY_DAYS, config.retention.historyDays))
    const dates = Array.from({ length: kept }, (_, ago) => dateOf(at - ago * DAY_MS))
    const users = { sort, from, limit: USERS, now: at } as const
    const [{ days, page, events }, blocked, audit] = await answered(
      Promise.all([
        store.overview({ dates, users, events: EVENTS }),
        refresh ? [] : store.blockedUsers(BLOCKED),
        refresh ? [] : store.audit(AUDIT),
      ]),
    )
    const live: Live = {
      health: store.health(),
      today: today(days, config.globalLimits, at),
      users: page.users.map((user) => userLine(user, config.limits, at)),
      sort,
      next: page.next && formatCursor(page.next),
      paged: from !== undefined,
      events,
    }
    if (refresh) return refreshed(c, live, () => overviewLive({ live, now: at }))
    return answerPage(
      c,
      overviewPage({
        now: at,
        live,
        history: history(days, dates),
        blocks: blocked.flatMap((user) => blocksOf(user, at)),
        audit,
        place,
        notice: told(c),
        origin: new URL(c.req.url).origin,
      }),
    )
  })

  app.get('/users/:userId', async (c) => {
    const store = storeOf(deps)
    const at = now()
    const user = await userOf(c)
    const live = liveOf(user, at)
    const eventsOf = async () => {
      const events = await answered(store.events(LOOKED))
      return events.filter((event: Event) => event.user === user.id)
    }
    if (c.req.header(LIVE) !== undefined) {
      return refreshed(c, live, async () => userLive({ now: at, live, events: await eventsOf() }))
    }
    const names = [...Object.keys(user.rows), ...Object.keys(config.limits.models)]
    return answerPage(
      c,
      userPage({
        now: at,
        live,
        events: await eventsOf(),
        looked: LOOKED,
        blocks: blocksOf(user, at),
        names: [...new Set([...names, config.defaultModel])].sort(),
        place,
        notice: told(c),
      }),
    )
  })

  /** The user of the path, or `not_found`. */
  async function userOf(c: AppContext): Promise<UserDoc> {
    const user = await answered(storeOf(deps).user(c.req.param('userId') ?? ''))
    if (user) return user
    throw new ApiError('not_found', 'Nothing is kept of a user with this id.')
  }

  function liveOf(user: UserDoc, at: number): UserLive {
    const { limits, retention } = config
    const { models } = userReport(user, limits, at)
    const minutes = user.minute.n === minuteOf(at) ? user.minute.rows : {}
    const counts = models.map((row) => ({ tokens: row.tokensUsedDay, requests: row.requestsDay }))
    return {
      id: user.id,
      ip: user.ip,
      at: user.at,
      sessions: user.date === dateOf(at) ? Object.keys(user.sessions).length : 0,
      all: usedOf(sum(counts), limits.total),
      models: models
        .filter(({ model }) => model !== ALL_MODELS)
        .map((row) => {
          const of = limitsOf(limits, row.model)
          const byMinute = of?.tokensPerMinute ?? of?.requestsPerMinute
          return {
            ...row,
            used: usedOf({ tokens: row.tokensUsedDay, requests: row.requestsDay }, of),
            minute:
              of && byMinute !== undefined
                ? { ...(own(minutes, row.model) ?? NOTHING), limits: of }
                : undefined,
            differs: differs(row.tokensUsedDay - row.heldTokens, row.reportedTokensDay),
          }
        })
        .sort((a, b) => b.tokensUsedDay - a.tokensUsedDay),
      days: userDays(user, Math.min(7, retention.userDays) + 1, at),
    }
  }

  app.use(limitBody(MAX_BODY_BYTES))

  app.post('/find', async (c) => {
    const store = storeOf(deps)
    const { q } = await formOf(c)
    const known = async (id: string) => (await answered(store.user(id)))?.id
    const named = /^[\w-]{22}$/.test(q ?? '') ? await known(q ?? '') : undefined
    const id = named ?? (q && (await known(await ids.user(q))))
    return c.redirect(id ? `/admin/users/${id}` : '/admin?done=nobody', 303)
  })

  app.post('/users/:userId/block', async (c) => {
    const { model = '', reason, minutes, until } = await formOf(c)
    const at = now()
    const end = until
      ? Date.parse(`${until}Z`)
      : minutes
        ? at + Number(minutes) * MINUTE_MS
        : undefined
    const known = model === ALL_MODELS || MODEL_NAME.test(model)
    const lasts = DURATIONS.some(([value]) => value === (minutes ?? ''))
    const right = known && lasts && (end === undefined || end > at)
    if (!right || (reason ?? '').length > REASON_CHARS) return back(c, 'block')
    const block: Block = { at }
    if (reason) block.reason = reason
    if (end !== undefined) block.until = end
    return setBlock(c, model, block)
  })

  app.post('/users/:userId/unblock', async (c) => setBlock(c, (await formOf(c)).model ?? ''))

  async function setBlock(c: AppContext, model: string, block?: Block) {
    const { id } = await userOf(c)
    const command = { op: 'block', user: id, model, block, ...admin.stamp(c) } as const
    await answered(storeOf(deps).setBlock(command))
    return back(c, block ? 'blocked' : 'unblocked')
  }

  app.post('/users/:userId/erase', async (c) => {
    if ((await formOf(c)).sure !== 'yes') return back(c, 'sure')
    const { id } = await userOf(c)
    await answered(storeOf(deps).erase({ op: 'erase', user: id, ...admin.stamp(c) }))
    return c.redirect('/admin?done=erased', 303)
  })

  app.all('*', () => {
    throw new ApiError('not_found', 'There is no such page.')
  })
  return app
}

/** Back to the page of the user, which says what was done. */
const back = (c: AppContext, done: string) =>
  c.redirect(`/admin/users/${c.req.param('userId')}?done=${done}`, 303)

/** The texts of a form, without blanks around them. */
async function formOf(c: AppContext): Promise<Record<string, string | undefined>> {
  const form = await c.req.parseBody()
  return Object.fromEntries(
    Object.entries(form).flatMap(([name, value]) =>
      typeof value === 'string' ? [[name, value.trim()]] : [],
    ),
  )
}

/** What has changed, or 304: the tag is of the data, since texts such as "5m ago" change by themselves. */
async function refreshed(
  c: AppContext,
  live: Live | UserLive,
  render: () => View | Promise<View>,
): Promise<Response> {
  const bytes = new TextEncoder().encode(JSON.stringify(live))
  const etag = `"${base64url(await crypto.subtle.digest('SHA-1', bytes))}"`
  if (c.req.header('if-none-match') === etag) return c.body(null, 304, { etag })
  return answerPage(c, await render(), 200, { etag })
}
