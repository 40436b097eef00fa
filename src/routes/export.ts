/** `/api/admin/export`: all that is kept of users, days or events, as a file that is streamed page by page. */
import type { Context } from 'hono'
import * as z from 'zod/mini'
import type { AppEnv, Deps } from '../context.ts'
import { ApiError } from '../errors.ts'
import type { Admin } from '../middleware/admin.ts'
import { answered, storeOf } from '../middleware/store.ts'
import { StoreError, type Cursor, type Store } from '../store/store.ts'
import { csvLine, type Cell } from '../usage/csv.ts'
import { ALL_MODELS, DAY_MS, dateOf, type Event } from '../usage/record.ts'
import { userReport } from '../usage/report.ts'

const USERS_AT_ONCE = 200
const EVENTS_AT_ONCE = 1000

const query = z.object({
  kind: z.enum(['users', 'days', 'events']),
  format: z._default(z.enum(['csv', 'ndjson']), 'csv'),
})

type Format = z.infer<typeof query>['format']
type Readable = Pick<Store, 'listUsers' | 'days' | 'events'>
type Row = Record<string, Cell>
type Entries = { objects: unknown[]; rows: Row[] }

/** What a file is made of: its columns as CSV, and its entries, a page at a time. */
type Kind = { columns: string[]; pages(store: Readable, deps: Deps): AsyncIterable<Entries> }

const time = (at: number | null) => (at === null ? null : new Date(at).toISOString())

const KINDS: Record<z.infer<typeof query>['kind'], Kind> = {
  users: {
    columns: [
      'userId',
      'ipAddress',
      'lastActive',
      'model',
      'tokensUsedDay',
      'tokensRemainingDay',
      'requestsDay',
      'settled',
      'partial',
      'failed',
      'unsettled',
      'expired',
      'heldTokens',
      'overshoot',
      'reportedTokensDay',
      'reportedRequestsDay',
      'blocked',
      'blockReason',
      'blockedUntil',
    ],
    async *pages(store, { config, now }) {
      let from: Cursor | undefined
      do {
        const at = now()
        const limit = USERS_AT_ONCE
        const page = await store.listUsers({
          sort: 'lastActive',
          ascending: true,
          from,
          limit,
          now: at,
        })
        const objects = page.users.map((user) => userReport(user, config.limits, at))
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
      'settled',
      'partial',
      'failed',
      'charged',
      'prompt',
      'completion',
      'overshoot',
      'users',
    ],
    async *pages(store, { config, now }) {
      const { historyDays } = config.retention
      const dates = Array.from({ length: historyDays }, (_, ago) => dateOf(now() - ago * DAY_MS))
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
      'bound',
      'charged',
      'estimated',
      'ttfbMs',
      'totalMs',
      'late',
    ],
    async *pages(store) {
      let before = new Set<string>()
      for (let skip = 0; ; skip += EVENTS_AT_ONCE) {
        const page: Event[] = await store.events(EVENTS_AT_ONCE, skip)
        // New ones have moved the rest on.
        const events = page.filter(({ id }) => !before.has(id))
        yield { objects: events, rows: events.map((event) => ({ ...event, at: time(event.at) })) }
        if (page.length < EVENTS_AT_ONCE) return
        before = new Set(page.map(({ id }) => id))
      }
    },
  },
}

/** The file in pieces, none of them empty. */
async function* textsOf({ columns, pages }: Kind, format: Format, store: Readable, deps: Deps) {
  if (format === 'csv') yield csvLine(columns)
  for await (const { objects, rows } of pages(store, deps)) {
    const lines =
      format === 'csv'
        ? rows.map((row) => csvLine(columns.map((column) => row[column])))
        : objects.map((object) => `${JSON.stringify(object)}\n`)
    if (lines.length) yield lines.join('')
  }
}

/**
 * Builds the handler: `?kind=users|days|events&format=csv|ndjson`. Users come with the least recently active first, so that
 * one who is active meanwhile may come twice and none is missing. A store that fails meanwhile breaks the file off.
 */
export function exportHandler(deps: Deps, admin: Admin) {
  const encoder = new TextEncoder()

  return async (c: Context<AppEnv>) => {
    const asked = query.safeParse(c.req.query())
    if (!asked.success) {
      throw new ApiError(
        'invalid_request',
        '`kind` is users, days or events, `format` csv or ndjson.',
      )
    }
    const { kind, format } = asked.data
    const store = storeOf(deps)
    await answered(store.note({ op: 'note', action: 'export', ...admin.stamp(c) }))
    const texts = textsOf(KINDS[kind], format, store, deps)
    const first = await answered(texts.next())
    const { readable, writer, fail } = deps.relay.pipe()
    writer.closed.catch(() => undefined)
    async function pump(): Promise<void> {
      try {
        for (let next = first; !next.done; next = await texts.next()) {
          await writer.write(encoder.encode(next.value))
        }
        await writer.close()
      } catch (error) {
        // A reader who has gone does not mind; one who waits must not take the file for whole, though workerd ends it cleanly.
        if (error instanceof StoreError) deps.log.error('export.broken_off', { kind, error })
        fail(error)
      }
    }
    c.executionCtx.waitUntil(pump())
    const name = `weir-${kind}-${dateOf(deps.now())}.${format}`
    return c.body(readable, 200, {
      ...deps.relay.headers,
      'content-type': format === 'csv' ? 'text/csv; charset=utf-8' : 'application/x-ndjson',
      'content-disposition': `attachment; filename="${name}"`,
    })
  }
}
