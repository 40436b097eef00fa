/** Converts an old request to an event of Weir. */
import type { Ids } from '../identity/ids.ts'
import { VERSION } from '../ledger/shapes.ts'
import type { Event } from '../ledger/events.ts'
import type { OldRequest } from './old-records.ts'

/** Replaces tokens that the old system did not know. It is too short to be a token. */
const UNKNOWN = 'unknown'

/** The event of an old request. */
export async function eventOf(id: string, request: OldRequest, ids: Ids): Promise<Event> {
  const { at, model, tokens } = request
  const [user, session] = await Promise.all([
    ids.user(request.user ?? UNKNOWN),
    request.session === undefined ? undefined : ids.session(request.session),
  ])
  const total = 'total' in tokens ? tokens.total : tokens.prompt + tokens.completion
  const event: Event = {
    v: VERSION,
    id,
    at,
    user,
    route: 'migrated',
    model,
    outcome: 'exact',
    status: 200,
    ...tokens,
    total,
    reserved: total,
    charged: total,
    totalMs: 0,
  }
  if (session !== undefined) event.session = session
  return event
}
