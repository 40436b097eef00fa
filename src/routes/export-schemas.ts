/** The query of an export. */
import * as z from 'zod/mini'
import { TAG } from '../gateway/tag.ts'

export const exportQuery = z.object({
  kind: z.enum(['users', 'days', 'events']),
  format: z._default(z.enum(['csv', 'ndjson']), 'csv'),
  from: z.optional(z.iso.date()),
  to: z.optional(z.iso.date()),
  group: z.optional(z.enum(['user', 'day', 'model', 'tag'])),
  tag: z.optional(z.string().check(z.regex(TAG))),
})

export type ExportQuery = z.infer<typeof exportQuery>
export type Format = ExportQuery['format']
