/** One metered exchange: admit, call upstream, relay the answer, settle. */
import type { Config } from '../config.ts'
import type { AppContext, Deps } from '../context.ts'
import { ApiError, asApiError, brokenOff } from '../errors.ts'
import type { Degraded, FallbackStore } from '../store/fallback.ts'
import type { Caller } from '../middleware/caller.ts'
import type { Gate } from '../middleware/gate.ts'
import { StoreError } from '../store/store.ts'
import { createMeter } from '../usage/meter.ts'
import { chargeOf, type Ending } from '../usage/outcome.ts'
import {
  DAY_MS,
  MINUTE_MS,
  limitsOf,
  nextDay,
  type Admitted,
  type Event,
  type Limits,
} from '../usage/record.ts'
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
  const { route, model, bound } = request
  const arrived = performance.now()
  const settle = settlement(c, parts, caller, request)

  let admission: Admitted & Degraded
  try {
    admission = await gate({ id: c.var.id, caller, model, bound: bound.tokens })
  } catch (error) {
    const refusal = error instanceof StoreError ? uncounted(error) : asApiError(error)
    // The lease may be there although its answer was lost.
    if (store.isUnacknowledged(c.var.id)) settle({ cut: false }, refusal.status)
    throw refusal
  }

  if (config.onClientAbort === 'cancel' && c.req.raw.signal.aborted) {
    // Upstream has not been asked, so this costs nothing.
    const left = brokenOff()
    settle({ cut: false }, left.status)
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
    settle({ cut: controller.signal.aborted }, failure.status)
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
  for (const [name, value] of ownHeaders(admission, request, config)) headers.set(name, value)

  const { status, statusText } = answer
  if (!answer.body) {
    clearTimeout(deadline)
    settle({ status, cut: false, ttfbMs }, status)
    return new Response(null, { status, statusText, headers })
  }
  const meter = answer.ok ? createMeter(route, answer.headers.get('content-type')) : undefined
  const { body, done } = relay({
    body: answer.body,
    meter,
    upstream: controller,
    onClientAbort: config.onClientAbort,
  })
  const ended = done.then(({ metered, cut }) => {
    clearTimeout(deadline)
    return settle({ status, metered, cut, ttfbMs }, status)
  })
  c.executionCtx.waitUntil(ended)
  return new Response(body, { status, statusText, headers })
}

const uncounted = (cause: StoreError) =>
  new ApiError('store_unavailable', 'Usage cannot be counted right now; try again soon.', { cause })

type Seen = Pick<Ending, 'status' | 'metered' | 'cut'> & { ttfbMs?: number }

/** Builds the function that settles one request, in the background; `sent` is the status the client gets. */
function settlement(c: AppContext, { deps, store }: Parts, caller: Caller, request: ProxyRequest) {
  const { route, model, bound } = request
  const started = deps.now()

  return function settle({ ttfbMs, ...ending }: Seen, sent: number): Promise<void> {
    const { outcome, charged, estimated, usage } = chargeOf({
      ...ending,
      bound: bound.tokens,
      promptBytes: bound.promptBytes,
    })
    const event: Event = {
      v: 1,
      id: c.var.id,
      at: started,
      user: caller.id,
      route,
      model,
      outcome,
      status: sent,
      ...usage,
      bound: bound.tokens,
      charged,
      estimated,
      totalMs: Math.max(0, deps.now() - started),
    }
    if (caller.session !== undefined) event.session = caller.session
    if (ttfbMs !== undefined) event.ttfbMs = Math.round(ttfbMs)
    const { log, environment } = deps
    const place = environment.storage === 'database' ? 'Database' : 'File'
    const settled = store.settle({ op: 'settle', now: deps.now(), user: caller.id, event }).then(
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
  { model, bound }: ProxyRequest,
  { limits }: Readonly<Config>,
): Generator<[string, string]> {
  yield* rateLimitHeaders(admission, limitsOf(limits, model))
  if (admission.degraded) yield ['x-weir-degraded', '1']
  if (bound.splice) yield ['x-weir-max-completion-tokens', String(bound.splice.tokens)]
}

/** What is left of the user's own limits with this model: draft-ietf-httpapi-ratelimit-headers. */
function* rateLimitHeaders(
  { at, day, minute }: Admitted,
  limits: Limits | undefined,
): Generator<[string, string]> {
  if (!limits) return
  const inDay = Math.ceil((nextDay(at) - at) / 1000)
  const inMinute = Math.ceil((MINUTE_MS - (at % MINUTE_MS)) / 1000)
  const windows = [
    ['requests-day', limits.requestsPerDay, day.requests, DAY_MS / 1000, inDay],
    ['tokens-day', limits.tokensPerDay, day.tokens, DAY_MS / 1000, inDay],
    ['requests-minute', limits.requestsPerMinute, minute.requests, 60, inMinute],
    ['tokens-minute', limits.tokensPerMinute, minute.tokens, 60, inMinute],
  ] as const
  const set = windows.flatMap(([name, limit, used, width, reset]) =>
    limit === undefined
      ? []
      : [
          {
            policy: `"${name}";q=${limit};w=${width}`,
            left: `"${name}";r=${Math.max(0, limit - used)};t=${reset}`,
          },
        ],
  )
  yield ['ratelimit-policy', set.map(({ policy }) => policy).join(', ')]
  yield ['ratelimit', set.map(({ left }) => left).join(', ')]
}
