/** The contract of every store: the five stores that keep it, and the helpers of its tests. */
import { afterEach, expect } from 'vitest'
import type { Admit, Command, Enter, Report, UserCommand } from '../../src/ledger/commands.ts'
import type { Answer, AnswerOf, Settled } from '../../src/ledger/answers.ts'
import type { ModelLimits } from '../../src/ledger/policy.ts'
import { whole } from '../../src/ledger/rows.ts'
import type { Retention } from '../../src/ledger/advance.ts'
import type { Block, Row } from '../../src/ledger/documents.ts'
import type { Event } from '../../src/ledger/events.ts'
import { SECOND_MS } from '../../src/ledger/windows.ts'
import { bindingStore, serveStore } from '../../src/store/binding.ts'
import { createMemory } from '../../src/store/fallback/memory.ts'
import {
  REPLAY_BATCH,
  type Cursor,
  type Failed,
  type Store,
  type UserQuery,
  type WholeUser,
} from '../../src/store/store.ts'
import { admitOf, NOON, settleOf } from './commands.ts'
import { useDatabase } from './database.ts'
import { localStore, RETENTION, redisStore, tcpStore, usersOf } from './stores.ts'

export const YESTERDAY = '2026-11-21'
export const TODAY = '2026-11-22'
export const TOMORROW = '2026-11-23'
export const MIDNIGHT = Date.UTC(2026, 10, 23)

/** The part of a store that counts. What it keeps cannot be read. */
export type Ledger = Pick<Store, 'execute' | 'replay'>

type OpenOptions = { retention?: Partial<Retention>; tolerance?: number }
type Open<T> = (options?: OpenOptions) => Promise<T>
type Subject<T> = [name: string, open: Open<T>]

/** The stores for the tests of a file, empty before each test and closed after it, and the database of some of them. */
export function useStores() {
  const { redis, upstash } = useDatabase()
  const opened: { remove(): Promise<void> }[] = []
  afterEach(async () => {
    for (const store of opened.splice(0)) await store.remove()
  })
  const until = <T extends { remove(): Promise<void> }>(store: T): T => {
    opened.push(store)
    return store
  }
  const files: Open<Store> = async (options) => until(await localStore(() => NOON, options))

  const stores: Subject<Store>[] = [
    ['files', files],
    ['Redis over TCP', async (options) => until(tcpStore(redis.url, options))],
    ['Redis over REST', async (options) => redisStore(upstash, options)],
    [
      'Redis over REST, in batches',
      async (options) => redisStore(upstash, { ...options, sharing: 'calls' }),
    ],
    ['files behind a service binding', async (options) => throughBinding(await files(options))],
  ]
  const memory: Subject<Ledger> = [
    "an isolate's memory",
    async (options) => memoryLedger({ ...RETENTION, ...options?.retention }),
  ]
  const ledgers: Subject<Ledger>[] = [...stores, memory]
  return { redis, upstash, stores, ledgers, until }
}

/** Reaches a store as workerd does: through the script that runs workerd. */
export const throughBinding = (store: Store): Store =>
  bindingStore({
    fetch: async (_, init) => new Response(await serveStore(store, String(init?.body))),
  })

/** The ledger in memory, with which an isolate continues while the store is unreachable. */
function memoryLedger(retention: Retention): Ledger {
  const memory = createMemory(retention)
  const run = (command: Command): Answer => memory.run(command as UserCommand)
  return {
    execute: async <C extends Command>(command: C) => run(command) as AnswerOf<C>,
    replay: async (entries) => entries.map((entry) => run(entry) as Settled),
  }
}

/** A user with all documents. */
export async function userOf(store: Store, id = 'alice'): Promise<WholeUser> {
  const user = await store.user(id)
  if (!user) throw new Error(`Nothing is kept of ${id}.`)
  return user
}

/** A user's row of today. */
export async function rowOf(store: Store, model = 'a/one', id = 'alice'): Promise<Row> {
  return whole((await userOf(store, id)).usage.models[model]?.row ?? {})
}

/** A user's row of an earlier day. */
export async function pastRowOf(store: Store, date = TODAY, model = 'a/one'): Promise<Row> {
  return whole((await userOf(store)).past.days[date]?.[model] ?? {})
}

export const dayOf = async (store: Store, date = TODAY) => (await store.days([date]))[0]

/** Everyone's counters of the current day by model, and `*` for all. */
export const quotasOf = async (store: Store, date = TODAY) => {
  const users: UserQuery = { sort: 'tokens', limit: 0, now: NOON }
  return (await store.overview({ dates: [date], users, events: 0 })).quotas
}

/** Everyone's requests and tokens of the current day, with one model or with all. */
export async function usedByAll(store: Store, scope = '*', date = TODAY) {
  const day = (await quotasOf(store, date))[scope]?.windows['day']
  return [day?.requests, day?.tokens]
}

/** The ids of users, in order. */
export const idsOf = async (store: Store, query: Partial<UserQuery> = {}) =>
  (await usersOf(store, { sort: 'lastActive', limit: 9, now: NOON, ...query })).map(
    ({ usage }) => usage.id,
  )

/** The use today by the first limit of an admission: requests and tokens. */
export function usedOf(answer: Answer): [requests: number, tokens: number] {
  if (!('limits' in answer) || !answer.limits) throw new Error('No limit is told.')
  const { requests, tokens } = answer.limits[0]?.used['day'] ?? { requests: 0, tokens: 0 }
  return [requests, tokens]
}

export type AdmitFields = Partial<Admit> & Pick<Admit, 'id'>

/** Admits, and expects success. */
export async function start(ledger: Ledger, fields: AdmitFields): Promise<Admit> {
  const admit = admitOf(fields)
  expect(await ledger.execute(admit)).toMatchObject({ ok: true })
  return admit
}

/** The usage that upstream reports for a number of tokens. */
export const usageOf = (charged: number): Partial<Event> => ({
  charged,
  prompt: charged,
  completion: 0,
  total: charged,
})

/** Admits and settles; 15 tokens by default. */
export async function spend(ledger: Ledger, fields: AdmitFields, charged = 15): Promise<void> {
  const admit = await start(ledger, fields)
  expect(await ledger.execute(settleOf(admit, usageOf(charged)))).toEqual({ applied: true })
}

/** The entry of a request that was served at the moment of its admission, without a lease. */
export const enterOf = (fields: AdmitFields, now = NOON + SECOND_MS): Enter => {
  const { user, event } = settleOf(admitOf(fields))
  return { op: 'enter', now, user, event }
}

export const enter = async (
  ledger: Ledger,
  command: Enter,
): Promise<Settled | Failed | undefined> => (await ledger.replay([command]))[0]

/** Gives users one request each, of one token by default. */
export async function enterAll(
  store: Ledger,
  users: { user: string; at: number; charged?: number }[],
) {
  const entries = users.map(({ user, at, charged = 1 }) => {
    const { event, ...rest } = enterOf({ id: `${user} at ${at}`, user, now: at }, at)
    return { ...rest, event: { ...event, charged } }
  })
  for (let from = 0; from < entries.length; from += REPLAY_BATCH) {
    await store.replay(entries.slice(from, from + REPLAY_BATCH))
  }
}

/** Blocks Alice at noon, or lifts a block. */
export const setBlock = (ledger: Ledger, model: string, block?: Block) =>
  ledger.execute({ op: 'block', now: NOON, user: 'alice', model, block })

const UNLIMITED: ModelLimits = { models: {} }

/** The report of a browser about today, at noon by default. */
export const reportOf = (models: Report['models'], fields: Partial<Report> = {}): Report => ({
  op: 'report',
  now: NOON,
  user: 'alice',
  models,
  limits: UNLIMITED,
  ...fields,
})
export const said = (tokens: number, requests = 1, resetAt = MIDNIGHT) => ({
  tokens,
  requests,
  resetAt,
})

export type Pages = Omit<UserQuery, 'from' | 'now'> & { from?: Cursor; between?(): Promise<void> }

/** The ids of all pages, to the end. */
export async function readPages(store: Store, { between, ...query }: Pages): Promise<string[][]> {
  const pages: string[][] = []
  let { from } = query
  do {
    const { users, next } = await store.listUsers({ ...query, from, now: NOON })
    pages.push(users.map(({ usage }) => usage.id))
    expect(pages.length, 'reading ends').toBeLessThan(2000)
    // The cursor is part of a link on a page.
    from = next && (JSON.parse(JSON.stringify(next)) as Cursor)
    await between?.()
  } while (from)
  return pages
}
