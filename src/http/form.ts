/** The forms of pages. */
import type { AppContext } from '../context.ts'
import { uncompressed } from './uncompressed.ts'

/** Whether a request posts a form. Our forms send no files. */
export const isForm = (c: AppContext): boolean =>
  /^application\/x-www-form-urlencoded\b/i.test(c.req.header('content-type') ?? '')

/** The fields of a form, trimmed. */
export async function formOf(c: AppContext): Promise<Record<string, string | undefined>> {
  uncompressed(c)
  const fields = [...new URLSearchParams(await c.req.text())]
  return Object.fromEntries(fields.map(([name, value]) => [name, value.trim()]))
}
