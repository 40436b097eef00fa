/** Keys, plans, users and policy with a database, on Node and in workerd. What each route does in detail is tested on files. */
import { beforeEach, describe, expect, test } from 'vitest'
import { createIds } from '../../src/identity/ids.ts'
import { BEARER } from '../support/admin.ts'
import { KINDS, type Gateway } from '../support/gateways.ts'
import { useWorld } from '../support/world.ts'

const world = useWorld()
const ids = createIds('secret-of-the-tests')

type Reply = {
  key: string
  id: string
  userId: string
  keys: { id: string }[]
  users: { userId: string; label: string | null }[]
  error?: { code: string }
}

describe.each(KINDS)('on %s', (kind) => {
  let gateway: Gateway
  beforeEach(async () => {
    gateway = await world.gateway(kind, { USER_TOKENS: 'issued' })
  })

  const admin = async (method: string, path: string, body?: object | string) => {
    const text = typeof body === 'string' ? body : JSON.stringify(body)
    const init = { method, headers: BEARER, ...(body !== undefined && { body: text }) }
    const answer = await fetch(`${gateway.url}/api/admin/${path}`, init)
    return answer.text()
  }
  const json = async (method: string, path: string, body?: object | string) =>
    JSON.parse(await admin(method, path, body)) as Reply
  const call = async (key: string) => {
    const headers = { authorization: `Bearer ${key}` }
    const body = JSON.stringify({ model: 'openai/gpt-oss-20b', messages: [] })
    const answer = await fetch(`${gateway.url}/api/groq`, { method: 'POST', headers, body })
    const { error } = (await answer.json()) as Reply
    return error ? `${answer.status} ${error.code}` : 'ok'
  }

  test('a key is made, calls, is rotated and is held by the plan of its user', async () => {
    await json('PUT', 'plans/pro', { limits: { total: { requestsPerDay: 3 } } })
    const first = await json('POST', 'keys', { user: 'ann', plan: 'pro', label: 'Ann Example' })
    expect(first.userId).toBe(await ids.ofUser('ann'))
    expect(await call(first.key)).toBe('ok')
    const second = await json('POST', `keys/${first.id}/rotate`, { grace_seconds: 60 })
    expect([await call(first.key), await call(second.key)]).toEqual(['ok', 'ok'])
    expect(await call(second.key)).toBe('429 insufficient_quota')
    // A reset keeps what running requests reserve.
    const running = async () => Object.keys((await world.store.user(first.userId))!.usage.leases)
    await expect.poll(running).toEqual([])
    await json('POST', `users/${first.userId}/reset`)
    await expect.poll(() => call(second.key), { timeout: 5000 }).toBe('ok')
    expect((await json('GET', 'keys')).keys.map(({ id }) => id)).toEqual([first.id])
    for (const q of ['exam', second.key, first.id, first.userId, first.userId.slice(0, 8), 'ann']) {
      const { users } = await json('GET', `users?q=${q}`)
      expect([q, users.map(({ label }) => label)]).toEqual([q, ['Ann Example']])
    }
  })

  test('users are imported, and what admins decided is saved and brought back', async () => {
    const file = Array.from({ length: 300 }, (_, n) => `user-${n},Label ${n},pro`).join('\n')
    expect((await json('POST', 'users/import', `user,label,plan\n${file}`)).users).toHaveLength(300)
    await json('PUT', 'plans/pro', { limits: { '*': { tokensPerDay: 5 } }, models: [] })
    await json('PUT', 'settings', { globalLimits: { total: { tokensPerDay: 7 } } })
    const { id, userId } = await json('POST', 'keys', { user: 'user-7' })
    await json('POST', 'usage', { userId, model: '*', blocked: true, reason: 'No' })
    const text = await admin('GET', 'policy')
    await world.redis.flush()
    expect((await json('GET', 'keys')).keys).toEqual([])
    expect(await json('POST', 'policy', text)).toEqual({ success: true, plans: 1, users: 300 })
    expect(await admin('GET', 'policy')).toBe(text)
    expect((await json('GET', 'keys')).keys.map((key) => key.id)).toEqual([id])
  })
})
