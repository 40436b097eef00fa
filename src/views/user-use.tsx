/** A user's usage today, and their limits. */
import { LIMITS } from '../ledger/policy.ts'
import type { Counts, Unit } from '../ledger/shapes.ts'
import type { Window } from '../ledger/windows.ts'
import { shareOf, type Use, type UserModel } from '../reports/dashboard.ts'
import { counted, usd } from './format.ts'
import { limitBar, name, num, tag, time } from './parts.tsx'
import { table, type Column } from './table.tsx'

/** Counts, and the limits that apply to them. */
type Used = Counts & { uses: Use[] }

/** A user's usage. `uses` are the limits of all models together. */
export type UserToday = Used & {
  ip: string | undefined
  /** Last activity, epoch ms; 0 if the user has never called. */
  at: number
  sessions: number
  models: UserModel[]
}

/** Usage and limit; undefined without a limit. */
function against({ uses }: Used, unit: Unit, window: Window) {
  const use = uses.find((one) => one.unit === unit && one.window === window)
  if (!use) return undefined
  const { used, limit } = use
  const label = counted(unit, window)
  return (
    <span class="nearest" title={`${label}, and the limit`}>
      {limitBar(shareOf(used, limit), label)}
      <span>
        {num(used)} / {num(limit)}
      </span>
    </span>
  )
}

/** An amount of today, with its limit if there is one. */
const ofDay = (of: Used, unit: keyof Counts) => against(of, unit, 'day') ?? num(of[unit])

/** Units and windows that are shown only if they have a limit: all except those of the day. */
const OTHERS = LIMITS.filter(({ window }) => window !== 'day').map(({ unit, window }) => ({
  title: counted(unit, window),
  cell: (of: Used) => against(of, unit, window),
}))

/** Today's usage, in total and for each model, with the limits. */
export function usedToday(live: UserToday, now: number) {
  const { models, sessions, at, ip } = live
  const others = OTHERS.map(({ title, cell }) => [title, cell(live)] as const)
  const facts = {
    'Tokens today': ofDay(live, 'tokens'),
    Requests: ofDay(live, 'requests'),
    ...Object.fromEntries(others.filter(([, fact]) => fact !== undefined)),
    Sessions: num(sessions),
    'Last active': at ? time(at, now) : 'never',
    ...(ip && { Address: name(ip) }),
  }
  return (
    <section class="card" data-live id="use" aria-label="Today">
      <dl class="facts">
        {Object.entries(facts).map(([title, fact]) => (
          <div>
            <dt>{title}</dt>
            <dd>{fact}</dd>
          </div>
        ))}
      </dl>
      {modelsTable(models)}
    </section>
  )
}

const modelsTable = (models: UserModel[]) =>
  table({
    caption: 'Models today, against their limits',
    rows: models,
    key: ({ model }) => model,
    columns: [
      [
        'Model',
        'g',
        ({ model, blocked }) => (
          <span class="who">
            {name(model)}
            {blocked && tag('blocked', 'bad')}
          </span>
        ),
      ],
      ['Tokens', 'n', (row) => ofDay(row, 'tokens')],
      [
        'Reported',
        'n',
        ({ reportedTokensDay: said, differs }) =>
          said === null ? undefined : <span class={differs ? 'tag' : ''}>{num(said)}</span>,
      ],
      ['Requests', 'n w', (row) => ofDay(row, 'requests')],
      ...OTHERS.map(({ title, cell }): Column<UserModel> => [title, 'n w', cell]),
      ['Exact', 'n w', ({ exact }) => num(exact)],
      ['Estimated', 'n w', ({ estimated }) => num(estimated)],
      ['Failed', 'n w', ({ failed }) => num(failed)],
      ['Running', 'n w', ({ running }) => num(running)],
      ['Lost', 'n w', ({ lost }) => num(lost)],
      ['Over reservation', 'n w', ({ overReservation }) => num(overReservation)],
      ['Cost', 'n w', ({ cost }) => cost !== undefined && usd(cost)],
    ],
    empty: 'No request today.',
  })
