/** Calls of the model by users with issued keys and plans, through the whole app. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createIds } from '../../src/identity/ids.ts'
import { HOUR_MS, MINUTE_MS, SECOND_MS } from '../../src/ledger/windows.ts'
import { SECRET, localApp, type LocalApp } from '../support/local-app.ts'

const ids = createIds(SECRET)
/** Refusals are remembered for two seconds. */
const FORGOTTEN_MS = 2 * SECOND_MS

let app: LocalApp
beforeAll(async () => {
  const kinds = { USER_TOKENS: 'issued,any' }
  app = await localApp({ ...kinds, LOG_LEVEL: 'debug' })
})
afterAll(() => app.close())

let count = 0
const create = async (body: object = {}) =>
  (await app.admin('POST', 'keys', { user: `user ${(count += 1)}`, ...body })).json
const patch = (id: string, body: object) => app.admin('PATCH', `keys/${id}`, body)
const asked = async (key: string, body: object = {}) => {
  const { status, json } = await app.ask(key, body)
  return status === 200 ? 'ok' : `${status} ${json.error.code}`
}
const later = (ms = FORGOTTEN_MS) => void (app.clock.now += ms)

test('a key calls as its user, and is used from then on', async () => {
  const { key, id, userId } = await create()
  expect(await asked(key)).toBe('ok')
  const { windows, keys } = (await app.admin('GET', `users/${userId}`)).json
  expect(windows).toContainEqual(expect.objectContaining({ unit: 'requests', used: 1 }))
  expect(keys).toMatchObject([{ id, lastUsedAt: expect.any(Number) as unknown }])
})

test('junk, a typo, and a key that an admin ended, are refused each with its own code', async () => {
  const { key, id } = await create()
  for (const text of ['weir_', 'weir_1', 'weir_junk-of-some-length', `${key.slice(0, -1)}!`]) {
    expect(await asked(text), text).toBe('401 invalid_key')
  }
  await patch(id, { disabled: true })
  expect(await asked(key)).toBe('403 disabled_key')
  await patch(id, { disabled: false, expires_at: app.clock.now + FORGOTTEN_MS + 1 })
  later()
  expect(await asked(key)).toBe('ok')
  later()
  expect(await asked(key)).toBe('401 expired_key')
  await app.admin('DELETE', `keys/${id}`)
  later()
  expect(await asked(key)).toBe('401 invalid_key')
})

test('after a rotation both secrets work until the grace has ended, exactly one afterwards', async () => {
  const first = await create()
  const end = app.clock.now + HOUR_MS
  const path = `keys/${first.id}/rotate`
  const second = (await app.admin('POST', path, { grace_seconds: 3600 })).json
  app.clock.now = end - 1
  expect([await asked(first.key), await asked(second.key)]).toEqual(['ok', 'ok'])
  app.clock.now = end
  expect([await asked(first.key), await asked(second.key)]).toEqual(['401 invalid_key', 'ok'])
})

test('the models of the key and those of its user both hold', async () => {
  const { key, id, userId } = await create({ models: ['openai/*'] })
  expect(await asked(key, { model: 'llama-3.1-8b-instant' })).toBe('403 model_not_allowed')
  await patch(id, { models: null })
  expect(await asked(key, { model: 'llama-3.1-8b-instant' })).toBe('ok')
  await app.admin('PATCH', `users/${userId}`, { models: ['openai/*'] })
  expect(await asked(key, { model: 'llama-3.1-8b-instant' })).toBe('403 model_not_allowed')
})

test('the limits of the user hold for all keys together, and rotating frees nothing', async () => {
  const first = await create()
  await app.admin('PATCH', `users/${first.userId}`, { limits: { total: { requestsPerDay: 2 } } })
  const other = (await app.admin('POST', 'keys', { userId: first.userId })).json
  expect([await asked(first.key), await asked(other.key)]).toEqual(['ok', 'ok'])
  const rotated = (await app.admin('POST', `keys/${first.id}/rotate`)).json
  expect(await asked(rotated.key)).toBe('429 insufficient_quota')
})

test('a plan’s maximum of completion tokens is the most that a request may ask for', async () => {
  const { key } = await create({ plan: 'short' })
  await app.admin('PUT', 'plans/short', { limits: {}, maxCompletionTokens: 50 })
  expect(await asked(key, { max_tokens: 51 })).toBe('400 invalid_request')
  expect(await asked(key, { max_tokens: 50 })).toBe('ok')
})

test('an erased user’s key is no key', async () => {
  const { key, userId } = await create()
  await app.admin('DELETE', `users/${userId}`)
  expect(await asked(key)).toBe('401 invalid_key')
  expect(await ids.ofUser(`user ${count}`)).toBe(userId)
})

test('no key is in the log', async () => {
  const { key, id } = await create()
  await asked(key)
  await patch(id, { disabled: true })
  later(MINUTE_MS)
  await asked(key)
  await asked(`${key}x`)
  expect(app.log.join()).not.toContain(key)
})
