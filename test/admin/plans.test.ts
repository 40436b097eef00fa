import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createIds } from '../../src/identity/ids.ts'
import { SECOND_MS } from '../../src/ledger/windows.ts'
import { MODEL, SECRET, localApp, type LocalApp } from '../support/local-app.ts'

const ids = createIds(SECRET)
const OF_ENVIRONMENT = { '*': { tokensPerDay: 1_000_000, requestsPerDay: 1000 } }
/** Refusals are remembered for two seconds. */
const FORGOTTEN_MS = 2 * SECOND_MS

let app: LocalApp
beforeAll(async () => {
  app = await localApp()
})
afterAll(() => app.close())

let count = 0
const newToken = () => `token-of-user-${(count += 1)}`
const put = (name: string, plan: object) => app.admin('PUT', `plans/${name}`, plan)
const join = async (token: string, plan: string | null) =>
  app.admin('PATCH', `users/${await ids.user(token)}`, { plan })
const codeOf = async (token: string, body: object = {}) => {
  const { status, json } = await app.ask(token, body)
  return status === 200 ? 200 : json.error.code
}
const later = () => void (app.clock.now += FORGOTTEN_MS)

describe('a plan', () => {
  test('is stored as a whole, shown, listed and deleted', async () => {
    const stored = await put('pro', {
      limits: { '*': { tokensPerDay: 500, requestsPerMinute: null } },
      models: ['openai/*'],
      maxCompletionTokens: 100,
      concurrentRequests: 2,
    })
    const pro = {
      name: 'pro',
      limits: { '*': { tokensPerDay: 500 } },
      models: ['openai/*'],
      maxCompletionTokens: 100,
      concurrentRequests: 2,
      stored: true,
    }
    expect(stored.status).toBe(200)
    expect((await app.admin('GET', 'plans/pro')).json).toEqual(pro)
    const { plans } = (await app.admin('GET', 'plans')).json
    expect(plans.map(({ name }) => name)).toEqual(['default', 'pro'])
    expect(plans[1]).toEqual(pro)

    const { json } = await put('pro', { limits: {} })
    const empty = { models: null, maxCompletionTokens: null, concurrentRequests: null }
    expect(json).toEqual({ name: 'pro', limits: {}, ...empty, stored: true })
    expect((await app.admin('DELETE', 'plans/pro')).json).toEqual({ success: true })
    for (const method of ['GET', 'DELETE']) {
      const { status, json } = await app.admin(method, 'plans/pro')
      expect([status, json.error.code]).toEqual([404, 'not_found'])
    }
  })

  test.each<[string, object, string]>([
    ['no limits', {}, 'limits'],
    ['limits that are null', { limits: null }, 'limits'],
    ['a field that there is not', { limits: {}, budget: 5 }, 'budget'],
    [
      'a limit that there is not',
      { limits: { total: { eurPerDay: 1 } } },
      'limits.total.eurPerDay',
    ],
    ['a maximum of 0', { limits: {}, maxCompletionTokens: 0 }, 'maxCompletionTokens'],
    ['half a request', { limits: {}, concurrentRequests: 1.5 }, 'concurrentRequests'],
    ['too many requests', { limits: {}, concurrentRequests: 1001 }, 'concurrentRequests'],
  ])('with %s is refused', async (_, plan, param) => {
    const { status, json } = await put('wrong', plan)
    expect([status, json.error.param]).toEqual([400, param])
    expect((await app.admin('GET', 'plans/wrong')).status).toBe(404)
  })

  test.each(['Pro', '-pro', 'a_b', 'x'.repeat(33), '%20'])('named %s is refused', async (name) => {
    for (const [method, body] of [['PUT', { limits: {} }], ['GET'], ['DELETE']] as const) {
      const { status, json } = await app.admin(method, `plans/${name}`, body)
      expect([status, json.error.param]).toEqual([400, 'name'])
    }
  })

  test('gives its users their limits with the next request, and so does a change of it', async () => {
    const token = newToken()
    await put('small', { limits: { '*': { requestsPerDay: 1 } } })
    await join(token, 'small')
    expect([await codeOf(token), await codeOf(token)]).toEqual([200, 'insufficient_quota'])
    await put('small', { limits: { '*': { requestsPerDay: 2 } } })
    later()
    expect([await codeOf(token), await codeOf(token)]).toEqual([200, 'insufficient_quota'])
    await put('small', { limits: {} })
    later()
    expect(await codeOf(token)).toBe(200)
  })

  test('that is not stored, or not any more, counts as the default one', async () => {
    const token = newToken()
    const path = `users/${await ids.user(token)}`
    await put('gone', { limits: { '*': { requestsPerDay: 0 } } })
    await join(token, 'gone')
    expect(await codeOf(token)).toBe('insufficient_quota')
    await app.admin('DELETE', 'plans/gone')
    later()
    expect(await codeOf(token)).toBe(200)
    const { plan, effectivePlan, effectiveLimits } = (await app.admin('GET', path)).json
    expect([plan, effectivePlan]).toEqual(['gone', 'default'])
    expect(effectiveLimits).toEqual(OF_ENVIRONMENT)
  })

  test('decides which models may be called', async () => {
    const token = newToken()
    await put('narrow', { limits: {}, models: ['openai/*'] })
    await join(token, 'narrow')
    expect(await codeOf(token, { model: 'llama-3.1-8b-instant' })).toBe('model_not_allowed')
    expect(await codeOf(token)).toBe(200)
  })

  test('holds beside the user’s own rows: a row starts from the one of the plan', async () => {
    const token = newToken()
    const path = `users/${await ids.user(token)}`
    await put('base', {
      limits: { '*': { requestsPerDay: 5, tokensPerDay: 100_000 }, total: { tokensPerDay: 9 } },
    })
    await app.admin('PATCH', path, {
      plan: 'base',
      limits: { [MODEL]: { requestsPerDay: 1 }, total: { tokensPerDay: null } },
    })
    expect((await app.admin('GET', path)).json.effectiveLimits).toEqual({
      '*': { requestsPerDay: 5, tokensPerDay: 100_000 },
      [MODEL]: { requestsPerDay: 1, tokensPerDay: 100_000 },
      total: {},
    })
    expect([await codeOf(token), await codeOf(token)]).toEqual([200, 'insufficient_quota'])
    expect(await codeOf(token, { model: 'another/model' })).toBe(200)
  })

  test('is one of at most a hundred', async () => {
    const { plans } = (await app.admin('GET', 'plans')).json
    const room = 100 - plans.filter(({ stored }) => stored).length
    const names = Array.from({ length: room }, (_, n) => `plan-${n}`)
    for (const name of names) expect((await put(name, { limits: {} })).status).toBe(200)
    const { status, json } = await put('one-more', { limits: {} })
    expect([status, json.error.message]).toEqual([400, expect.stringContaining('100 plans')])
    expect((await put('plan-0', { limits: {} })).status).toBe(200)
    for (const name of names) await app.admin('DELETE', `plans/${name}`)
  })
})

describe('the plan `default`', () => {
  test('has the limits of the environment until one is stored, and again after that is deleted', async () => {
    const token = newToken()
    const byDefault = async () => (await app.admin('GET', 'plans/default')).json
    expect(await byDefault()).toMatchObject({ limits: OF_ENVIRONMENT, stored: false })
    expect((await app.admin('DELETE', 'plans/default')).status).toBe(404)
    await put('default', { limits: { '*': { requestsPerDay: 0 } } })
    expect(await byDefault()).toMatchObject({
      limits: { '*': { requestsPerDay: 0 } },
      stored: true,
    })
    expect(await codeOf(token)).toBe('insufficient_quota')
    await app.admin('DELETE', 'plans/default')
    later()
    expect(await codeOf(token)).toBe(200)
  })
})

describe('the settings', () => {
  const store = (body: object) => app.admin('PUT', 'settings', body)

  test('hold for everyone with the next request; null brings the environment back', async () => {
    const unset = {
      ...{ globalLimits: null, defaultPlan: null },
      ...{ effectiveGlobalLimits: {}, effectiveDefaultPlan: 'default' },
    }
    expect((await app.admin('GET', 'settings')).json).toEqual(unset)
    const { json } = await store({ globalLimits: { total: { requestsPerDay: 0 } } })
    const rows = { total: { requestsPerDay: 0 } }
    expect(json).toEqual({ ...unset, globalLimits: rows, effectiveGlobalLimits: rows })
    const token = newToken()
    expect(await codeOf(token)).toBe('global_quota')
    await store({ globalLimits: null })
    later()
    expect(await codeOf(token)).toBe(200)
    expect((await app.admin('GET', 'settings')).json).toEqual(unset)
  })

  test('name the plan of users without one; what a change does not name stays', async () => {
    await put('basic', { limits: { '*': { requestsPerDay: 0 } } })
    await store({ defaultPlan: 'basic', globalLimits: { total: { requestsPerDay: 1000 } } })
    const token = newToken()
    expect(await codeOf(token)).toBe('insufficient_quota')
    await store({ globalLimits: null })
    expect((await app.admin('GET', 'settings')).json).toMatchObject({
      ...{ globalLimits: null, defaultPlan: 'basic', effectiveDefaultPlan: 'basic' },
    })
    await store({ defaultPlan: null })
    later()
    expect(await codeOf(token)).toBe(200)
  })

  test.each<[object, string]>([
    [{ budget: 1 }, 'budget'],
    [{ globalLimits: { '*': { requestsPerDay: 1 } } }, 'globalLimits.*'],
    [{ globalLimits: { total: { requests: 1 } } }, 'globalLimits.total.requests'],
    [{ defaultPlan: 'no-such-plan' }, 'defaultPlan'],
    [{ defaultPlan: 'No' }, 'defaultPlan'],
  ])('%j are refused', async (body, param) => {
    const { status, json } = await store(body)
    expect([status, json.error.param]).toEqual([400, param])
    expect((await app.admin('GET', 'settings')).json).toMatchObject({ defaultPlan: null })
  })
})

test('plans and settings are there after a restart, and their changes in the audit trail', async () => {
  await put('kept', { limits: { '*': { requestsPerDay: 0 } } })
  await app.admin('PUT', 'settings', { defaultPlan: 'kept' })
  await app.restart()
  expect(await codeOf(newToken())).toBe('insufficient_quota')
  await app.admin('PUT', 'settings', { defaultPlan: null })
  await app.admin('DELETE', 'plans/kept')
  const audit = (await app.store.audit(4)).map(({ action, what, ip }) => [action, what, ip])
  expect(audit).toEqual([
    ['delete plan', 'kept', '192.0.2.1'],
    ['settings', 'defaultPlan', '192.0.2.1'],
    ['settings', 'defaultPlan', '192.0.2.1'],
    ['plan', 'kept', '192.0.2.1'],
  ])
})
