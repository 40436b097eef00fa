/** Cursors of user pages, as text for a URL. */
import type { Cursor } from './store.ts'

/** `SCORE~ID` by activity, `COUNT` by tokens. */
export const formatCursor = (cursor: Cursor): string =>
  'id' in cursor ? `${cursor.score}~${cursor.id}` : String(cursor.offset)

/** The cursor in a text, or undefined if the text is invalid. */
export function parseCursor(text: string): Cursor | undefined {
  const [, number, id] = /^(\d{1,15}(?:\.\d{1,20})?)(?:~([\w-]{22}))?$/.exec(text) ?? []
  if (number === undefined) return undefined
  if (id !== undefined) return { score: Number(number), id }
  return Number.isSafeInteger(Number(number)) ? { offset: Number(number) } : undefined
}
