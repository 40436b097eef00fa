/** The arithmetic and the tables of the benchmark. */

/** The nearest-rank percentile. */
export function percentile(values: number[], percent: number): number {
  const sorted = values.toSorted((a, b) => a - b)
  const at = Math.ceil((percent / 100) * sorted.length) - 1
  return sorted[Math.max(0, at)] ?? NaN
}

export const median = (values: number[]): number => percentile(values, 50)

/** The ratio of each round, their median, and a text with the median, the smallest and the largest. */
export function ratioOf(ours: number[], theirs: number[]) {
  const rounds = ours.map((value, round) => value / (theirs[round] ?? NaN))
  const [low, high] = [Math.min(...rounds), Math.max(...rounds)]
  const text = `${median(rounds).toFixed(2)}× (${low.toFixed(2)}–${high.toFixed(2)})`
  return { rounds, median: median(rounds), text }
}

export const ms = (value: number): string => value.toFixed(2)

/** A table with columns as wide as needed, the first aligned left and the others right. */
export function table(head: string[], rows: string[][]): string {
  const all = [head, ...rows]
  const widths = head.map((_, column) => Math.max(...all.map((row) => row[column]?.length ?? 0)))
  const line = (row: string[]) =>
    row
      .map((cell, column) =>
        column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0),
      )
      .join('   ')
      .trimEnd()
  return all.map((row) => `  ${line(row)}`).join('\n')
}
