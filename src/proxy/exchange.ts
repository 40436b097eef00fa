/** One metered exchange: admit, call upstream, relay the answer, settle. */
import type { AppContext, Deps } from '../context.ts'
import { ApiError, asApiError, brokenOff } from '../errors.ts'
import type { Admitted } from '../ledger/commands.ts'
import { isTotal, linesOf } from '../ledger/policy.ts'
import { VERSION, type Event } from '../ledger/shapes.ts'
import { SECOND_MS, WINDOWS } from '../ledger/windows.ts'
import type { Caller } from '../middleware/caller.ts'
import type { Gate } from '../middleware/gate.ts'
import type { Degraded, FallbackStore } from '../store/fallback.ts'
import { StoreError } from '../store/store.ts'
import { createMeter } from '../usage/meter.ts'
import { chargeOf, type Ending } from '../usage/outcome.ts'
import type { ProxyRequest } from './body.ts'
import { headersDown } from './headers.ts'
import type { Relay } from './relay.ts'
import { callUpstream, type Answer } from './upstream.ts'

export type Parts = { deps: Deps; store: FallbackStore; gate: Gate; relay: Relay }

/** Serves one metered request; throws `ApiError` where there is no answer of upstream's to pass on. */
export async function exchange(
  c: AppContext,
  parts: Parts,
  caller: Caller,
  request: ProxyRequest,
): Promise<Response> {
  const { deps, store, gate, relay } = parts
  const { config } = deps
  const { route, model, reservation } = request
  const arrived = performance.now()
  const settle = settlement(c, parts, caller, request)

  let admission: Admitted & Degraded
  try {
    admission = await gate({ id: c.var.id, caller, model, reserved: reservation.tokens })
  } catch (error) {
    const refusal = error instanceof StoreError ? uncounted(error) : asApiError(error)
    // The lease may be there although its answer was lost.
    if (store.isUnacknowledged(c.var.id)) settle({ ended: false, cut: false }, refusal.status)
    throw refusal
  }

  if (config.onClientAbort === 'cancel' && c.req.raw.signal.aborted) {
    // Upstream has not been asked, so this costs nothing.
    const left = brokenOff()
    settle({ ended: false, cut: false }, left.status)
    throw left
  }

  const gated = performance.now()
  const controller = new AbortController()
  const deadline = setTimeout(() => controller.abort(), config.requestMs)
  if (config.onClientAbort === 'cancel') {
    c.req.raw.signal.addEventListener('abort', () => controller.abort())
  }
  let answer: Answer
  try {
    answer = await callUpstream(c, deps, {
      method: 'POST',
      path: route,
      body: request.bytes,
      user: caller.id,
      controller,
    })
  } catch (error) {
    clearTimeout(deadline)
    const failure = asApiError(error)
    settle({ ended: false, cut: controller.signal.aborted }, failure.status)
    if (admission.degraded) failure.headers['x-weir-degraded'] = '1'
    throw failure
  }

  const ttfbMs = performance.now() - gated
  const headers = headersDown(answer.headers, answer.body ? deps.relay : undefined)
  const gateMs = gated - arrived
  headers.append(
    'server-timing',
    `gate;dur=${gateMs.toFixed(1)}, upstream;dur=${ttfbMs.toFixed(1)}`,
  )
  for (const [name, value] of ownHeaders(admission, request)) headers.set(name, value)

  const { status, statusText } = answer
  if (!answer.body) {
    clearTimeout(deadline)
    settle({ status, ended: true, cut: false, ttfbMs }, status)
    return new Response(null, { status, statusText, headers })
  }
  const meter = answer.ok ? createMeter(route, answer.headers.get('content-type')) : undefined
  const { body, done } = relay({
    body: answer.body,
    meter,
    upstream: controller,
    onClientAbort: config.onClientAbort,
  })
  const ended = done.then(({ metered, ended, cut }) => {
    clearTimeout(deadline)
    return settle({ status, metered, ended, cut, ttfbMs }, status)
  })
  c.executionCtx.waitUntil(ended)
  return new Response(body, { status, statusText, headers })
}

const uncounted = (cause: StoreError) =>
  new ApiError('store_unavailable', 'Usage cannot be counted right now; try again soon.', { cause })

type Seen = Pick<Ending, 'status' | 'metered' | 'ended' | 'cut'> & { ttfbMs?: number }

/** Builds the function that settles one request, in the background; `sent` is the status the client gets. */
function settlement(c: AppContext, { deps, store }: Parts, caller: Caller, request: ProxyRequest) {
  const { route, model, reservation } = request
  const reserved = reservation.tokens
  const started = deps.now()

  return function settle({ ttfbMs, ...ending }: Seen, sent: number): Promise<void> {
    const { outcome, charged, usage } = chargeOf({
      ...ending,
      reserved,
      promptBytes: reservation.promptBytes,
      cap: deps.config.cap,
    })
    const event: Event = {
      v: VERSION,
      id: c.var.id,
      at: started,
      user: caller.id,
      route,
      model,
      outcome,
      status: sent,
      ...usage,
      reserved,
      charged,
      totalMs: Math.max(0, deps.now() - started),
    }
    if (caller.session !== undefined) event.session = caller.session
    if (ttfbMs !== undefined) event.ttfbMs = Math.round(ttfbMs)
    const { log, environment } = deps
    const place = environment.storage === 'database' ? 'Database' : 'File'
    const settled = store.execute({ op: 'settle', now: deps.now(), user: caller.id, event }).then(
      ({ applied }) => {
        if (!applied) return
        log.info(`📊 Logged ${charged} tokens for model ${model} (${place})`, { usage: event })
      },
      (error: unknown) => log.error('usage.refused', { usage: event, error }),
    )
    c.executionCtx.waitUntil(settled)
    return settled
  }
}

/** What Weir says of a request, in the place of whatever upstream says under these names. */
function* ownHeaders(
  admission: Admitted & Degraded,
  { reservation }: ProxyRequest,
): Generator<[string, string]> {
  yield* rateLimitHeaders(admission)
  if (admission.degraded) yield ['x-weir-degraded', '1']
  if (reservation.splice) yield ['x-weir-max-completion-tokens', String(reservation.splice.tokens)]
}

/**
 * What is left of the user's own limits with this model: draft-ietf-httpapi-ratelimit-headers-10, where a policy that is
 * not of requests names its unit.
 */
function* rateLimitHeaders({ at, limits = [] }: Admitted): Generator<[string, string]> {
  const mine = limits.find(({ of, model }) => of === 'user' && !isTotal(model))
  if (!mine) return
  const [policies, standings]: [string[], string[]] = [[], []]
  for (const { unit, window, limit, left, resetAt } of linesOf(mine, at)) {
    const name = `"${unit}-${window}"`
    const quotaUnit = unit === 'requests' ? '' : `;qu="${unit}"`
    policies.push(`${name};q=${limit}${quotaUnit};w=${seconds(WINDOWS[window].ms)}`)
    standings.push(`${name};r=${left};t=${seconds(resetAt - at)}`)
  }
  if (policies.length === 0) return
  yield ['ratelimit-policy', policies.join(', ')]
  yield ['ratelimit', standings.join(', ')]
}

const seconds = (ms: number): number => Math.ceil(ms / SECOND_MS)
