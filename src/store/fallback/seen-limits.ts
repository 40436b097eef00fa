/** The limits that the store applied last, to users and to everyone. */
import type { Admit } from '../../ledger/commands.ts'
import { ALL_MODELS } from '../../ledger/documents.ts'
import type { Limits, Of, Rows, Standing } from '../../ledger/policy.ts'
import { own } from '../../ledger/records.ts'
import { setNewest } from './newest.ts'

/** A row that differs from that of the command; null for no limits, undefined where the command's row holds. */
type Seen = Limits | null | undefined

/** Builds the memory of limits. It knows those of 1,000 users. */
export function createSeenLimits() {
  /** By user, then by model and `*`. */
  const ofUsers = new Map<string, Record<string, Seen>>()
  /** By model and `*`. */
  const ofEveryone = new Map<string, Seen>()

  return {
    /** Remembers which limits the store applied to an admission, if they are not those of the command. */
    learn({ user, model, limits, everyone }: Admit, standings: Standing[]): void {
      const applied = (of: Of, scope: string, named: Limits | undefined): Seen => {
        const row = standings.find((one) => one.of === of && one.model === scope)?.limits
        return row === named ? undefined : (row ?? null)
      }
      const scopes = [
        [model, limits.model, everyone?.model],
        [ALL_MODELS, limits.total, everyone?.total],
      ] as const
      const known = ofUsers.get(user)
      const changed: Record<string, Seen> = {}
      for (const [scope, mine, all] of scopes) {
        const row = applied('user', scope, mine)
        if (row !== undefined || known?.[scope] !== undefined) changed[scope] = row
        const shared = applied('everyone', scope, all)
        if (shared !== undefined || ofEveryone.get(scope) !== undefined) {
          setNewest(ofEveryone, scope, shared)
        }
      }
      if (Object.keys(changed).length > 0) setNewest(ofUsers, user, { ...known, ...changed })
    },
    /** The rows of limits for an admission: those that held last, or else those of the command. */
    rowsFor({ user, model, limits, everyone }: Admit): { limits: Rows; everyone: Rows } {
      const seen = ofUsers.get(user) ?? {}
      return {
        limits: lastSeen(limits, (scope) => own(seen, scope), model),
        everyone: lastSeen(everyone, (scope) => ofEveryone.get(scope), model),
      }
    },
    forget(user: string): void {
      ofUsers.delete(user)
    },
  }
}

/** The rows that were seen, or else those of the environment. */
function lastSeen(
  environment: Rows | undefined,
  seen: (scope: string) => Seen,
  model: string,
): Rows {
  const [one, total] = [seen(model), seen(ALL_MODELS)]
  const rows: Rows = {
    model: one === undefined ? environment?.model : (one ?? undefined),
    total: total === undefined ? environment?.total : (total ?? undefined),
  }
  if (!rows.model) delete rows.model
  if (!rows.total) delete rows.total
  return rows
}
