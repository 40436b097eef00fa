/** The routes in the OpenAPI document: their callers, parameters and answers. */
import type { ErrorCode } from '../src/errors.ts'
import { WRONG_PER_MINUTE } from '../src/identity/admin-key.ts'
import { SYNCS_PER_MINUTE } from '../src/ledger/capacity.ts'
import type * as z from 'zod/mini'
import { keyShapeAnswer, ownUsageAnswer } from './openapi-own-schemas.ts'
import {
  blockBody,
  chatCompletion,
  chatRequest,
  embeddings,
  embeddingsRequest,
  speechRequest,
  transcription,
  uploadRequest,
  events,
  exportQuery,
  groqAnswer,
  groqRequest,
  healthAnswer,
  servesAnswer,
  historyAnswer,
  historyQuery,
  loggedIn,
  login,
  modelAnswer,
  modelPath,
  modelsAnswer,
  responseAnswer,
  responsesRequest,
  session,
  success,
  syncBody,
  synced,
  text,
  tokenAnswer,
  tokenBody,
  usageAnswer,
  userQuery,
} from './openapi-schemas.ts'

type Schema = z.core.$ZodType
/** By media type. */
type Content = Record<string, Schema>
type Parameters = z.ZodMiniObject

export type Tag = 'Proxy' | 'Usage' | 'Tracking' | 'Admin' | 'History' | 'Health'
export type HeaderName = 'location' | 'set-cookie' | 'content-disposition'

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
const STREAM_TYPE = 'text/event-stream'
const FORM_TYPE = 'application/x-www-form-urlencoded'

const USER: ErrorCode[] = [
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
const STORE: ErrorCode[] = ['store_unavailable', 'not_configured']
const PROVIDER: ErrorCode[] = [
  'upstream_unreachable',
  'upstream_timeout',
  'upstream_not_configured',
]
const METERED: ErrorCode[] = [
  ...USER,
  ...BODY,
  ...STORE,
  ...PROVIDER,
  'cost_unbounded',
  'model_not_allowed',
  'model_not_priced',
  'user_blocked',
  'insufficient_quota',
  'global_quota',
  'rate_limit_exceeded',
  'too_many_users',
]
export const ADMIN: ErrorCode[] = [
  'missing_token',
  'invalid_token',
  'rate_limit_exceeded',
  'forbidden',
  ...STORE,
]

const metered = (
  operation: Pick<Operation, 'id' | 'summary'> & {
    takes: Schema
    gives: Schema
    streams?: boolean
  },
): Operation => {
  const { takes, gives, streams = true, ...rest } = operation
  return {
    ...rest,
    tag: 'Proxy',
    who: 'user',
    body: { [JSON_TYPE]: takes },
    answers: {
      200: {
        told: 'The answer of the provider.',
        content: { [JSON_TYPE]: gives, ...(streams && { [STREAM_TYPE]: events }) },
      },
    },
    errors: METERED,
    provider: 'metered',
  }
}

const upload = (id: string, summary: string): Operation => ({
  ...metered({ id, summary, takes: uploadRequest, gives: transcription }),
  body: { 'multipart/form-data': uploadRequest },
  answers: {
    200: {
      told: 'The transcription, in the form that was asked for.',
      content: { [JSON_TYPE]: transcription, 'text/plain': text },
    },
  },
  errors: [...METERED, 'unsupported_audio'],
})

/** All routes except pages, static files, and those of openapi-admin-paths.ts. */
export const PATHS: Paths = {
  '/api/groq': {
    post: {
      ...metered({
        id: 'ask',
        summary: 'Send a prompt or a chat request',
        takes: groqRequest,
        gives: groqAnswer,
      }),
      description:
        'A body with `messages` is a chat request and gets a chat answer. Its user token must be in a header.',
      who: 'user, also in the body',
    },
  },
  '/api/groq/openai/v1/chat/completions': {
    post: metered({
      id: 'createChatCompletion',
      summary: 'Chat',
      takes: chatRequest,
      gives: chatCompletion,
    }),
  },
  '/api/groq/openai/v1/responses': {
    post: metered({
      id: 'createResponse',
      summary: 'The Responses API',
      takes: responsesRequest,
      gives: responseAnswer,
    }),
  },
  '/api/groq/openai/v1/embeddings': {
    post: metered({
      id: 'createEmbeddings',
      summary: 'Embeddings',
      takes: embeddingsRequest,
      gives: embeddings,
      streams: false,
    }),
  },
  '/api/groq/openai/v1/audio/transcriptions': {
    post: upload('createTranscription', 'Transcribe audio'),
  },
  '/api/groq/openai/v1/audio/translations': {
    post: upload('createTranslation', 'Translate audio into English text'),
  },
  '/api/groq/openai/v1/audio/speech': {
    post: {
      ...metered({
        id: 'createSpeech',
        summary: 'Speak a text',
        takes: speechRequest,
        gives: text,
      }),
      answers: {
        200: { told: 'The audio of the provider, byte for byte.', content: { 'audio/wav': text } },
      },
    },
  },
  '/api/groq/openai/v1/models': {
    get: {
      id: 'listModels',
      tag: 'Proxy',
      summary: 'The models that are offered',
      who: 'user',
      answers: {
        200: {
          told: 'Those of the provider that `ALLOWED_MODELS` contains.',
          content: { [JSON_TYPE]: modelsAnswer },
        },
      },
      errors: [...USER, ...PROVIDER],
      provider: 'unmetered',
    },
  },
  '/api/groq/openai/v1/models/{id}': {
    get: {
      id: 'getModel',
      tag: 'Proxy',
      summary: 'A model of the provider',
      who: 'user',
      path: modelPath,
      answers: { 200: { told: 'What it is.', content: { [JSON_TYPE]: modelAnswer } } },
      errors: [...USER, ...PROVIDER, 'model_not_allowed'],
      provider: 'unmetered',
    },
  },
  '/api/tracking/sync': {
    post: {
      id: 'sync',
      tag: 'Tracking',
      summary: 'Report the counts of a browser and get those of the gateway',
      description: `Reports are shown beside the metered counts, and never change a charge or a limit. A user may sync ${SYNCS_PER_MINUTE} times a minute.`,
      who: 'user, also in the body',
      body: { [JSON_TYPE]: syncBody },
      answers: {
        200: {
          told: 'What is left today, and what is blocked.',
          content: { [JSON_TYPE]: synced },
        },
      },
      errors: [...USER, ...BODY, ...STORE, 'rate_limit_exceeded', 'too_many_users'],
    },
  },
  '/api/usage': {
    get: {
      id: 'ownUsage',
      tag: 'Usage',
      summary: 'What the caller has used and has left',
      description: 'It writes nothing, and counts nothing.',
      who: 'user',
      answers: {
        200: {
          told: 'Each limit of the caller.',
          content: { [JSON_TYPE]: ownUsageAnswer },
        },
      },
      errors: [...USER, ...STORE],
    },
  },
  '/api/v1/key': {
    get: {
      id: 'ownKey',
      tag: 'Usage',
      summary: 'The same in the shape of OpenRouter, for meters that read it',
      who: 'user',
      answers: {
        200: {
          told: 'Dollars that were used and are left.',
          content: { [JSON_TYPE]: keyShapeAnswer },
        },
      },
      errors: [...USER, ...STORE],
    },
  },
  '/api/admin/login': {
    post: {
      id: 'login',
      tag: 'Admin',
      summary: 'Open a session',
      description: `An address may send ${WRONG_PER_MINUTE} wrong keys a minute.`,
      who: 'anyone',
      pages: true,
      body: { [JSON_TYPE]: login, [FORM_TYPE]: login },
      answers: {
        200: {
          told: 'The session is in the cookie.',
          content: { [JSON_TYPE]: loggedIn },
          headers: ['set-cookie'],
        },
        303: { told: 'The same for a form.', headers: ['location', 'set-cookie'] },
      },
      errors: [...BODY, ...STORE, 'cross_origin', 'invalid_token', 'rate_limit_exceeded'],
    },
  },
  '/api/admin/logout': {
    post: {
      id: 'logout',
      tag: 'Admin',
      summary: 'End the session',
      who: 'anyone',
      pages: true,
      answers: {
        200: {
          told: 'The session has ended, or there was none.',
          content: { [JSON_TYPE]: success },
          headers: ['set-cookie'],
        },
        303: { told: 'The same for a form.', headers: ['location', 'set-cookie'] },
      },
      errors: [...STORE, 'cross_origin', 'body_too_large'],
    },
  },
  '/api/admin/auth': {
    get: {
      id: 'getSession',
      tag: 'Admin',
      summary: 'Whether a session is open',
      who: 'anyone',
      answers: { 200: { told: 'Whether it is.', content: { [JSON_TYPE]: session } } },
      errors: [...STORE, 'body_too_large'],
    },
  },
  '/api/admin/usage': {
    get: {
      id: 'getUsage',
      tag: 'Admin',
      summary: 'Users, models, days and recent events',
      who: 'admin',
      query: userQuery,
      answers: { 200: { told: 'A page of users.', content: { [JSON_TYPE]: usageAnswer } } },
      errors: [...ADMIN, 'invalid_request', 'body_too_large'],
    },
    post: {
      id: 'setBlock',
      tag: 'Admin',
      summary: 'Block a user, or unblock them',
      who: 'admin',
      body: { [JSON_TYPE]: blockBody },
      answers: {
        200: {
          told: 'The change takes effect within two seconds.',
          content: { [JSON_TYPE]: success },
        },
      },
      errors: [...ADMIN, ...BODY, 'cross_origin'],
    },
  },
  '/api/admin/export': {
    get: {
      id: 'export',
      tag: 'Admin',
      summary: 'Export users, days or events as a file',
      description:
        'The file is streamed. If it breaks off, it is incomplete. With `group` it is an invoice: its lines have `requests`, `prompt`, `cached`, `completion`, `charged`, today’s prices in dollars per million tokens (`inputPrice`, `cachedPrice`, `outputPrice`) where they are of one model, `costUsd` as exact decimal digits, as it was recorded, and `unpricedTokens`, the tokens whose price was not known. Without `group`, `kind=users` takes neither `from` nor `to`.',
      who: 'admin',
      query: exportQuery,
      answers: {
        200: {
          told: 'The file.',
          content: { 'text/csv': text, 'application/x-ndjson': text },
          headers: ['content-disposition'],
        },
      },
      errors: [...ADMIN, 'invalid_request', 'body_too_large'],
    },
  },
  '/api/admin/tokens': {
    post: {
      id: 'makeToken',
      tag: 'Admin',
      summary: 'Make a signed token of a user',
      description:
        'For scripts and tests. It is signed with the first of `USER_TOKEN_SECRETS`; without one, or without `signed` in `USER_TOKENS`, the answer is 503.',
      who: 'admin',
      body: { [JSON_TYPE]: tokenBody },
      answers: { 201: { told: 'The token.', content: { [JSON_TYPE]: tokenAnswer } } },
      errors: [...ADMIN, ...BODY, 'cross_origin'],
    },
  },
  '/api/tokens': {
    get: {
      id: 'getHistory',
      tag: 'History',
      summary: 'Tokens by day',
      who: 'admin',
      query: historyQuery,
      answers: {
        200: { told: 'The requested parts.', content: { [JSON_TYPE]: historyAnswer } },
      },
      errors: [...ADMIN, 'invalid_request'],
    },
    delete: {
      id: 'clearHistory',
      tag: 'History',
      summary: 'Delete all days and events',
      description: 'Quotas and blocks stay.',
      who: 'admin',
      answers: { 200: { told: 'They are forgotten.', content: { [JSON_TYPE]: success } } },
      errors: [...ADMIN, 'cross_origin'],
    },
  },
  '/api/test': {
    get: {
      id: 'getHealth',
      tag: 'Health',
      summary: 'Whether the database answers, and where the gateway runs',
      who: 'anyone',
      answers: {
        200: {
          told: 'Also if the database does not answer.',
          content: { [JSON_TYPE]: healthAnswer },
        },
      },
      errors: [],
    },
  },
  '/api/health': {
    get: {
      id: 'getServes',
      tag: 'Health',
      summary: 'Whether model calls are served, as a status',
      description:
        '503 if they are answered with 503: nothing is configured, the database is away and `ON_STORE_DOWN` is `closed`, or the instance is about to end.',
      who: 'anyone',
      answers: {
        200: { told: 'Calls are served.', content: { [JSON_TYPE]: servesAnswer } },
      },
      errors: ['not_configured', 'upstream_not_configured', 'store_unavailable'],
    },
  },
  '/metrics': {
    get: {
      id: 'getMetrics',
      tag: 'Health',
      summary: 'Today’s numbers for Prometheus',
      description:
        'In Prometheus’ text format, version 0.0.4. Counters begin again at midnight, UTC. Without `METRICS_KEY` there is no such route.',
      who: 'metrics',
      answers: { 200: { told: 'The metrics.', content: { 'text/plain': text } } },
      errors: ['missing_token', 'invalid_token', ...STORE],
    },
  },
}
