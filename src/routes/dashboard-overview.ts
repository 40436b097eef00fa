/** `/admin`: the overview, whole or as a refresh. */
import { tokenNotes } from '../config/tokens.ts'
import type { AppContext, Deps } from '../context.ts'
import { DEFAULT_PLAN, everyoneLimits, limitsOfUser, type Policy } from '../ledger/plans.ts'
import { labelOf } from '../ledger/labels.ts'
import { own } from '../ledger/records.ts'
import { DAY_MS, MINUTE_MS, dateOf, datesTo, type Window } from '../ledger/windows.ts'
import { blocksOf, today, userLine, type Today, type UserWindow } from '../reports/dashboard.ts'
import { latencyOf } from '../reports/latency.ts'
import { looksOf, refusedToday, type Look } from '../reports/look.ts'
import { MEASURES, barsOf, lastDay, periodOf, type Measure } from '../reports/period.ts'
import { readRange, type Range } from '../reports/range.ts'
import { codesOf } from '../reports/refusals.ts'
import { tagStats } from '../reports/tags.ts'
import { storeAnswer, storeOf } from '../store/required.ts'
import type { User } from '../store/store.ts'
import type { Invoice } from '../views/export.tsx'
import type { RefusedFigure } from '../views/overview-figures.tsx'
import type { Line } from '../views/users.tsx'
import { overviewPage, type Live } from '../views/overview.tsx'
import { answerPage } from './answer-page.ts'
import { frameOf } from './dashboard-frame.tsx'
import { isRefresh, refreshed } from './dashboard-refresh.ts'

/** Users with most tokens today, among whom those near a limit and those who cost most are looked for. */
const LOOKED_USERS = 50
/** Recent requests, of which hours, waits and failures are told. */
const RECENT = 500
const SHOWN_USERS = 8
const SHOWN_EVENTS = 10
/** The latest refusals, and blocked users, among whom those to look at are found. */
const REFUSED = 100
const BLOCKED = 20
/** A page of many days is refreshed less often, because a refresh reads them all. */
const FEW_DAYS = 4
const EVERY_MANY_MS = MINUTE_MS

/** Answers `?range` or `?from&to`, and `?chart`. */
export const overviewHandler =
  (deps: Deps) =>
  async (c: AppContext): Promise<Response> => {
    const store = storeOf(deps)
    const { config } = deps
    const { prices } = config
    const at = deps.now()
    const asked = c.req.query()
    const range = readRange(asked, at, config.retention.historyDays)
    const measure = own<unknown>(MEASURES, asked['chart'] ?? '')
      ? (asked['chart'] as Measure)
      : 'tokens'
    const dates = [...new Set([...datesTo(at, 2), ...range.dates, ...range.before])]
    const users = { sort: 'tokens', limit: LOOKED_USERS, now: at } as const
    const overview = await storeAnswer(store.overview({ dates, users, events: RECENT }))
    const { days, page, events, policy, quotas } = overview
    const limits = everyoneLimits(config.globalLimits, policy.settings)
    const day = today({ days, quotas }, { limits, prices }, at)
    const recent = { events, whole: events.length < RECENT }
    const figures =
      range.name === '24h'
        ? lastDay(days, recent, prices, at)
        : {
            period: periodOf(days, range.dates, prices),
            before: periodOf(days, range.before, prices),
            since: undefined,
          }
    const { models } = figures.period
    const lines = page.users.map((user) => lineOf(deps, user, policy, at))
    const live: Live = {
      health: store.health(),
      range,
      measure,
      ...figures,
      ...(range.before.length === 0 && { before: {} }),
      today: range.name === 'today' ? day : undefined,
      bars: barsOf(days, range, measure, recent, { prices, models, now: at }),
      limit: limitOf(day, measure),
      looks: looksOf(day.uses, lines, events),
      latency: latencyOf(events),
      looked: events.length,
      top: lines
        .toSorted((a, b) => (b.cost ?? 0) - (a.cost ?? 0) || b.tokens - a.tokens)
        .slice(0, SHOWN_USERS),
      events: events.slice(0, SHOWN_EVENTS),
      labels: labelsOf(page.users),
    }
    const frame = {
      ...frameOf(c, deps, days),
      ...(dates.length > FEW_DAYS && { every: EVERY_MANY_MS }),
    }
    if (isRefresh(c)) return refreshed(c, frame, live, () => overviewPage({ ...frame, live }))
    const more = {
      tags: tagStats(
        days.filter(({ date }) => range.dates.includes(date)),
        at,
      ),
      ...(await refusedAndBlocked(deps, range, live.labels, at)),
      invoice: invoiceDays(deps, at),
      origin: new URL(c.req.url).origin,
      tokens: tokenNotes(config),
      oldest: datesTo(at, config.retention.historyDays).at(-1) ?? '',
      date: dateOf(at),
    }
    return answerPage(c, overviewPage({ ...frame, live, more }))
  }

/** The limit of everyone that the bars of days have beside them. */
function limitOf({ uses }: Today, measure: Measure): Live['limit'] {
  const unit = {
    tokens: 'tokens',
    cost: 'usd',
    requests: 'requests',
    outcomes: 'requests',
  } as const
  const window: Window = 'day'
  const use = uses.find((one) => one.unit === unit[measure] && one.window === window)
  return use && { amount: use.limit, words: 'Daily limit for everyone' }
}

/** How many were refused, who was refused today, and who is blocked, with their labels. */
async function refusedAndBlocked(
  deps: Deps,
  range: Range,
  labels: Record<string, string>,
  at: number,
): Promise<{ refused: RefusedFigure; looks: Look[]; blocked: number }> {
  const store = storeOf(deps)
  // Each day is a command of its own, so that those of many days are not read.
  const ofRange = range.dates.length === 1
  const [date = '', before] = ofRange ? [range.dates[0], range.before[0]] : datesTo(at, 2)
  const dates = before === undefined ? [date] : [date, before]
  const [{ latest, days }, profiles] = await storeAnswer(
    Promise.all([store.refusals(dates, REFUSED), store.blockedUsers(BLOCKED)]),
  )
  const sumOf = (day: string) =>
    Object.values(own(days, day) ?? {}).reduce((all, count) => all + count, 0)
  const refused = refusedToday(latest, at)
  const blocked = profiles.flatMap((profile) =>
    blocksOf(profile, at).map((block) => ({ kind: 'blocked', user: profile.id, block }) as const),
  )
  const looks = [...refused, ...blocked]
  const unnamed = [...new Set(looks.map(({ user }) => user))].filter((id) => !own(labels, id))
  const others = labelsOf(await storeAnswer(store.users(unnamed.slice(0, BLOCKED))))
  return {
    refused: {
      count: sumOf(date),
      before: before === undefined ? undefined : sumOf(before),
      codes: codesOf(own(days, date) ?? {}),
      ofRange,
    },
    looks: looks.map((look) => ({
      ...look,
      label: own(labels, look.user) ?? own(others, look.user),
    })),
    blocked: blocked.length,
  }
}

/** The labels of users by their ids; nothing of a user without one. */
export const labelsOf = (users: User[]): Record<string, string> =>
  Object.fromEntries(
    users.flatMap((user) => {
      const label = labelOf(user)
      return label === undefined ? [] : [[user.profile.id, label]]
    }),
  )

/** The days that an invoice can have, and those of this month so far. */
function invoiceDays({ config }: Deps, at: number): Invoice {
  const to = dateOf(at)
  const oldest = dateOf(at - config.retention.userDays * DAY_MS)
  const first = `${to.slice(0, -2)}01`
  return { oldest, from: first < oldest ? oldest : first, to }
}

/** A user as lists show it, with the plan if it is not the default. */
export function lineOf(
  { config }: Deps,
  user: User,
  policy: Policy,
  at: number,
  window: UserWindow = 'day',
): Line {
  const { plan, limits } = limitsOfUser(config.limits, user, policy, at)
  const line = userLine(user, { limits, prices: config.prices }, at, window)
  return plan === (policy.settings?.defaultPlan ?? DEFAULT_PLAN) ? line : { ...line, plan }
}
