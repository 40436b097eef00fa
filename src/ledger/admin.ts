/** The rules of admin commands: blocks, erase, clear, sessions and notes. What admins decide about users is in people.ts. */
import type { Clear, Erase, Login, Logout, Note, Raise, SetBlock } from './commands.ts'
import { AUDIT_ID_CHARS } from './capacity.ts'
import type { Done } from './answers.ts'
import { raised, withOutbox, withoutUser } from './outbox.ts'
import { filter } from './records.ts'
import { isInForce } from './blocks.ts'
import { newProfile, newDay } from './new-documents.ts'
import { VERSION } from './shapes.ts'
import type { Audit } from './events.ts'
import { labelOf } from './labels.ts'
import type { Step, Terms, View } from './step.ts'
import { HOUR_MS, dateOf } from './windows.ts'

/** Sets or lifts a block, also for a user who has never sent a request. It is not activity of the user. */
export function setBlock(command: SetBlock, at: number, view: View, terms: Terms): Step<Done> {
  const { user, model, block } = command
  const profile = view.profile(user) ?? newProfile(user)
  const { [model]: _, ...others } = filter(profile.blocks, (one) => isInForce(one, at))
  const blocks = block ? { ...others, [model]: { ...block, at: Math.min(block.at, at) } } : others
  const audit = auditOf(command, at, block ? 'block' : 'unblock', user)
  audit.model = model
  if (block?.reason !== undefined) audit.reason = block.reason
  if (block?.until !== undefined) audit.until = block.until
  const step: Step<Done> = { profile: { ...profile, blocks }, audit, answer: { ok: true } }
  if (!block || command.alert === undefined) return step
  const label = labelOf({ usage: view.usage(user), profile })
  const alert = {
    ...{ id: command.alert, type: 'user.blocked' as const, at, user, model },
    ...(label !== undefined && { label }),
    ...(block.until !== undefined && { until: block.until }),
    ...(command.by !== undefined && { by: command.by }),
  }
  return { ...step, ...raised(alert, view, at, terms) }
}

export function erase(command: Erase, at: number, view: View): Step<Done> {
  const { user } = command
  const step: Step<Done> = {
    erased: { user, at },
    audit: auditOf(command, at, 'erase', user),
    answer: { ok: true },
  }
  const outbox = view.outbox()
  const isNamed = Object.values(outbox?.alerts ?? {}).some((alert) => alert.user === user)
  return outbox && isNamed ? { ...step, ...withOutbox(withoutUser(outbox, user), view, at) } : step
}

/** Adds an alert to the outbox. A test is in the audit trail. */
export const raise = (command: Raise, at: number, view: View, terms: Terms): Step<Done> => ({
  ...raised({ ...command.alert, at }, view, at, terms),
  ...(command.alert.type === 'test' && { audit: auditOf(command, at, 'test alert') }),
  answer: { ok: true },
})

/** Opens or ends an admin's session. */
export const session = (command: Login | Logout, at: number): Step<Done> => ({
  session: { hash: command.session, until: command.op === 'login' ? command.until : undefined },
  audit: auditOf(command, at, command.op),
  answer: { ok: true },
})

/**
 * Records an action in the audit trail. Failed logins in a row are one entry an hour, so that a guesser cannot push the
 * actions of admins out of the trail.
 */
export function note(command: Note, at: number, view: View): Step<Done> {
  const audit = auditOf(command, at, command.action, command.about)
  const before = command.action === 'failed login' ? view.lastAudit() : undefined
  if (before?.action !== audit.action || at - before.at >= HOUR_MS) {
    return { audit, answer: { ok: true } }
  }
  const { ip, ...entry } = before
  const times = (before.times ?? 1) + 1
  const merged = ip !== undefined && ip === audit.ip ? { ...entry, times, ip } : { ...entry, times }
  return { audit: merged, again: true, answer: { ok: true } }
}

/** Deletes days and events. The counters of quotas stay. */
export function clear(command: Clear, at: number, view: View): Step<Done> {
  const date = dateOf(at)
  const today = view.day(date)
  const step: Step<Done> = {
    cleared: date,
    audit: auditOf(command, at, 'clear'),
    answer: { ok: true },
  }
  if (today) {
    const { exact, estimated } = today.total
    step.day = { ...newDay(date), forgotten: today.forgotten + exact + estimated }
  }
  return step
}

export function auditOf(
  { ip, by }: { ip?: string; by?: string },
  at: number,
  action: Audit['action'],
  user?: string,
): Audit {
  const audit: Audit = { v: VERSION, at, action }
  if (user !== undefined) audit.user = user.slice(0, AUDIT_ID_CHARS)
  if (ip !== undefined) audit.ip = ip
  if (by !== undefined) audit.by = by
  return audit
}
