/**
 * The rules of metering as one pure reducer: (documents, command) → (documents, answer).
 *
 * The local store runs this file. `store/redis/ledger/` has its port, with the functions that it calls, one by one.
 */
import { clear, erase, note, raise, session, setBlock } from './admin.ts'
import { take, tried } from './outbox.ts'
import { report } from './browser-report.ts'
import { reset, setKey, setPlan, setProfile, setSettings } from './people.ts'
import type { Command } from './commands.ts'
import { admit } from './admission.ts'
import { enter, settle } from './settlement.ts'
import { ALL_MODELS } from './documents.ts'
import type { Step, Terms, View } from './step.ts'
import { MINUTE_MS } from './windows.ts'

/** A command whose `now` is further ahead of the ledger's clock than this runs at the store's own time. */
export const CLOCK_TOLERANCE_MS = MINUTE_MS

/**
 * When a command runs: at its own time, but never before the ledger's clock. If its time is far ahead of that clock,
 * the store's own time is used.
 */
export function timeOf(now: number, view: View, { tolerance }: Pick<Terms, 'tolerance'>): number {
  const last = view.quota(ALL_MODELS)?.at ?? -Infinity
  return Math.max(last, now - last > tolerance ? view.time() : now)
}

/** The report of a user without a document writes nothing, so the store is not asked for its time. */
const isIdle = (command: Command, view: View): boolean =>
  command.op === 'report' && !view.usage(command.user)
const UNASKED = { tolerance: Infinity }

/** Applies one command to the state in view. */
export function reduce(command: Command, view: View, terms: Terms): Step {
  const at = timeOf(command.now, view, isIdle(command, view) ? UNASKED : terms)
  switch (command.op) {
    case 'admit':
      return admit(command, at, view, terms)
    case 'settle':
      return settle(command, at, view, terms)
    case 'enter':
      return enter(command, at, view, terms)
    case 'block':
      return setBlock(command, at, view, terms)
    case 'report':
      return report(command, at, view, terms)
    case 'profile':
      return setProfile(command, at, view)
    case 'key':
      return setKey(command, at, view)
    case 'plan':
      return setPlan(command, at, view)
    case 'settings':
      return setSettings(command, at, view)
    case 'reset':
      return reset(command, at, view, terms)
    case 'erase':
      return erase(command, at, view)
    case 'clear':
      return clear(command, at, view)
    case 'login':
    case 'logout':
      return session(command, at)
    case 'note':
      return note(command, at, view)
    case 'raise':
      return raise(command, at, view, terms)
    case 'take':
      return take(command, at, view)
    case 'tried':
      return tried(command, at, view)
  }
}
