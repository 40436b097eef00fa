/** The frame of the dashboard's pages. It also shows the result of a form. */
import type { AppContext, Deps } from '../context.ts'
import { isViewer } from '../http/admin.ts'
import { own } from '../ledger/shapes.ts'
import type { Frame } from '../views/page.tsx'
import { Notice } from '../views/parts.tsx'

/** The notices after a form, by `?done`. */
const NOTICES: Record<string, string> = {
  blocked: 'Blocked. Their calls are refused within two seconds.',
  unblocked: 'Unblocked. Their calls are admitted within two seconds.',
  erased: 'Erased. Only totals still include their usage.',
  saved: 'Saved. The next request is held by it.',
  'signed-out': 'Saved. Signed tokens that were issued before now are refused.',
  reset: 'Reset. What they used of these limits is free again.',
  'plan-deleted': 'Deleted. The next request of its users is held by the default plan.',
  'key-deleted': 'Deleted. Calls with the key are refused.',
}
const PROBLEMS: Record<string, string> = {
  nobody: 'No user has this label, id, token or key.',
}

/** The frame of a page. A form that redirects to it puts its result into `?done`. */
export function frameOf(c: AppContext, { now, environment, store }: Deps): Frame {
  const done = c.req.query('done') ?? ''
  const problem = own(PROBLEMS, done)
  const words = problem ?? own(NOTICES, done)
  return {
    now: now(),
    place: `${environment.platform} · ${environment.storage} · ${c.var.admin.name}`,
    viewer: isViewer(c),
    away: store?.health().degraded ?? false,
    notice: words && <Notice bad={!!problem}>{words}</Notice>,
  }
}
