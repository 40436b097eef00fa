/** The checklist of a gateway that is not configured, and what others learn of one that is. */
import { expect, test } from 'vitest'
import { createPagesApp } from '../../src/app.ts'
import { readConfig, type Vars } from '../../src/config/config.ts'
import type { Deps } from '../../src/context.ts'
import { createLog } from '../../src/log.ts'
import type { Event } from '../../src/ledger/events.ts'
import type { UpstreamAnswer } from '../../src/ports.ts'
import { memoryQueue } from '../../src/store/fallback/queue.ts'
import { withFallback, type FallbackStore } from '../../src/store/fallback/store.ts'
import { StoreError, type Store } from '../../src/store/store.ts'
import { ADMIN_KEY } from '../support/gateways.ts'
import { RETENTION } from '../support/stores.ts'

const log = createLog({ level: 'silent', format: 'json', write: () => undefined })
const SET: Vars = { ADMIN_KEY, GROQ_API_KEY: 'gsk_server_key' }

type Options = {
  vars?: Vars
  store?: Partial<Store> | undefined
  platform?: Deps['environment']['platform']
  upstream?: () => Promise<{ ok: boolean; status: number; body: null }>
}

/** A gateway whose calls of the provider and of the database are counted. */
function gateway({ vars = {}, store, platform = 'vercel', upstream }: Options) {
  const counts = { provider: 0, probes: 0, events: 0 }
  const clock = { now: Date.UTC(2026, 10, 25, 12) }
  const now = () => clock.now
  const counted: FallbackStore | undefined =
    store &&
    withFallback({
      store: {
        probe: async () => ((counts.probes += 1), {}),
        events: async () => ((counts.events += 1), []),
        tend: () => undefined,
        ...store,
      } as unknown as Store,
      ...{ mode: 'open', queue: memoryQueue(log), retention: RETENTION, now, log },
    })
  const app = createPagesApp({
    config: readConfig(vars, 'node'),
    store: counted,
    fetch: async (url: string, { headers }: { headers: Record<string, string> }) => {
      counts.provider += 1
      expect([url, headers.authorization]).toEqual([
        'https://api.groq.com/openai/v1/models',
        'Bearer gsk_server_key',
      ])
      return (await (upstream?.() ?? { ok: true, status: 200, body: null })) as UpstreamAnswer
    },
    now,
    log,
    clientIp: () => '192.0.2.1',
    claimedIp: () => undefined,
    environment: { platform, storage: store ? 'database' : 'none' },
  } as unknown as Deps)
  const text = async (path: string) => {
    const context = { waitUntil() {}, passThroughOnException() {}, props: {} }
    const answer = await app.fetch(new Request(`https://weir.test${path}`), {}, context)
    return {
      status: answer.status,
      html: (await answer.text()).replaceAll(/<[^>]+>/g, ' '),
    }
  }
  return { text, counts, clock }
}

test('without anything, / and /admin say what to set and where', async () => {
  for (const [platform, where] of [
    ['vercel', /Settings → Environment Variables[^]*Redeploy/],
    ['workerd', /wrangler secret put/],
    ['node', /\.env\.local/],
  ] as const) {
    const { text, counts } = gateway({ platform })
    for (const [path, status] of [
      ['/', 200],
      ['/admin', 503],
    ] as const) {
      const page = await text(path)
      expect([path, page.status]).toEqual([path, status])
      for (const word of ['ADMIN_KEY', 'USER_HASH_SECRET', 'GROQ_API_KEY', 'First call']) {
        expect(page.html).toContain(word)
      }
      expect(page.html).toMatch(where)
      expect(page.html).toMatch(/Upstash/)
    }
    expect(counts.provider).toBe(0)
  }
})

test('each step is shown as done when it is: the admin key, the database, the provider key', async () => {
  const done = async (options: Options) => {
    const { html } = await gateway(options).text('/admin')
    return html.match(/(Admin key|Database|Provider key|First call)\s+(done|to do|not known yet)/g)
  }
  const { ADMIN_KEY: _, ...noAdmin } = SET
  expect(await done({ vars: noAdmin, store: {} })).toEqual([
    expect.stringMatching(/Admin key\s+to do/),
    expect.stringMatching(/Database\s+done/),
    expect.stringMatching(/Provider key\s+done/),
    expect.stringMatching(/First call\s+to do/),
  ])
  const refused = gateway({
    vars: noAdmin,
    store: {
      probe: () => Promise.reject(new StoreError('away')),
    },
    upstream: async () => ({ ok: false, status: 401, body: null }),
  })
  const { html } = await refused.text('/admin')
  expect(html).toMatch(/Database\s+to do/)
  expect(html).toMatch(/refuses it with 401/)
  const away = gateway({ vars: noAdmin, store: {}, upstream: () => Promise.reject(new Error()) })
  expect((await away.text('/admin')).html).toContain('The provider does not answer')
})

test('the secret of user ids is a step of its own, and no call is done without a key of the provider', async () => {
  const store = { events: async () => [{}] as unknown as Event[] }
  const stepsOf = async (vars: Vars) =>
    (await gateway({ vars, store }).text('/')).html.match(
      /(Secret of user ids|First call)\s+(done|to do)/g,
    )
  const open = [/Secret of user ids\s+to do/, /First call\s+to do/]
  expect(await stepsOf({ ADMIN_KEY })).toEqual(open.map((step) => expect.stringMatching(step)))
  expect(await stepsOf({ ADMIN_KEY, USER_HASH_SECRET: 'a secret of the deployment' })).toEqual([
    expect.stringMatching(/Secret of user ids\s+done/),
    expect.stringMatching(/First call\s+to do/),
  ])
  const works = gateway({ vars: { GROQ_API_KEY: 'gsk_server_key' }, store })
  expect((await works.text('/admin')).html).toMatch(/First call\s+done/)
})

test('a thousand visitors cost one check of the provider and of the database', async () => {
  const { ADMIN_KEY: _, ...noAdmin } = SET
  const { text, counts, clock } = gateway({ vars: noAdmin, store: {} })
  await Promise.all(Array.from({ length: 1000 }, () => text('/admin')))
  expect(counts).toEqual({ provider: 1, probes: 1, events: 1 })
  clock.now += 29_000
  await text('/admin')
  expect(counts.provider).toBe(1)
  clock.now += 2000
  await text('/admin')
  expect(counts.provider).toBe(2)
})

test('of a gateway that is configured, visitors learn nothing, and nothing is asked', async () => {
  const { text, counts } = gateway({ vars: SET, store: {} })
  const [home, login, setup] = [await text('/'), await text('/admin'), await text('/admin/setup')]
  expect([home.status, login.status, setup.status]).toEqual([200, 401, 401])
  for (const { html } of [home, login, setup]) {
    expect(html).not.toMatch(/Provider key|Set up this gateway|answers in/)
  }
  expect(counts).toEqual({ provider: 0, probes: 0, events: 0 })
})
