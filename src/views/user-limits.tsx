/** The limits of a user that are in force, and where each comes from. */
import { ALL_MODELS } from '../ledger/documents.ts'
import { TOTAL } from '../ledger/plans.ts'
import { LIMITS } from '../ledger/policy.ts'
import { own } from '../ledger/records.ts'
import type { LimitRows, profileReport } from '../reports/people.ts'
import { limitText } from './format.ts'
import { inFormOrder, limitWords, scopeTitle } from './limit-rows.tsx'
import { name } from './parts.tsx'

export type UserLimits = {
  profile: ReturnType<typeof profileReport>
  /** The limits that the plan gives, without the user's own ones and the boost. */
  planLimits: LimitRows
  /** An admin stored the plan. Else its limits are those of the environment. */
  planStored: boolean
}

/** The row that holds for a model. */
const rowOf = (rows: LimitRows, model: string) =>
  own(rows, model) ?? (model === TOTAL ? {} : (own(rows, ALL_MODELS) ?? {}))

/** The limits in force, which viewers see too. */
export function limitsInForce({ profile, planLimits, planStored }: UserLimits) {
  const { limits, effectiveLimits } = profile
  const rows = inFormOrder({ ...planLimits, ...limits, ...effectiveLimits }).flatMap(([model]) => {
    const row = linesOf(rowOf(planLimits, model), rowOf(limits, model), own(effectiveLimits, model))
    return row.length > 0 ? [{ model, row }] : []
  })
  if (rows.length === 0) return <p class="empty">No limits.</p>
  return (
    <>
      <dl class="list">
        {rows.map(({ model, row }) => (
          <div>
            <dt>{name(scopeTitle(model))}</dt>
            <dd>
              {row.map(({ words, notes }) => (
                <p>
                  {words} {notes.length > 0 && <small>({notes.join(', ')})</small>}
                </p>
              ))}
            </dd>
          </div>
        ))}
      </dl>
      <small>
        {rows.some(({ row }) => row.some(({ notes }) => notes.length > 0))
          ? 'What is not marked is'
          : 'These limits are'}{' '}
        from {planStored ? 'the plan' : 'MODEL_LIMITS'}.
      </small>
    </>
  )
}

type Row = LimitRows[string]

/** The limits of a row in words, each with what the user's own limits and the boost made of it. */
function linesOf(plan: Row, ofUser: Row, effective: Row = {}) {
  return LIMITS.flatMap(({ name }) => {
    const base = own(ofUser, name) === undefined ? own(plan, name) : own(ofUser, name)
    if (base === undefined) return []
    const amount = own(effective, name) ?? null
    const words = limitWords({ [name]: amount })
    const more = amount !== null && base !== null ? amount - base : 0
    const notes = [
      ...(own(ofUser, name) === undefined ? [] : ['own']),
      ...(more > 0 ? [`${limitText(name, more)} from the boost`] : []),
    ]
    return [{ words, notes }]
  })
}
