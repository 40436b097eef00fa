/** `/api/admin/alerts`: the latest alerts, and a test of the receiver. */
import { v7 as uuidv7 } from 'uuid'
import type { AppContext, Deps } from '../context.ts'
import { ApiError } from '../errors.ts'
import type { Admin, Stamp } from '../http/admin.ts'
import type { SetBlock } from '../ledger/commands.ts'
import type { Alert } from '../ledger/documents.ts'
import { alertReport, type AlertReport } from '../reports/alerts.ts'
import { storeAnswer, storeOf } from '../store/required.ts'
import type { Store } from '../store/store.ts'

/** `GET /api/admin/alerts`. The receiver's address is not told, since it may be a secret. */
export const alertsHandler =
  (deps: Deps) =>
  async (c: AppContext): Promise<Response> =>
    c.json(await alertsOf(deps))

/** Whether alerts are sent, how, and the latest ones. */
export async function alertsOf(deps: Deps) {
  const alerts = await storeAnswer(storeOf(deps).alerts())
  return { format: deps.config.alerts?.format ?? null, alerts: alerts.map(alertReport) }
}

/** `POST /api/admin/alerts/test`. */
export const testAlertHandler =
  (deps: Deps, admin: Admin) =>
  async (c: AppContext): Promise<Response> =>
    c.json(await testAlert(deps, admin.stamp(c)))

/** Sends a test, and says how that went. Throws `not_configured`. */
export async function testAlert(deps: Deps, stamp: Stamp): Promise<AlertReport> {
  const { alerts, now } = deps
  const store = storeOf(deps)
  if (!alerts) {
    throw new ApiError('not_configured', 'No alerts are sent: ALERT_WEBHOOK_URL is not set.')
  }
  const id = uuidv7({ msecs: now() })
  const alert = { id, type: 'test', ...(stamp.by !== undefined && { by: stamp.by }) } as const
  await storeAnswer(store.execute({ op: 'raise', alert, ...stamp }))
  await alerts.deliver()
  const found = await triedAlert(store, id)
  if (found) return alertReport(found)
  throw new ApiError('store_unavailable', 'The test is gone from the list of alerts.')
}

/** How often, and after how long, a test is looked for that another delivery has taken. */
const LOOKS = 8
const LOOK_MS = 250

/** The alert, after its first attempt if that ends soon: another request or instance may be sending it. */
async function triedAlert(store: Store, id: string): Promise<Alert | undefined> {
  for (let look = 1; ; look += 1) {
    const found = (await storeAnswer(store.alerts())).find((one) => one.id === id)
    if (!found || found.attempts > 0 || look === LOOKS) return found
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS))
  }
}

/** What the alert of a block needs. */
export const alertOfBlock = ({ alerts, now }: Deps): Pick<SetBlock, 'alert'> =>
  alerts ? { alert: uuidv7({ msecs: now() }) } : {}

/** Delivers in the background. */
export function deliverSoon(c: AppContext, { alerts }: Deps): void {
  if (alerts) c.executionCtx.waitUntil(alerts.deliver())
}
