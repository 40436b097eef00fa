/** The contents of an export: users today, days, events, or an invoice. */
import type { Deps } from '../context.ts'
import { advance } from '../ledger/advance.ts'
import { limitsOfUser } from '../ledger/plans.ts'
import { mapValues, own } from '../ledger/records.ts'
import { ALL_MODELS } from '../ledger/documents.ts'
import { labelOf } from '../ledger/labels.ts'
import { nanoFrom, usdOf } from '../ledger/money.ts'
import { datesTo } from '../ledger/windows.ts'
import type { Cursor, EventCursor, EventPage, Store, User } from '../store/store.ts'
import { asTold, costOfDay, recordedCost, usdDigits, type Cost } from '../reports/costs.ts'
import type { Cell } from '../reports/csv.ts'
import { INVOICE, invoiceLines, itemsOfDays, itemsOfUser, type Group } from '../reports/invoice.ts'
import { TAG_COLUMNS, tagLines } from '../reports/tags.ts'
import { inOrder, lastActiveOf, userReport } from '../reports/usage.ts'
import type { Asked } from './export-range.ts'

const USERS_AT_ONCE = 200
/** Users of an invoice, of whom all days are read. */
const BILLED_AT_ONCE = 100
const EVENTS_AT_ONCE = 1000

export type Readable = Pick<Store, 'policy' | 'listUsers' | 'pasts' | 'days' | 'eventPage'>
type CsvRow = Record<string, Cell>
type Entries = { objects: unknown[]; rows: CsvRow[] }

/** A file: its CSV columns, and its entries page by page. */
export type ExportFile = {
  columns: string[]
  pages(store: Readable, deps: Deps): AsyncIterable<Entries>
}

/** A time for people; empty for a value that is not a time, since a damaged entry must not end the file. */
function time(at: number | null): string | null {
  const date = new Date(at ?? NaN)
  return Number.isNaN(date.getTime()) ? null : date.toISOString()
}

/** All users, page by page, the least recently active first. */
async function* pagesOfUsers(
  store: Readable,
  { now }: Deps,
  limit: number,
): AsyncIterable<{ at: number; users: User[] }> {
  let from: Cursor | undefined
  do {
    const at = now()
    const order = { sort: 'lastActive', ascending: true, now: at } as const
    const page = await store.listUsers({ ...order, from, limit })
    yield { at, users: inOrder(page.users, order) }
    from = page.next
  } while (from)
}

/** Dollars of an answer for a spreadsheet, which may not know exponents. */
const digits = (usd: number | null) => (usd === null ? null : usdDigits(nanoFrom(usd)))

const usersToday: ExportFile = {
  columns: [
    'userId',
    'ipAddress',
    'lastActive',
    'model',
    'tokensUsedDay',
    'tokensRemainingDay',
    'requestsDay',
    'exact',
    'estimated',
    'failed',
    'running',
    'lost',
    'reservedTokens',
    'overReservation',
    'reportedTokensDay',
    'reportedRequestsDay',
    'blocked',
    'blockReason',
    'blockedUntil',
    'audioSecondsDay',
    'charactersDay',
    'costUsd',
    'monthCostUsd',
  ],
  async *pages(store, deps) {
    const { limits: ofEnvironment, prices } = deps.config
    const policy = await store.policy()
    for await (const { at, users } of pagesOfUsers(store, deps, USERS_AT_ONCE)) {
      const objects = users.map((user) => {
        const { plan, limits } = limitsOfUser(ofEnvironment, user, policy, at)
        return userReport(user, limits, at, plan, prices)
      })
      const rows = objects.flatMap(({ models, ...user }) =>
        (models.length ? models : [{ blockedUntil: null, costUsd: null }]).map((model) => ({
          ...user,
          lastActive: time(user.lastActive),
          monthCostUsd: digits(user.monthCostUsd),
          ...model,
          blockedUntil: time(model.blockedUntil),
          costUsd: digits(model.costUsd),
        })),
      )
      yield { objects, rows }
    }
  },
}

/** A day of everyone, by model. */
const days = (dates: string[] | undefined): ExportFile => ({
  columns: [
    'date',
    'model',
    'requests',
    'exact',
    'estimated',
    'failed',
    'charged',
    'prompt',
    'cached',
    'completion',
    'overReservation',
    'users',
    'audioSeconds',
    'characters',
    'costUsd',
  ],
  async *pages(store, { config, now }) {
    const { prices, retention } = config
    const found = await daysOf(store, dates ?? datesTo(now(), retention.historyDays))
    const costed = found.map((day) => {
      const costs: Record<string, Cost> = {
        ...mapValues(day.models, (row, model) => recordedCost(row, own(prices, model))),
        [ALL_MODELS]: costOfDay(day, prices),
      }
      return { day, costs }
    })
    const objects = costed.map(({ day, costs }) => ({
      ...day,
      ...(day.tags && {
        tags: mapValues(day.tags, ({ cost, ...row }) => ({ ...row, costUsd: usdOf(cost) })),
      }),
      total: asTold(day.total, own(costs, ALL_MODELS)),
      models: mapValues(day.models, (row, model) => asTold(row, own(costs, model))),
    }))
    const rows = costed.flatMap(({ day: { date, total, models }, costs }) =>
      Object.entries({ [ALL_MODELS]: total, ...models }).map(([model, row]) => {
        const { hours, at, ...told } = asTold(row, undefined)
        return { date, model, ...told, costUsd: usdDigits(own(costs, model)) }
      }),
    )
    yield { objects, rows }
  },
})

/** The requested days that are stored, the oldest first. */
const daysOf = async (store: Readable, dates: string[]) =>
  (await store.days(dates)).sort((a, b) => (a.date < b.date ? -1 : 1))

const events = (dates: string[] | undefined, tag: string | undefined): ExportFile => ({
  columns: [
    'id',
    'at',
    'user',
    'session',
    'tag',
    'route',
    'model',
    'outcome',
    'status',
    'prompt',
    'completion',
    'total',
    'cached',
    'reasoning',
    'mismatch',
    'reserved',
    'charged',
    'ttfbMs',
    'totalMs',
    'late',
    'key',
    'reservedAudioMs',
    'audioMs',
    'reservedCharacters',
    'characters',
    'reservedCost',
    'cost',
    'error',
  ],
  async *pages(store) {
    const asked = dates && new Set(dates)
    let from: EventCursor | undefined
    do {
      const { events: all, next }: EventPage = await store.eventPage(EVENTS_AT_ONCE, from)
      const page = all
        .filter((event) => tag === undefined || event.tag === tag)
        .map((event) => ({ event, time: time(event.at) }))
        .filter(({ time }) => !asked || (time !== null && asked.has(time.slice(0, 10))))
      yield {
        objects: page.map(({ event }) => event),
        rows: page.map(({ event, time }) => ({ ...event, at: time })),
      }
      from = next
    } while (from)
  },
})

/** What each user used on some days, summed up. */
const bills = (dates: string[], group: Group): ExportFile => ({
  columns: ['label', 'userId', ...INVOICE],
  async *pages(store, deps) {
    const { prices, retention } = deps.config
    const start = deps.now()
    // Users who are active meanwhile are listed again, and nobody is billed twice.
    const billed = new Set<string>()
    for await (const { at, users } of pagesOfUsers(store, deps, BILLED_AT_ONCE)) {
      const ids = users.map(({ usage }) => usage.id)
      const pasts = new Map((await store.pasts(ids)).map((past) => [past.id, past]))
      const rows = users.flatMap((user) => {
        const { usage } = user
        const { id } = usage
        if (lastActiveOf(usage) >= start && billed.has(id)) return []
        billed.add(id)
        const label = labelOf(user) ?? null
        // Requests that are lost by now are billed, though their user may never come back.
        const now = advance(usage, at, (user) => pasts.get(user), retention)
        const items = itemsOfUser(now.usage, now.past ?? pasts.get(id), dates)
        return invoiceLines(items, group, prices).map((line) => ({ label, userId: id, ...line }))
      })
      yield { objects: rows, rows }
    }
  },
})

/** What everyone used on some days, summed up. */
const sums = (dates: string[], group: Group): ExportFile => ({
  columns: [...INVOICE],
  async *pages(store, { config }) {
    const items = itemsOfDays(await daysOf(store, dates))
    const rows = invoiceLines(items, group, config.prices)
    yield { objects: rows, rows }
  },
})

/** What each tag used on some days. */
const byTag = (dates: string[]): ExportFile => ({
  columns: TAG_COLUMNS,
  async *pages(store) {
    const rows = tagLines(await daysOf(store, dates))
    yield { objects: rows, rows }
  },
})

/** The file that is asked for. */
export function fileOf({ kind, group, tag, dates }: Asked): ExportFile {
  if (group === 'tag') return byTag(dates ?? [])
  if (group && dates) return kind === 'users' ? bills(dates, group) : sums(dates, group)
  if (kind === 'users') return usersToday
  return kind === 'days' ? days(dates) : events(dates, tag)
}
