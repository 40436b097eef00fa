/** A user's usage today, and their limits. */
import { LIMITS } from '../ledger/policy.ts'
import type { Counts, Unit } from '../ledger/units.ts'
import type { Window } from '../ledger/windows.ts'
import type { Cost } from '../reports/costs.ts'
import { partUsed, type UserModel, type UserUse } from '../reports/dashboard.ts'
import { counted } from './format.ts'
import {
  amountOf,
  audioText,
  costText,
  count,
  heldText,
  limitBar,
  name,
  num,
  tag,
  time,
  type Audio,
} from './parts.tsx'
import { table, type Column } from './table.tsx'
import { help } from './terms.tsx'

/** Counts of today, the tokens that running requests reserve beside them, and the limits that apply. */
type Used = Counts & Audio & { reserved: number; running: number; cost: Cost; uses: UserUse[] }

/** A user's usage. `uses` are the limits of all models together. */
export type UserToday = Omit<Used, 'running'> & {
  ip: string | undefined
  /** Last activity, epoch ms; 0 if the user has never called. */
  at: number
  monthCost: Cost
  sessions: number
  models: UserModel[]
}

/** Usage and limit; undefined without a limit. A request that runs is a request, whatever it will use. */
function against({ uses, running }: Used, unit: Unit, window: Window) {
  const use = uses.find((one) => one.unit === unit && one.window === window)
  if (!use) return undefined
  // Few use audio, so its limits are shown only where it was used.
  const isAudio = unit === 'audioSeconds' || unit === 'characters'
  if (isAudio && use.used + use.reserved === 0) return undefined
  const { limit } = use
  const reserved = unit === 'requests' ? 0 : use.reserved
  const used = use.used + use.reserved - reserved
  const label = counted(unit, window)
  return (
    <>
      <span class="nearest" title={`${label}, and the limit`}>
        {limitBar(partUsed(used, limit), label)}
        <span>
          {usedText(unit, used, reserved)} / {amountOf(unit, limit)}
        </span>
      </span>
      {heldText(unit, reserved, running)}
    </>
  )
}

const usedText = (unit: Unit, used: number, reserved: number) => [
  amountOf(unit, used),
  reserved > 0 && ' used',
]

/** An amount of today, with its limit if there is one. */
function ofDay(of: Used, unit: keyof Counts) {
  const reserved = unit === 'tokens' ? of.reserved : 0
  return (
    against(of, unit, 'day') ?? (
      <>
        {usedText(unit, of[unit], reserved)}
        {reserved > 0 && ', '}
        {heldText(unit, reserved, of.running)}
      </>
    )
  )
}

/** Units and windows that are shown only if they have a limit: all except the counts of the day. */
const OTHERS = LIMITS.filter(
  ({ unit, window }) => window !== 'day' || (unit !== 'tokens' && unit !== 'requests'),
).map(({ unit, window }) => ({
  title: counted(unit, window),
  cell: (of: Used) => against(of, unit, window),
}))

/** Today's usage, in total and for each model, with the limits. */
export function usedToday(live: UserToday, now: number) {
  const { models, sessions, at, ip, cost, monthCost, uses } = live
  const all = { ...live, running: models.reduce((sum, { running }) => sum + running, 0) }
  const others = OTHERS.map(({ title, cell }) => [title, cell(all)] as const)
  // A limit of dollars this month has them beside it.
  const isMonthLimited = uses.some(({ unit, window }) => unit === 'usd' && window === 'month')
  const facts = {
    'Tokens today': ofDay(all, 'tokens'),
    'Requests today': ofDay(all, 'requests'),
    ...(audioText(live) && { 'Audio today': audioText(live) }),
    'Cost today': costText(cost),
    ...(!isMonthLimited && { 'Month so far': costText(monthCost) }),
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
        { content: ['Reported', help('reported')] },
      ],
      ['Audio', 'n', audioText],
      ['Requests', 'n w', (row) => ofDay(row, 'requests')],
      ...OTHERS.map(({ title, cell }): Column<UserModel> => [title, 'n x', cell]),
      ['Exact', 'n x', ({ exact }) => count(exact)],
      ['Estimated', 'n x', ({ estimated }) => count(estimated)],
      ['Failed', 'n w', ({ failed }) => count(failed)],
      ['Running', 'n x', ({ running }) => count(running)],
      ['Lost', 'n x', ({ lost }) => count(lost)],
      ['Over reservation', 'n x', ({ overReservation }) => count(overReservation)],
      ['Cost', 'n', ({ cost }) => costText(cost)],
    ],
    empty: 'No request today.',
  })
