/** What an operation in the OpenAPI document is, and the errors that many have. */
import type { Schema } from './words.ts'
import * as z from 'zod/mini'
import type { ErrorCode } from '../../src/errors.ts'

/** By media type. */
type Content = Record<string, Schema>
type Parameters = z.ZodMiniObject

export type Tag = 'Proxy' | 'Usage' | 'Tracking' | 'Admin' | 'History' | 'Health'
type HeaderName = 'location' | 'set-cookie' | 'content-disposition'

export type Operation = {
  id: string
  tag: Tag
  summary: string
  description?: string
  /** Whose credentials the route needs. Some bodies may also contain a user's token. */
  who: 'user' | 'user, also in the body' | 'admin' | 'metrics' | 'anyone'
  path?: Parameters
  query?: Parameters
  body?: Content
  answers: Record<number, { told: string; content?: Content; headers?: HeaderName[] }>
  errors: ErrorCode[]
  /** The provider answers, with its headers and its own errors. */
  provider?: 'metered' | 'unmetered'
  /** A form gets its errors as pages. */
  pages?: true
}

/** The operations of each path, in the order of the `allow` header. */
export type Paths = Record<
  string,
  { [method in 'get' | 'post' | 'put' | 'patch' | 'delete']?: Operation }
>

export const JSON_TYPE = 'application/json'

export const FORM_TYPE = 'application/x-www-form-urlencoded'

export const USER: ErrorCode[] = [
  ...(['invalid_request', 'missing_token', 'invalid_token', 'expired_token'] as const),
  ...(['invalid_key', 'expired_key', 'disabled_key'] as const),
  ...(['issuer_unavailable', 'cross_origin'] as const),
]
export const BODY: ErrorCode[] = [
  'invalid_json',
  'invalid_request',
  'body_too_large',
  'unsupported_encoding',
]
export const STORE: ErrorCode[] = ['store_unavailable', 'not_configured']
export const PROVIDER: ErrorCode[] = [
  'upstream_unreachable',
  'upstream_timeout',
  'upstream_not_configured',
]

export const ADMIN: ErrorCode[] = [
  'missing_token',
  'invalid_token',
  'rate_limit_exceeded',
  'forbidden',
  ...STORE,
]
