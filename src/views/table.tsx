/** A table. */
import type { Child } from 'hono/jsx'
import { NAME_CHARS } from './parts.tsx'

/**
 * A column: its heading, its classes and its cells, of which a 0 is shown as a dash. `n`: numbers; `w`: only in wide cards; `v`: only in wider ones; `x`: only in
 * very wide ones; `g`: takes the remaining width.
 */
export type Column<T> = [name: string, kind: string, cell: (row: T) => Child, head?: Head]

/** A heading that is more than the name: a link that sorts, or an explanation. */
type Head = { content: Child; sorted?: boolean }

export type TableProps<T> = {
  caption: string
  rows: T[]
  /** Identifies a row across refreshes. */
  key: (row: T) => string
  columns: Column<T>[]
  /** Shown if there are no rows. */
  empty?: string
}

/** A table. The first cell of a row is its header. Empty columns are left out, but not the one that it is sorted by. */
export function table<T>({ caption, rows, key, columns, empty }: TableProps<T>) {
  if (!rows.length) return <p class="empty">{empty}</p>
  const cells = columns.map(([, , cell]) => rows.map(cell))
  const shown = columns.flatMap(([name, kind, , head], at) =>
    head?.sorted || cells[at]?.some(Boolean) ? [{ name, kind, head, cells: cells[at] }] : [],
  )
  return (
    <table>
      <caption class="hide">{caption}</caption>
      <thead>
        <tr>
          {shown.map(({ name, kind, head }) => (
            <th scope="col" class={kind} aria-sort={head?.sorted ? 'descending' : undefined}>
              {head?.content ?? name}
            </th>
          ))}
        </tr>
      </thead>
      <tbody>
        {rows.map((row, n) => (
          <tr data-key={key(row).slice(0, NAME_CHARS)}>
            {shown.map(({ kind, cells }, at) =>
              at ? (
                <td class={kind}>{cells?.[n] === 0 ? <span class="soft">–</span> : cells?.[n]}</td>
              ) : (
                <th scope="row" class={kind}>
                  {cells?.[n]}
                </th>
              ),
            )}
          </tr>
        ))}
      </tbody>
    </table>
  )
}
