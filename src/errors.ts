/** The one kind of error a client sees, its table of codes, and the one place where errors become answers. */
import type { Context } from 'hono'
import { HTTPException } from 'hono/http-exception'
import type { ContentfulStatusCode } from 'hono/utils/http-status'

/** The status and the type of each code. */
export const CODES = {
  invalid_json: [400, 'invalid_request_error'],
  invalid_request: [400, 'invalid_request_error'],
  cost_unbounded: [400, 'invalid_request_error'],
  missing_token: [401, 'authentication_error'],
  invalid_token: [401, 'authentication_error'],
  invalid_key: [401, 'authentication_error'],
  expired_key: [401, 'authentication_error'],
  expired_token: [401, 'authentication_error'],
  user_blocked: [403, 'permission_error'],
  disabled_key: [403, 'permission_error'],
  model_not_allowed: [403, 'permission_error'],
  model_not_priced: [403, 'permission_error'],
  forbidden: [403, 'permission_error'],
  cross_origin: [403, 'permission_error'],
  not_found: [404, 'invalid_request_error'],
  method_not_allowed: [405, 'invalid_request_error'],
  body_too_large: [413, 'invalid_request_error'],
  unsupported_encoding: [415, 'invalid_request_error'],
  unsupported_audio: [415, 'invalid_request_error'],
  upgrade_required: [426, 'invalid_request_error'],
  insufficient_quota: [429, 'insufficient_quota'],
  global_quota: [429, 'insufficient_quota'],
  rate_limit_exceeded: [429, 'rate_limit_error'],
  too_many_users: [429, 'rate_limit_error'],
  internal_error: [500, 'server_error'],
  upstream_unreachable: [502, 'server_error'],
  upstream_timeout: [504, 'server_error'],
  store_unavailable: [503, 'server_error'],
  issuer_unavailable: [503, 'server_error'],
  not_configured: [503, 'server_error'],
  upstream_not_configured: [503, 'server_error'],
} as const satisfies Record<string, readonly [ContentfulStatusCode, string]>

export type ErrorCode = keyof typeof CODES

export type ErrorDetails = {
  /** The field or header that was wrong. */
  param?: string
  headers?: Record<string, string>
  /** For the log only; never sent. */
  cause?: unknown
}

/** An error for the client. The message is sent as it is: it says what is wrong and what would be right. */
export class ApiError extends Error {
  override readonly name = 'ApiError'
  readonly code: ErrorCode
  readonly param: string | undefined
  readonly headers: Record<string, string>

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(message, { cause: details.cause })
    this.code = code
    this.param = details.param
    this.headers = details.headers ?? {}
  }

  get status(): ContentfulStatusCode {
    return CODES[this.code][0]
  }

  /** The body that every OpenAI client can read; the AI SDK needs `message` and `type` as strings. */
  toJSON() {
    const { message, code, param } = this
    return { error: { message, type: CODES[code][1], code, ...(param !== undefined && { param }) } }
  }
}

/** Turns anything that a handler threw into an `ApiError`. An unexpected error becomes a fixed sentence. */
export function asApiError(error: unknown): ApiError {
  if (error instanceof ApiError) return error
  if (error instanceof HTTPException && error.message.startsWith('Malformed JSON')) {
    return new ApiError('invalid_json', 'The body must be a JSON object in UTF-8.', {
      cause: error,
    })
  }
  if (error instanceof HTTPException && error.status < 500) {
    return new ApiError('invalid_request', 'The request could not be read.', { cause: error })
  }
  return new ApiError('internal_error', 'Something went wrong here. It has been logged.', {
    cause: error,
  })
}

/** For the log: the client has disconnected, so nobody gets this answer. */
export const brokenOff = () => new ApiError('invalid_request', 'The request broke off.')

/** The answer to an error, with the id of the request, and an address where callers find help, if there is one. */
export function errorResponse(c: Context, error: ApiError, help: string | undefined): Response {
  const body = { ...error.toJSON().error, id: c.get('id') as string, ...(help && { help }) }
  return c.json({ error: body }, error.status, { 'cache-control': 'no-store', ...error.headers })
}
