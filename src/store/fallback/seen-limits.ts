/** The limits that the store applied last, to users and to everyone. */
import type { Refusal } from '../../ledger/answers.ts'
import type { Admit } from '../../ledger/commands.ts'
import { ALL_MODELS } from '../../ledger/documents.ts'
import {
  isTotal,
  limitName,
  type Limits,
  type Of,
  type Rows,
  type Standing,
} from '../../ledger/policy.ts'
import { own } from '../../ledger/records.ts'
import { setNewest } from './newest.ts'

/** A row that differs from that of the command; null for no limits, undefined where the command's row holds. */
type Seen = Limits | null | undefined

/** Whose rows are those of everyone. No user has this id. */
const EVERYONE = '*'

/** Builds the memory of limits. It knows those of 1,000 users. */
export function createSeenLimits() {
  /** By user, then by model and `*`. */
  const rows = new Map<string, Record<string, Seen>>()

  const keep = (id: string, scope: string, row: Seen) =>
    setNewest(rows, id, { ...rows.get(id), [scope]: row })

  /** The rows of limits for an admission: those that held last, or else those of the command. */
  const rowsFor = ({ user, model, limits, everyone }: Admit): { limits: Rows; everyone: Rows } => ({
    limits: lastSeen(limits, rows.get(user), model),
    everyone: lastSeen(everyone, rows.get(EVERYONE), model),
  })

  return {
    /** Remembers which limits the store applied to an admission, if they are not those of the command. */
    learn({ user, model, limits, everyone }: Admit, standings: Standing[]): void {
      const learnOf = (of: Of, id: string, named: Rows | undefined) => {
        for (const scope of [model, ALL_MODELS]) {
          const found = standings.find((one) => one.of === of && one.model === scope)?.limits
          const row = found === rowOf(named, scope) ? undefined : (found ?? null)
          if (row !== undefined || rows.get(id)?.[scope] !== undefined) keep(id, scope, row)
        }
      }
      learnOf('user', user, limits)
      learnOf('everyone', EVERYONE, everyone)
    },
    /** Remembers the limit of a user or of everyone by which the store refused an admission. */
    learnRefusal(command: Admit, { of, model: scope, unit, window, limit }: OverLimit): void {
      const { limits, everyone } = rowsFor(command)
      const [id, known] = of === 'user' ? [command.user, limits] : [EVERYONE, everyone]
      keep(id, scope, { ...rowOf(known, scope), [limitName(unit, window)]: limit })
    },
    rowsFor,
    forget(user: string): void {
      rows.delete(user)
    },
  }
}

type OverLimit = Extract<Refusal, { reason: 'limit' }>

const rowOf = (all: Rows | undefined, scope: string): Limits | undefined =>
  isTotal(scope) ? all?.total : all?.model

/** The rows that were seen, or else those of the environment. */
function lastSeen(
  environment: Rows | undefined,
  seen: Record<string, Seen> = {},
  model: string,
): Rows {
  const last = (scope: string) => {
    const row = own(seen, scope)
    return row === undefined ? rowOf(environment, scope) : row
  }
  const [one, total] = [last(model), last(ALL_MODELS)]
  return { ...(one && { model: one }), ...(total && { total }) }
}
