/** Charts, drawn on the server, each with the same numbers as a table. */
import { nice, ticks as ticksOf } from 'd3-array'
import { line, stack } from 'd3-shape'
import type { Child } from 'hono/jsx'
import type { Series } from '../reports/period.ts'
import { NAME_CHARS, name as nameOf, shortened } from './parts.tsx'
import { table, type Column } from './table.tsx'

/** The size in which shapes are computed. The style sheet gives charts the size that they have. */
const WIDTH = 1000
const HEIGHT = 200
/** About so many lines across, and at most so many names below: fewer if they are long. */
const TICKS = 4
const MARKS = 6
const LONG_MARKS = 3
const LONG_MARK_CHARS = 8
/** The part of a bar's place that stays free. */
const GAP = 0.2

type ChartProps = {
  id: string
  caption: string
  /** The names of the bars. */
  names: string[]
  series: Series[]
  /** What the names are: the heading of their column. */
  heading: string
  /** The unit of amounts, if they do not have it. */
  unit?: string
  /** Amounts as they are shown at an axis, in a table of fractions, and exactly. */
  mark: (amount: number) => string
  short: (amount: number) => string
  exact: (amount: number) => string
  /** Whether amounts are whole numbers. */
  whole: boolean
  /** A limit, which is a line across, and what it is. */
  limit?: { amount: number; words: string } | undefined
  /** The bar of a time that has not ended, and what that is. */
  current?: { at: number; words: string }
}

/** A limit beyond this many times of the highest bar is told only: a line for it would make bars too low to read. */
const LIMIT_IN_SIGHT = 3

/** A bar for each name, in which the series are stacked. */
export function stackedChart(props: ChartProps) {
  const { names, series, limit, current } = props
  const totals = names.map((_, n) =>
    series.reduce((sum, { amounts }) => sum + (amounts[n] ?? 0), 0),
  )
  const most = Math.max(...totals)
  const isInSight = limit !== undefined && limit.amount <= most * LIMIT_IN_SIGHT
  const y = amountScale(Math.max(most, isInSight ? limit.amount : 0))
  const step = WIDTH / names.length
  const stacked = stack<unknown, number, number>()
    .keys(series.map((_, s) => s))
    .value((n, s) => series[s]?.amounts[n] ?? 0)(names.map((_, n) => n))
  const shapes = (
    <>
      {names.map((name, n) => (
        <g class={n === current?.at ? 'bar current' : 'bar'}>
          <title>{titleOf(props, name, n, totals[n] ?? 0)}</title>
          <rect class="band" x={round(n * step)} width={round(step)} height={HEIGHT} />
          {stacked.map((parts, s) => {
            const [from = 0, to = 0] = parts[n] ?? []
            if (to <= from) return undefined
            // A small part is still seen.
            const top = Math.min(y(to), y(from) - 1)
            return (
              <rect
                class={classOf(series, s)}
                x={round((n + GAP / 2) * step)}
                width={round((1 - GAP) * step)}
                y={round(top)}
                height={round(y(from) - top)}
              />
            )
          })}
        </g>
      ))}
      {isInSight && (
        <line class="limit" x2={WIDTH} y1={round(y(limit.amount))} y2={round(y(limit.amount))} />
      )}
    </>
  )
  const note = (
    <>
      {current && (totals[current.at] ?? 0) > 0 && <li>faint: {current.words}</li>}
      {limit && (
        <li class={isInSight ? 'limit-key' : ''}>
          {limit.words}: {props.mark(limit.amount)} {props.unit}
        </li>
      )}
    </>
  )
  return whole(props, { totals, y, shapes, note })
}

/** A line for each series over the names. An amount that is `NaN` is a gap. */
export function lineChart(props: ChartProps) {
  const { names, series } = props
  const all = series.flatMap(({ amounts }) => amounts.filter((amount) => !Number.isNaN(amount)))
  const y = amountScale(Math.max(0, ...all))
  const step = WIDTH / names.length
  const draw = line<number>()
    .defined((amount) => !Number.isNaN(amount))
    .x((_, n) => round((n + 0.5) * step))
    .y((amount) => round(y(amount)))
  const shapes = (
    <>
      {names.map((name, n) => (
        <g class="bar">
          <title>{titleOf(props, name, n)}</title>
          <rect class="band" x={n * step} width={step} height={HEIGHT} />
        </g>
      ))}
      {series.map(({ amounts }, s) => (
        <path class={classOf(series, s)} d={draw(amounts) ?? ''} />
      ))}
    </>
  )
  return whole(props, { y, shapes })
}

const round = (length: number) => Math.round(length * 10) / 10

/** The height of amounts in the chart, whose axis ends at a round amount that is not below `most`. */
function amountScale(most: number) {
  const [, top] = nice(0, most || 1, TICKS)
  const y = (amount: number) => HEIGHT * (1 - amount / top)
  return Object.assign(y, { ticks: () => ticksOf(0, top, TICKS) })
}

const classOf = (series: Series[], s: number) => series[s]?.kind ?? `s${s}`

type Drawn = {
  totals?: number[]
  y: ReturnType<typeof amountScale>
  shapes: Child
  note?: Child
}

/** The amounts of a bar, in words. */
function titleOf(
  { series, exact, unit = '' }: ChartProps,
  name: string,
  n: number,
  total?: number,
): string {
  const parts = series.flatMap(({ name, amounts }) => {
    const amount = amounts[n] ?? 0
    return amount > 0 ? [`${name.slice(0, NAME_CHARS)}: ${exact(amount)}`] : []
  })
  const all = total === undefined ? [] : [`${exact(total)} ${unit}`.trim()]
  return [name, ...all, ...(parts.length > 1 || total === undefined ? parts : [])].join('\n')
}

/** A chart with its axes, its legend and its table. */
function whole(props: ChartProps, { totals, y, shapes, note }: Drawn) {
  const { id, caption, names, series, mark } = props
  const ticks = y.ticks().filter((tick) => !props.whole || Number.isInteger(tick))
  return (
    <>
      <figure class="chart">
        <div class="y" aria-hidden="true">
          {ticks.toReversed().map((tick) => (
            <span>{mark(tick)}</span>
          ))}
        </div>
        <svg
          role="img"
          aria-label={caption}
          viewBox={`0 0 ${WIDTH} ${HEIGHT}`}
          preserveAspectRatio="none"
        >
          {ticks.map((tick) => (
            <line x2={WIDTH} y1={round(y(tick))} y2={round(y(tick))} />
          ))}
          {shapes}
        </svg>
        <svg class="x" aria-hidden="true">
          {marksOf(names).map(({ name, middle, isEnd }) => (
            <text
              x={isEnd ? '100%' : `${round(middle * 100)}%`}
              y="80%"
              text-anchor={isEnd ? 'end' : 'middle'}
            >
              {name}
            </text>
          ))}
        </svg>
        <figcaption aria-hidden="true" hidden />
      </figure>
      <ul class="legend">
        {series.map(({ name }, s) => (
          <li class={`o ${classOf(series, s)}`}>{nameOf(name)}</li>
        ))}
        {note}
      </ul>
      <details id={id}>
        <summary>Show table</summary>
        <div class="scroll" role="region" aria-label={caption} tabindex={0}>
          {barsTable(props, totals)}
        </div>
      </details>
    </>
  )
}

/** Some names, the last one always, each with the middle of its bar from 0 to 1. */
function marksOf(names: string[]) {
  const isLong = names.some((name) => name.length > LONG_MARK_CHARS)
  const every = Math.ceil(names.length / (isLong ? LONG_MARKS : MARKS))
  const last = names.length - 1
  return names.flatMap((name, n) => {
    if ((last - n) % every !== 0) return []
    // In the middle of its bar, a long name at the end would leave the chart.
    return [{ name, middle: (n + 0.5) / names.length, isEnd: isLong && n === last }]
  })
}

function barsTable(props: ChartProps, totals: number[] | undefined) {
  const { caption, heading, names, series, short, exact, whole } = props
  // Fractions have too many digits for a column.
  const text = (amount: number) =>
    Number.isNaN(amount) ? '–' : whole ? exact(amount) : shortened(short(amount), exact(amount))
  return table({
    caption,
    rows: names.map((name, n) => ({ name, n })).reverse(),
    key: ({ name }) => name,
    columns: [
      [heading, '', ({ name }) => name],
      ...(totals && series.length > 1
        ? [['All', 'n', ({ n }) => text(totals[n] ?? 0)] satisfies Column<Bar>]
        : []),
      ...series.map(({ name, amounts }): Column<Bar> => [
        name,
        'n',
        ({ n }) => text(amounts[n] ?? 0),
        { content: nameOf(name) },
      ]),
    ],
  })
}

type Bar = { name: string; n: number }
