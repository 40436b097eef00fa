import { describe, expect, test } from 'vitest'
import { newDay, newDayRow } from '../../src/ledger/new-documents.ts'
import { usedIn } from '../../src/ledger/policy.ts'
import { DAY_MS, dateOf } from '../../src/ledger/windows.ts'
import { historyRow, historyStats } from '../../src/reports/history.ts'
import { admitOf, settleOf } from '../support/commands.ts'
import { ADMIN_KEY, eventOf, KINDS, type Gateway } from '../support/gateways.ts'
import { useWorld } from '../support/world.ts'
import { usersOf } from '../support/stores.ts'

const world = useWorld()

const ADMIN = { authorization: `Bearer ${ADMIN_KEY}` }
const NOBODY = { tokensPerDay: 1e9, requestsPerDay: 1e6 }

const tokens = async (gateway: Gateway, query = '', init: RequestInit = {}) => {
  const response = await fetch(`${gateway.url}/api/tokens${query}`, { headers: ADMIN, ...init })
  return { status: response.status, body: (await response.json()) as Record<string, unknown> }
}

async function chat(gateway: Gateway, user: string, session?: string): Promise<void> {
  const response = await fetch(`${gateway.url}/api/groq`, {
    method: 'POST',
    headers: { 'x-user-token': `token-of-${user}`, ...(session && { 'x-session-id': session }) },
    body: '{"prompt":"hi"}',
  })
  await response.arrayBuffer()
  await eventOf(world.store, response.headers.get('x-weir-id'))
}

/** Creates a past day on which one user spent `charged` tokens. Must be called in the order of days. */
async function past(daysAgo: number, charged: number): Promise<string> {
  const now = Date.now() - daysAgo * DAY_MS
  const admit = admitOf({
    id: `past-${daysAgo}`,
    user: `user-of-${daysAgo}`,
    now,
    reserved: charged,
    limits: { model: NOBODY },
  })
  expect(await world.store.execute(admit)).toMatchObject({ ok: true })
  const usage = { prompt: charged - 1, completion: 1, total: charged, charged }
  expect(await world.store.execute(settleOf(admit, usage))).toEqual({ applied: true })
  return dateOf(now)
}

describe.each(KINDS)('on %s', (kind) => {
  test('today, history and stats are computed from daily totals, with users and sessions counted once', async () => {
    const gateway = await world.gateway(kind)
    const old = await past(89, 10)
    const older = await past(3, 1000)
    for (const [user, session] of [
      ['one', 'a'],
      ['one', 'a'],
      ['one', 'b'],
      ['two', 'a'],
      ['two'],
    ] as const) {
      await chat(gateway, user, session)
    }
    const today = dateOf(Date.now())
    const rows = [
      {
        date: today,
        totalTokens: 175,
        completionTokens: 95,
        promptTokens: 80,
        requestCount: 5,
        uniqueUsers: 2,
        uniqueSessions: 3,
      },
      {
        date: older,
        totalTokens: 1000,
        completionTokens: 1,
        promptTokens: 999,
        requestCount: 1,
        uniqueUsers: 1,
        uniqueSessions: 0,
      },
      {
        date: old,
        totalTokens: 10,
        completionTokens: 1,
        promptTokens: 9,
        requestCount: 1,
        uniqueUsers: 1,
        uniqueSessions: 0,
      },
    ]
    const stats = {
      totalTokensAllTime: 1185,
      totalRequests: 7,
      avgTokensPerRequest: 169.29,
      mostActiveDate: older,
      daysTracked: 3,
    }
    const timestamp = expect.any(Number) as number
    expect(await tokens(gateway)).toEqual({
      status: 200,
      body: {
        todayUsage: rows[0],
        history: rows,
        stats,
        environment: { isVercel: false, storageType: 'database' },
        timestamp,
      },
    })
    expect((await tokens(gateway, '?action=all')).body.stats).toEqual(stats)
    expect((await tokens(gateway, '?action=today')).body).toEqual({
      todayUsage: rows[0],
      timestamp,
    })
    expect((await tokens(gateway, '?action=stats')).body).toEqual({ stats, timestamp })
    expect((await tokens(gateway, '?action=history&days=4')).body).toEqual({
      history: rows.slice(0, 2),
      timestamp,
    })
  })

  test('clearing forgets days and events, but no quota, user or block', async () => {
    const gateway = await world.gateway(kind, {
      GLOBAL_LIMITS: '{"total":{"tokensPerDay":1000000,"requestsPerDay":1000000}}',
    })
    await past(2, 50)
    await chat(gateway, 'one')
    const query = { sort: 'lastActive', limit: 9, now: Date.now() } as const
    const before = await usersOf(world.store, query)
    expect(await tokens(gateway, '', { method: 'DELETE' })).toEqual({
      status: 200,
      body: { success: true },
    })
    const { history, todayUsage } = (await tokens(gateway)).body
    expect([history, todayUsage]).toEqual([[], historyRow(dateOf(Date.now()), undefined)])
    expect(await world.store.events(9)).toEqual([])
    expect(await usersOf(world.store, query)).toEqual(before)
    const today = { dates: [dateOf(Date.now())], users: { ...query, limit: 0 }, events: 0 }
    const { quotas } = await world.store.overview(today)
    const used = usedIn(quotas['*']?.windows, 'day', Date.now())
    expect(used).toEqual({ tokens: 35, requests: 1, usd: 6900 })
    await chat(gateway, 'one')
    expect((await tokens(gateway, '?action=today')).body.todayUsage).toMatchObject({
      requestCount: 1,
      totalTokens: 35,
    })
  })

  test.each([
    ['?action=everything', 400, 'invalid_request'],
    ['?action=history&days=0', 400, 'invalid_request'],
    ['?action=history&days=91', 400, 'invalid_request'],
    ['?action=history&days=x', 400, 'invalid_request'],
  ])('%s is refused', async (query, status, code) => {
    const gateway = await world.gateway(kind)
    expect(await tokens(gateway, query)).toMatchObject({ status, body: { error: { code } } })
  })

  test('only the admin may read or clear', async () => {
    const gateway = await world.gateway(kind)
    for (const method of ['GET', 'DELETE']) {
      const answer = await tokens(gateway, '', { method, headers: {} })
      expect(answer).toMatchObject({ status: 401, body: { error: { code: 'missing_token' } } })
    }
    expect(await tokens(gateway, '', { method: 'PUT' })).toMatchObject({ status: 405 })
  })

  test('90 days of 50 models are read in one command, and in two the first time', async () => {
    const gateway = await world.gateway(kind)
    for (let ago = 89; ago >= 0; ago -= 1) await past(ago, 100 + ago)
    for (let model = 0; model < 50; model += 1) {
      const admit = admitOf({
        id: `model-${model}`,
        model: `m/${model}`,
        now: Date.now(),
        limits: { model: NOBODY },
      })
      await world.store.execute(admit)
      await world.store.execute(settleOf(admit))
    }
    for (const mget of [2, 1]) {
      await world.redis.resetStats()
      const { body } = await tokens(gateway)
      expect(body.history).toHaveLength(90)
      expect(await world.redis.commandstats()).toEqual({ mget })
    }
  }, 20_000)
})

test('stats over no days are zero and have no date', () => {
  expect(historyStats([])).toEqual({
    totalTokensAllTime: 0,
    totalRequests: 0,
    avgTokensPerRequest: 0,
    mostActiveDate: null,
    daysTracked: 0,
  })
})

test('a day is reported by its totals, and an empty day by zeros', () => {
  const total = { ...newDayRow(), charged: 90, completion: 40, prompt: 50, requests: 3, users: 2 }
  expect(historyRow('2026-11-22', { ...newDay('2026-11-22'), total, sessions: 4 })).toEqual({
    date: '2026-11-22',
    totalTokens: 90,
    completionTokens: 40,
    promptTokens: 50,
    requestCount: 3,
    uniqueUsers: 2,
    uniqueSessions: 4,
  })
  expect(historyRow('2026-11-21', undefined)).toEqual({
    date: '2026-11-21',
    totalTokens: 0,
    completionTokens: 0,
    promptTokens: 0,
    requestCount: 0,
    uniqueUsers: 0,
    uniqueSessions: 0,
  })
})

test.each([
  ['the one with the most tokens', [10, 30, 20], '2026-11-02'],
  ['the later of two alike', [30, 30, 20], '2026-11-02'],
  ['the first where it has the most', [30, 20, 10], '2026-11-01'],
])('stats name as the most active day %s, in whatever order', (_, tokens, most) => {
  const rows = tokens.map((totalTokens, n) => ({
    ...historyRow(`2026-11-0${n + 1}`, undefined),
    ...{ totalTokens, requestCount: n + 1 },
  }))
  const sum = tokens.reduce((all, one) => all + one)
  const stats = {
    totalTokensAllTime: sum,
    totalRequests: 6,
    avgTokensPerRequest: Math.round((sum / 6) * 100) / 100,
    mostActiveDate: most,
    daysTracked: 3,
  }
  expect([historyStats(rows), historyStats(rows.toReversed())]).toEqual([stats, stats])
})
