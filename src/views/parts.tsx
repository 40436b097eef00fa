/** What every page is made of: numbers, times, names, cards, tables and charts. */
import type { Child } from 'hono/jsx'
import { ALL_MODELS } from '../ledger/shapes.ts'
import { ago, exact, percent, short, utc } from './format.ts'

/** Anything longer is no name that somebody reads; names and reasons come from users. */
const NAME_CHARS = 300

/** An amount, the exact one on hover where it is shortened. */
export function num(amount: number) {
  const [text, long] = [short(amount), exact(amount)]
  return text === long ? text : <span title={long}>{text}</span>
}

/** How long ago or until when, the exact time on hover. */
export const time = (at: number, now: number) => (
  <time datetime={new Date(at).toISOString()} title={utc(at)}>
    {ago(at, now)}
  </time>
)

/** Text that users or admins made up: kept apart from the writing direction around it, and cut by the style sheet. */
export const name = (text: string) => (
  <bdi title={text.slice(0, NAME_CHARS)}>{text.slice(0, NAME_CHARS)}</bdi>
)

/** A model as it is told in blocks and limits. */
export const modelName = (model: string) =>
  model === ALL_MODELS ? 'all models' : model.slice(0, NAME_CHARS)

export const scope = (model: string) => name(modelName(model))

export const userLink = (id: string) => (
  <a class="id" href={`/admin/users/${id}`}>
    {id}
  </a>
)

export const tag = (text: string, kind: string, title?: string) => (
  <span class={`tag ${kind}`} title={title}>
    {text}
  </span>
)

/** A part of one, with a name for those who do not see it. */
export const meter = (share: number, label: string) => (
  <meter value={Math.min(1, share).toFixed(3)} high={0.8} optimum={0} aria-label={label}>
    {percent(share)}
  </meter>
)

/** What was done, or what is wrong. */
export const Notice = ({ children, bad }: { children?: Child; bad?: boolean }) => (
  <p class={`notice ${bad ? 'bad' : ''}`} role="status">
    {children}
  </p>
)

/** A part of a page under a heading; `live` parts are what a refresh brings. */
export const Card = (props: {
  id: string
  title: Child
  side?: Child
  live?: true
  children?: Child
}) => (
  <section id={props.id} class="card" data-live={props.live} aria-labelledby={`${props.id}-title`}>
    <div class="top">
      <h2 id={`${props.id}-title`}>{props.title}</h2>
      {props.side}
    </div>
    {props.children}
  </section>
)

/** A column: its heading, its classes and its cells. `n` is a number, `w` is for wide screens, `g` takes what room is left. */
export type Column<T> = [name: string, kind: string, cell: (row: T) => Child]

export type TableProps<T> = {
  caption: string
  rows: T[]
  /** Tells rows apart over refreshes. */
  key: (row: T) => string
  columns: Column<T>[]
  /** Said where there are no rows. */
  empty?: string
}

/** A table whose rows are told by their first cell; a column with nothing in it is left out. */
export function table<T>({ caption, rows, key, columns, empty }: TableProps<T>) {
  if (!rows.length) return <p class="empty">{empty}</p>
  const cells = columns.map(([, , cell]) => rows.map(cell))
  const shown = columns.flatMap(([name, kind], at) =>
    cells[at]?.some(Boolean) ? [{ name, kind, cells: cells[at] }] : [],
  )
  return (
    <table>
      <caption class="hide">{caption}</caption>
      <thead>
        <tr>
          {shown.map(({ name, kind }) => (
            <th scope="col" class={kind}>
              {name}
            </th>
          ))}
        </tr>
      </thead>
      <tbody>
        {rows.map((row, n) => (
          <tr data-key={key(row).slice(0, NAME_CHARS)}>
            {shown.map(({ kind, cells }, at) =>
              at ? (
                <td class={kind}>{cells[n]}</td>
              ) : (
                <th scope="row" class={kind}>
                  {cells[n]}
                </th>
              ),
            )}
          </tr>
        ))}
      </tbody>
    </table>
  )
}

/** The top of an axis: the least round amount that can be halved. */
export function axisTop(most: number): number {
  const power = 10 ** Math.floor(Math.log10(Math.max(most, 10)))
  return power * ([1, 1.2, 1.6, 2, 3, 4, 5, 6, 8].find((step) => step * power >= most) ?? 10)
}

const part = (share: number) => `${Math.round(share * 1e4) / 100}%`

/** A bar's name and its amounts, of which the first is drawn. */
export type Bar = [name: string, tokens: number, ...more: number[]]

export type ChartProps = {
  id: string
  caption: string
  /** What the parts of a bar are. */
  columns: string[]
  bars: Bar[]
  /** Bars that there is room for. */
  slots?: number
  /** Names along the axis, from end to end. */
  marks: string[]
}

/** Bars, of which the last is the present one, and the same as a table. */
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
                <rect x={part(at * step)} width={part(step)} height="100%" />
                <rect
                  x={part((at + 0.1) * step)}
                  width={part(step * 0.8)}
                  y={part(1 - high)}
                  height={part(high)}
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
        <summary>As a table</summary>
        {table({
          caption,
          rows: bars.toReversed(),
          key: ([name]) => name,
          columns: columns.map((column, at): Column<Bar> => [
            column,
            at ? 'n' : '',
            (bar) => (at ? exact(Number(bar[at])) : bar[0]),
          ]),
        })}
      </details>
    </>
  )
}
