/** One metered exchange: admit, call upstream, relay the answer, settle. */
import type { Deps } from '../context.ts'
import { ApiError, asApiError, brokenOff } from '../errors.ts'
import type { Admitted } from '../ledger/answers.ts'
import type { Caller } from '../identity/caller.ts'
import type { Degraded, FallbackStore } from '../store/fallback/store.ts'
import type { Bytes, UpstreamAnswer } from '../ports.ts'
import { StoreError } from '../store/store.ts'
import { createMeter } from '../metering/meter.ts'
import { underMaximum, type ProxyRequest } from './body.ts'
import type { Gate } from './gate.ts'
import { createErrorReader } from './error-code.ts'
import type { Incoming } from './incoming.ts'
import { frameOf, headersDown } from './headers.ts'
import { limitHeaders } from './limit-headers.ts'
import type { Relay } from './relay.ts'
import { settlement, type Seen, type Settlement } from './settlement.ts'
import { callUpstream } from './upstream.ts'
import type { Calls } from './calls.ts'

export type Parts = { deps: Deps; store: FallbackStore; gate: Gate; relay: Relay; calls: Calls }

type Admission = Admitted & Degraded

/** The data that all steps of an exchange use. */
type Exchange = Parts & {
  incoming: Incoming
  caller: Caller
  request: ProxyRequest
  /** Aborted when the client leaves. */
  left: AbortSignal
  settle: Settlement['settle']
  /** Ends the call in the count of calls in progress. */
  leave(): void
}

/** A call to upstream that can be cut. */
type Call = { controller: AbortController; clearDeadline(): void }

const NOTHING_SEEN: Seen = { ended: false, cut: false }

/** Serves one metered request. Throws `ApiError` if there is no answer from upstream, or if too many calls are in progress. */
export async function exchange(
  incoming: Incoming,
  parts: Parts,
  caller: Caller,
  request: ProxyRequest,
): Promise<Response> {
  const leave = parts.calls(caller.id)
  try {
    return await serve(incoming, parts, caller, request, leave)
  } catch (error) {
    leave()
    throw error
  }
}

async function serve(
  incoming: Incoming,
  parts: Parts,
  caller: Caller,
  request: ProxyRequest,
  leave: () => void,
): Promise<Response> {
  const left = incoming.request.signal
  const arrived = performance.now()
  const { settle, admitted } = settlement(incoming, parts, caller, request)
  const asked: Exchange = { ...parts, incoming, caller, request, left, settle, leave }

  const admission = await admit(asked)
  const known = { ...asked, request: underMaximum(request, admission.maximum) }
  admitted(admission, known.request.reservation)
  stopIfLeft(known)
  const gated = performance.now()
  const call = startCall(known)
  const answer = await ask(known, call, admission)
  const answered = performance.now()

  const { status, statusText } = answer
  const body = await passOn(known, call, answer, answered - gated)
  const { headers: ofStreams, isDecoded } = parts.deps.relay
  const platform = { headers: body instanceof ReadableStream ? ofStreams : {}, isDecoded }
  const headers = headersDown(answer.headers, body ? platform : undefined)
  headers.append('server-timing', timing(gated - arrived, answered - gated))
  for (const [name, value] of ownHeaders(admission, known.request)) headers.set(name, value)
  return new Response(body, { status, statusText, headers })
}

/** Asks the gate. If the gate's answer was lost, a lease may exist, so the request is settled. */
async function admit({ gate, store, incoming, caller, request, settle }: Exchange) {
  const { id, tag } = incoming
  const { model, reservation } = request
  try {
    return await gate({ id, caller, tag, model, reservation })
  } catch (error) {
    const refusal = error instanceof StoreError ? uncounted(error) : asApiError(error)
    if (store.isUnacknowledged(id)) void settle(NOTHING_SEEN, refusal.status)
    throw refusal
  }
}

/** Ends the exchange if the client has left. Upstream has not been called, so nothing is charged. */
function stopIfLeft({ deps, left, settle }: Exchange): void {
  if (deps.config.onClientAbort !== 'cancel' || !left.aborted) return
  const broken = brokenOff()
  void settle(NOTHING_SEEN, broken.status)
  throw broken
}

/** Starts the deadline of the request. With `ON_CLIENT_ABORT=cancel`, the client can also cut the call. */
function startCall({ deps: { config }, left }: Exchange): Call {
  const controller = new AbortController()
  const deadline = setTimeout(() => controller.abort(), config.requestMs)
  if (config.onClientAbort === 'cancel') {
    left.addEventListener('abort', () => controller.abort())
  }
  return { controller, clearDeadline: () => clearTimeout(deadline) }
}

/** Calls upstream, and settles the request if there is no answer. */
async function ask(
  { deps, incoming, caller, request, settle }: Exchange,
  { controller, clearDeadline }: Call,
  admission: Admission,
): Promise<UpstreamAnswer> {
  try {
    return await callUpstream(deps, {
      client: incoming.request,
      method: 'POST',
      path: request.route,
      body: request.bytes,
      contentType: request.contentType,
      user: caller.id,
      controller,
    })
  } catch (error) {
    clearDeadline()
    const failure = asApiError(error)
    void settle({ ended: false, cut: controller.signal.aborted }, failure.status)
    if (admission.degraded) failure.headers['x-weir-degraded'] = '1'
    throw failure
  }
}

/** Relays the body to the client, and settles the request when it has ended. */
async function passOn(
  { deps, relay, incoming, caller, request, left, settle, leave }: Exchange,
  { controller, clearDeadline }: Call,
  { ok, status, headers, body }: UpstreamAnswer,
  ttfbMs: number,
): Promise<ReadableStream<Bytes> | Bytes | null> {
  if (!body) {
    clearDeadline()
    leave()
    void settle({ status, ended: true, cut: false, ttfbMs }, status)
    return null
  }
  const coding = headers.get('content-encoding')
  const isReadable = !coding || coding === 'identity' || deps.relay.isDecoded(coding)
  const error = ok ? undefined : createErrorReader()
  const relayed = relay({
    client: incoming.isForUs ? undefined : incoming.request,
    left,
    body,
    frame: frameOf(headers, deps.relay),
    meter: ok ? createMeter(request.route, headers.get('content-type')) : error,
    upstream: controller,
    onClientAbort: deps.config.onClientAbort,
    user: caller.id,
  })
  const settled = relayed.done.then(({ metered, ended, cut }) => {
    clearDeadline()
    leave()
    const seen = isReadable ? metered : { ...metered, over: true }
    const code = error?.code()
    return settle({ status, metered: seen, ended, cut, ttfbMs, ...(code && { code }) }, status)
  })
  incoming.waitUntil(settled)
  return relayed.body
}

const timing = (gateMs: number, upstreamMs: number): string =>
  `gate;dur=${gateMs.toFixed(1)}, upstream;dur=${upstreamMs.toFixed(1)}`

const uncounted = (cause: StoreError) =>
  new ApiError('store_unavailable', 'Usage cannot be counted right now; try again soon.', { cause })

/** Weir's own headers. They replace upstream's headers of the same names. */
function* ownHeaders(
  admission: Admission,
  { reservation }: ProxyRequest,
): Generator<[string, string]> {
  yield* limitHeaders(admission, reservation)
  if (admission.degraded) yield ['x-weir-degraded', '1']
  if (reservation.splice) yield ['x-weir-max-completion-tokens', String(reservation.splice.tokens)]
}
