/** Issued keys at a gateway as it runs: what they cost, what holds for them, and what ends them. */
import { describe, expect, test } from 'vitest'
import { ADMIN_KEY, KINDS, eventOf, type Gateway } from '../support/gateways.ts'
import { useWorld } from '../support/world.ts'

const world = useWorld()

const vars = (more: object = {}) => ({ USER_TOKENS: 'issued', ...more })

const admin = { authorization: `Bearer ${ADMIN_KEY}`, 'content-type': 'application/json' }

/** Calls the admin API. */
async function ask<T = Record<string, unknown>>(
  { url }: Gateway,
  call: string,
  body?: object,
): Promise<T> {
  const [method = '', path = ''] = call.split(' ')
  const init = { method, headers: admin, ...(body && { body: JSON.stringify(body) }) }
  const answer = await fetch(`${url}/api/admin/${path}`, init)
  if (!answer.ok) throw new Error(`${answer.status} ${await answer.text()}`)
  return (await answer.json()) as T
}

type Issued = { key: string; id: string; userId: string }

const issue = (gateway: Gateway, body: object = { user: 'user-7' }) =>
  ask<Issued>(gateway, 'POST keys', body)

const chat = ({ url }: Gateway, key: string, body: object = { prompt: 'Hello' }) =>
  fetch(`${url}/api/groq`, {
    method: 'POST',
    headers: { authorization: `Bearer ${key}` },
    body: JSON.stringify(body),
  })

/** `taken`, or the code of the error. */
async function codeOf(answer: Response): Promise<string> {
  const { error } = (await answer.json()) as { error?: { code: string } }
  return error?.code ?? 'taken'
}

const use = async (gateway: Gateway, key: string, body?: object) =>
  codeOf(await chat(gateway, key, body))

describe.each(KINDS)('on %s', (kind) => {
  test('a key is a request of its user, and all keys of a user count together', async () => {
    const gateway = await world.gateway(kind, vars())
    const one = await issue(gateway)
    const other = await issue(gateway, { user: 'user-7', name: 'laptop' })
    expect(other.userId).toBe(one.userId)
    for (const { key } of [one, other]) {
      const answer = await chat(gateway, key)
      expect(await codeOf(answer)).toBe('taken')
      const id = answer.headers.get('x-weir-id')
      expect(await eventOf(world.store, id)).toMatchObject({ user: one.userId })
    }
    const user = await ask<{ keys: { lastUsedAt: number | null }[] }>(
      gateway,
      `GET users/${one.userId}`,
    )
    expect(user.keys.map(({ lastUsedAt }) => typeof lastUsedAt)).toEqual(['number', 'number'])
  })

  test('a mistyped or made-up key costs no command, and a key costs no more than a token', async () => {
    /** The commands that the database runs for a request until it is settled. */
    const billed = async (gateway: Gateway, token: string) => {
      await world.redis.resetStats()
      world.upstash.reset()
      const answer = await chat(gateway, token)
      await answer.arrayBuffer()
      if (answer.ok) {
        const isOver = () => world.upstash.log.length === 2 && world.upstash.log[1]?.answered
        await expect.poll(isOver, { interval: 2 }).toBeTruthy()
      }
      return world.redis.commandstats()
    }
    const any = await world.gateway(kind)
    const issued = await world.gateway(kind, vars())
    await billed(any, 'token-of-another-user')
    const costs = await billed(any, 'token-of-user-7')
    const { key } = await issue(issued)
    expect(await billed(issued, key)).toEqual(costs)
    const junk = [`${key}x`, key.slice(0, -1), key.replace(/.$/, '!'), `weir_1${'a'.repeat(61)}`]
    for (const text of [...junk, 'token-of-user-7']) expect(await billed(issued, text)).toEqual({})
  })

  test('a key that has ended costs one refused admission, and then nothing for 2 s', async () => {
    const gateway = await world.gateway(kind, vars())
    const { key, id } = await issue(gateway)
    await ask(gateway, `PATCH keys/${id}`, { disabled: true })
    world.upstash.reset()
    expect(await use(gateway, key)).toBe('disabled_key')
    const asked = world.upstash.log.length
    expect(asked).toBeGreaterThan(0)
    for (let n = 0; n < 3; n += 1) expect(await use(gateway, key)).toBe('disabled_key')
    expect(world.upstash.log).toHaveLength(asked)
  })

  test('a deleted, an expired and a replaced key are refused, each with its code', async () => {
    const gateway = await world.gateway(kind, vars())
    const deleted = await issue(gateway)
    await ask(gateway, `DELETE keys/${deleted.id}`)
    expect(await use(gateway, deleted.key)).toBe('invalid_key')
    const short = await issue(gateway, { user: 'user-7', expires_at: Date.now() + 300 })
    await expect.poll(() => use(gateway, short.key), { interval: 50 }).toBe('expired_key')
    const old = await issue(gateway)
    const { key } = await ask<Issued>(gateway, `POST keys/${old.id}/rotate`, { grace_seconds: 0 })
    expect([await use(gateway, old.key), await use(gateway, key)]).toEqual(['invalid_key', 'taken'])
    const { key: next } = await ask<Issued>(gateway, `POST keys/${old.id}/rotate`, {
      grace_seconds: 60,
    })
    expect([await use(gateway, key), await use(gateway, next)]).toEqual(['taken', 'taken'])
  })

  test('plan, models and limits of the key and its user hold for the next request', async () => {
    const gateway = await world.gateway(kind, vars())
    await ask(gateway, 'PUT plans/small', {
      limits: { '*': { requestsPerDay: 2 } },
      models: ['openai/*'],
    })
    const { key, userId } = await issue(gateway, { user: 'user-7', plan: 'small' })
    expect(await use(gateway, key, { prompt: 'Hi', model: 'qwen/qwen3.8-27b' })).toBe(
      'model_not_allowed',
    )
    const model = 'openai/gpt-oss-20b'
    const twice = [
      await use(gateway, key, { prompt: 'Hi', model }),
      await use(gateway, key, { prompt: 'Hi', model }),
    ]
    expect(twice).toEqual(['taken', 'taken'])
    await ask(gateway, `PATCH users/${userId}`, { limits: { '*': { requestsPerDay: 3 } } })
    expect(await use(gateway, key, { prompt: 'Hi', model })).toBe('taken')
    expect(await use(gateway, key, { prompt: 'Hi', model })).toBe('insufficient_quota')
    const listed = await fetch(`${gateway.url}/api/groq/openai/v1/models`, {
      headers: { authorization: `Bearer ${key}` },
    })
    const { data } = (await listed.json()) as { data: { id: string }[] }
    expect(data.length).toBeGreaterThan(0)
    expect(data.every(({ id }) => id.startsWith('openai/'))).toBe(true)
  })

  test("a plan's maximum of completion tokens is written into a body without one, and announced", async () => {
    const gateway = await world.gateway(kind, vars())
    await ask(gateway, 'PUT plans/default', {
      limits: { '*': { requestsPerDay: 9 } },
      maxCompletionTokens: 40,
    })
    const { key } = await issue(gateway, { user: 'user-9' })
    const messages = [{ role: 'user', content: 'Hi' }]
    const call = (more: object) =>
      fetch(`${gateway.url}/api/groq/openai/v1/chat/completions`, {
        method: 'POST',
        headers: { authorization: `Bearer ${key}` },
        body: JSON.stringify({ model: 'openai/gpt-oss-20b', messages, ...more }),
      })
    const answer = await call({})
    expect(answer.headers.get('x-weir-max-completion-tokens')).toBe('40')
    expect(JSON.parse(new TextDecoder().decode(world.upstream.seen.at(-1)?.body))).toMatchObject({
      max_completion_tokens: 40,
      messages,
    })
    expect((await call({ max_completion_tokens: 41 })).status).toBe(400)
    const small = await call({ max_completion_tokens: 39 })
    expect(small.headers.get('x-weir-max-completion-tokens')).toBeNull()
  })

  test('a browser syncs with a key, until the key ends', async () => {
    const gateway = await world.gateway(kind, vars())
    const { key, id } = await issue(gateway)
    await use(gateway, key)
    const sync = async () => {
      const answer = await fetch(`${gateway.url}/api/tracking/sync`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', authorization: `Bearer ${key}` },
        body: JSON.stringify({ modelUsage: {} }),
      })
      return answer.ok ? 'taken' : codeOf(answer)
    }
    expect(await sync()).toBe('taken')
    await ask(gateway, `DELETE keys/${id}`)
    expect(await sync()).toBe('invalid_key')
  })
})

test('a key is never taken for a token like any, and a blocked user stays blocked with each key', async () => {
  const any = await world.gateway('node')
  const both = await world.gateway('node', vars({ USER_TOKENS: 'any,issued' }))
  const { key, userId } = await issue(both)
  expect(await use(any, key)).toBe('invalid_token')
  expect(await use(both, 'token-of-anybody')).toBe('taken')
  expect(await use(both, key)).toBe('taken')
  const block = { userId, model: '*', blocked: true }
  await ask(both, 'POST usage', block)
  const { key: other } = await issue(both)
  expect(await use(both, other)).toBe('user_blocked')
})

test('callers of the kind any have at most UNVERIFIED_SHARE of the limits of everyone', async () => {
  const GLOBAL_LIMITS = '{"total":{"tokensPerDay":1000000,"requestsPerDay":4}}'
  const gateway = await world.gateway('node', vars({ USER_TOKENS: 'any,issued', GLOBAL_LIMITS }))
  const { key } = await issue(gateway)
  const any = []
  for (const n of [1, 2, 3]) any.push(await use(gateway, `token-number-${n}`))
  expect(any).toEqual(['taken', 'taken', 'global_quota'])
  expect([await use(gateway, key), await use(gateway, key)]).toEqual(['taken', 'taken'])
  expect(await use(gateway, key)).toBe('global_quota')
})

test('no log line has a key', async () => {
  const gateway = await world.gateway('node', vars({ LOG_LEVEL: 'debug' }))
  const { key, id } = await issue(gateway)
  await use(gateway, key)
  await use(gateway, `${key}x`)
  await ask(gateway, `DELETE keys/${id}`)
  await use(gateway, key)
  expect(gateway.log.join()).not.toContain(key.slice(12))
})
