/** `/admin/requests`: the page of requests, whole or as a refresh, and the page of one of them. */
import type { AppContext, Deps } from '../context.ts'
import { ApiError } from '../errors.ts'
import type { Event } from '../ledger/events.ts'
import { storeAnswer, storeOf } from '../store/required.ts'
import { REFUSED_KEPT, type EventCursor } from '../store/store.ts'
import { statusOf } from '../views/refused.tsx'
import { requestPage } from '../views/request.tsx'
import { requestsPage, type RequestsQuery } from '../views/requests.tsx'
import { answerPage } from './answer-page.ts'
import { frameOf, framed } from './dashboard-frame.tsx'
import { labelsOf } from './dashboard-overview.ts'
import { isRefresh, refreshed } from './dashboard-refresh.ts'
import { knownModels } from './form-fields.ts'
import { REQUEST_ID, findRequest } from './request-search.ts'

const SHOWN = 100
/** Requests among which a filter looks. */
const LOOKED = 1000
const REFUSED = 'refused'

/** A place in the list of requests: how many are newer, and the request at it. */
const PLACE = /^(\d{1,9})~([\w-]{1,64})$/

function placeOf(text: string): EventCursor | undefined {
  const [, skip, id] = PLACE.exec(text) ?? []
  return skip === undefined || id === undefined ? undefined : { skip: Number(skip), known: [id] }
}

const matches = ({ model, outcome, status, user, tag }: RequestsQuery) => {
  const wanted = status === '' ? undefined : Number(status)
  return (event: Event) =>
    (model === '' || event.model === model) &&
    (outcome === '' || event.outcome === outcome) &&
    (wanted === undefined || event.status === wanted) &&
    (user === '' || event.user === user) &&
    (tag === '' || event.tag === tag)
}

/** Answers `?model&outcome&status&user&tag&before`. */
export const requestsHandler =
  (deps: Deps) =>
  async (c: AppContext): Promise<Response> => {
    const store = storeOf(deps)
    const {
      model = '',
      outcome = '',
      status = '',
      user = '',
      tag = '',
      before = '',
    } = c.req.query()
    const query = { model, outcome, status, user, tag }
    const [{ days }, found] = await Promise.all([
      framed(deps),
      outcome === REFUSED ? refusedOf(deps, query) : eventsOf(deps, query, placeOf(before)),
    ])
    const ids = [...found.events, ...(found.refused ?? [])].map((one) => one.user)
    const labels = labelsOf(
      await storeAnswer(store.users([...new Set([...ids, user].filter(Boolean))])),
    )
    const used = days.flatMap((day) => Object.keys(day.models))
    const models = [
      ...new Set([...knownModels(deps.config), ...used, model].filter(Boolean)),
    ].sort()
    const frame = frameOf(c, deps, days)
    const page = () =>
      requestsPage({ ...frame, ...found, labels, query, models, paged: before !== '' })
    if (isRefresh(c)) return refreshed(c, frame, [found, labels, frame.counts], page)
    return answerPage(c, page())
  }

/** The requests of a view, and where older ones begin. */
async function eventsOf(deps: Deps, query: RequestsQuery, from: EventCursor | undefined) {
  const isFiltered = Object.values(query).some((value) => value !== '')
  const page = await storeAnswer(storeOf(deps).eventPage(isFiltered ? LOOKED : SHOWN, from))
  const all = page.events
  const matching = isFiltered ? all.filter(matches(query)) : all
  const events = matching.slice(0, SHOWN)
  const isCut = matching.length > SHOWN
  const last = isCut ? events.at(-1) : all.at(-1)
  const rest = last ? all.length - 1 - all.indexOf(last) : 0
  const end = page.next?.skip ?? (from?.skip ?? 0) + all.length
  return {
    events,
    refused: undefined,
    matching: matching.length,
    looked: all.length,
    since: all.at(-1)?.at,
    next: last && (isCut || page.next) ? `${Math.max(1, end - rest)}~${last.id}` : undefined,
  }
}

async function refusedOf(deps: Deps, { model, status, user, tag }: RequestsQuery) {
  const { latest } = await storeAnswer(storeOf(deps).refusals([], REFUSED_KEPT))
  const refused = latest.filter(
    (one) =>
      (model === '' || one.model === model) &&
      (status === '' || statusOf(one) === Number(status)) &&
      (user === '' || one.user === user) &&
      (tag === '' || one.tag === tag),
  )
  return {
    events: [],
    refused: refused.slice(0, SHOWN),
    matching: refused.length,
    looked: latest.length,
    since: latest.at(-1)?.at,
    next: undefined,
  }
}

/** The page of the request in the path. Throws `not_found`. */
export const requestHandler =
  (deps: Deps) =>
  async (c: AppContext): Promise<Response> => {
    if (isRefresh(c)) return c.body(null, 304)
    const id = c.req.param('requestId') ?? ''
    const store = storeOf(deps)
    const [{ days }, found] = await Promise.all([framed(deps), storeAnswer(findRequest(store, id))])
    if (!found) {
      throw new ApiError(
        'not_found',
        REQUEST_ID.test(id)
          ? 'No request with this x-weir-id is kept. It may still run, be older than the requests that are kept, or have been refused before its user was known.'
          : 'This is no x-weir-id: it has 36 characters, such as 01a20217-31d9-759b-be27-34edc8f244b6.',
      )
    }
    const labels = labelsOf(await storeAnswer(store.users([found.user])))
    const frame = { ...frameOf(c, deps, days), still: true }
    return answerPage(c, requestPage({ ...frame, id: found.id, labels, found }))
  }
