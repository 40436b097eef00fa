/** The reducer over maps: what every store has to agree with. */
import type { Keep } from '../src/usage/documents.ts'
import { reduce } from '../src/usage/ledger.ts'
import type { Command, DayDoc, UserDoc } from '../src/usage/record.ts'

export function reducerState(keep: Keep, look: <T>(value: T) => T = (value) => value) {
  const users = new Map<string, UserDoc>()
  const days = new Map<string, DayDoc>()
  const entered = new Set<string>()
  const view = {
    day: (date: string) => days.get(date),
    entered: (id: string) => entered.has(id),
  }
  return {
    users,
    days,
    do(command: Command) {
      const user = command.op === 'clear' ? undefined : users.get(command.user)
      const step = look(reduce(user, command, view, keep))
      for (const date of days.keys()) if (step.cleared && date < step.cleared) days.delete(date)
      if (step.entered !== undefined) entered.add(step.entered)
      if (step.user) users.set(step.user.id, step.user)
      if (step.day) days.set(step.day.date, step.day)
      return step.answer
    },
  }
}
