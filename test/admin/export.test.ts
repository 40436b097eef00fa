import { beforeEach, describe, expect, test } from 'vitest'
import { csvLine } from '../../src/reports/csv.ts'
import type { Event } from '../../src/ledger/events.ts'
import { DAY_MS, MINUTE_MS, dateOf } from '../../src/ledger/windows.ts'
import { pastKey } from '../../src/store/redis/keys.ts'
import { adminGet, BEARER } from '../support/admin.ts'
import { admitOf, settleOf } from '../support/commands.ts'
import { parseCsv } from '../support/csv.ts'
import { eventOf, KINDS, type Gateway } from '../support/gateways.ts'
import { MODELS, seededId, seedUsers } from '../support/seed.ts'
import { useWorld } from '../support/world.ts'

const world = useWorld()

type User = { userId: string; models: Record<string, unknown>[] }

const fetchExport = (gateway: Gateway, query: string) =>
  fetch(`${gateway.url}/api/admin/export?${query}`, { headers: BEARER })

const textOf = async (gateway: Gateway, query: string) => (await fetchExport(gateway, query)).text()

const linesOf = async <T>(gateway: Gateway, kind: string): Promise<T[]> =>
  (await textOf(gateway, `kind=${kind}&format=ndjson`))
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as T)

async function use(gateway: Gateway, token: string, model: string): Promise<void> {
  const response = await fetch(`${gateway.url}/api/groq`, {
    method: 'POST',
    headers: { 'x-user-token': token, 'x-session-id': 'a-session' },
    body: JSON.stringify({ model, messages: [] }),
  })
  await eventOf(world.store, response.headers.get('x-weir-id'))
}

describe.each(KINDS)('on %s', (kind) => {
  let gateway: Gateway
  beforeEach(async () => {
    gateway = await world.gateway(kind)
  })

  test('a file has its type and name, and no cache keeps it', async () => {
    const csv = await fetchExport(gateway, 'kind=users')
    expect(csv.headers.get('content-type')).toBe('text/csv; charset=utf-8')
    expect(csv.headers.get('cache-control')).toBe('no-store')
    // The byte order mark, by which Excel knows UTF-8.
    expect(Buffer.from(await csv.arrayBuffer()).toString('hex')).toMatch(/^efbbbf/)
    expect(csv.headers.get('content-disposition')).toBe(
      `attachment; filename="weir-users-${dateOf(Date.now())}.csv"`,
    )
    const lines = await fetchExport(gateway, 'kind=events&format=ndjson')
    expect(lines.headers.get('content-type')).toBe('application/x-ndjson')
    expect(await lines.text()).toBe('')
  })

  test.each(['', 'kind=all', 'kind=users&format=xml'])('%j is refused', async (query) => {
    const response = await fetchExport(gateway, query)
    expect(response.status).toBe(400)
    expect(await response.json()).toMatchObject({
      error: { message: '`kind` must be users, days or events, and `format` csv or ndjson.' },
    })
  })

  test('a HEAD is refused, since nobody would read the file', async () => {
    const response = await fetch(`${gateway.url}/api/admin/export?kind=users`, {
      method: 'HEAD',
      headers: BEARER,
    })
    expect([response.status, response.headers.get('allow')]).toEqual([405, 'GET'])
  })

  test.each(['csv', 'ndjson'])(
    'no %s file is begun if the database does not answer',
    async (format) => {
      const cut = await world.gateway(kind, { STORE_TIMEOUT_MS: '500' })
      world.upstash.fault(({ commands }) =>
        commands.flat().some((arg) => /^zrange$/i.test(String(arg))) ? { reset: true } : undefined,
      )
      const response = await fetchExport(cut, `kind=users&format=${format}`)
      expect(response.status).toBe(503)
    },
  )

  test('users, days and events are as in the API, in both formats', async () => {
    for (const [token, model] of [
      ['token-of-somebody', 'openai/gpt-oss-20b'],
      ['token-of-somebody', 'llama-3.1-8b-instant'],
      ['token-of-another', 'openai/gpt-oss-20b'],
    ] as const) {
      await use(gateway, token, model)
    }
    const told = await adminGet<{ users: User[]; events: Event[] }>(gateway, '/api/admin/usage')

    const users = await linesOf<User>(gateway, 'users')
    expect(users).toEqual(told.users.toReversed())
    const rows = parseCsv(await textOf(gateway, 'kind=users'))
    expect(rows.map(({ userId, model, tokensUsedDay }) => [userId, model, tokensUsedDay])).toEqual(
      users.flatMap(({ userId, models }) =>
        models.map(({ model, tokensUsedDay }) => [userId, model, String(tokensUsedDay)]),
      ),
    )
    expect(await linesOf<Event>(gateway, 'events')).toEqual(told.events)
    const events = parseCsv(await textOf(gateway, 'kind=events'))
    expect(events.map(({ id, charged, session }) => [id, charged, session])).toEqual(
      told.events.map(({ id, charged, session }) => [id, String(charged), session]),
    )
    const [today] = await linesOf<{ date: string; total: { charged: number } }>(gateway, 'days')
    const days = parseCsv(await textOf(gateway, 'kind=days'))
    expect(days.map(({ model }) => model).sort()).toEqual([
      '*',
      'llama-3.1-8b-instant',
      'openai/gpt-oss-20b',
    ])
    expect(days.find(({ model }) => model === '*')).toMatchObject({
      date: today?.date,
      requests: '3',
      charged: String(today?.total.charged),
    })
  })

  test('events that cannot be read are left out, and more than a page of new ones ends no file', async () => {
    const textOfEvent = (id: string) =>
      JSON.stringify(settleOf(admitOf({ id, now: Date.now() })).event)
    const key = 'weir:{2}:events'
    const ids = Array.from({ length: 2500 }, (_, n) => `${n}`)
    const texts = ids.map(textOfEvent)
    // One in each page, and more than a page of them at once.
    for (const at of [2400, 1200, 600]) texts.splice(at, 0, 'damaged', '5', '{"at":"never"}')
    texts.splice(900, 0, ...Array.from({ length: 1100 }, () => 'damaged'))
    await world.redis.command(['RPUSH', key, ...texts])
    let pages = 0
    world.upstash.fault(async (call) => {
      const reads = call.commands.flat().some((arg) => /^lrange$/i.test(String(arg)))
      // Between the first pages, more than a page of new ones.
      if (!reads || (pages += 1) === 1 || pages > 3) return undefined
      const added = Array.from({ length: 1300 }, (_, n) => textOfEvent(`new ${pages} ${n}`))
      await world.redis.command(['LPUSH', key, ...added])
      return undefined
    })
    const events = parseCsv(await textOf(gateway, 'kind=events'))
    world.upstash.fault(undefined)
    expect(pages).toBeGreaterThan(3)
    expect(events.map(({ id }) => id).filter(Boolean)).toEqual(ids)
  })

  test('all users are listed, the least recently active first', async () => {
    await seedUsers(world.redis, 3000, Date.now())
    const rows = parseCsv(await textOf(gateway, 'kind=users'))
    expect(new Set(rows.map(({ userId }) => userId)).size).toBe(3000)
    expect(rows).toHaveLength(6000)
    const minutes = rows.map(({ lastActive = '' }) =>
      Math.floor(Date.parse(lastActive) / MINUTE_MS),
    )
    expect(minutes).toEqual(minutes.toSorted((a, b) => a - b))
  })

  test('while users are active none is missing, but one may appear twice', async () => {
    await seedUsers(world.redis, 2000, Date.now())
    let n = 0
    world.upstash.fault(async (call) => {
      const reads = call.commands.flat().filter((arg) => String(arg).toLowerCase() === 'zrange')
      if (reads.length === 0) return undefined
      // Between two pages, a user of a later page becomes the last active one.
      const user = seededId((n += 37))
      const admit = admitOf({ id: `meanwhile-${n}`, user, now: Date.now() })
      await world.store.execute(admit)
      await world.store.execute(settleOf(admit))
      return undefined
    })
    const users = await linesOf<User>(gateway, 'users')
    world.upstash.fault(undefined)
    expect(n).toBeGreaterThan(0)
    const ids = new Set(users.map(({ userId }) => userId))
    const all = Array.from({ length: 2000 }, (_, number) => seededId(number))
    expect(all.filter((id) => !ids.has(id))).toEqual([])
  })

  test('an invoice has the past days of all users, and bills those who are active meanwhile once', async () => {
    await seedUsers(world.redis, 500, Date.now())
    const yesterday = dateOf(Date.now() - DAY_MS)
    const row = {
      requests: 2,
      exact: 2,
      charged: 50,
      prompt: 40,
      completion: 10,
      cost: '1234567891',
    }
    for (const n of [0, 7]) {
      const id = seededId(n)
      const past = { v: 2, id, days: { [yesterday]: { 'a/one': row } } }
      await world.redis.command(['SET', pastKey(id), JSON.stringify(past)])
    }
    let n = 0
    world.upstash.fault(async (call) => {
      const reads = call.commands.flat().filter((arg) => String(arg).toLowerCase() === 'zrange')
      if (reads.length === 0) return undefined
      // The users of the first pages become the last active ones.
      for (const number of Array.from({ length: 60 }, () => (n += 1))) {
        const admit = admitOf({
          id: `meanwhile-${number}`,
          user: seededId(number),
          now: Date.now(),
        })
        await world.store.execute(admit)
        await world.store.execute(settleOf(admit))
      }
      return undefined
    })
    const bills = parseCsv(await textOf(gateway, `kind=users&group=model&from=${yesterday}`))
    world.upstash.fault(undefined)
    expect(n).toBeGreaterThan(120)
    const billed = bills.filter(({ model }) => model === MODELS[0]).map(({ userId }) => userId)
    expect(billed.toSorted()).toEqual(
      Array.from({ length: 500 }, (_, number) => seededId(number)).toSorted(),
    )
    const past = bills.filter(({ model, costUsd }) => model === 'a/one' && costUsd !== '')
    expect(past.map(({ userId, costUsd }) => [userId, costUsd]).toSorted()).toEqual(
      [0, 7].map((number) => [seededId(number), '1.234567891']).toSorted(),
    )
  })

  test('a reader that stops makes the gateway stop reading, so memory stays flat', async () => {
    await seedUsers(world.redis, 30_000, Date.now())
    world.upstash.reset()
    const response = await fetchExport(gateway, 'kind=users&format=ndjson')
    const reader = response.body!.getReader()
    await reader.read()
    const calls = () => world.upstash.log.length
    let before = -1
    // Waits until all buffers in between are full.
    await expect
      .poll(() => calls() === before || ((before = calls()), false), {
        interval: 400,
        timeout: 20_000,
      })
      .toBe(true)
    expect(before).toBeLessThan(300)
    let bytes = 0
    for (let next = await reader.read(); !next.done; next = await reader.read()) {
      bytes += next.value.length
    }
    expect(calls()).toBeGreaterThanOrEqual(300)
    expect(bytes).toBeGreaterThan(10_000_000)
  }, 60_000)

  test('a reader that stalls is cut off at the deadline', async () => {
    const short = await world.gateway(kind, { REQUEST_SECONDS: '1' })
    await seedUsers(world.redis, 30_000, Date.now())
    const response = await fetchExport(short, 'kind=users&format=ndjson')
    const calls = () => world.upstash.log.length
    await new Promise((resolve) => setTimeout(resolve, 1500))
    const before = calls()
    await response.text().catch(() => undefined)
    expect(calls()).toBeLessThanOrEqual(before + 2)
    expect(before).toBeLessThan(300)
  })

  test('an outage of the database breaks the file off, and is logged', async () => {
    const cut = await world.gateway(kind, { STORE_TIMEOUT_MS: '500' })
    await seedUsers(world.redis, 30_000, Date.now())
    const response = await fetchExport(cut, 'kind=users&format=ndjson')
    world.upstash.fault(() => ({ reset: true }))
    expect(response.status).toBe(200)
    // workerd always ends such an answer normally, so only the log shows the failure.
    if (kind === 'node') await expect(response.text()).rejects.toThrow()
    else await response.text()
    await expect.poll(() => cut.log.join('\n')).toContain('export.broken_off')
  })
})

test.each([
  ['=1+1', `'=1+1\r\n`],
  ['+SUM(A1)', `'+SUM(A1)\r\n`],
  ['-2+3', `'-2+3\r\n`],
  ['@cmd', `'@cmd\r\n`],
  ['\t=1', `'\t=1\r\n`],
  ['-bcdef_-ghij', `'-bcdef_-ghij\r\n`],
  [' =1', `' =1\r\n`],
  ['＝1', `'＝1\r\n`],
  ['a "b", c', '"a ""b"", c"\r\n'],
  ['two\r\nlines', '"two\r\nlines"\r\n'],
  ['<script>', '<script>\r\n'],
  [`two\nlines`, '"two\nlines"\r\n'],
  ['\ra', `"'\ra"\r\n`],
  ['\na', `"'\na"\r\n`],
  ['a=1', 'a=1\r\n'],
  ['a\tb', 'a\tb\r\n'],
  [' a', '" a"\r\n'],
  ['a ', '"a "\r\n'],
  ['-a=1', `'-a=1\r\n`],
  [-5, '-5\r\n'],
  [-1.5, '-1.5\r\n'],
  [0, '0\r\n'],
  [null, '\r\n'],
  [undefined, '\r\n'],
  [false, 'false\r\n'],
])('the cell %j is written as %j', (cell, line) => {
  expect(csvLine([cell])).toBe(line)
})

test('a line has all of its cells', () => {
  expect(csvLine(['a', 1, null, 'b,c'])).toBe('a,1,,"b,c"\r\n')
})
