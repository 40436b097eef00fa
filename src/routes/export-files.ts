/** The contents of an export: users today, days, or events. */
import type { Deps } from '../context.ts'
import { limitsOfUser } from '../ledger/plans.ts'
import { ALL_MODELS } from '../ledger/shapes.ts'
import { datesTo } from '../ledger/windows.ts'
import type { Cursor, EventCursor, EventPage, Store } from '../store/store.ts'
import type { Cell } from '../reports/csv.ts'
import { inOrder, userReport } from '../reports/usage.ts'

const USERS_AT_ONCE = 200
const EVENTS_AT_ONCE = 1000

export type Readable = Pick<Store, 'policy' | 'listUsers' | 'days' | 'eventPage'>
type CsvRow = Record<string, Cell>
type Entries = { objects: unknown[]; rows: CsvRow[] }

/** A file: its CSV columns, and its entries page by page. */
export type ExportFile = {
  columns: string[]
  pages(store: Readable, deps: Deps): AsyncIterable<Entries>
}

/** A time for people; nothing for a value that is no time, since a damaged entry must not end the file. */
function time(at: number | null): string | null {
  const date = new Date(at ?? NaN)
  return Number.isNaN(date.getTime()) ? null : date.toISOString()
}

export const FILES: Record<'users' | 'days' | 'events', ExportFile> = {
  users: {
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
    ],
    async *pages(store, { config, now }) {
      const policy = await store.policy()
      let from: Cursor | undefined
      do {
        const at = now()
        const order = { sort: 'lastActive', ascending: true, now: at } as const
        const page = await store.listUsers({ ...order, from, limit: USERS_AT_ONCE })
        const objects = inOrder(page.users, order).map((user) => {
          const { plan, limits } = limitsOfUser(config.limits, user, policy, at)
          return userReport(user, limits, at, plan)
        })
        const rows = objects.flatMap(({ models, ...user }) =>
          (models.length ? models : [{ blockedUntil: null }]).map((model) => ({
            ...user,
            lastActive: time(user.lastActive),
            ...model,
            blockedUntil: time(model.blockedUntil),
          })),
        )
        yield { objects, rows }
        from = page.next
      } while (from)
    },
  },
  days: {
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
    ],
    async *pages(store, { config, now }) {
      const dates = datesTo(now(), config.retention.historyDays)
      const days = (await store.days(dates)).sort((a, b) => (a.date < b.date ? -1 : 1))
      const rows = days.flatMap(({ date, total, models }) =>
        Object.entries({ [ALL_MODELS]: total, ...models }).map(
          ([model, { hours, at, ...row }]) => ({ date, model, ...row }),
        ),
      )
      yield { objects: days, rows }
    },
  },
  events: {
    columns: [
      'id',
      'at',
      'user',
      'session',
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
    ],
    async *pages(store) {
      let from: EventCursor | undefined
      do {
        const { events, next }: EventPage = await store.eventPage(EVENTS_AT_ONCE, from)
        yield { objects: events, rows: events.map((event) => ({ ...event, at: time(event.at) })) }
        from = next
      } while (from)
    },
  },
}
