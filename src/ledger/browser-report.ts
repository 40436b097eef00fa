/** The rule for a report of usage from a user's browser. */
import type { Report } from './commands.ts'
import { MODELS_PER_USER, SYNCS_PER_MINUTE } from './capacity.ts'
import type { ReportRefusal, Reported } from './answers.ts'
import { credentialRefused } from './access.ts'
import { advance } from './advance.ts'
import { filter, own } from './records.ts'
import { isInForce } from './blocks.ts'
import { newProfile, newUsage } from './new-documents.ts'
import { rowsOf } from './rows.ts'
import { planOf, userRows } from './plans.ts'
import { rowsFor, standingOf, windowsOf, type Limits, type Standing } from './policy.ts'
import { ALL_MODELS } from './documents.ts'
import { reservedOf } from './tally.ts'
import { stepOf, type Step, type Terms, type View } from './step.ts'
import { endOf, minuteOf, nextDay } from './windows.ts'

/**
 * Keeps the amounts that a user's browser reports for today, if they are larger than what it reported before. A report
 * changes no counter, and stores nothing for a user without a request.
 */
export function report(
  command: Report,
  now: number,
  view: View,
  terms: Terms,
): Step<Reported | ReportRefusal> {
  const { user, models, limits } = command
  const known = view.usage(user)
  const account = advance(known ?? newUsage(user, now), now, view.past, terms)
  const { usage } = account
  const { at } = usage
  const profile = view.profile(user)
  const refused = credentialRefused(command, profile, at)
  if (refused) return { answer: refused }
  const syncMinute = minuteOf(at)
  const syncs = (usage.syncMinute === syncMinute ? (usage.syncs ?? 0) : 0) + 1
  if (syncs > SYNCS_PER_MINUTE) {
    return { answer: { ok: false, reason: 'syncs', resetAt: endOf('minute', at) } }
  }
  let { reported } = usage
  for (const [model, { tokens, requests, resetAt }] of Object.entries(models)) {
    const old = own(reported, model)
    const isFull = !old && Object.keys(reported).length >= MODELS_PER_USER
    if (resetAt !== nextDay(at) || isFull) continue
    const most = {
      requests: Math.max(old?.requests ?? 0, requests),
      tokens: Math.max(old?.tokens ?? 0, tokens),
    }
    reported = { ...reported, [model]: most }
  }
  const { blocks } = profile ?? newProfile(user)
  const plan = planOf(profile, command.claims?.plan, view)
  const rowsNow = (model: string) => userRows(model, rowsFor(limits, model), plan.doc, profile, at)
  const asked = { ...rowsOf(usage), ...models }
  const standing = (scope: string, row: Limits = {}): Standing => ({
    ...standingOf('user', scope, row, windowsOf(usage, scope), at),
    reserved: reservedOf(usage, scope),
  })
  const answer: Reported = {
    ok: true,
    at,
    known: known !== undefined,
    models: Object.fromEntries(
      Object.keys(asked).map((model) => [model, standing(model, rowsNow(model).model)]),
    ),
    total: standing(ALL_MODELS, rowsNow(ALL_MODELS).total),
    blocks: filter(blocks, (block) => isInForce(block, at)),
  }
  if (plan.doc) answer.plan = plan.name
  if (!known) return { answer }
  return { ...stepOf({ ...account, usage: { ...usage, reported, syncMinute, syncs } }), answer }
}
