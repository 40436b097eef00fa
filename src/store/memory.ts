/** What an isolate knows of its users by itself: the counts and blocks it saw last, to go on with while the store is away. */
import { advance, newRow, newUser, type Keep } from '../usage/documents.ts'
import { reduce } from '../usage/ledger.ts'
import {
  ALL_MODELS,
  DAY_MS,
  dateOf,
  own,
  type Admit,
  type Admitted,
  type Answer,
  type DayDoc,
  type Refusal,
  type UserCommand,
  type UserDoc,
} from '../usage/record.ts'

/** The users seen last are remembered. */
const USERS = 1000

export type Memory = {
  /** Takes note of what the store answered. */
  learn(command: Admit, answer: Admitted | Refusal): void
  /** A user was erased. */
  forget(user: string): void
  /** Runs a command on what is remembered. */
  run(command: UserCommand): Answer
}

/** Builds a memory; it holds a thousand users and the latest two days of everyone together. */
export function createMemory(keep: Keep): Memory {
  const users = new Map<string, UserDoc>()
  const days = new Map<string, DayDoc>()

  function remember(user: UserDoc): void {
    users.delete(user.id)
    users.set(user.id, user)
    const [oldest] = users.keys()
    if (users.size > USERS && oldest !== undefined) users.delete(oldest)
  }

  return {
    learn({ user, model, now }, answer) {
      const known = users.get(user)
      if (answer.ok) {
        const doc = advance(known ?? newUser(user, answer.at), answer.at, keep)
        const { [ALL_MODELS]: _, [model]: __, ...blocks } = doc.blocks
        const { day, minute } = answer
        const row = { ...newRow(), requests: day.requests, charged: day.tokens }
        const rows = { ...doc.rows, [model]: row }
        const inMinute = { ...doc.minute.rows, [model]: minute }
        const minutes = { n: doc.minute.n, rows: inMinute }
        // Leases of an outage that is over are part of what the store counts by now, or will be.
        remember({ ...doc, rows, minute: minutes, blocks, leases: {} })
      } else if (answer.reason === 'blocked') {
        const doc = known ?? newUser(user, now)
        const block = { at: now, reason: answer.why, until: answer.until }
        remember({ ...doc, blocks: { ...doc.blocks, [answer.model]: block } })
      } else if (answer.reason === 'limit' && answer.of === 'user' && answer.per === 'day') {
        if (answer.model !== model) return
        const doc = advance(known ?? newUser(user, now), now, keep)
        const spent = { [answer.unit === 'tokens' ? 'charged' : 'requests']: answer.used }
        const row = { ...(own(doc.rows, model) ?? newRow()), ...spent }
        remember({ ...doc, rows: { ...doc.rows, [model]: row } })
      }
    },
    forget: (user) => void users.delete(user),
    run(command) {
      const view = {
        day: (date: string) => days.get(date),
        entered: () => false,
        erasedAt: () => undefined,
      }
      const known = users.get(command.user)
      const step = reduce(known, command, view, keep)
      // A block that is lifted says nothing of somebody who is not remembered.
      if (step.user && (known || command.op !== 'block' || command.block)) remember(step.user)
      if (step.day) days.set(step.day.date, step.day)
      const oldest = dateOf(command.now - 2 * DAY_MS)
      for (const date of days.keys()) if (date < oldest) days.delete(date)
      return step.answer
    },
  }
}
