/** The query of an export. */
import * as z from 'zod/mini'

export const exportQuery = z.object({
  kind: z.enum(['users', 'days', 'events']),
  format: z._default(z.enum(['csv', 'ndjson']), 'csv'),
})

export type Format = z.infer<typeof exportQuery>['format']
