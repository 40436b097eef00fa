/**
 * The invariants of metering, on each store, with hundreds of requests at once, isolates with different clocks, limits
 * and prices, lost calls and answers, crashes, replays, reordering, and clock steps to the ends of minutes, hours, days,
 * weeks, months and years. The test keeps books of the commands that the stores applied, in order; the stores and the
 * books must agree.
 */
import { copyFile, mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import type { Admit, Command, Enter, Settle, UserCommand } from '../../src/ledger/commands.ts'
import type { Answer } from '../../src/ledger/answers.ts'
import { fitted } from '../../src/ledger/fit.ts'
import type { Price } from '../../src/ledger/money.ts'
import { LIMITS, limitName, type Limits, type ModelLimits } from '../../src/ledger/policy.ts'
import { readDocument } from '../../src/ledger/reading.ts'
import { UNITS } from '../../src/ledger/units.ts'
import { UNLIMITED, type DayDoc, type StoredRows } from '../../src/ledger/documents.ts'
import { own } from '../../src/ledger/records.ts'
import type { Event } from '../../src/ledger/events.ts'
import { DAY_MS, WINDOW_NAMES, dateOf, nextDay } from '../../src/ledger/windows.ts'
import { bindingStore, serveStore } from '../../src/store/binding.ts'
import type { State } from '../../src/store/local/state.ts'
import { openLocal, type LocalStore } from '../../src/store/local/store.ts'
import { createMemory } from '../../src/store/fallback/memory.ts'
import { createRedisStore, type RedisCommands } from '../../src/store/redis/store.ts'
import { withLimits, withMoney } from '../../src/store/redis/commands.ts'
import { addRow } from '../../src/store/redis/days.ts'
import { LEDGER_SCRIPT } from '../../src/store/redis/script-files.ts'
import { restClient } from '../../src/store/redis/rest.ts'
import { answerOf, type Entry, type Failed, type Store } from '../../src/store/store.ts'
import { tcpClient } from '../../src/store/redis/tcp.ts'
import { costOf, endOf, keepBooks, type Books, type Stored } from '../support/books.ts'
import { admitOf, settleOf, START } from '../support/commands.ts'
import { useDatabase } from '../support/database.ts'
import { randomOf, type Random } from '../support/random.ts'
import { RETENTION, send } from '../support/stores.ts'

/** A run tries further seeds until everything in `MET` has been met; it has at least this many seeds. */
const MOST_SEEDS = 400
const COMMANDS = 400
const CLIENTS = 3
const USERS = ['alice', 'bob', 'carol']
const MODELS = ['a/one', 'constructor', '__proto__']
const HASHES = ['h1', 'h2']

/** How often a call never arrives, and how often its answer is lost. */
const LOST = 0.04

/** No run lasts longer, so that nothing expires. */
const LONGEST_MS = 500 * DAY_MS
const KEEP = { ...RETENTION, userDays: 600, historyDays: 600 }

const { redis, upstash } = useDatabase()

/** Gets what a store did, with its place in the order in which the commands were applied. */
type Observe = (order: number, command: Command, answer: Answer | Failed) => void

/** One ledger and its callers; `undefined` for a call that failed, which may have been applied. */
type World = {
  call(client: number, command: Command): Promise<Answer | undefined>
  /** What is stored, if the test can read it. */
  stored?(): Promise<Stored>
  /** Ends the process, and starts another one on its files. */
  crash?(): Promise<void>
  /** Whether it still knows what was entered and erased. */
  lasting: boolean
  remove(): Promise<void>
}

type Open = (rng: Random, observe: Observe, met: Set<string>) => Promise<World>

const absent = () => new Error('the call did not arrive, or its answer did not')

/** A call that fails unexpectedly must not count as a lost call. */
const FAILED: Failed = { error: 'failed' }

/** The script, which also returns its place among the calls. */
const COUNTING_SCRIPT = LEDGER_SCRIPT.replace(
  'return cjson.encode({ answers = answers',
  "return cjson.encode({ order = redis.call('INCR', 'order'), answers = answers",
)

type Reply = { order: number; answers: (Answer | Failed)[] }

/** A Redis client that loses calls and answers, and reports what was applied. */
function watched(client: RedisCommands, rng: Random, observe: Observe, met: Set<string>) {
  type Run = (script: string, keys: string[], args: string[]) => Promise<unknown>
  const watch =
    (run: Run): Run =>
    async (script, keys, args) => {
      if (rng.chance(LOST)) {
        met.add('a call that did not arrive')
        throw absent()
      }
      const sent = args.slice(1).map((arg) => JSON.parse(arg) as Command)
      const text = await run(script, keys, args).catch((error: unknown) => {
        if (!String(error).includes('NOSCRIPT')) observe(0, sent[0] as Command, FAILED)
        throw error
      })
      const { order, answers } = JSON.parse(String(text)) as Reply
      for (const [n, command] of sent.entries()) {
        observe(order * 1000 + n, command, withLimits(withMoney(answers[n]!), command))
      }
      if (sent.length > 1) met.add('a shared call')
      if (!rng.chance(LOST)) return text
      met.add('a lost answer')
      throw absent()
    }
  return {
    mget: (...keys: never) => client.mget(...keys),
    evalsha: watch((sha, keys, args) => client.evalsha(sha, keys, args)),
    eval: watch((script, keys, args) => client.eval(script, keys, args)),
  } as unknown as RedisCommands
}

/** Three isolates on one database. One of them puts several commands into one call. */
async function redisWorld(
  connect: () => { redis: RedisCommands; close?(): void },
  [rng, observe, met]: Parameters<Open>,
): Promise<World> {
  await redis.flush()
  upstash.reset()
  const clients = Array.from({ length: CLIENTS }, connect)
  const stores = clients.map((client, n) =>
    createRedisStore({
      redis: watched(client.redis, rng, observe, met),
      retention: KEEP,
      script: COUNTING_SCRIPT,
      tolerance: Infinity,
      sharing: n === 2 ? 'calls' : 'none',
      warn: (event, fields) => {
        throw new Error(`${event} ${JSON.stringify(fields)}`)
      },
    }),
  )
  const read = async (pattern: string): Promise<[name: string, value: unknown][]> => {
    const keys = (await redis.command(['KEYS', `weir:{2}:${pattern}`])) as string[]
    if (keys.length === 0) return []
    const texts = (await redis.command(['MGET', ...keys])) as string[]
    return keys.map((key, n) => [key.slice('weir:{2}:'.length), JSON.parse(texts[n] ?? '')])
  }
  const valuesOf = async <T>(pattern: string) =>
    (await read(pattern)).map(([, value]) => value as T)
  return {
    lasting: true,
    call: (client, command) =>
      send(stores[client] as Store, command).catch<Answer | undefined>(() => undefined),
    async stored() {
      const keys = [...(await read('day:*')), ...(await read('models:*'))]
      const docs = new Map(keys)
      const clock = (await valuesOf<{ at: number }>('quota'))[0]?.at ?? 0
      const days: DayDoc[] = []
      for (const [key, value] of docs) {
        const [, date = '', ...model] = key.split(':')
        if (!key.startsWith('day:') || model.length) continue
        const { open, models = {}, ...day } = value as Partial<DayDoc> & { open?: 1 }
        // Only the current day of the ledger's clock has separate rows.
        if (open !== undefined) expect(date).toBe(dateOf(clock))
        else if (date < dateOf(clock)) met.add('a folded day')
        const named = docs.get(`models:${date}`) as { models: Record<string, 1> } | undefined
        const apart = Object.keys(named?.models ?? {}).map((name) => {
          const { v: _, ...row } = docs.get(`day:${date}:${name}`) as { v: number }
          return [name, row]
        })
        const rows = open === undefined ? models : Object.fromEntries(apart)
        const doc = readDocument('day', { ...day, models: rows })!
        if (open) doc.total = Object.values(doc.models).reduce(addRow, doc.total)
        days.push(doc)
      }
      const quotas = await read('quota*')
      const events = (await redis.command(['LRANGE', 'weir:{2}:events', 0, -1])) as string[]
      expect(await read('damaged:*')).toEqual([])
      return {
        usage: (await valuesOf('usage:*')).map((doc) => readDocument('usage', doc)!),
        past: await valuesOf('past:*'),
        days,
        quotas: Object.fromEntries(
          quotas.map(([key, doc]) => [
            key === 'quota' ? '*' : key.slice('quota:'.length),
            readDocument('quota', doc)!,
          ]),
        ),
        events: events.map((text) => JSON.parse(text) as Stored['events'][number]),
      }
    },
    remove: async () => {
      for (const client of clients) client.close?.()
    },
  }
}

const restWorld: Open = (...run) =>
  redisWorld(() => {
    const { url, token } = upstash
    return { redis: restClient({ url, token, timeoutMs: 10_000 }) }
  }, run)

const tcpWorld: Open = (...run) =>
  redisWorld(() => tcpClient({ url: redis.url, timeoutMs: 10_000 }), run)

/**
 * A local store that reports its commands in the order in which they arrive, which is the order in which they are
 * applied.
 */
function told(store: Store, observe: Observe): Store {
  let order = 0
  const tell = async <A extends Answer | Failed>(command: Command, run: () => Promise<A>) => {
    const place = (order += 1)
    const answer = await run().catch((error: unknown) => {
      observe(place, command, FAILED)
      throw error
    })
    observe(place, command, answer)
    return answer
  }
  return {
    ...store,
    execute: (command) => tell(command, () => store.execute(command)),
    replay: (entries) =>
      Promise.all(
        entries.map((entry: Entry) =>
          tell(entry, async () => (await store.replay([entry]))[0] ?? { error: 'failed' }),
        ),
      ),
  }
}

const FILE = 'token_usage.json'

/** A local store that can end at any moment and continue with its files; `reach` calls it. */
async function fileWorld(
  reach: (near: () => Store, command: Command) => Promise<Answer | undefined>,
  [, observe, met]: Parameters<Open>,
): Promise<World> {
  const folders: string[] = []
  async function open(from?: string): Promise<{ folder: string; file: string; store: LocalStore }> {
    const folder = await mkdtemp(join(tmpdir(), 'weir-'))
    folders.push(folder)
    // The order in which a crash leaves them: the snapshot last, because the journal is emptied
    // after it is written.
    for (const name of from ? [`${FILE}.journal`, FILE] : []) {
      await copyFile(join(from ?? '', name), join(folder, name)).catch(() => undefined)
    }
    const file = join(folder, FILE)
    const store = await openLocal({
      file,
      retention: KEEP,
      now: () => START,
      tolerance: Infinity,
      warn: (event, fields) => {
        throw new Error(`${event} ${JSON.stringify(fields)}`)
      },
    })
    return { folder, file, store }
  }
  let current = await open()
  let before = 0
  let last = 0
  const counting: Observe = (order, ...rest) => {
    last = before + order
    observe(last, ...rest)
  }
  let far = told(current.store, counting)
  return {
    lasting: true,
    call: (_, command) => reach(() => far, command),
    async crash() {
      met.add('a crash')
      const ended = current
      current = await open(ended.folder)
      before = last
      far = told(current.store, counting)
      await ended.store.close()
    },
    async stored() {
      await current.store.close()
      const text = await readFile(current.file, 'utf8')
      const { state } = JSON.parse(text) as { state: State }
      const { usage, past, days, quotas, events } = state
      return { usage, past, days, quotas: Object.fromEntries(quotas), events }
    },
    async remove() {
      await current.store.close()
      await Promise.all(folders.map((folder) => rm(folder, { recursive: true, force: true })))
    },
  }
}

/** The same faults, for a call without a network. */
async function faulty<T>(rng: Random, met: Set<string>, run: () => Promise<T>): Promise<T> {
  if (rng.chance(LOST)) {
    met.add('a call that did not arrive')
    throw absent()
  }
  const answer = await run()
  if (!rng.chance(LOST)) return answer
  met.add('a lost answer')
  throw absent()
}

const filesWorld: Open = (rng, observe, met) =>
  fileWorld(
    (near, command) => faulty(rng, met, () => send(near(), command)).catch(() => undefined),
    [rng, observe, met],
  )

const bindingWorld: Open = async (rng, observe, met) => {
  let near: () => Store
  const store = bindingStore({
    fetch: (_, init) =>
      faulty(rng, met, async () => new Response(await serveStore(near(), String(init?.body)))),
  })
  return fileWorld(
    (far, command) => {
      near = far
      return send(store, command).catch(() => undefined)
    },
    [rng, observe, met],
  )
}

const memoryWorld: Open = async (rng, observe, met) => {
  const memory = createMemory({ userDays: KEEP.userDays })
  let order = 0
  const apply = (command: Command): Answer => {
    const place = (order += 1)
    if (command.op === 'erase') memory.forget(command.user)
    try {
      const answer: Answer =
        command.op === 'erase' ? { ok: true } : memory.run(command as UserCommand)
      observe(place, command, answer)
      return answer
    } catch (error) {
      observe(place, command, FAILED)
      throw error
    }
  }
  return {
    lasting: false,
    call: (_, command) => faulty(rng, met, async () => apply(command)).catch(() => undefined),
    remove: async () => undefined,
  }
}

/** What the environment says. A model without a row has no price. */
type Policy = {
  limits: ModelLimits
  everyone: ModelLimits | undefined
  prices: Record<string, Price>
}

/** How much more than in a minute is allowed in longer windows. */
const LONGER = { minute: 1, hour: 2, day: 4, week: 6, month: 9 }

/** In a minute: of little, of some, and of more than is used. Money is in nano-USD, of parts of a cent and of thousands. */
const IN_A_MINUTE = {
  requests: [2, 5, 20, 1e6],
  tokens: [700, 1500, 6000, 1e12],
  usd: [20_000, 400_000, 2_000_001_000, 300_000_000_000, 60_000_000_007_000],
  audioSeconds: [15_000, 40_000, 120_000, 1e9],
  characters: [40, 300, 2000, 1e9],
}

/** Limits in dollars have six decimals, and the largest is a million. */
const MICRO_USD = 1000
const MOST_USD = 1e15

function drawLimits(rng: Random): Limits {
  // One limit alone is often the one that refuses.
  const alone = rng.chance(0.5) && rng.pick(LIMITS).name
  const drawn = LIMITS.flatMap(({ name, unit, window }) => {
    if (alone ? name !== alone : !rng.chance(0.15)) return []
    const isMost = unit === 'usd' && rng.chance(alone ? 0.05 : 0.2)
    const most = MOST_USD - rng.pick([0, 1, 5]) * MICRO_USD
    return [[name, isMost ? most : rng.pick(IN_A_MINUTE[unit]) * LONGER[window]] as const]
  })
  return Object.fromEntries(drawn)
}

/** In pico-USD: cheap ones, whose tokens cost parts of a nano-USD, one whose output is free, and the highest. */
const PRICES: Price[] = [
  { input: 75_000, cached: 37_500, output: 300_000 },
  { input: 1_000_001, output: 999 },
  { input: 333, cached: 1, output: 7_777_777 },
  { input: 50_000_000, output: 0 },
  { input: 0, output: 0, audioHour: 111_000_001, characters: 22_000_333 },
]
const HIGH_PRICES: Price[] = [
  { input: 100_000_000_000, output: 100_000_000_000 },
  { input: 99_999_999_999, cached: 49_999_999_999, output: 99_999_999_997 },
]

/** A run charges at most this much, in nano-USD. What was erased may be charged again, and money is exact up to 2^53. */
const BUDGET = 2n ** 52n

function drawPolicy(rng: Random): Policy {
  const draw = (): ModelLimits => ({
    models: rng.chance(0.5) ? Object.fromEntries([[rng.pick(MODELS), drawLimits(rng)]]) : {},
    ...(rng.chance(0.8) && { default: drawLimits(rng) }),
    ...(rng.chance(0.5) && { total: drawLimits(rng) }),
  })
  const prices = MODELS.flatMap((model) =>
    rng.chance(0.9) ? [[model, rng.pick(rng.chance(0.3) ? HIGH_PRICES : PRICES)] as const] : [],
  )
  return {
    limits: draw(),
    everyone: rng.chance(0.7) ? draw() : undefined,
    prices: Object.fromEntries(prices),
  }
}

/** An upload, or a text that is spoken. */
const drawAudio = (rng: Random): Pick<Admit, 'audioMs' | 'characters'> =>
  rng.chance(0.6) ? { audioMs: rng.int(10_000, 30_000) } : { characters: rng.int(1, 200) }

const isOfAudio = ({ audioMs, characters }: Admit) =>
  audioMs !== undefined || characters !== undefined

/** What is charged for audio: sometimes more than was reserved. */
const audioCharged = (rng: Random, { audioMs, characters }: Admit) => ({
  ...(audioMs !== undefined && {
    audioMs: rng.int(10_000, audioMs + (rng.chance(0.1) ? 9000 : 0)),
  }),
  ...(characters !== undefined && { characters }),
})

/** Just before or after a window ends, or a year. */
function drawEdge(rng: Random, at: number): number {
  const end = endOf(rng.pick([...WINDOW_NAMES, 'year']), at)
  return end + rng.pick([-1000, -2, -1, 0, 1, 40])
}

function rowsOf({ models, total, ...rest }: ModelLimits, model: string): Admit['limits'] {
  const row = Object.hasOwn(models, model) ? models[model] : rest.default
  return { ...(row && { model: row }), ...(total && { total }) }
}

/** A running request: `admittedAt` after its admission was answered, `end` after it has begun to end. */
type Draft = {
  admit: Admit
  client: number
  born: number
  replays: number
  admittedAt?: number
  /** What the admission granted for each completion, where that was less than what was asked for. */
  maximum?: number | undefined
  end?: Settle | Enter
}

/** Runs one seed: waves of commands at once, with steps of the clocks in between. */
async function drive(rng: Random, world: World, settled: () => void): Promise<void> {
  const skews = Array.from({ length: CLIENTS }, () => rng.pick([0, 3000, -3000, 3_600_000]))
  let policy = drawPolicy(rng)
  let clock = START
  let sent = 0
  let number = 0
  let running: Draft[] = []
  let budget = BUDGET

  /** The price, or a low one if the tokens would cost more than is left. */
  function affordable(tokens: number, price: Price | undefined): Price | undefined {
    // What audio costs is little.
    if (!price || price.audioHour !== undefined) return price
    const each = Math.max(price.input, price.output)
    const most = costOf({ prompt: 2 * tokens, completion: 0 }, { input: each, output: 0 })
    if (most > budget) return PRICES[0]
    budget -= most
    return price
  }

  const call = (client: number, command: Command) => {
    sent += 1
    return world.call(client, JSON.parse(JSON.stringify(command)) as Command)
  }

  function draft(client: number, now: number): Draft {
    number += 1
    // This isolate does not know the latest limits and prices yet.
    const { limits, everyone, prices } = rng.chance(0.05) ? drawPolicy(rng) : policy
    const model = rng.pick(MODELS)
    const text = rng.int(1, 300)
    const audio = rng.chance(0.2) && drawAudio(rng)
    const completions = !audio &&
      rng.chance(0.5) && {
        count: rng.pick([1, 1, 2, 5]),
        tokens: rng.pick([60, 300, 900, 2000, 131_072]),
      }
    const completion = completions
      ? completions.count * completions.tokens
      : audio
        ? 0
        : rng.int(0, 100)
    const prompt = audio ? 0 : text
    const price = affordable(prompt + completion, own(prices, model))
    const isNew = rng.chance(0.06)
    const rows = rowsOf(limits, model)
    if (isNew && price && completions && rng.chance(0.7)) {
      // So much that the fit is somewhere between the fewest and all.
      const some = completions.count * rng.int(256, Math.max(256, completions.tokens))
      const cost = Number(costOf({ prompt, completion: some }, price))
      const usd = (Math.ceil(cost / MICRO_USD) - rng.int(0, 1)) * MICRO_USD
      const name = limitName('usd', rng.pick(WINDOW_NAMES))
      if (usd <= MOST_USD) rows.model = { [name]: usd }
    }
    const admit = admitOf({
      id: `id-${number}`,
      user: isNew ? `new-${rng.int(1, 1e6)}` : rng.pick(USERS),
      model,
      reserved: prompt + completion,
      completion,
      now,
      lasts: rng.pick([1000, 300_000]),
      limits: rows,
      ...(completions ? { completions } : rng.chance(0.3) && { maximum: completion }),
      ...(price && { price }),
      ...audio,
      ...(rng.chance(0.5) && { unverified: rng.pick([1, 5, 20, 99]) }),
      // A crash forgets the counts of new users, and the books do not.
      ...(!world.crash && rng.chance(0.5) && { newUsers: { network: 'net', perMinute: 1 } }),
      ...(everyone && { everyone: rowsOf(everyone, model) }),
      ...(world.lasting && rng.chance(0.1) && { key: { id: 'k', hash: rng.pick(HASHES) } }),
    })
    const replays = rng.chance(0.15) ? rng.int(1, 2) : 0
    return { admit, client, born: clock, replays }
  }

  /** How a request ends: always in the same way, and as an entry if the gateway is not sure of its lease. */
  function endingOf(one: Draft, now: number): Settle | Enter {
    if (one.end) return { ...one.end, now }
    const { admit, admittedAt, maximum } = one
    const { price, completions } = admit
    const outcome = rng.pick(['exact', 'exact', 'exact', 'estimated', 'failed'] as const)
    const isOver = outcome === 'exact' && !isOfAudio(admit) && rng.chance(0.1)
    const over = isOver ? rng.int(1, 300) : 0
    const asked = admit.reserved - admit.completion
    const granted =
      completions && maximum !== undefined ? completions.count * maximum : admit.completion
    const most = asked + granted + over
    const charged = outcome === 'failed' ? 0 : over ? most : rng.int(0, most)
    const completion = rng.int(Math.max(0, charged - asked), charged)
    const prompt = charged - completion
    const cached = Math.floor(prompt / 3)
    const { prompt: _p, completion: _c, total: _t, ...event } = settleOf(admit).event
    const usage = outcome === 'exact' ? { prompt, cached, completion, total: charged } : {}
    const { audioMs, characters } = admit
    const isAudio = audioMs !== undefined || characters !== undefined
    const audio = isAudio && outcome !== 'failed' ? audioCharged(rng, admit) : {}
    const cost =
      price && outcome !== 'failed' ? costOf({ prompt, cached, completion, ...audio }, price) : 0n
    const reservedCost =
      price && costOf({ prompt: asked, completion: granted, audioMs, characters }, price)
    const status = outcome === 'failed' ? 500 : 200
    const at = admittedAt ?? event.at
    const ended: Event = {
      ...event,
      ...usage,
      ...(reservedCost !== undefined && {
        cost: String(cost),
        reservedCost: String(reservedCost),
      }),
      ...(rng.chance(0.1) && { key: 'k' }),
      reserved: asked + granted,
      ...audio,
      ...(audioMs !== undefined && { reservedAudioMs: audioMs }),
      ...(characters !== undefined && { reservedCharacters: characters }),
      at,
      outcome,
      charged,
      status,
    }
    const end: Settle | Enter = {
      op: admittedAt === undefined ? 'enter' : 'settle',
      now,
      user: admit.user,
      event: ended,
    }
    if (end.op === 'settle' && admit.unverified !== undefined) end.unverified = 1
    one.end = end
    return end
  }

  async function start(one: Draft, now: number): Promise<void> {
    const answer = await call(one.client, { ...one.admit, now })
    if (!answer || !('at' in answer) || !answer.ok) return
    one.admittedAt = answer.at
    if ('maximum' in answer) one.maximum = answer.maximum
  }

  async function finish(one: Draft, end: Settle | Enter): Promise<void> {
    const answer = await call(one.client, end)
    if (!answer && (end.op === 'settle' || world.lasting) && rng.chance(0.5)) await finish(one, end)
  }

  /** What an admin changes while requests run: plan, own limits, boosts, limits of everyone, keys and resets. */
  function decide(now: number): Command {
    const user = rng.pick(USERS)
    const stored = (): StoredRows => ({
      ...(rng.chance(0.8) && { '*': drawLimits(rng) }),
      ...(rng.chance(0.4) && { total: drawLimits(rng) }),
      ...(rng.chance(0.4) && { [rng.pick(MODELS.slice(0, 2))]: drawLimits(rng) }),
    })
    const reset = (): Command => ({
      op: 'reset',
      now,
      user,
      ...(rng.chance(0.8) && { window: rng.pick(WINDOW_NAMES) }),
    })
    const key = { op: 'key', now, user, id: 'k' } as const
    const secret = { hash: rng.pick(HASHES), start: 'weir_1', last4: 'abcd' }
    return rng.pick<() => Command>([
      () => ({ op: 'plan', now, name: 'default', plan: { limits: stored() } }),
      () => ({
        op: 'plan',
        now,
        name: 'default',
        plan: { limits: stored(), maxCompletionTokens: rng.pick([50, 500]) },
      }),
      () => ({ op: 'plan', now, name: 'default' }),
      () => ({ op: 'profile', now, user, set: { limits: stored() } }),
      () => ({ op: 'profile', now, user, set: { limits: { '*': { tokensPerDay: UNLIMITED } } } }),
      () => ({ op: 'profile', now, user, set: { limits: {} }, clear: { boost: 1 } }),
      () => ({
        op: 'profile',
        now,
        user,
        set: { boost: { limits: stored(), until: now + 60_000 } },
      }),
      () => ({ op: 'settings', now, set: { globalLimits: stored() } }),
      () => ({ op: 'settings', now, set: {}, clear: { globalLimits: 1 } }),
      reset,
      reset,
      reset,
      () => ({ ...key, action: 'create', key: { ...secret, created: now } }),
      () => ({ ...key, action: 'rotate', secret, graceUntil: 0 }),
      () => ({ ...key, action: 'change', set: { disabled: 1 } }),
      () => ({ ...key, action: 'change', set: {}, clear: { disabled: 1 } }),
      () => ({ ...key, action: 'change', set: { disabled: 1 } }),
      () => ({ ...key, action: 'delete' }),
    ])()
  }

  function administer(now: number): Command {
    if (world.lasting && rng.chance(0.5)) return decide(now)
    const user = rng.pick([...USERS, 'dave'])
    const model = rng.pick([...MODELS, '*'])
    if (world.lasting && rng.chance(0.06)) return { op: 'clear', now }
    if (rng.chance(0.25)) return { op: 'erase', now, user }
    if (rng.chance(0.4)) {
      // Redis forgets an ended block by the real time, so a block must not end before the run does.
      const until = rng.pick([undefined, now + 120_000, now + 600_000])
      const block = { at: now, ...(until !== undefined && { until }) }
      return { op: 'block', now, user, model, ...(rng.chance(0.3) && { block }) }
    }
    const said = { requests: rng.int(0, 9), tokens: rng.int(0, 900), resetAt: nextDay(now) }
    const models = Object.fromEntries([[rng.pick(MODELS), said]])
    return { op: 'report', now, user, models, limits: policy.limits }
  }

  while (sent < COMMANDS) {
    clock += rng.pick([0, 40, 500, 3000, 3000, 3000, 3000, 20_000, 61_000])
    if (rng.chance(0.06)) clock += rng.pick([3_600_000, 13 * 3_600_000, DAY_MS + 3_600_000])
    const edge = rng.chance(0.4) ? drawEdge(rng, clock) : 0
    if (edge > clock && edge < START + LONGEST_MS) clock = edge
    if (rng.chance(0.1)) {
      const step = rng.pick([0, 5000, -5000, -90_000, 61_000, 10_800_000])
      skews[rng.int(0, CLIENTS - 1)] = step
    }
    if (rng.chance(0.2)) policy = drawPolicy(rng)
    if (rng.chance(0.08)) await world.crash?.()
    const nowOf = (client: number): number => clock + (skews[client] ?? 0)
    const isYoung = ({ born }: Draft) => clock - born < DAY_MS / 2
    const tasks: (() => Promise<unknown>)[] = []
    const next: Draft[] = []

    for (const one of running) {
      const now = nowOf(one.client)
      // The instance that served it has ended.
      if (rng.chance(0.06)) continue
      if (rng.chance(0.5)) {
        const end = endingOf(one, now)
        const again = end.op === 'settle' || world.lasting
        for (let n = again && rng.chance(0.2) ? 2 : 1; n > 0; n -= 1)
          tasks.push(() => finish(one, end))
        // The admission arrives only now.
        if (end.op === 'enter' && world.lasting && isYoung(one) && rng.chance(0.5)) {
          tasks.push(() => start(one, now))
        }
        // Sometimes it arrives again, later and from another isolate.
        if (again && rng.chance(0.1)) {
          next.push({ ...one, client: rng.int(0, CLIENTS - 1), replays: 0 })
        }
      } else {
        if (one.replays && !one.end && isYoung(one)) {
          one.replays -= 1
          tasks.push(() => start(one, now))
        }
        next.push(one)
      }
    }
    const count = rng.chance(0.04) ? rng.int(100, 200) : rng.int(4, 24)
    for (let n = count; n > 0; n -= 1) {
      const client = rng.int(0, CLIENTS - 1)
      const one = draft(client, nowOf(client))
      const isShort = rng.chance(0.1)
      tasks.push(async () => {
        await start(one, nowOf(client))
        if (isShort) await finish(one, endingOf(one, nowOf(client)))
      })
      if (!isShort) {
        if (one.replays > 1) tasks.push(() => start(one, nowOf(client)))
        next.push(one)
      }
    }
    for (let n = rng.int(0, 5); n > 0; n -= 1) {
      const client = rng.int(0, CLIENTS - 1)
      tasks.push(() => call(client, administer(nowOf(client))))
    }
    running = next
    await Promise.all(shuffled(rng, tasks).map((task) => task()))
    settled()
  }
}

/** What pays for 90,073 tokens of each completion, to the nano-dollar, where a division of doubles finds one less. */
const PAYS_FOR_90_073 = 576_467_299_982_706

/** Nine users spend a million dollars each, to the last token, and a tenth the rest of nine million. */
async function spendMillions(_: Random, world: World, settled: () => void): Promise<void> {
  const [price] = HIGH_PRICES.slice(1) as [Price]
  const [count, tokens, prompt] = [64, 200_000, 1]
  const everyone = { total: { requestsPerMonth: 1000 } }
  let left = 9_000_000_000_000_000n
  const running: Settle[] = []

  async function enter(user: string, cost: bigint): Promise<void> {
    left -= cost
    const paid = { cost: String(cost), reservedCost: String(cost) }
    const usage = { charged: 1, prompt: 1, completion: 0, total: 1 }
    const admit = admitOf({ id: `entry of ${user}`, user, reserved: 1, now: START })
    await world.call(0, { ...settleOf(admit, { ...usage, ...paid }), op: 'enter' })
  }

  await enter('user-1', BigInt(MOST_USD - PAYS_FOR_90_073))
  for (let n = 1; n <= 9; n += 1) {
    const admit = admitOf({
      id: `id-${n}`,
      user: `user-${n}`,
      reserved: prompt + count * tokens,
      completion: count * tokens,
      completions: { count, tokens },
      price,
      limits: { model: { usdPerMonth: MOST_USD } },
      everyone,
      now: START + 1001,
    })
    const answer = await world.call(0, admit)
    const { maximum = 0 } = answer as Extract<Answer, { maximum?: number }>
    if (n === 1) expect(maximum).toBe(90_073)
    const completion = count * maximum
    const cost = costOf({ prompt, completion }, price)
    left -= cost
    const total = prompt + completion
    const event = { prompt, completion, total, charged: total, cost: String(cost) }
    running.push(settleOf(admit, event))
  }
  await enter('user-10', left)
  const look = { id: 'look-1', user: 'user-11', limits: {}, everyone, now: START + 1002 }
  await world.call(0, admitOf(look))
  // Nothing more is admitted that costs money.
  const cheap = { input: 1, output: 1 }
  const more = await world.call(0, admitOf({ ...look, id: 'more', price: cheap }))
  expect(more).toMatchObject({ ok: false, reason: 'limit', unit: 'usd', window: 'month' })
  settled()
  for (const one of running.slice(2)) await world.call(0, one)
  await world.call(0, admitOf({ ...look, id: 'look-2' }))
  settled()
}

function shuffled<T>(rng: Random, items: T[]): T[] {
  const order = items.map((item) => ({ item, place: rng.next() }))
  return order.sort((a, b) => a.place - b.place).map(({ item }) => item)
}

/** What a run must meet, so that it cannot pass without testing anything. */
const MET_BY_ALL = [
  'a block',
  'a call that did not arrive',
  'a late end',
  'a lease that was lost with its document',
  'a lost answer',
  'a lost lease',
  'a settlement of nothing',
  'an admission again',
  'a fitted admission again',
  'a model without a price',
  ...['minute', 'hour', 'day', 'week', 'month', 'year'].map(
    (window) => `an end in another ${window}`,
  ),
  'an entry',
  'an entry of a lease',
  'an erased user',
]
const MET_BY_STORES = [
  ...MET_BY_ALL,
  'an end of audio',
  'an end of speech',
  'a lost lease of audio',
  'a charge of a key',
  'a key',
  'a key that is disabled',
  'a key that is unknown',
  ...[...WINDOW_NAMES, 'all windows'].map((window) => `a reset of ${window}`),
  'a stored plan',
  'a clearing',
  'a past day',
  'an admission after its entry',
  'an entry of nothing',
  'more than the maximum of a plan',
]

/** Each limit refuses, and cuts where it can. A store that shares its rules with another need not meet all of them. */
const LIMITS_MET = [
  ...WINDOW_NAMES.flatMap((window) =>
    ['tokens', 'usd'].map((unit) => `a fit of ${unit} in a ${window}`),
  ),
  ...LIMITS.map(({ unit, window }) => `a limit of ${unit} in a ${window}`),
  ...['user', 'everyone', 'unverified'].flatMap((of) =>
    UNITS.map((unit) => `a limit of ${unit} of ${of}`),
  ),
]

const MET_BY_SHARED_CALLS = [...MET_BY_ALL, 'a folded day', 'a shared call']
const MET_BY_REDIS = [...MET_BY_SHARED_CALLS, ...MET_BY_STORES, 'a new user too many']

const WORLDS: [name: string, open: Open, seeds: number, met: string[]][] = [
  ['files', filesWorld, 10, [...MET_BY_STORES, ...LIMITS_MET, 'a crash']],
  ['Redis over REST', restWorld, 6, MET_BY_SHARED_CALLS],
  ['Redis over TCP', tcpWorld, 12, [...MET_BY_REDIS, ...LIMITS_MET]],
  ["Miniflare's binding", bindingWorld, 8, [...MET_BY_ALL, 'a crash']],
  ['memory', memoryWorld, 12, [...MET_BY_ALL, ...LIMITS_MET, 'a new user too many']],
]

/** Runs one seed in a new world, and compares the world with the books. */
async function run(
  seed: number,
  open: Open,
  play = drive,
  rng: Random = randomOf(seed),
): Promise<Books> {
  let books: Books | undefined
  const met = new Set<string>()
  let seen: { order: number; command: Command; answer: Answer | Failed }[] = []
  const world = await open(
    rng,
    (order, command, answer) => {
      seen.push({ order, command, answer })
    },
    met,
  )
  try {
    books = keepBooks({ lasting: world.lasting })
    const { take, check, balance, wrong } = books
    await play(rng, world, () => {
      for (const { command, answer } of seen.sort((a, b) => a.order - b.order)) {
        take(command, answerOf(answer))
      }
      seen = []
      if (wrong.length) throw new Error(wrong.slice(0, 3).join('\n'))
    })
    const stored = await world.stored?.()
    if (stored) {
      balance(stored)
      check(stored)
    }
  } catch (error) {
    throw new Error(`seed ${seed}: ${error instanceof Error ? error.message : ''}`, {
      cause: error,
    })
  } finally {
    await world.remove()
  }
  for (const note of met) books.met.add(note)
  return books
}

test.each(WORLDS)(
  'caps hold and sums reconcile, and each request ends once: %s',
  { timeout: 180_000 },
  async (_, open, seeds, wanted) => {
    const met = new Set<string>()
    const goesOn = (seed: number) =>
      seed <= seeds || (wanted.some((note) => !met.has(note)) && seed <= MOST_SEEDS)
    for (let seed = 1; goesOn(seed); seed += 1) {
      for (const note of (await run(seed, open)).met) met.add(note)
    }
    expect(wanted.filter((note) => !met.has(note))).toEqual([])
  },
)

test.each(WORLDS)(
  'money is exact to the nano-dollar up to nine million dollars: %s',
  async (_, open) => {
    const calm = { ...randomOf(1), chance: () => false }
    await run(1, open, spendMillions, calm)
  },
)

test('a fit takes the last token that what is left pays for, and no other', () => {
  const rng = randomOf(7)
  for (let n = 0; n < 20_000; n += 1) {
    const price = rng.pick([...PRICES, ...HIGH_PRICES])
    const [prompt, count] = [rng.int(1, 3000), rng.pick([1, 2, 5, 64])]
    const tokens = 131_072
    const cost = costOf({ prompt, completion: count * rng.int(256, tokens) }, price)
    const left = Number(cost) - rng.int(0, 1)
    const usedPerDay = { requests: 0, tokens: 0, usd: MOST_USD - left }
    const completion = count * tokens
    const granted = fitted(
      { reserved: prompt + completion, completion, completions: { count, tokens }, price },
      [{ of: 'user', model: '*', limits: { usdPerDay: MOST_USD }, used: { day: usedPerDay } }],
    )!
    const costs = (some: number) => costOf({ prompt, completion: count * some }, price)
    // What is free is paid for, whatever is left.
    const isFree = costs(granted) === 0n
    const isPaid = granted === 256 || isFree || costs(granted) <= BigInt(left)
    const isLast = granted === tokens || costs(granted + 1) > BigInt(left)
    expect(isPaid && isLast, JSON.stringify({ prompt, count, price, left, granted })).toBe(true)
  }
})
