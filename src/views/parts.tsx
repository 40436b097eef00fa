/** What every page is made of: numbers, times, names, meters, tables and charts. */
import type { Child } from 'hono/jsx'
import { ago, exact, percent, short, utc } from './format.ts'

/** Anything longer is no name that somebody reads; names and reasons come from users. */
const NAME_CHARS = 300

/** An amount, the exact one on hover where it is shortened. */
export function Num({ of: amount }: { of: number }) {
  const text = short(amount)
  const long = exact(amount)
  return text === long ? <>{text}</> : <span title={long}>{text}</span>
}

/** How long ago or until when, the exact time on hover. */
export const Time = ({ at, now }: { at: number; now: number }) => (
  <time datetime={new Date(at).toISOString()} title={utc(at)}>
    {ago(at, now)}
  </time>
)

/** Text that users or admins made up: kept apart from the writing direction around it, and cut by the style sheet. */
export function Name({ of: text, class: kind }: { of: string; class?: string }) {
  const bounded = text.slice(0, NAME_CHARS)
  return (
    <bdi class={kind} title={bounded}>
      {bounded}
    </bdi>
  )
}

export const UserLink = ({ id }: { id: string }) => (
  <a class="id" href={`/admin/users/${id}`}>
    {id}
  </a>
)

/** A part of one. */
export const Meter = ({ of: share, label }: { of: number; label: string }) => (
  <meter value={Math.min(1, share).toFixed(3)} high={0.8} optimum={0} aria-label={label}>
    {percent(share)}
  </meter>
)

/** A column's heading and its classes: `n` is a number, `w` only on wide screens, `g` takes what room is left. */
export type Column = [name: string, kind?: string | undefined]

/** The key tells rows apart over refreshes. */
export type Row = { key: string; cells: Child[] }

/** A table whose rows are told by their first cell; `empty` is said where there are none. */
export function Table(props: { caption: string; columns: Column[]; rows: Row[]; empty?: Child }) {
  const { caption, columns, rows, empty } = props
  if (!rows.length && empty) return <div class="empty">{empty}</div>
  return (
    <table>
      <caption class="hide">{caption}</caption>
      <thead>
        <tr>
          {columns.map(([name, kind]) => (
            <th scope="col" class={kind}>
              {name}
            </th>
          ))}
        </tr>
      </thead>
      <tbody>
        {rows.map(({ key, cells }) => (
          <tr data-key={key}>
            {cells.map((cell, at) => {
              const kind = columns[at]?.[1]
              if (at) return <td class={kind}>{cell}</td>
              return (
                <th scope="row" class={kind}>
                  {cell}
                </th>
              )
            })}
          </tr>
        ))}
      </tbody>
    </table>
  )
}

/** `note` is what is said of the bar on hover, beside its name and amount. */
export type Bar = { name: string; tokens: number; note?: string | undefined }

/** The top of the axis: the least amount that reads well, and halved too. */
export function axisTop(most: number): number {
  const power = 10 ** Math.floor(Math.log10(Math.max(most, 10)))
  return power * ([1, 2, 4, 5, 6, 8].find((step) => step * power >= most) ?? 10)
}

const part = (share: number) => `${Math.round(share * 1e4) / 100}%`

/** Bars of tokens; `marks` are the names along the axis, from end to end. The last bar is the present one. */
export function Chart(props: { label: string; bars: Bar[]; slots?: number; marks: string[] }) {
  const { label, bars, slots = bars.length, marks } = props
  const top = axisTop(Math.max(...bars.map(({ tokens }) => tokens)))
  const step = 1 / slots
  return (
    <figure class="chart">
      <div class="y" aria-hidden="true">
        {[top, top / 2, 0].map((tick) => (
          <span>{short(tick)}</span>
        ))}
      </div>
      <svg role="img" aria-label={label}>
        {['0', '50%', '100%'].map((y) => (
          <line x2="100%" y1={y} y2={y} />
        ))}
        {bars.map(({ name, tokens, note }, at) => {
          const high = tokens ? Math.max(tokens / top, 0.01) : 0
          return (
            <g>
              <title>{`${name}: ${exact(tokens)} tokens${note ? `, ${note}` : ''}`}</title>
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
  )
}
