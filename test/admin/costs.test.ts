/** What an admin sees of money and of refusals, through the API: amounts are dollars, as they were recorded. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { createIds } from '../../src/identity/ids.ts'
import { DAY_MS, HOUR_MS } from '../../src/ledger/windows.ts'
import { admitOf } from '../support/commands.ts'
import { ADMIN_KEY } from '../support/gateways.ts'
import { parseCsv } from '../support/csv.ts'
import { MODEL, SECRET, localApp, type LocalApp } from '../support/local-app.ts'

/** 20 tokens of input at $0.075 a million and 15 of output at $0.30: 1,500 + 4,500 nano-USD. */
const COST = 0.000006
const UNPRICED = 'allam-2-7b'

const ids = createIds(SECRET)

let app: LocalApp
beforeEach(async () => {
  app = await localApp({
    MODEL_PRICES: `{"${MODEL}":{"input":0.075,"cached":0.0375,"output":0.3}}`,
    USER_TOKENS: 'any,issued',
    UNVERIFIED_SHARE: '100',
  })
})
afterEach(() => app.close())

type Usage = {
  users: { userId: string; monthCostUsd: number | null; models: { costUsd: number | null }[] }[]
  stats: { model: string; costUsd: number | null; totalCostUsd: number | null }[]
  days: Record<string, unknown>[]
  quotas: Record<string, { usd: number }>
  events: { cost?: string; reservedCost?: string }[]
  refusals: { date: string; code: string; model: string; count: number }[]
  refused: Record<string, unknown>[]
}

const usageOf = async () => JSON.parse((await app.admin('GET', 'usage')).text) as Usage
const patch = (id: string, body: object) => app.admin('PATCH', `users/${id}`, body)

describe('the usage', () => {
  test('has the costs of users, models, days and everyone in dollars, and of events as stored', async () => {
    await app.ask('token-of-ann')
    await app.ask('token-of-ann')
    const { users, stats, days, quotas, events } = await usageOf()
    expect(users).toMatchObject([{ monthCostUsd: 2 * COST, models: [{ costUsd: 2 * COST }] }])
    expect(stats).toMatchObject([{ model: MODEL, costUsd: 2 * COST, totalCostUsd: 2 * COST }])
    expect(days).toMatchObject([{ costUsd: 2 * COST }])
    expect(days[0]).not.toHaveProperty('cost')
    expect(quotas['*']).toEqual({ requests: 2, tokens: 70, usd: 2 * COST })
    expect(events[0]).toMatchObject({ cost: '6000' })
    expect(Number(events[0]?.reservedCost)).toBeGreaterThan(6000)
  })

  test('has null where no price was known', async () => {
    await app.ask('token-of-ann', { model: UNPRICED })
    const { users, stats, days } = await usageOf()
    expect(users).toMatchObject([{ monthCostUsd: null, models: [{ costUsd: null }] }])
    expect(stats).toMatchObject([{ costUsd: null, totalCostUsd: null }])
    expect(days).toMatchObject([{ costUsd: null }])
  })

  test('tells how many requests were refused, and the latest ones with the limit in dollars', async () => {
    const id = await ids.user('token-of-ann')
    await app.ask('token-of-ann')
    await patch(id, { limits: { total: { usdPerMonth: 0.00001 } } })
    const { status, headers } = await app.ask('token-of-ann', { max_tokens: 100 })
    expect(status).toBe(429)
    const { refusals, refused } = await usageOf()
    const date = '2026-11-25'
    expect(refusals).toEqual([{ date, code: 'insufficient_quota', model: MODEL, count: 1 }])
    expect(refused).toEqual([
      {
        id: headers.get('x-weir-id'),
        at: app.clock.now,
        user: id,
        code: 'insufficient_quota',
        model: MODEL,
        limit: {
          of: 'user',
          model: '*',
          unit: 'usd',
          window: 'month',
          limit: 0.00001,
          used: COST,
          asked: expect.any(Number),
        },
      },
    ])
    const asked = (refused[0]?.['limit'] as { asked: number } | undefined)?.asked
    expect(asked).toBeGreaterThan(0.00003)
    expect(asked).toBeLessThan(0.001)
  })
})

test('a user has the costs of the current windows, and each key its month', async () => {
  const made = await app.admin('POST', 'keys', { user: 'ann@example.com', name: 'One' })
  const { key, userId } = JSON.parse(made.text) as { key: string; userId: string }
  await app.ask(key)
  app.clock.now += DAY_MS
  await app.ask(key)
  const { json } = await app.admin('GET', `users/${userId}`)
  expect(json).toMatchObject({
    costs: { month: 2 * COST, week: 2 * COST, day: COST },
    keys: [{ name: 'One', monthCostUsd: 2 * COST }],
  })
  const listed = JSON.parse((await app.admin('GET', `keys?userId=${userId}`)).text) as object
  expect(listed).toMatchObject({ keys: [{ monthCostUsd: 2 * COST }] })
  app.clock.now = Date.UTC(2026, 11, 1, 12)
  expect((await app.admin('GET', `users/${userId}`)).json).toMatchObject({
    costs: { month: 0, day: 0 },
    keys: [{ monthCostUsd: 0 }],
  })
})

describe('an export', () => {
  const file = async (query: string) => (await app.admin('GET', `export?${query}`)).text
  const rowsOf = async (query: string) => parseCsv(await file(query))
  const linesOf = async (query: string) =>
    (await file(`${query}&format=ndjson`))
      .split('\n')
      .filter(Boolean)
      .map((line) => JSON.parse(line) as Record<string, unknown>)

  /** Ann calls today, yesterday and two days ago; Bob two days ago, also a model without a price. */
  async function fewDays() {
    const [ann, bob] = await Promise.all(['ann', 'bob'].map((name) => ids.user(`token-of-${name}`)))
    await app.ask('token-of-ann')
    await app.ask('token-of-bob')
    await app.ask('token-of-bob', { model: UNPRICED })
    app.clock.now += DAY_MS
    await app.ask('token-of-ann')
    app.clock.now += DAY_MS
    await app.ask('token-of-ann')
    await patch(ann ?? '', { label: '=Ann, "A"' })
    return { ann, bob }
  }
  const [FIRST, SECOND, TODAY] = ['2026-11-25', '2026-11-26', '2026-11-27']

  test('of users, days and events has their costs in the last columns', async () => {
    await app.ask('token-of-ann')
    await app.ask('token-of-bob', { model: UNPRICED })
    const users = await rowsOf('kind=users')
    expect(users.map(({ costUsd, monthCostUsd }) => [costUsd, monthCostUsd]).sort()).toEqual([
      ['', ''],
      ['0.000006', '0.000006'],
    ])
    const days = await rowsOf('kind=days')
    expect(Object.fromEntries(days.map(({ model, costUsd }) => [model, costUsd]))).toEqual({
      '*': '0.000006',
      [MODEL]: '0.000006',
      [UNPRICED]: '',
    })
    expect(Object.keys(days[0] ?? {}).at(-1)).toBe('costUsd')
    const [day] = await linesOf('kind=days')
    expect(day).toMatchObject({
      total: { costUsd: COST },
      models: { [UNPRICED]: { costUsd: null } },
    })
    expect(JSON.stringify(day)).not.toContain('"cost"')
    const events = await rowsOf('kind=events')
    expect(events.map(({ cost }) => cost)).toEqual(['', '6000'])
  })

  test('by user is an invoice: a line for each user, over all days that are kept', async () => {
    const { ann, bob } = await fewDays()
    const rows = await rowsOf('kind=users&group=user')
    const noAudio = {
      ...{ audioSeconds: '0', characters: '0', audioHourPrice: '', charactersPrice: '' },
      ...{ unpricedAudioSeconds: '0', unpricedCharacters: '0' },
    }
    expect(rows).toEqual([
      {
        ...noAudio,
        ...{ label: '', userId: bob, date: '', model: '', requests: '2', prompt: '40' },
        ...{ cached: '0', completion: '30', charged: '70', inputPrice: '', cachedPrice: '' },
        ...{ outputPrice: '', costUsd: '0.000006', unpricedTokens: '35' },
      },
      {
        ...noAudio,
        ...{ label: `'=Ann, "A"`, userId: ann, date: '', model: '', requests: '3', prompt: '60' },
        ...{ cached: '0', completion: '45', charged: '105', inputPrice: '', cachedPrice: '' },
        ...{ outputPrice: '', costUsd: '0.000018', unpricedTokens: '0' },
      },
    ])
  })

  test('by day or by model has a line for each, with the prices of models', async () => {
    const { ann, bob } = await fewDays()
    const days = await rowsOf('kind=users&group=day')
    expect(days.map(({ userId, date, costUsd }) => [userId, date, costUsd])).toEqual([
      [bob, FIRST, '0.000006'],
      [ann, FIRST, '0.000006'],
      [ann, SECOND, '0.000006'],
      [ann, TODAY, '0.000006'],
    ])
    const models = await linesOf('kind=users&group=model')
    expect(models).toMatchObject([
      {
        ...{ userId: bob, label: null, date: null, model: UNPRICED, charged: 35 },
        ...{ inputPrice: null, cachedPrice: null, outputPrice: null },
        ...{ costUsd: null, unpricedTokens: 35 },
      },
      {
        ...{ userId: bob, model: MODEL, charged: 35, costUsd: '0.000006', unpricedTokens: 0 },
        ...{ inputPrice: 0.075, cachedPrice: 0.0375, outputPrice: 0.3 },
      },
      { userId: ann, model: MODEL, charged: 105, costUsd: '0.000018' },
    ])
  })

  test.each([
    [`from=${SECOND}`, 2],
    [`to=${FIRST}`, 1],
    [`from=${SECOND}&to=${SECOND}`, 1],
    [`from=${FIRST}&to=2099-01-01`, 3],
    ['from=2026-11-28', 0],
  ])('of %s has these days only, the first and the last too', async (range, days) => {
    const { ann } = await fewDays()
    const rows = await rowsOf(`kind=users&group=user&${range}`)
    expect(Number(rows.find(({ userId }) => userId === ann)?.requests ?? 0)).toBe(days)
    expect(await rowsOf(`kind=days&group=day&${range}`)).toHaveLength(days)
    expect(new Set((await rowsOf(`kind=days&${range}`)).map(({ date }) => date)).size).toBe(days)
    const events = await rowsOf(`kind=events&${range}`)
    expect(new Set(events.map(({ at }) => at?.slice(0, 10))).size).toBe(days)
  })

  test('bills a request that is lost, also of a user who never came back, and tells its cost', async () => {
    await app.ask('token-of-ann')
    const user = await ids.user('token-of-ann')
    const price = { input: 75_000, output: 300_000 }
    const asked = { user, model: MODEL, reserved: 500, completion: 300, price, limits: {} }
    await app.store.execute(admitOf({ id: 'lost', ...asked, now: app.clock.now }))
    const billed = async () => {
      const [line] = await rowsOf('kind=users&group=user')
      const { costs } = (await app.admin('GET', `users/${user}`)).json as unknown as {
        costs: { month: number }
      }
      return [line?.['requests'], line?.['charged'], line?.['costUsd'], costs.month]
    }
    app.clock.now += HOUR_MS
    expect(await billed()).toEqual(['1', '35', '0.000006', COST])
    app.clock.now += DAY_MS
    // 200 tokens of the prompt and 300 of the completion.
    expect(await billed()).toEqual(['2', '535', '0.000111', 0.000111])
    await app.ask('token-of-ann')
    expect(await billed()).toEqual(['3', '570', '0.000117', 0.000117])
  })

  test('of everyone has as many requests as that of users, also those of models that never answered', async () => {
    await fewDays()
    app.provider.answer = () => new Response('{}', { status: 404 })
    await app.ask('token-of-bob', { model: 'no/model' })
    app.clock.now += DAY_MS
    await app.ask('token-of-bob')
    const requestsOf = async (query: string, by: 'date' | 'model') => {
      const counts: Record<string, number> = {}
      for (const row of await rowsOf(query)) {
        counts[row[by] ?? ''] = (counts[row[by] ?? ''] ?? 0) + Number(row['requests'])
      }
      return counts
    }
    const byDay = { [FIRST]: 3, [SECOND]: 1, [TODAY]: 2, '2026-11-28': 1 }
    expect(await requestsOf('kind=users&group=day', 'date')).toEqual(byDay)
    expect(await requestsOf('kind=days&group=day', 'date')).toEqual(byDay)
    expect(await requestsOf('kind=users&group=model', 'model')).toEqual({
      ...{ [MODEL]: 5, [UNPRICED]: 1, 'no/model': 1 },
    })
    // Of everyone, a model is counted by its name on days on which it answered.
    expect(await requestsOf('kind=days&group=model', 'model')).toEqual({
      ...{ [MODEL]: 4, [UNPRICED]: 1, '?': 2 },
    })
    const [unnamed] = await linesOf('kind=days&group=model')
    expect(unnamed).toMatchObject({ model: '?', charged: 0, costUsd: '0', unpricedTokens: 0 })
  })

  test('of everyone by day and by model sums up the same', async () => {
    await fewDays()
    const of = async (group: string) =>
      (await rowsOf(`kind=days&group=${group}`)).map(({ date, model, costUsd, unpricedTokens }) => [
        `${date}${model}`,
        costUsd,
        unpricedTokens,
      ])
    expect(await of('day')).toEqual([
      [FIRST, '0.000012', '35'],
      [SECOND, '0.000006', '0'],
      [TODAY, '0.000006', '0'],
    ])
    expect(await of('model')).toEqual([
      [UNPRICED, '', '35'],
      [MODEL, '0.000024', '0'],
    ])
  })

  test('bills what has ended, and nothing that only runs', async () => {
    const user = await ids.user('token-of-ann')
    await app.ask('token-of-ann')
    const price = { input: 75_000, output: 300_000 }
    await app.store.execute({
      ...({
        op: 'admit',
        id: 'running',
        user,
        model: MODEL,
        reserved: 100,
        completion: 50,
      } as const),
      ...{ price, now: app.clock.now, lasts: HOUR_MS, limits: {} },
    })
    expect(await rowsOf('kind=users&group=user')).toMatchObject([
      { requests: '1', charged: '35', costUsd: '0.000006' },
    ])
  })

  test.each([
    ['kind=events&group=user', 'group', '`group` is for kind=users and kind=days'],
    ['kind=days&group=user', 'group', '`group` must be day, model or tag for kind=days'],
    ['kind=users&group=month', 'group', '`group` must be user, day, model or tag.'],
    ['kind=users&from=2026-11-25', 'from', '`from` needs `group`'],
    ['kind=users&to=2026-11-25', 'to', '`to` needs `group`'],
    ['kind=days&from=yesterday', 'from', '`from` must be a day in UTC, as in 2026-11-01.'],
    ['kind=days&to=2026-02-30', 'to', '`to` must be a day in UTC'],
    ['kind=days&from=', 'from', '`from` must be a day in UTC'],
    ['kind=days&from=2026-11-25T00:00', 'from', '`from` must be a day in UTC'],
    ['kind=days&from=2026-11-25&to=2026-11-24', 'from', '`from` must not be after `to`.'],
    [
      'kind=users&group=user&from=2026-10-20',
      'from',
      '`from` must be 2026-10-21 or later: earlier days are not kept (USER_RETENTION_DAYS).',
    ],
    ['kind=days&to=2026-01-01', 'to', 'earlier days are not kept (HISTORY_RETENTION_DAYS).'],
    ['group=user', 'kind', '`kind` must be users, days or events'],
  ])('%s is refused with what would be right', async (query, param, message) => {
    const { status, json } = await app.admin('GET', `export?${query}`)
    expect([status, json.error.param]).toEqual([400, param])
    expect(json.error.message).toContain(message)
  })
})

describe('the dashboard', () => {
  const page = async (path: string) => {
    const { text } = await app.send(path, { headers: await session() })
    return text
  }
  async function session() {
    const login = await app.send('/api/admin/login', {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'sec-fetch-site': 'same-origin' },
      body: JSON.stringify({ key: ADMIN_KEY }),
    })
    return { cookie: (login.headers.get('set-cookie') ?? '').split(';', 1)[0] ?? '' }
  }
  /** The text of a part of a page. */
  const textOf = (html: string, id: string) =>
    (html.split(`id="${id}"`)[1] ?? '')
      .split('</section>', 1)[0]!
      .replaceAll('<wbr/>', '')
      .replaceAll(/<[^>]*>/g, ' ')
      .replaceAll(/\s+/g, ' ')

  test('tells what was refused today, and who by which limit', async () => {
    const id = await ids.user('token-of-ann')
    await app.ask('token-of-ann')
    await patch(id, { limits: { total: { usdPerMonth: 0.00001 } } })
    await app.ask('token-of-ann', { max_tokens: 100 })
    await app.send('/api/groq', { method: 'POST', body: '{"prompt":"Hi"}' })
    const overview = await page('/admin')
    expect(textOf(overview, 'figure-refused')).toMatch(
      /1 yesterday: 0 .*over the user’s limit\s+1 /,
    )
    expect(textOf(overview, 'look')).toMatch(/over the user’s limit *, now/)
    expect(overview.split('id="look"')[1]).toContain(`href="/admin/users/${id}"`)
    const refused = textOf(await page('/admin/requests?outcome=refused'), 'events')
    expect(refused).toMatch(/insufficient_quota .*\$0\.00001 a month, +all models/)
    expect(textOf(await page(`/admin/users/${id}`), 'refused')).toContain('insufficient_quota')
    expect(textOf(await page(`/admin/users/${await ids.user('b')}`), 'refused')).toBe('')
  })

  test('shows what is used apart from what is reserved', async () => {
    const user = await ids.user('token-of-ann')
    await app.ask('token-of-ann')
    const price = { input: 75_000, output: 300_000 }
    await app.store.execute({
      ...({
        op: 'admit',
        id: 'running',
        user,
        model: MODEL,
        reserved: 2652,
        completion: 50,
      } as const),
      ...{ price, now: app.clock.now, lasts: HOUR_MS, limits: {} },
    })
    const shown = textOf(await page(`/admin/users/${user}`), 'use')
    expect(shown).toContain('Tokens today 35 used, 2,652 reserved by 1 running request')
    expect(shown).toContain('Requests today 2')
    expect(shown).not.toContain('2,687')
    expect(await page('/admin')).not.toContain('2,687')
  })

  test('shows the cost of today and of the month so far', async () => {
    const dear = { messages: [] }
    await app.ask('token-of-ann', dear)
    const figures = textOf(await page('/admin'), 'figures')
    expect(figures).toMatch(/Cost .*\$0\.00000600 yesterday: \$0\.00 this month: \$0\.00000600/)
    const user = textOf(await page(`/admin/users/${await ids.user('token-of-ann')}`), 'use')
    expect(user).toMatch(/Cost today \$0\.00000600 Month so far \$0\.00000600/)
  })
})
