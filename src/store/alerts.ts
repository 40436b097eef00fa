/** The alerts of the outbox, in the order in which they are shown. */
import type { Alert, OutboxDoc } from '../ledger/documents.ts'

/** The newest first. */
export const alertsIn = (outbox: OutboxDoc | undefined): Alert[] =>
  Object.values(outbox?.alerts ?? {}).sort((a, b) => b.at - a.at || (a.id < b.id ? 1 : -1))
