/** Alerts as the admin API and the page show them. Pure. */
import { alertText, dataOf } from '../alerts/payload.ts'
import type { Alert } from '../ledger/documents.ts'

export type AlertReport = ReturnType<typeof alertReport>

/** An alert, what a receiver gets of it, and how far its delivery is. */
export function alertReport(alert: Alert) {
  const { id, type, at, state, attempts, status, triedAt, due } = alert
  return {
    ...{ id, type, at, text: alertText(alert), data: dataOf(alert), state, attempts },
    /** 0 if there was no answer. */
    lastStatus: status ?? null,
    lastAttemptAt: triedAt ?? null,
    nextAttemptAt: state === 'pending' ? (due ?? null) : null,
  }
}
