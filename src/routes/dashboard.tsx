/** `/admin`: the pages of the admin. Forms redirect to the page that shows what they did. */
import { Hono } from 'hono/tiny'
import type { AppContext, AppEnv, Deps } from '../context.ts'
import { ApiError } from '../errors.ts'
import type { Admin } from '../middleware/admin.ts'
import { limitBody } from '../middleware/limit-body.ts'
import { sameOrigin } from '../middleware/same-origin.ts'
import { answered, storeOf } from '../middleware/store.ts'
import { rowsOf } from '../ledger/documents.ts'
import { effectiveLimits, everyoneLimits } from '../ledger/policy.ts'
import { own, type Block } from '../ledger/shapes.ts'
import { MINUTE_MS, dateOf, datesTo } from '../ledger/windows.ts'
import { formatCursor, parseCursor } from '../store/cursor.ts'
import type { User, WholeUser } from '../store/store.ts'
import { blocksOf, history, today, userDay, userDays, userLine } from '../usage/dashboard.ts'
import { isScope } from '../usage/models.ts'
import { inOrder, lastActiveOf } from '../usage/report.ts'
import { base64url, createIds } from '../usage/user-id.ts'
import { loginPage } from '../views/login.tsx'
import { overviewPage, type Live } from '../views/overview.tsx'
import { Notice } from '../views/parts.tsx'
import { DURATIONS, REASON_CHARS, userPage, type UserLive } from '../views/user.tsx'
import { answerPage, type View } from './answer-page.ts'
import { formOf } from './form.ts'
import { answerProblem } from './problem-page.ts'
import { USER_ID } from './user-query.ts'

const USERS = 50
const EVENTS = 50
const BLOCKED = 100
const AUDIT = 20
/** Days of the long chart, where so many are kept. */
const HISTORY_DAYS = 90
/** Days before today on a user's page. */
const USER_DAYS = 7
/** Among so many of everyone's events those of a user are looked for. */
const LOOKED = 500
const MAX_BODY_BYTES = 64 * 1024

/** Set by static/admin.js: only what changes is asked for. */
const LIVE = 'x-weir-live'

/** What a page says of what a form did. */
const NOTICES: Record<string, string> = {
  blocked: 'Blocked. Their next call is refused, within two seconds from now.',
  unblocked: 'Unblocked. Their next call is let through, within two seconds from now.',
  erased: 'Erased. Nothing is kept of that user but their part of the totals.',
}
const PROBLEMS: Record<string, string> = {
  nobody: 'No user has this id or token.',
  block: `Nothing was changed: a block ends in the future, and a reason has at most ${REASON_CHARS} characters.`,
  sure: 'Nothing was erased: tick the box first.',
}

export function dashboardRoutes(deps: Deps, admin: Admin): Hono<AppEnv> {
  const { config, now, environment } = deps
  const { prices } = config
  const app = new Hono<AppEnv>()
  const ids = createIds(config.userHashSecret)
  const place = `${environment.platform} · ${environment.storage}`

  app.onError((thrown, c) => answerProblem(c, deps, thrown))

  app.use(sameOrigin, async function loggedIn(c, next) {
    if (!(await admin.session(c))) return answerPage(c, loginPage(), 401)
    await next()
  })

  const termsOf = (user: User) => ({ limits: effectiveLimits(config.limits, user), prices })

  /** What both pages are framed with, and what a form before them did. */
  function frameOf(c: AppContext) {
    const done = c.req.query('done') ?? ''
    const problem = own(PROBLEMS, done)
    const words = problem ?? own(NOTICES, done)
    return { now: now(), place, notice: words && <Notice bad={!!problem}>{words}</Notice> }
  }

  app.get('/', async (c) => {
    const store = storeOf(deps)
    const frame = frameOf(c)
    const at = frame.now
    const sort = c.req.query('sort') === 'tokens' ? 'tokens' : 'lastActive'
    const from = parseCursor(c.req.query('cursor') ?? '')
    const part = c.req.header(LIVE) !== undefined
    const dates = datesTo(at, part ? 2 : Math.min(HISTORY_DAYS, config.retention.historyDays))
    const users = { sort, from, limit: USERS, now: at } as const
    const [overview, blocked, audit] = await answered(
      Promise.all([
        store.overview({ dates, users, events: EVENTS }),
        part ? [] : store.blockedUsers(BLOCKED),
        part ? [] : store.audit(AUDIT),
      ]),
    )
    const { days, page, events } = overview
    const live: Live = {
      health: store.health(),
      today: today(overview, { limits: everyoneLimits(config.globalLimits), prices }, at),
      users: inOrder(page.users, users).map((user) => userLine(user, termsOf(user), at)),
      sort,
      next: page.next && formatCursor(page.next),
      paged: from !== undefined,
      events,
    }
    if (part) return refreshed(c, live, () => overviewPage({ ...frame, live }))
    const more = {
      history: history(days, dates, { prices }),
      blocks: blocked.flatMap((profile) => blocksOf(profile, at)),
      cut: blocked.length >= BLOCKED,
      audit,
      origin: new URL(c.req.url).origin,
    }
    return answerPage(c, overviewPage({ ...frame, live, more }))
  })

  app.get('/users/:userId', async (c) => {
    const frame = frameOf(c)
    const at = frame.now
    const user = await userOf(c)
    const { usage, profile } = user
    const { id, ip } = usage
    const terms = termsOf(user)
    const live: UserLive = {
      id,
      ip,
      at: lastActiveOf(usage),
      sessions: usage.date === dateOf(at) ? Object.keys(usage.sessions).length : 0,
      ...userDay(user, terms, at),
      days: userDays(user, datesTo(at, Math.min(USER_DAYS, config.retention.userDays) + 1)),
    }
    const seen = async () => {
      const events = await answered(storeOf(deps).events(LOOKED))
      return { events: events.filter((event) => event.user === id), looked: LOOKED }
    }
    if (c.req.header(LIVE) !== undefined) {
      return refreshed(c, live, async () => userPage({ ...frame, live, ...(await seen()) }))
    }
    const known = [...Object.keys(rowsOf(usage)), ...Object.keys(terms.limits.models)]
    const names = [...new Set([...known, config.defaultModel])].sort()
    const more = { blocks: blocksOf(profile, at), names }
    return answerPage(c, userPage({ ...frame, live, ...(await seen()), more }))
  })

  /** The user of the path, or `not_found`. */
  async function userOf(c: AppContext): Promise<WholeUser> {
    const id = c.req.param('userId') ?? ''
    const user = USER_ID.test(id) && (await answered(storeOf(deps).user(id)))
    if (user) return user
    throw new ApiError('not_found', 'Nothing is kept of a user with this id.')
  }

  app.use(limitBody(MAX_BODY_BYTES))

  app.post('/find', async (c) => {
    const { q = '' } = await formOf(c)
    const known = async (id: string) => (await answered(storeOf(deps).user(id)))?.usage.id
    const id = (USER_ID.test(q) && (await known(q))) || (await known(await ids.user(q)))
    return c.redirect(id ? `/admin/users/${id}` : '/admin?done=nobody', 303)
  })

  app.post('/users/:userId/block', async (c) => {
    const { model = '', reason = '', minutes = '', until } = await formOf(c)
    const at = now()
    // What is wrong with the text of a time makes it no number, which is not in the future either.
    const lasts = minutes ? at + Number(minutes) * MINUTE_MS : undefined
    const end = until ? Date.parse(`${until}Z`) : lasts
    const right =
      isScope(model) &&
      DURATIONS.some(([lasts]) => lasts === minutes) &&
      (end === undefined || end > at) &&
      reason.length <= REASON_CHARS
    if (!right) return back(c, 'block')
    const block: Block = { at }
    if (reason) block.reason = reason
    if (end !== undefined) block.until = end
    return setBlock(c, model, block)
  })

  app.post('/users/:userId/unblock', async (c) => setBlock(c, (await formOf(c)).model ?? ''))

  async function setBlock(c: AppContext, model: string, block?: Block) {
    const { usage, profile } = await userOf(c)
    const command = { op: 'block', user: usage.id, model, block, ...admin.stamp(c) } as const
    await answered(storeOf(deps).execute(command))
    if (block) return back(c, 'blocked')
    // Of a user who has never called nothing is kept without a block.
    const isKept =
      lastActiveOf(usage) > 0 || Object.keys(profile.blocks).some((scope) => scope !== model)
    return isKept ? back(c, 'unblocked') : c.redirect('/admin?done=unblocked', 303)
  }

  app.post('/users/:userId/erase', async (c) => {
    if ((await formOf(c)).sure !== 'yes') return back(c, 'sure')
    const { usage } = await userOf(c)
    await answered(storeOf(deps).execute({ op: 'erase', user: usage.id, ...admin.stamp(c) }))
    return c.redirect('/admin?done=erased', 303)
  })

  app.all('*', () => {
    throw new ApiError('not_found', 'There is no such page.')
  })
  return app
}

/** Back to the page of the user, which says what was done. */
const back = (c: AppContext, done: string) =>
  c.redirect(`/admin/users/${encodeURIComponent(c.req.param('userId') ?? '')}?done=${done}`, 303)

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
