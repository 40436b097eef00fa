/** The contract of every store: the five that keep it, and what its tests (`store-*.test.ts`) do with them. */
import { afterEach, expect } from 'vitest'
import type {
  Admit,
  Answer,
  AnswerOf,
  Command,
  Enter,
  Report,
  Settled,
  UserCommand,
} from '../src/ledger/commands.ts'
import type { ModelLimits } from '../src/ledger/policy.ts'
import { whole } from '../src/ledger/documents.ts'
import type { Block, Event, Row } from '../src/ledger/shapes.ts'
import { SECOND_MS } from '../src/ledger/windows.ts'
import { bindingStore, serveStore } from '../src/store/binding.ts'
import { createMemory } from '../src/store/memory.ts'
import {
  REPLAY_BATCH,
  type Cursor,
  type Failed,
  type Retention,
  type Store,
  type UserQuery,
  type WholeUser,
} from '../src/store/store.ts'
import { admitOf, NOON, settleOf } from './commands.ts'
import { useDatabase } from './database.ts'
import { localStore, RETENTION, redisStore, tcpStore, usersOf } from './stores.ts'

export const YESTERDAY = '2026-11-21'
export const TODAY = '2026-11-22'
export const TOMORROW = '2026-11-23'
export const MIDNIGHT = Date.UTC(2026, 10, 23)

/** What counts, and keeps nothing that could be read. */
export type Ledger = Pick<Store, 'execute' | 'replay'>

export type OpenOptions = { retention?: Partial<Retention>; tolerance?: number }
export type Open<T> = (options?: OpenOptions) => Promise<T>
type Subject<T> = [name: string, open: Open<T>]

/** The stores of a file's tests, each empty in each of them and closed after it, and the database that some of them are on. */
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
      async (options) => redisStore(upstash, { ...options, batch: true }),
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

/** As workerd reaches the files of the script that runs it. */
export const throughBinding = (store: Store): Store =>
  bindingStore({
    fetch: async (_, init) => new Response(await serveStore(store, String(init?.body))),
  })

/** What an isolate goes on with while the store is away. */
function memoryLedger(retention: Retention): Ledger {
  const memory = createMemory(retention)
  const run = (command: Command): Answer => memory.run(command as UserCommand)
  return {
    execute: async <C extends Command>(command: C) => run(command) as AnswerOf<C>,
    replay: async (entries) => entries.map((entry) => run(entry) as Settled),
  }
}

/** A user with all that is kept of them. */
export async function userOf(store: Store, id = 'alice'): Promise<WholeUser> {
  const user = await store.user(id)
  if (!user) throw new Error(`Nothing is kept of ${id}.`)
  return user
}

/** A user's row of today. */
export async function rowOf(store: Store, model = 'a/one', id = 'alice'): Promise<Row> {
  return whole((await userOf(store, id)).usage.models[model]?.row ?? {})
}

/** A user's row of a day before. */
export async function pastRowOf(store: Store, date = TODAY, model = 'a/one'): Promise<Row> {
  return whole((await userOf(store)).past.days[date]?.[model] ?? {})
}

export const dayOf = async (store: Store, date = TODAY) => (await store.days([date]))[0]

/** Everyone's counters by model, and `*` for all, as long as that day goes on. */
export const quotasOf = async (store: Store, date = TODAY) => {
  const users: UserQuery = { sort: 'tokens', limit: 0, now: NOON }
  return (await store.overview({ dates: [date], users, events: 0 })).quotas
}

/** Everyone's requests and tokens of the day that goes on, with one model or with all. */
export async function usedByAll(store: Store, scope = '*', date = TODAY) {
  const day = (await quotasOf(store, date))[scope]?.windows['day']
  return [day?.requests, day?.tokens]
}

/** The ids of users in order. */
export const idsOf = async (store: Store, query: Partial<UserQuery> = {}) =>
  (await usersOf(store, { sort: 'lastActive', limit: 9, now: NOON, ...query })).map(
    ({ usage }) => usage.id,
  )

/** What is told to be used of the day by the first limit of an admission: requests and tokens. */
export function usedOf(answer: Answer): [requests: number, tokens: number] {
  if (!('limits' in answer) || !answer.limits) throw new Error('No limit is told.')
  const { requests, tokens } = answer.limits[0]?.used['day'] ?? { requests: 0, tokens: 0 }
  return [requests, tokens]
}

export type AdmitFields = Partial<Admit> & Pick<Admit, 'id'>

/** Admits, and expects that to work. */
export async function start(ledger: Ledger, fields: AdmitFields): Promise<Admit> {
  const admit = admitOf(fields)
  expect(await ledger.execute(admit)).toMatchObject({ ok: true })
  return admit
}

/** What upstream reports where it reports so many tokens. */
export const usageOf = (charged: number): Partial<Event> => ({
  charged,
  prompt: charged,
  completion: 0,
  total: charged,
})

/** Admits and settles, one after the other; 15 tokens unless told. */
export async function spend(ledger: Ledger, fields: AdmitFields, charged = 15): Promise<void> {
  const admit = await start(ledger, fields)
  expect(await ledger.execute(settleOf(admit, usageOf(charged)))).toEqual({ applied: true })
}

/** The entry of a request that was served at the moment of its admission, but without a lease. */
export const enterOf = (fields: AdmitFields, now = NOON + SECOND_MS): Enter => {
  const { user, event } = settleOf(admitOf(fields))
  return { op: 'enter', now, user, event }
}

export const enter = async (
  ledger: Ledger,
  command: Enter,
): Promise<Settled | Failed | undefined> => (await ledger.replay([command]))[0]

/** Lets users have one request each, of one token unless told. */
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

/** No limits at all. */
export const UNLIMITED: ModelLimits = { models: {} }

/** What a browser says it has used today, at noon unless told. */
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

/** The ids of page after page, to the end. */
export async function readPages(store: Store, { between, ...query }: Pages): Promise<string[][]> {
  const pages: string[][] = []
  let { from } = query
  do {
    const { users, next } = await store.listUsers({ ...query, from, now: NOON })
    pages.push(users.map(({ usage }) => usage.id))
    expect(pages.length, 'reading ends').toBeLessThan(2000)
    // It goes through a link of a page.
    from = next && (JSON.parse(JSON.stringify(next)) as Cursor)
    await between?.()
  } while (from)
  return pages
}
