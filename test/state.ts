/** The reducer over maps: what every store has to agree with. */
import type { Keep } from '../src/usage/documents.ts'
import { reduce } from '../src/usage/ledger.ts'
import type { Audit, Command, DayDoc, UserDoc } from '../src/usage/record.ts'

export function reducerState(keep: Keep, look: <T>(value: T) => T = (value) => value) {
  const users = new Map<string, UserDoc>()
  const days = new Map<string, DayDoc>()
  const entered = new Set<string>()
  const erased = new Map<string, number>()
  const audit: Audit[] = []
  const sessions = new Map<string, number | undefined>()
  const view = {
    day: (date: string) => days.get(date),
    entered: (id: string) => entered.has(id),
    erasedAt: (user: string) => erased.get(user),
  }
  return {
    users,
    days,
    audit,
    sessions,
    do(command: Command) {
      const user = 'user' in command ? users.get(command.user) : undefined
      const step = look(reduce(user, command, view, keep))
      for (const date of days.keys()) if (step.cleared && date < step.cleared) days.delete(date)
      if (step.entered !== undefined) entered.add(step.entered)
      if (step.user) users.set(step.user.id, step.user)
      if (step.day) days.set(step.day.date, step.day)
      if (step.audit) audit.unshift(step.audit)
      if (step.session) sessions.set(step.session.hash, step.session.until)
      if (step.erased) {
        users.delete(step.erased.user)
        erased.set(step.erased.user, step.erased.at)
      }
      return step.answer
    },
  }
}
