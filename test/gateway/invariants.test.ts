import { expect, test } from 'vitest'
import { rowsOf, runningOf, whole } from '../../src/ledger/rows.ts'
import type { Event, Outcome } from '../../src/ledger/events.ts'
import type { Gateway } from '../support/gateways.ts'
import { transcripts, type Transcript } from '../support/transcripts.ts'
import { useWorld } from '../support/world.ts'
import { usersOf } from '../support/stores.ts'

const world = useWorld()

const USERS = 3
const REQUESTS = 120
const LIMIT = 12_000

/** The answers of upstream, by model. */
const MODELS: Record<string, Transcript> = {
  'm/plain': transcripts.plain,
  'm/stream': transcripts.stream,
  'm/tool': transcripts['tool-call'],
  'm/broken': transcripts['mid-stream-error'],
  'm/limited': transcripts['rate-limited'],
}

function random(seed: number) {
  let state = seed
  return (below: number) => {
    // https://en.wikipedia.org/wiki/Linear_congruential_generator (Numerical Recipes)
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return Math.floor((state / 2 ** 32) * below)
  }
}

type Sent = { id: string | null; status: number; user: number; model: string }

async function sendOne(gateways: Gateway[], pick: (below: number) => number): Promise<Sent> {
  const names = Object.keys(MODELS)
  const [user, model] = [pick(USERS), names[pick(names.length)] ?? '']
  const gateway = gateways[pick(gateways.length)]
  const leaves = pick(4) === 0
  const response = await fetch(`${gateway?.url}/api/groq`, {
    method: 'POST',
    headers: { 'x-user-token': `token-of-user-${user}` },
    body: JSON.stringify({
      model,
      stream: MODELS[model]?.stream ?? false,
      max_tokens: 100 + pick(900),
      messages: [{ role: 'user', content: 'x'.repeat(pick(400)) }],
    }),
  })
  if (leaves) await response.body?.cancel().catch(() => undefined)
  else await response.arrayBuffer().catch(() => undefined)
  return { id: response.headers.get('x-weir-id'), status: response.status, user, model }
}

test.each([1, 2, 3, 4, 5])(
  'three instances on one database never pass a limit, and every request ends once (seed %d)',
  async (seed) => {
    const pick = random(seed)
    const limits = (tokensPerDay: number) => ({ tokensPerDay, requestsPerDay: 40 })
    const vars = (instance: number) => ({
      MODEL_LIMITS: JSON.stringify({ '*': limits(LIMIT), total: limits(2 * LIMIT) }),
      GLOBAL_LIMITS: JSON.stringify({ total: { tokensPerDay: 4 * LIMIT, requestsPerDay: 1000 } }),
      // Only distinguishes the instances.
      PORT: '0'.repeat(instance + 1),
    })
    const gateways = await Promise.all([0, 1, 2].map((n) => world.gateway('node', vars(n))))
    for (const [model, transcript] of Object.entries(MODELS)) {
      world.upstream.on(model, () => ({ transcript, delay: pick(15), pause: pick(3) }))
    }
    const sent = await Promise.all(Array.from({ length: REQUESTS }, () => sendOne(gateways, pick)))
    const admitted = world.upstream.seen.length
    expect(admitted).toBeGreaterThan(10)
    expect(admitted).toBeLessThan(REQUESTS)
    await expect
      .poll(async () => (await world.store.events(1000)).length, { timeout: 10_000 })
      .toBe(admitted)

    const events = await world.store.events(1000)
    expect(new Set(events.map(({ id }) => id)).size).toBe(admitted)
    const byId = new Map(events.map((event) => [event.id, event]))
    for (const { id, status, model } of sent) {
      const event = byId.get(id ?? '')
      if (!event) {
        expect(status).toBe(429)
        continue
      }
      expect(event).toMatchObject({ model, status })
      const usage = MODELS[model]?.usage
      if (usage) expect(event).toMatchObject({ outcome: 'exact', charged: usage.total })
      else expect(event.outcome).toBe(status === 200 ? 'estimated' : 'failed')
    }

    const sum = (list: Event[]) => list.reduce((total, { charged }) => total + charged, 0)
    const users = await usersOf(world.store, { sort: 'lastActive', limit: 10, now: Date.now() })
    expect(users.length).toBeLessThanOrEqual(USERS)
    for (const { usage } of users) {
      let total = 0
      for (const [model, thin] of Object.entries(rowsOf(usage))) {
        const row = whole(thin)
        const own = events.filter((event) => event.user === usage.id && event.model === model)
        const ended = (outcome: Outcome) => own.filter((event) => event.outcome === outcome).length
        expect(runningOf(row)).toBe(0)
        expect(row).toMatchObject({
          requests: own.length,
          exact: ended('exact'),
          estimated: ended('estimated'),
          failed: ended('failed'),
          lost: 0,
          charged: sum(own),
          reserved: 0,
        })
        expect(row.charged).toBeLessThanOrEqual(LIMIT + row.overReservation)
        expect(row.requests).toBeLessThanOrEqual(40)
        total += row.charged - row.overReservation
      }
      expect(total).toBeLessThanOrEqual(2 * LIMIT)
      expect(usage.leases).toEqual({})
    }
    const dates = [...new Set(users.map(({ usage }) => usage.date))]
    const query = { sort: 'lastActive', limit: 10, now: Date.now() } as const
    const { days, quotas } = await world.store.overview({ dates, users: query, events: 0 })
    const failed = events.filter(({ outcome }) => outcome === 'failed').length
    expect(days[0]?.total).toMatchObject({ requests: admitted, failed, charged: sum(events) })
    // Failed requests do not count for everyone.
    expect(quotas['*']?.windows.day).toMatchObject({
      requests: admitted - failed,
      tokens: sum(events),
    })
  },
  30_000,
)
