/** `/admin/audit`: the page of what admins did, whole or as a refresh. */
import type { AppContext, Deps } from '../context.ts'
import { auditFor } from '../http/admin.ts'
import { storeAnswer, storeOf } from '../store/required.ts'
import { AUDIT_KEPT } from '../store/store.ts'
import { auditPage } from '../views/audit.tsx'
import { answerPage } from './answer-page.ts'
import { frameOf, framed } from './dashboard-frame.tsx'
import { isRefresh, refreshed } from './dashboard-refresh.ts'

const SHOWN = 100

/** Answers `?by&action&all`. */
export const auditHandler =
  (deps: Deps) =>
  async (c: AppContext): Promise<Response> => {
    const { by = '', action = '', all } = c.req.query()
    const isFiltered = by !== '' || action !== ''
    const read = isFiltered || all !== undefined ? AUDIT_KEPT : SHOWN
    const [{ days }, kept] = await Promise.all([
      framed(deps),
      storeAnswer(storeOf(deps).audit(read)),
    ])
    const audit = auditFor(c, kept).filter(
      (entry) => (by === '' || entry.by === by) && (action === '' || entry.action === action),
    )
    const frame = frameOf(c, deps, days)
    const distinct = (of: string[]) => [...new Set(of.filter(Boolean))].sort()
    const page = () =>
      auditPage({
        ...frame,
        audit,
        query: { by, action },
        names: distinct([
          ...deps.config.admins.map(({ name }) => name),
          ...kept.map((one) => one.by ?? ''),
          by,
        ]),
        actions: distinct([...kept.map((one) => one.action), action]),
        cut: read === SHOWN && kept.length === SHOWN,
      })
    if (isRefresh(c)) return refreshed(c, frame, [audit, frame.counts], page)
    return answerPage(c, page())
  }
