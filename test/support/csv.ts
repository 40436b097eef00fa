/** Reads CSV files by RFC 4180, as a spreadsheet does. */

export type Row = Record<string, string>

/** The rows of a file by the names in its first line. The apostrophe in front of an id (22 characters) is not a part of it. */
export function parseCsv(text: string): Row[] {
  const records: string[][] = [[]]
  for (const [, quoted, plain, end] of text
    .replace(/^\ufeff/, '')
    .matchAll(/(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\r\n|$)/g)) {
    records
      .at(-1)
      ?.push((quoted?.replaceAll('""', '"') ?? plain ?? '').replace(/^'(?=-[\w-]{21}$)/, ''))
    if (end === '\r\n') records.push([])
    if (end === '') break
  }
  records.pop()
  const [head = [], ...rest] = records
  return rest.map((cells) => Object.fromEntries(head.map((name, n) => [name, cells[n] ?? ''])))
}
