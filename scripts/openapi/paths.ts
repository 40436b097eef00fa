/** The routes in the OpenAPI document: their callers, parameters and answers. */
import { WRONG_PER_MINUTE } from '../../src/identity/admin-key.ts'
import { SYNCS_PER_MINUTE } from '../../src/ledger/capacity.ts'
import { blockBody, tokenBody } from '../../src/routes/admin-schemas.ts'
import { exportQuery } from '../../src/routes/export-schemas.ts'
import { syncBody } from '../../src/routes/sync-schemas.ts'
import { userQuery } from '../../src/routes/user-query.ts'
import { healthAnswer, servesAnswer } from './health-schemas.ts'
import { historyAnswer, historyQuery } from './history-schemas.ts'
import {
  ADMIN,
  BODY,
  FORM_TYPE,
  JSON_TYPE,
  STORE,
  USER,
  type Operation,
  type Paths,
} from './operation.ts'
import { keyShapeAnswer, ownUsageAnswer } from './own-schemas.ts'
import { PROXY_PATHS } from './proxy-paths.ts'
import { loggedIn, login, session, tokenAnswer } from './session-schemas.ts'
import { synced } from './tracking-schemas.ts'
import { usageAnswer } from './usage-schemas.ts'
import { success, text } from './words.ts'

/** All routes except pages, static files, and those of admin-paths.ts. */
/** Two names of one route, because probes ask for one or the other. */
const SERVES: Omit<Operation, 'id'> = {
  tag: 'Health',
  summary: 'Whether model calls are served, as a status',
  description:
    '503 if they are answered with 503: nothing is configured, the database is away and `ON_STORE_DOWN` is `closed`, or the instance is about to end.',
  who: 'anyone',
  answers: { 200: { told: 'Calls are served.', content: { [JSON_TYPE]: servesAnswer } } },
  errors: ['not_configured', 'upstream_not_configured', 'store_unavailable'],
}

export const PATHS: Paths = {
  ...PROXY_PATHS,
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
  '/api/health': { get: { id: 'getServes', ...SERVES } },
  '/api/ready': { get: { id: 'getReady', ...SERVES } },
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
