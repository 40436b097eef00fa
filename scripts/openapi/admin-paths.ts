/** The routes for keys, users, plans, settings and policy in the OpenAPI document. */
import type * as z from 'zod/mini'
import type { ErrorCode } from '../../src/errors.ts'
import {
  alert,
  alerts,
  imported,
  key,
  keyChange,
  keyPath,
  keys,
  keysQuery,
  newKey,
  plan,
  planBody,
  planPath,
  plans,
  resetBody,
  restored,
  rotation,
  secretKey,
  settings,
  settingsBody,
  user,
  userChange,
  userOrFound,
  userPath,
  usersQuery,
} from './admin-schemas.ts'
import { ADMIN, BODY, JSON_TYPE, type Operation, type Paths } from './operation.ts'
import { erased } from './session-schemas.ts'
import { success, text } from './words.ts'

const READ: ErrorCode[] = [...ADMIN, 'invalid_request', 'body_too_large']
const CHANGE: ErrorCode[] = [...ADMIN, ...BODY, 'cross_origin']
const LINES_TYPE = 'application/x-ndjson'

/** A route that answers with JSON. */
const ofAdmin = (
  operation: Pick<Operation, 'id' | 'summary' | 'description' | 'path' | 'query'> & {
    takes?: z.core.$ZodType
    gives: z.core.$ZodType
    told: string
    status?: 200 | 201
    errors: ErrorCode[]
  },
): Operation => {
  const { takes, gives, told, status = 200, ...rest } = operation
  return {
    ...rest,
    tag: 'Admin',
    who: 'admin',
    ...(takes && { body: { [JSON_TYPE]: takes } }),
    answers: { [status]: { told, content: { [JSON_TYPE]: gives } } },
  }
}

export const ADMIN_PATHS: Paths = {
  '/api/admin/alerts': {
    get: ofAdmin({
      id: 'listAlerts',
      summary: 'The latest alerts, and whether they arrived',
      told: 'At most 100, the newest first.',
      gives: alerts,
      errors: [...ADMIN, 'body_too_large'],
    }),
  },
  '/api/admin/alerts/test': {
    post: ofAdmin({
      id: 'testAlert',
      summary: 'Send a test to the receiver of alerts',
      description: 'Without `ALERT_WEBHOOK_URL` it is 503 `not_configured`.',
      told: 'How the attempt went.',
      gives: alert,
      errors: [...ADMIN, 'body_too_large', 'cross_origin'],
    }),
  },
  '/api/admin/users': {
    get: ofAdmin({
      id: 'findUsers',
      summary: 'A user by your own name, or users by a search',
      description:
        'Send `user` or `q`. `user` is answered with the user, also if nothing is stored yet; `q` with a list.',
      query: usersQuery,
      told: 'The user, or those that were found.',
      gives: userOrFound,
      errors: READ,
    }),
  },
  '/api/admin/users/import': {
    post: {
      id: 'importUsers',
      tag: 'Admin',
      summary: 'Name users and give them plans, from CSV',
      description:
        'Columns `user,label,plan`, with these names in the first row; at most 1,000 users and 1 MiB. An empty cell changes nothing. All rows are checked before the first is written.',
      who: 'admin',
      body: { 'text/csv': text },
      answers: { 200: { told: 'The ids of the users.', content: { [JSON_TYPE]: imported } } },
      errors: CHANGE.filter((code) => code !== 'invalid_json'),
    },
  },
  '/api/admin/users/{userId}': {
    get: ofAdmin({
      id: 'getUser',
      summary: 'What is known of a user, and what holds for them',
      path: userPath,
      told: 'The user.',
      gives: user,
      errors: [...READ, 'not_found'],
    }),
    patch: ofAdmin({
      id: 'changeUser',
      summary: 'Name a user, and set a plan, limits, a boost or models',
      description:
        'It holds from the next request of the user on. The user need not have called yet.',
      path: userPath,
      takes: userChange,
      told: 'The user after the change.',
      gives: user,
      errors: CHANGE,
    }),
    delete: ofAdmin({
      id: 'eraseUser',
      summary: 'Erase a user',
      description:
        'Deletes all data of the user, including blocks and keys. Anonymous totals stay. If the user calls again, they are new.',
      path: userPath,
      told: 'The user is erased.',
      gives: erased,
      errors: [...READ, 'cross_origin'],
    }),
  },
  '/api/admin/users/{userId}/reset': {
    post: ofAdmin({
      id: 'resetUser',
      summary: 'Set what a user used of limits to nothing',
      description:
        'Reservations of running requests stay counted, and so do days and the limits of everyone. Without a body, all windows are reset.',
      path: userPath,
      takes: resetBody,
      told: 'The counters are reset.',
      gives: success,
      errors: CHANGE,
    }),
  },
  '/api/admin/keys': {
    get: ofAdmin({
      id: 'listKeys',
      summary: 'The keys of a user, or of a page of users',
      query: keysQuery,
      told: 'The keys, without their secrets.',
      gives: keys,
      errors: READ,
    }),
    post: ofAdmin({
      id: 'createKey',
      summary: 'Create a key',
      description: 'Needs `USER_HASH_SECRET`. A user may have 20 keys.',
      takes: newKey,
      status: 201,
      told: 'The key. It is shown here only.',
      gives: secretKey,
      errors: CHANGE,
    }),
  },
  '/api/admin/keys/{keyId}': {
    get: ofAdmin({
      id: 'getKey',
      summary: 'A key',
      path: keyPath,
      told: 'The key, without its secret.',
      gives: key,
      errors: [...READ, 'not_found'],
    }),
    patch: ofAdmin({
      id: 'changeKey',
      summary: 'Rename, disable or enable a key, or set its end or its models',
      path: keyPath,
      takes: keyChange,
      told: 'The key after the change.',
      gives: key,
      errors: [...CHANGE, 'not_found'],
    }),
    delete: ofAdmin({
      id: 'deleteKey',
      summary: 'Delete a key',
      path: keyPath,
      told: 'The key is deleted.',
      gives: success,
      errors: [...READ, 'cross_origin', 'not_found'],
    }),
  },
  '/api/admin/keys/{keyId}/rotate': {
    post: ofAdmin({
      id: 'rotateKey',
      summary: 'Give a key another secret',
      description:
        'The id, the user and all counters stay. The secret before stays valid for `grace_seconds`; one before that ends now. Without a body there is no grace.',
      path: keyPath,
      takes: rotation,
      told: 'The key with its new secret. It is shown here only.',
      gives: secretKey,
      errors: [...CHANGE, 'not_found'],
    }),
  },
  '/api/admin/plans': {
    get: ofAdmin({
      id: 'listPlans',
      summary: 'All plans',
      told: 'The plans by name.',
      gives: plans,
      errors: READ,
    }),
  },
  '/api/admin/plans/{name}': {
    get: ofAdmin({
      id: 'getPlan',
      summary: 'A plan',
      path: planPath,
      told: 'The plan.',
      gives: plan,
      errors: [...READ, 'not_found'],
    }),
    put: ofAdmin({
      id: 'storePlan',
      summary: 'Store a plan',
      description: 'It holds from the next request of its users on. There may be 100 plans.',
      path: planPath,
      takes: planBody,
      told: 'The plan.',
      gives: plan,
      errors: CHANGE,
    }),
    delete: ofAdmin({
      id: 'deletePlan',
      summary: 'Delete a plan',
      description: 'Its users have the default plan then.',
      path: planPath,
      told: 'The plan is deleted.',
      gives: success,
      errors: [...READ, 'cross_origin', 'not_found'],
    }),
  },
  '/api/admin/settings': {
    get: ofAdmin({
      id: 'getSettings',
      summary: 'The limits of everyone, and the default plan',
      told: 'What is stored, and what holds.',
      gives: settings,
      errors: READ,
    }),
    put: ofAdmin({
      id: 'storeSettings',
      summary: 'Set the limits of everyone, or the default plan',
      takes: settingsBody,
      told: 'The settings after the change.',
      gives: settings,
      errors: CHANGE,
    }),
  },
  '/api/admin/policy': {
    get: {
      id: 'savePolicy',
      tag: 'Admin',
      summary: 'All that admins have decided, as lines',
      description:
        'Plans, settings, profiles with blocks, and hashes of keys. The file is streamed. If it breaks off, it is incomplete.',
      who: 'admin',
      answers: {
        200: {
          told: 'The file.',
          content: { [LINES_TYPE]: text },
          headers: ['content-disposition'],
        },
      },
      errors: [...ADMIN, 'body_too_large'],
    },
    post: {
      id: 'restorePolicy',
      tag: 'Admin',
      summary: 'Bring such lines back',
      description:
        'What a line names is as the line says afterwards; the rest stays. At most 4 MiB; a longer file may be sent in pieces. All lines are checked before the first is written.',
      who: 'admin',
      body: { [LINES_TYPE]: text },
      answers: { 200: { told: 'It is brought back.', content: { [JSON_TYPE]: restored } } },
      errors: CHANGE,
    },
  },
}
