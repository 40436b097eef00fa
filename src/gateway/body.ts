/** What a request body asks for; the same bytes go upstream. */
import type { Config } from '../config/config.ts'
import { ApiError } from '../errors.ts'
import type { Bytes } from '../ports.ts'
import {
  reservationOf,
  type MeteredRoute,
  type Reservation,
  type Route,
} from '../metering/reservation.ts'
import { isListed } from '../ledger/model-list.ts'
import { MODEL_NAME } from '../metering/models.ts'
import type { ParsedBody } from './body-json.ts'
import type { Steps } from './steps.ts'

export type ProxyRequest = {
  route: Route
  /** What goes upstream: the client's bytes, unless strict mode had to splice a maximum in. */
  bytes: Uint8Array<ArrayBuffer>
  /** The client's bytes. */
  sent: Bytes
  /** The kind of body; absent for JSON. */
  contentType?: string
  model: string
  reservation: Reservation
  /** Where the `null` is in the client's bytes, if the client sent `null` as the maximum. */
  nullAt?: number | undefined
}

export const MAX_MESSAGES = 5000

/** Checks the fields that the gate needs, and computes the reservation. `body` is `bytes`, parsed. Throws `ApiError`. */
export function* readProxyRequest(
  route: MeteredRoute,
  bytes: Bytes,
  config: Readonly<Config>,
  body: ParsedBody,
): Steps<ProxyRequest> {
  const wrong = (param: string, message: string) =>
    new ApiError('invalid_request', message, { param })

  const { model, stream, messages, input } = body.value
  if (typeof model !== 'string') throw wrong('model', '`model` must be the name of a model.')
  checkModel(model, config)
  if (stream !== undefined && stream !== null && typeof stream !== 'boolean') {
    throw wrong('stream', '`stream` must be true or false.')
  }
  if (route === 'chat/completions' && !Array.isArray(messages)) {
    throw wrong('messages', '`messages` must be a list of messages.')
  }
  if (route === 'embeddings' && typeof input !== 'string' && !Array.isArray(input)) {
    throw wrong('input', '`input` must be a text or a list.')
  }
  for (const [param, list] of Object.entries({ messages, input })) {
    if (Array.isArray(list) && list.length > MAX_MESSAGES && route !== 'embeddings') {
      throw wrong(
        param,
        `\`${param}\` has ${list.length} entries; at most ${MAX_MESSAGES} are allowed.`,
      )
    }
  }

  const reservation = yield* reservationOf(route, body.value, bytes, config)
  const { room, splice } = reservation
  const nullAt = room?.isNull ? body.placeOf(room.field) : undefined
  const request = { route, bytes, sent: bytes, model, reservation, nullAt }
  return splice ? { ...request, bytes: withMaximum(request, splice) } : request
}

/** Throws unless the name is a valid model name and `ALLOWED_MODELS` contains it. */
export function checkModel(model: string, { allowedModels }: Readonly<Config>): void {
  if (!MODEL_NAME.test(model)) {
    throw new ApiError(
      'invalid_request',
      '`model` must have 1 to 128 of the characters A-Z a-z 0-9 . _ : / - and begin with a letter or digit.',
      { param: 'model' },
    )
  }
  if (!isListed(model, allowedModels)) throw notOffered(model)
}

/** The error for a model that `ALLOWED_MODELS` does not contain. */
export const notOffered = (model: string): ApiError =>
  new ApiError('model_not_allowed', `The model ${model} is not offered here.`, { param: 'model' })

/** The request with the maximum of completion tokens that was granted, in place of the larger one that was asked for. */
export function underMaximum(request: ProxyRequest, maximum: number | undefined): ProxyRequest {
  const { reservation } = request
  const { room } = reservation
  if (maximum === undefined || !room) return request
  const completion = room.completions * maximum
  const tokens = reservation.tokens - reservation.completion + completion
  const splice = { field: room.field, tokens: maximum }
  const bytes = withMaximum(request, splice)
  return { ...request, bytes, reservation: { ...reservation, tokens, completion, splice } }
}

/** The body with a maximum of completion tokens, in front of its first key or in place of a null. */
function withMaximum(
  { sent, nullAt }: ProxyRequest,
  { field, tokens }: { field: string; tokens: number },
): Bytes {
  const at = nullAt ?? sent.indexOf(0x7b) + 1
  const isNull = nullAt !== undefined
  const insert = new TextEncoder().encode(isNull ? String(tokens) : `"${field}":${tokens},`)
  const rest = sent.subarray(isNull ? at + 'null'.length : at)
  const result = new Uint8Array(at + insert.length + rest.length)
  result.set(sent.subarray(0, at))
  result.set(insert, at)
  result.set(rest, at + insert.length)
  return result
}
