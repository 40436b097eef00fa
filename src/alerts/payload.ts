/** What a receiver gets of an alert: no text of users except the label. Pure. */
import { amountTo, unitWords } from '../ledger/policy.ts'
import { ALL_MODELS, type Alert } from '../ledger/documents.ts'
import type { Unit } from '../ledger/units.ts'
import { WINDOWS, type Window } from '../ledger/windows.ts'

const iso = (at: number | undefined) => (at === undefined ? undefined : new Date(at).toISOString())

/** Amounts as people read them: dollars where the unit is usd. */
const inUnit = (unit: string | undefined, amount: number | undefined) =>
  amount === undefined ? undefined : amountTo((unit ?? 'requests') as Unit, amount)

/** The facts of an alert. Missing fields are left out. */
export function dataOf(alert: Alert): Record<string, string | number> {
  const { of, user, label, model, unit, window, percent, key, by, mode } = alert
  const { calls, failures, downMs, limit, used, resetAt, until } = alert
  const all = {
    ...{ of, userId: user, label, model, unit, window, percent },
    ...{ limit: inUnit(unit, limit), used: inUnit(unit, used), resetAt: iso(resetAt) },
    ...{ key: key === undefined ? undefined : `${user}.${key}`, until: iso(until), by },
    ...{ calls, failures, onStoreDown: mode, downMs },
  }
  return Object.fromEntries(
    Object.entries(all).flatMap(([name, value]) => (value === undefined ? [] : [[name, value]])),
  )
}

/** The body by Standard Webhooks: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md */
export const standardBody = (alert: Alert): string =>
  JSON.stringify({ type: alert.type, timestamp: iso(alert.at), data: dataOf(alert) })

/** https://docs.slack.dev/messaging/formatting-message-text#escaping */
const escaped = (text: string) =>
  text.replace(/[&<>]/g, (char) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;' })[char] ?? char)

/** The body for an incoming webhook of Slack, and for whatever takes the same form. */
export const slackBody = (alert: Alert): string =>
  JSON.stringify({ text: `Weir: ${escaped(alertText(alert))}` })

/** An alert as one sentence. */
export function alertText(alert: Alert): string {
  const { type, user, label, model, unit, window, percent, until, key } = alert
  const who = label ? `${label} (user ${user})` : `User ${user}`
  const end =
    until === undefined
      ? ''
      : ` until ${new Date(until).toISOString().slice(0, 19).replace('T', ' ')} UTC`
  const what = model === ALL_MODELS ? 'all models' : model
  switch (type) {
    case 'limit.threshold': {
      const words = WINDOWS[window as Window].words
      const [used, limit] = [alert.used, alert.limit].map((amount) =>
        inUnit(unit, amount)?.toLocaleString('en-US', { maximumFractionDigits: 9 }),
      )
      const whose = alert.of === 'everyone' ? 'All users together' : who
      const amount =
        unit === 'usd' ? `$${used} of $${limit}` : `${used} of ${limit} ${unitWords(unit as Unit)}`
      return `${whose} used ${percent}% of a limit: ${amount} ${words}, ${what}.`
    }
    case 'user.blocked':
      return `${who} was blocked from ${what}${end}${alert.by ? ` by ${alert.by}` : ''}.`
    case 'key.expiring':
      return `${who} has the key ${key}, which is valid${end}.`
    case 'upstream.errors':
      return `The provider failed ${alert.failures} of ${alert.calls} calls within five minutes.`
    case 'upstream.spend_blocked':
      return 'The provider refuses calls, because the spending limit of the organisation there is reached.'
    case 'store.degraded':
      return `An instance cannot reach the database (ON_STORE_DOWN=${alert.mode}).`
    case 'store.recovered':
      return `An instance reaches the database again, after ${Math.round((alert.downMs ?? 0) / 1000)} s.`
    case 'test':
      return 'This is a test.'
  }
}
