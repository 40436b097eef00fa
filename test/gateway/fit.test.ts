/** A request without a maximum of completion tokens near a limit: it gets what is left, through the whole gateway. */
import Groq from 'groq-sdk'
import OpenAI from 'openai'
import { describe, expect, test } from 'vitest'
import type { Vars } from '../../src/config/config.ts'
import { ADMIN_KEY, eventOf, KINDS, type Gateway, type Kind } from '../support/gateways.ts'
import { useWorld } from '../support/world.ts'

const world = useWorld()

const MODEL = 'openai/gpt-oss-20b'
const DAY = 200_000
/** What the tests send of a chat, and the same as the simple form makes it: 77 bytes. */
const messages = [{ role: 'user' as const, content: 'Hello' }]
const HELLO = JSON.stringify({ model: MODEL, messages })
/** The defaults, which the gateways of tests otherwise raise. */
const DEFAULTS: Vars = { MODEL_LIMITS: undefined, GLOBAL_LIMITS: undefined }
const FILE: Vars = { KV_REST_API_URL: undefined, KV_REST_API_TOKEN: undefined }
/** The reservation of the prompt: 39 tokens for 77 bytes, 1 for each when strict, and 144 of the template. */
const PROMPT = { balanced: 39 + 144, strict: 77 + 144 }
const DEFAULT_MAXIMUM = 2500
const LEAST = 256

type Answer = { status: number; headers: Headers; id: string; text: string }

async function post(
  gateway: Gateway,
  user: string,
  body: string,
  path = '/openai/v1/chat/completions',
): Promise<Answer> {
  const response = await fetch(`${gateway.url}/api/groq${path}`, {
    method: 'POST',
    headers: { authorization: `Bearer token-of-${user}` },
    body,
  })
  const { status, headers } = response
  return { status, headers, id: headers.get('x-weir-id') ?? '', text: await response.text() }
}

const hello = (gateway: Gateway, user: string) => post(gateway, user, '{"prompt":"Hello"}', '')

/** The usage that upstream reports for the next requests. */
function uses(total: number): void {
  const usage = { prompt_tokens: 1, completion_tokens: total - 1, total_tokens: total }
  const choices = [{ index: 0, message: { role: 'assistant', content: 'Hi.' } }]
  world.upstream.on(MODEL, { body: JSON.stringify({ model: MODEL, choices, usage }) })
}

/** The use of each user that an admin sees. */
async function used(gateway: Gateway, kind = 'tokensUsedDay'): Promise<Record<string, number>> {
  const response = await fetch(`${gateway.url}/api/admin/usage?limit=200`, {
    headers: { authorization: `Bearer ${ADMIN_KEY}` },
  })
  const { users } = (await response.json()) as {
    users: { userId: string; models: Record<string, number>[] }[]
  }
  return Object.fromEntries(users.map(({ userId, models }) => [userId, models[0]?.[kind] ?? -1]))
}

/** Waits until no request runs any more. */
const settled = (gateway: Gateway) =>
  expect
    .poll(async () => Object.values(await used(gateway, 'running')), { interval: 5 })
    .not.toContain(1)

/** A user whom no test before has had refused: an instance remembers refusals. */
let users = 0
const newUser = () => `user-${(users += 1)}`

/** Lets a user have so many tokens left of the day: upstream reports more than was reserved. */
async function leave(gateway: Gateway, user: string, left: number, day = DAY): Promise<void> {
  uses(day - left)
  const body = JSON.stringify({ model: MODEL, messages, max_completion_tokens: 1 })
  expect((await post(gateway, user, body)).status).toBe(200)
  await settled(gateway)
}

const lastBody = () => Buffer.from(world.upstream.seen.at(-1)?.body ?? []).toString()

const CAPS = ['balanced', 'strict'] as const

describe.each<[string, Kind, Vars]>([
  ['Node with Redis', 'node', {}],
  ['Node with files', 'node', FILE],
  ['workerd with Redis', 'workerd', {}],
])('on %s', (_, kind, store) => {
  test.each(CAPS)(
    'with CAP=%s and the defaults, Hello is served with what is left down to the least, exactly',
    async (CAP) => {
      const gateway = await world.gateway(kind, { ...DEFAULTS, ...store, CAP })
      const prompt = PROMPT[CAP]
      const full = prompt + DEFAULT_MAXIMUM
      const least = prompt + LEAST
      for (const left of [least, 480, 1000, full - 1, full, 3000]) {
        const user = `${CAP}-with-${left}`
        await leave(gateway, user, left)
        const maximum = Math.min(left - prompt, DEFAULT_MAXIMUM)
        // The most that it can cost.
        uses(prompt + maximum)
        const { status, headers, text } = await hello(gateway, user)
        expect([status, JSON.parse(text)], user).toMatchObject([200, { content: 'Hi.' }])
        const isFitted = left < full
        const told = isFitted || CAP === 'strict' ? String(maximum) : null
        expect(headers.get('x-weir-max-completion-tokens')).toBe(told)
        const sent = told ? HELLO.replace('{', `{"max_completion_tokens":${maximum},`) : HELLO
        expect(lastBody()).toBe(sent)
        await settled(gateway)
        const rest = left - prompt - maximum
        const next = await hello(gateway, user)
        expect([next.status, rest < least], user).toEqual([429, true])
        expect(next.text).toContain(`${rest} tokens of your 200,000 tokens a day are left`)
      }
      const below = `${CAP}-below`
      await leave(gateway, below, least - 1)
      const refused = await hello(gateway, below)
      expect([refused.status, JSON.parse(refused.text)]).toMatchObject([
        429,
        { error: { code: 'insufficient_quota' } },
      ])
      expect(refused.text).toContain(`needs at least ${least} tokens of ${MODEL}`)
      expect(refused.text).toContain(`${least - 1} tokens of your 200,000 tokens a day are left`)
      for (const one of Object.values(await used(gateway))) expect(one).toBeLessThanOrEqual(DAY)
    },
    30_000,
  )
})

const chat = (fields: object) => JSON.stringify({ model: MODEL, messages, ...fields })
/** The reservation of a chat without its completions. */
const promptOf = (body: string) => Math.ceil(body.length / 2) + 144

describe.each(KINDS)('on %s', (kind) => {
  test('requests at once share what is left, and none passes the limit', async () => {
    const alice = newUser()
    const gateway = await world.gateway(kind, DEFAULTS)
    await leave(gateway, alice, 4000)
    world.upstream.on(MODEL, ({ body }) => {
      const { max_completion_tokens: most = DEFAULT_MAXIMUM } = JSON.parse(
        Buffer.from(body).toString(),
      ) as { max_completion_tokens?: number }
      const usage = { prompt_tokens: 183, completion_tokens: most, total_tokens: 183 + most }
      return { body: JSON.stringify({ model: MODEL, choices: [], usage }), delay: 50 }
    })
    const answers = await Promise.all(Array.from({ length: 8 }, () => hello(gateway, alice)))
    // 2,683 and the 1,317 that are left.
    const granted = answers.filter(({ status }) => status === 200)
    expect(granted).toHaveLength(2)
    const told = granted.map(({ headers }) => headers.get('x-weir-max-completion-tokens'))
    expect(told.toSorted()).toEqual(['1134', null])
    await settled(gateway)
    expect(Object.values(await used(gateway))).toEqual([DAY])
  })

  test.each<[string, object, string, number]>([
    ['n', { n: 3 }, '"max_completion_tokens":%,', 3],
    ['null', { max_completion_tokens: null }, '', 1],
    ['null of the older name', { max_tokens: null }, '"max_completion_tokens":%,', 1],
    ['a stream', { stream: true }, '"max_completion_tokens":%,', 1],
  ])('a fitted request changes by its maximum alone, with %s', async (_, fields, insert, count) => {
    const alice = newUser()
    const gateway = await world.gateway(kind, DEFAULTS)
    const body = chat(fields)
    await leave(gateway, alice, 2000)
    uses(50)
    const { status, headers } = await post(gateway, alice, body)
    const maximum = Math.floor((2000 - promptOf(body)) / count)
    expect([status, headers.get('x-weir-max-completion-tokens')]).toEqual([200, `${maximum}`])
    const expected = insert
      ? body.replace('{', `{${insert.replace('%', String(maximum))}`)
      : body.replace('null', String(maximum))
    expect(lastBody()).toBe(expected)
  })

  test('a fitted call of the responses route gets its own field', async () => {
    const alice = newUser()
    const gateway = await world.gateway(kind, DEFAULTS)
    await leave(gateway, alice, 1000)
    world.upstream.reset()
    const body = JSON.stringify({ model: MODEL, input: 'Hello' })
    const { status, headers, id } = await post(gateway, alice, body, '/openai/v1/responses')
    const maximum = 1000 - promptOf(body)
    expect([status, headers.get('x-weir-max-completion-tokens')]).toEqual([200, `${maximum}`])
    expect(lastBody()).toBe(body.replace('{', `{"max_output_tokens":${maximum},`))
    expect(await eventOf(world.store, id)).toMatchObject({ outcome: 'exact', reserved: 1000 })
  })

  test('where a maximum was sent, or all of the default fits, the bytes go up unchanged', async () => {
    const [alice, bob] = [newUser(), newUser()]
    const gateway = await world.gateway(kind, DEFAULTS)
    const bodies = [
      chat({ max_completion_tokens: 400 }),
      chat({ max_tokens: 400 }),
      chat({ max_tokens: 400, max_completion_tokens: null, n: 2 }),
      ` ${chat({ max_completion_tokens: 4 })}\n`,
    ]
    await leave(gateway, alice, 1200)
    for (const body of bodies) {
      uses(2)
      const { status, headers } = await post(gateway, alice, body)
      expect([status, headers.get('x-weir-max-completion-tokens'), lastBody()]).toEqual([
        200,
        null,
        body,
      ])
      await settled(gateway)
    }
    // A maximum that was sent is not cut.
    const large = await post(gateway, alice, chat({ max_completion_tokens: 2000 }))
    expect(large.status).toBe(429)
    const whole = ` { "messages" : ${JSON.stringify(messages)}, "model":"${MODEL}", "n": null } `
    const { status, headers } = await post(gateway, bob, whole)
    expect([status, headers.get('x-weir-max-completion-tokens'), lastBody()]).toEqual([
      200,
      null,
      whole,
    ])
  })

  test('groq-sdk and openai see a fitted answer as any other, also as a stream', async () => {
    const [alice, bob] = [newUser(), newUser()]
    const gateway = await world.gateway(kind, DEFAULTS)
    await leave(gateway, alice, 1900)
    world.upstream.reset()
    const see = async (user: string) => {
      const apiKey = `token-of-${user}`
      const groq = new Groq({ apiKey, baseURL: `${gateway.url}/api/groq`, maxRetries: 0 })
      const baseURL = `${gateway.url}/api/groq/openai/v1`
      const openai = new OpenAI({ apiKey, baseURL, maxRetries: 0 })
      const all: unknown[] = []
      for (const { completions } of [groq.chat, openai.chat] as unknown as [OpenAI.Chat]) {
        all.push(await completions.create({ model: MODEL, messages }))
        await settled(gateway)
        const stream = await completions.create({ model: MODEL, messages, stream: true })
        for await (const part of stream) all.push(part)
        await settled(gateway)
      }
      all.push(await openai.responses.create({ model: MODEL, input: 'Hello' }))
      await settled(gateway)
      const isFitted = world.upstream.seen.map(({ body }) =>
        Buffer.from(body).includes(/** Of both routes. */ '"max_'),
      )
      world.upstream.seen.length = 0
      return { all, isFitted }
    }
    const [fitted, other] = [await see(alice), await see(bob)]
    expect(fitted.isFitted).toEqual(Array(5).fill(true))
    expect(other.isFitted).toEqual(Array(5).fill(false))
    expect(fitted.all).toEqual(other.all)
  })

  test('a request fits to the tighter of two limits, and to dollars to the nano-dollar', async () => {
    const alice = newUser()
    // $0.3 a million tokens of output is 300 nano-USD each, and 183 of input cost 13,725.
    const gateway = await world.gateway(kind, {
      MODEL_LIMITS: '{"*":{"tokensPerWeek":2000},"total":{"usdPerMonth":0.0005}}',
    })
    const maximum = Math.floor((500_000 - 183 * 75) / 300)
    uses(30)
    const { status, headers, id } = await hello(gateway, alice)
    expect([status, headers.get('x-weir-max-completion-tokens')]).toEqual([200, String(maximum)])
    expect(lastBody()).toContain(`"max_completion_tokens":${maximum},`)
    const event = await eventOf(world.store, id)
    expect(event).toMatchObject({
      reserved: 183 + maximum,
      reservedCost: String(183 * 75 + maximum * 300),
      cost: String(1 * 75 + 29 * 300),
    })
  })

  test('a limit of a minute cuts nothing, unless it is below the default itself', async () => {
    const [alice, bob] = [newUser(), newUser()]
    const limits = (tokensPerMinute: number) =>
      JSON.stringify({ '*': { tokensPerMinute, tokensPerHour: tokensPerMinute } })
    const ample = await world.gateway(kind, { MODEL_LIMITS: limits(4000) })
    uses(4000 - 1000)
    expect((await hello(ample, alice)).headers.has('x-weir-max-completion-tokens')).toBe(false)
    await settled(ample)
    const later = await hello(ample, alice)
    expect([later.status, later.headers.has('retry-after')]).toEqual([429, true])
    const small = await world.gateway(kind, { MODEL_LIMITS: limits(1000) })
    uses(30)
    const { status, headers } = await hello(small, bob)
    expect([status, headers.get('x-weir-max-completion-tokens')]).toEqual([200, `${1000 - 183}`])
  })

  test('while the database is down, a request fits to what memory has left', async () => {
    const alice = newUser()
    const gateway = await world.gateway(kind, { ...DEFAULTS, STORE_TIMEOUT_MS: '500' })
    await leave(gateway, alice, 1500)
    uses(50)
    expect((await hello(gateway, alice)).headers.get('x-weir-max-completion-tokens')).toBe('1317')
    await settled(gateway)
    world.upstash.fault(() => ({ status: 500 }))
    uses(400)
    const { status, headers } = await hello(gateway, alice)
    expect([status, headers.get('x-weir-degraded')]).toEqual([200, '1'])
    expect(headers.get('x-weir-max-completion-tokens')).toBe(String(1450 - 183))
    expect(lastBody()).toContain(`{"max_completion_tokens":${1450 - 183},`)
  })

  test("while the database is down, a stranger's request fits to the share of strangers", async () => {
    const nobody = newUser()
    const gateway = await world.gateway(kind, {
      ...{ STORE_TIMEOUT_MS: '501', MODEL_LIMITS: undefined },
      GLOBAL_LIMITS: '{"total":{"tokensPerDay":100000}}',
    })
    world.upstash.fault(() => ({ status: 500 }))
    uses(300)
    const { status, headers } = await hello(gateway, nobody)
    // One percent for all of them.
    expect([status, headers.get('x-weir-max-completion-tokens')]).toEqual([200, `${1000 - 183}`])
    expect(lastBody()).toContain(`{"max_completion_tokens":${1000 - 183},`)
  })
})
