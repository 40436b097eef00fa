/** Rows as CSV (RFC 4180) that a spreadsheet shows and does not run. */

export type Cell = string | number | boolean | null | undefined

/** What a file begins with: otherwise Excel takes its UTF-8 for another encoding. */
export const CSV_START = '\ufeff'

/**
 * One line with its CRLF. Text that a spreadsheet would take for a formula gets an apostrophe in front:
 * https://owasp.org/www-community/attacks/CSV_Injection
 */
export const csvLine = (cells: Cell[]): string => `${cells.map(csvCell).join(',')}\r\n`

function csvCell(cell: Cell): string {
  if (typeof cell !== 'string') return String(cell ?? '')
  // An id may begin with a hyphen too: Excel shows -ab as #NAME?.
  const formula = /^\s*[=+\-@＝＋－＠]|^[\t\r\n]/.test(cell)
  const text = formula ? `'${cell}` : cell
  return /[",\r\n]|^\s|\s$/.test(text) ? `"${text.replaceAll('"', '""')}"` : text
}
