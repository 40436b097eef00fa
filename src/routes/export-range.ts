/** The days of an export: what may be asked for, and what is kept. */
import type { Config } from '../config/config.ts'
import { ApiError } from '../errors.ts'
import { datesTo } from '../ledger/windows.ts'
import { exportQuery, type ExportQuery } from './export-schemas.ts'

/** An export that can be made. `dates` are its days, the oldest first; undefined for all that is kept. */
export type Asked = Pick<ExportQuery, 'kind' | 'format' | 'group' | 'tag'> & {
  dates: string[] | undefined
}

const DAY = 'a day in UTC, as in 2026-11-01'

/** How each field must be. */
const RIGHT: Record<string, string> = {
  from: `\`from\` must be ${DAY}.`,
  to: `\`to\` must be ${DAY}.`,
  group: '`group` must be user, day, model or tag.',
  tag: '`tag` must be a tag, as in x-weir-tag.',
}

const wrong = (message: string, param: string) =>
  new ApiError('invalid_request', message, { param })

/** What a query asks for at a moment. Throws `invalid_request`. */
export function askedOf(query: object, { retention }: Readonly<Config>, at: number): Asked {
  const parsed = exportQuery.safeParse(query)
  if (!parsed.success) {
    const param = String(parsed.error.issues[0]?.path[0] ?? 'kind')
    const message =
      RIGHT[param] ?? '`kind` must be users, days or events, and `format` csv or ndjson.'
    throw wrong(message, param)
  }
  const { kind, format, group, tag, ...range } = parsed.data
  if (tag !== undefined && kind !== 'events') {
    throw wrong('`tag` is for kind=events; kind=days with group=tag has all tags.', 'tag')
  }
  if (kind === 'events' && group) {
    throw wrong('`group` is for kind=users and kind=days; events are told one by one.', 'group')
  }
  if (kind === 'days' && group === 'user') {
    throw wrong(
      '`group` must be day, model or tag for kind=days; kind=users has the users.',
      'group',
    )
  }
  if (kind === 'users' && group === 'tag') {
    throw wrong('`group=tag` is for kind=days: tags are counted for all users together.', 'group')
  }
  const param = range.from === undefined ? 'to' : 'from'
  if (range[param] === undefined && !group) return { kind, format, group, tag, dates: undefined }
  if (kind === 'users' && !group) {
    throw wrong(
      `\`${param}\` needs \`group\`: without it, kind=users is what each user used today; send group=user, day or model too.`,
      param,
    )
  }
  const [days, variable] =
    kind === 'users'
      ? [retention.userDays + 1, 'USER_RETENTION_DAYS']
      : [retention.historyDays, 'HISTORY_RETENTION_DAYS']
  return { kind, format, group, tag, dates: datesIn(range, datesTo(at, days).reverse(), variable) }
}

/** The kept days of a range. Throws `invalid_request` if some days of it are no longer kept. */
function datesIn({ from, to }: Pick<ExportQuery, 'from' | 'to'>, kept: string[], variable: string) {
  const [oldest = ''] = kept
  for (const [param, date] of Object.entries({ from, to })) {
    if (date !== undefined && date < oldest) {
      throw wrong(
        `\`${param}\` must be ${oldest} or later: earlier days are not kept (${variable}).`,
        param,
      )
    }
  }
  if (from !== undefined && to !== undefined && from > to) {
    throw wrong('`from` must not be after `to`.', 'from')
  }
  return kept.filter((date) => date >= (from ?? date) && date <= (to ?? date))
}
