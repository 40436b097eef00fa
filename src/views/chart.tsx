/** A bar chart, with the same amounts as a table. */
import { exact, short } from './format.ts'
import { table, type Column } from './table.tsx'

/** The top of an axis: the next round amount that can be halved. */
export function axisTop(most: number): number {
  const power = 10 ** Math.floor(Math.log10(Math.max(most, 10)))
  return power * ([1, 1.2, 1.6, 2, 3, 4, 5, 6, 8].find((step) => step * power >= most) ?? 10)
}

const percentOf = (share: number) => `${Math.round(share * 1e4) / 100}%`

/** A bar's name and its amounts. The first amount is drawn. */
export type Bar = [name: string, tokens: number, ...more: number[]]

export type ChartProps = {
  id: string
  caption: string
  /** The headings of a bar's name and amounts. */
  columns: string[]
  bars: Bar[]
  /** The number of bars that fit. */
  slots?: number
  /** Labels along the axis, from the first bar to the last. */
  marks: string[]
}

/** The chart and its table. The last bar is the current one. */
export function chart({ id, caption, columns, bars, slots = bars.length, marks }: ChartProps) {
  const top = axisTop(Math.max(...bars.map(([, tokens]) => tokens)))
  const step = 1 / slots
  return (
    <>
      <figure class="chart">
        <div class="y" aria-hidden="true">
          {[top, top / 2, 0].map((tick) => (
            <span>{short(tick)}</span>
          ))}
        </div>
        <svg role="img" aria-label={caption}>
          {['0', '50%', '100%'].map((y) => (
            <line x2="100%" y1={y} y2={y} />
          ))}
          {bars.map(([name, ...amounts], at) => {
            const high = amounts[0] ? Math.max(amounts[0] / top, 0.01) : 0
            const said = amounts.map((amount, n) => `${columns[n + 1]} ${exact(amount)}`)
            return (
              <g>
                <title>{`${name}: ${said.join(', ').toLowerCase()}`}</title>
                <rect x={percentOf(at * step)} width={percentOf(step)} height="100%" />
                <rect
                  x={percentOf((at + 0.1) * step)}
                  width={percentOf(step * 0.8)}
                  y={percentOf(1 - high)}
                  height={percentOf(high)}
                />
              </g>
            )
          })}
        </svg>
        <div class="x" aria-hidden="true">
          {marks.map((mark) => (
            <span>{mark}</span>
          ))}
        </div>
        <figcaption aria-hidden="true" />
      </figure>
      <details id={id}>
        <summary>Show table</summary>
        {barsTable(caption, columns, bars)}
      </details>
    </>
  )
}

const barsTable = (caption: string, columns: string[], bars: Bar[]) =>
  table({
    caption,
    rows: bars.toReversed(),
    key: ([name]) => name,
    columns: columns.map((column, at): Column<Bar> => [
      column,
      at ? 'n' : '',
      (bar) => (at ? exact(Number(bar[at])) : bar[0]),
    ]),
  })
