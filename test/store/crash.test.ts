/**
 * kill -9 of the server on Node under load, many times on the same files. After a restart, everything that it had
 * reported must be true.
 */
import { spawn, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, statSync, watch } from 'node:fs'
import {
  appendFile,
  chmod,
  chown,
  cp,
  mkdtemp,
  readFile,
  readdir,
  rm,
  writeFile,
} from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { dateOf } from '../../src/ledger/windows.ts'
import { readConfig } from '../../src/config/config.ts'
import { emptyState, type State } from '../../src/store/local/state.ts'
import { openLocal } from '../../src/store/local/store.ts'
import { rowsOf, runningOf, whole } from '../../src/ledger/rows.ts'
import { newPast, newProfile, newUsage } from '../../src/ledger/new-documents.ts'
import { usedIn } from '../../src/ledger/policy.ts'
import { VERSION } from '../../src/ledger/shapes.ts'
import type { Event } from '../../src/ledger/events.ts'
import type { QuotaDoc, Row } from '../../src/ledger/documents.ts'
import { quotasToday, userReport } from '../../src/reports/usage.ts'
import { bundleScript } from '../support/entry.ts'
import { ADMIN_KEY } from '../support/gateways.ts'
import { transcripts } from '../support/transcripts.ts'
import { startUpstream, type Upstream } from '../support/upstream.ts'

const KILLS = 20
const USERS = 4
/** Requests at once. Every second one is a stream. */
const LANES_PER_USER = 4
const MODEL = 'a/one'
/** An unused model, to block. */
const OTHER = 'b/two'
const PLAIN = transcripts.plain.usage?.total ?? 0
const STREAM = transcripts.stream.usage?.total ?? 0

let root: string
let entry: string
let upstream: Upstream
let folder: string
let file: string
const lives: Life[] = []

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'weir-crash-'))
  // A server that runs as another user must be able to open this folder.
  await chmod(root, 0o755)
  entry = await bundleScript('src/node.ts', root)
  upstream = await startUpstream()
})

afterAll(async () => {
  await upstream.close()
  await rm(root, { recursive: true, force: true })
})

beforeEach(async () => {
  upstream.reset()
  folder = await mkdtemp(join(root, 'case-'))
  file = join(folder, 'logs', 'token_usage.json')
})

afterEach(async () => {
  for (const life of lives.splice(0)) await life.end('SIGKILL')
})

const vars = () => ({
  PORT: '0',
  USAGE_FILE: file,
  ADMIN_KEY,
  GROQ_API_KEY: 'gsk_key',
  GROQ_BASE_URL: upstream.url,
  MODEL_LIMITS: '{"*":{"tokensPerDay":1000000000,"requestsPerDay":1000000}}',
  NEW_USERS_PER_MINUTE: '0',
  GLOBAL_LIMITS: '{"total":{"tokensPerDay":1000000000,"requestsPerDay":1000000}}',
  EVENTS_KEPT: '20000',
  STORE_TIMEOUT_MS: '10000',
  LOG_LEVEL: 'error',
})

type Life = {
  /** Resolves with the address once it listens. Rejects if it ends before that. */
  listens: Promise<string>
  output(): string
  /** Whether a signal was sent or the process has ended. Failures after that are expected. */
  ending(): boolean
  signal(name: NodeJS.Signals): void
  /** Sends a signal if it still runs, and returns its exit code. */
  end(name: NodeJS.Signals): Promise<number | null>
}

/** Starts the server as the user `uid`. */
function start(uid?: number): Life {
  const { PATH, HOME } = process.env
  const child = spawn(process.execPath, [entry], {
    env: { PATH, HOME, ...vars() },
    cwd: root,
    ...(uid !== undefined && { uid }),
  })
  let output = ''
  let ending = false
  const ended = once(child, 'close').then(() => (ending = true))
  const listens = new Promise<string>((resolve, reject) => {
    const read = (data: Buffer) => {
      output += data.toString()
      const [, url] = /Weir listens on (\S+)/.exec(output) ?? []
      if (url) resolve(url)
    }
    child.stdout.on('data', read)
    child.stderr.on('data', read)
    void ended.then(() => reject(new Error(`the server ended: ${output}`)))
  })
  listens.catch(() => undefined)
  const signal = (name: NodeJS.Signals) => {
    ending = true
    child.kill(name)
  }
  const life: Life = {
    listens,
    output: () => output,
    ending: () => ending,
    signal,
    async end(name) {
      if (child.exitCode === null && child.signalCode === null) signal(name)
      await ended
      return child.exitCode
    },
  }
  lives.push(life)
  return life
}

/** Random whole numbers below a maximum, the same for the same seed. */
function random(seed: number) {
  let state = seed
  return (below: number) => {
    // https://en.wikipedia.org/wiki/Linear_congruential_generator (Numerical Recipes)
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return Math.floor((state / 2 ** 32) * below)
  }
}

const tokenOf = (user: number) => `token-of-user-${user}`

/** The id of a user if USER_HASH_SECRET is not set. */
const idOf = (user: number) =>
  createHash('sha256').update(tokenOf(user)).digest().subarray(0, 16).toString('base64url')

type Usage = {
  users: ReturnType<typeof userReport>[]
  days: { date: string; requests: number; exact: number; charged: number }[]
  quotas: Record<string, { requests: number; tokens: number }>
  events: Event[]
  timestamp: number
}

async function readUsage(url: string): Promise<Usage> {
  const response = await fetch(`${url}/api/admin/usage?limit=200`, {
    headers: { authorization: `Bearer ${ADMIN_KEY}` },
  })
  expect(response.status).toBe(200)
  return (await response.json()) as Usage
}

/** The documents of one user. */
const userIn = ({ usage, past, profiles }: State, id: string) => ({
  usage: usage.find((doc) => doc.id === id) ?? newUsage(id, 0),
  past: past.find((doc) => doc.id === id) ?? newPast(id),
  profile: profiles.find((doc) => doc.id === id) ?? newProfile(id),
})

/**
 * The documents in the files of a killed server. They are read from a copy, so that the next server finds the files
 * unchanged.
 */
async function readDocuments(): Promise<State> {
  const copy = await mkdtemp(join(root, 'copy-'))
  await cp(dirname(file), copy, { recursive: true })
  const warnings: unknown[] = []
  const store = await openLocal({
    file: join(copy, 'token_usage.json'),
    retention: readConfig(vars(), 'node').retention,
    now: Date.now,
    warn: (...warning) => warnings.push(warning),
  })
  await store.close()
  const saved = await readFile(join(copy, 'token_usage.json'), 'utf8')
  await rm(copy, { recursive: true })
  expect(warnings).toEqual([])
  return (JSON.parse(saved) as { state: State }).state
}

/** A day as a server reports it, without its cost in dollars and without audio. */
function withoutCost(day: object): object {
  const none = { costUsd: undefined, audioSeconds: undefined, characters: undefined }
  const { costUsd: _, audioSeconds: __, characters: ___, ...rest } = { ...none, ...day }
  return rest
}

/** Expects a restarted server to report the documents in the files. */
async function expectServed(url: string, state: State): Promise<void> {
  const { usage, days, quotas, events } = state
  const { limits } = readConfig(vars(), 'node')
  const told = await readUsage(url)
  const users = usage.map(({ id }) => userReport(userIn(state, id), limits, told.timestamp))
  const sorted = (rows: { userId: string }[]) =>
    rows.toSorted((a, b) => (a.userId < b.userId ? -1 : 1))
  expect(sorted(told.users)).toEqual(sorted(users))
  const totals = days.map(({ date, total: { cost: _, ...total } }) => ({ date, ...total }))
  expect(told.days.map(withoutCost)).toEqual(totals.toSorted((a, b) => (a.date < b.date ? 1 : -1)))
  // The server does not report a model that has never answered.
  const models = new Set(['*', ...days.flatMap((day) => Object.keys(day.models))])
  const known = Object.fromEntries(quotas.filter(([scope]) => models.has(scope)))
  expect(told.quotas).toEqual(quotasToday(known, told.timestamp))
  expect(told.events).toEqual(events.slice(-20).reverse())
}

const sum = <T>(items: Iterable<T>, of: (item: T) => number): number =>
  [...items].reduce((total, item) => total + of(item), 0)

/**
 * Records what clients, the admin and upstream have seen, each separately.
 *
 * A client does not see the settlement of its request, because that happens after the last byte. An answer only shows
 * that the request was admitted: no answer begins, and nothing reaches upstream, before the reservation is in the
 * file.
 */
function openBooks() {
  const users = Array.from({ length: USERS }, () => ({
    /** The requests in the files when the server was started. */
    before: 0,
    /** Requests since then that may have arrived, by name. */
    sent: new Set<string>(),
    /** Those of them that reached upstream. */
    arrived: new Set<string>(),
    /** All requests that upstream has answered to the end. */
    finished: 0,
  }))
  return {
    users,
    /** A counter for the names of requests. Upstream identifies requests by name. */
    names: 0,
    /** By request id: the user whose answer began, and the tokens once it has ended. */
    answered: new Map<string, { user: number; tokens: number }>(),
    /** The last usage that the admin got, and all events so far. */
    read: undefined as Usage | undefined,
    events: new Map<string, Event>(),
    /** Each block overwrites the one before. The numbers are those of the last request and of the last success. */
    block: { asked: 0, done: 0 },
    /** Failures while the server was running. */
    problems: [] as string[],
  }
}

type Books = ReturnType<typeof openBooks>

const sumOf = <T>(
  items: T[],
  field: { [K in keyof T]: T[K] extends number ? K : never }[keyof T],
) => sum(items, (item) => item[field] as number)

/** Everyone's usage of all models on a day, by the counters that limits are checked against. */
const usedOn = (quota: QuotaDoc | undefined) => usedIn(quota?.windows, 'day', quota?.at ?? 0)

function check(books: Books, state: State): void {
  const { days, events } = state
  expect(books.problems).toEqual([])
  const ended = new Map(events.map((event) => [event.id, event]))
  expect(ended.size).toBe(events.length)
  const all: Row[] = []
  let running = 0
  for (const [n, user] of books.users.entries()) {
    const id = idOf(n)
    const { usage, past } = userIn(state, id)
    const rows = [rowsOf(usage), ...Object.values(past.days)]
      .flatMap((day) => Object.values(day))
      .map(whole)
    all.push(...rows)
    const leases = Object.entries(usage.leases)
    running += leases.length
    const mine = events.filter((event) => event.user === id)
    const counted = sumOf(rows, 'requests')
    const reserved = sum(leases, ([, lease]) => lease.reserved.tokens)

    // A request is admitted before upstream is called. So all requests that reached upstream are counted, and no
    // request is counted that was not sent. The difference is the requests that were running when the server was
    // killed, at most one per lane.
    expect(counted - user.before).toBeGreaterThanOrEqual(user.arrived.size)
    expect(counted - user.before).toBeLessThanOrEqual(user.sent.size)
    user.before = counted
    user.sent.clear()
    user.arrived.clear()
    // Each request is counted and charged once, as an event or as a lease.
    expect(leases.filter(([lease]) => ended.has(lease))).toEqual([])
    for (const row of rows) expect(runningOf(row)).toBeGreaterThanOrEqual(0)
    expect(sum(rows, runningOf)).toBe(leases.length)
    expect([sumOf(rows, 'exact'), sumOf(rows, 'estimated')]).toEqual([mine.length, 0])
    expect([sumOf(rows, 'failed'), sumOf(rows, 'lost')]).toEqual([0, 0])
    expect(sumOf(rows, 'reserved')).toBe(reserved)
    expect(sumOf(rows, 'charged')).toBe(sumOf(mine, 'charged') + reserved)
    // No request is settled before upstream has answered to the end.
    expect(mine.length).toBeLessThanOrEqual(user.finished)
    for (const event of mine) {
      expect(event.outcome).toBe('exact')
      expect([PLAIN, STREAM]).toContain(event.charged)
      expect(event.charged).toBeLessThan(event.reserved)
    }
  }
  for (const [id, { user, tokens }] of books.answered) {
    const lease = userIn(state, idOf(user)).usage.leases[id]
    if (!lease) expect(ended.get(id)).toMatchObject({ user: idOf(user), charged: tokens })
  }

  // The documents of days and users are written together, so their sums must agree.
  const charged = sumOf(events, 'charged')
  const totals = days.map(({ total }) => total)
  expect([sumOf(totals, 'requests'), sumOf(totals, 'exact')]).toEqual([
    events.length,
    events.length,
  ])
  expect(sumOf(totals, 'charged')).toBe(charged)
  expect(sumOf(all, 'charged')).toBe(charged + sumOf(all, 'reserved') + sumOf(all, 'lostTokens'))
  // After midnight, everyone's usage of the previous day is no longer kept.
  const quota = new Map(state.quotas).get('*')
  if (days.length === 1 && days[0]?.date === dateOf(quota?.at ?? 0)) {
    expect(usedOn(quota)).toEqual({
      requests: events.length + running,
      tokens: sumOf(all, 'charged'),
      usd: 0,
    })
  }

  // Everything that the admin has seen is still true.
  for (const event of books.events.values()) expect(ended.get(event.id)).toEqual(event)
  for (const told of books.read?.users ?? []) {
    const user = userIn(state, told.userId)
    const now = userReport(user, { models: {} }, books.read?.timestamp ?? 0)
    for (const model of told.models) {
      const same = now.models.find((one) => one.model === model.model)
      expect(same?.requestsDay).toBeGreaterThanOrEqual(model.requestsDay)
      expect(same?.exact).toBeGreaterThanOrEqual(model.exact)
    }
  }
  for (const told of books.read?.days ?? []) {
    const day = days.find(({ date }) => date === told.date)
    expect(day?.total.exact).toBeGreaterThanOrEqual(told.exact)
    expect(day?.total.charged).toBeGreaterThanOrEqual(told.charged)
  }

  // A confirmed block is in the files. A block that was not confirmed may or may not be.
  const { block } = books
  const reason = userIn(state, idOf(0)).profile.blocks[OTHER]?.reason ?? '0'
  expect([block.done, block.asked]).toContain(Number(reason))
  block.done = Number(reason)
}

/** The moments at which the server may be killed. */
type Moment = 'upstream is asked' | 'an answer begins' | 'the admin is told' | 'a block is done'

const MOMENTS: Moment[] = [
  'upstream is asked',
  'an answer begins',
  'the admin is told',
  'a block is done',
]

/** Sends requests without a pause until the server ends. */
async function load(
  life: Life,
  url: string,
  books: Books,
  happened: (moment: Moment) => void,
): Promise<void> {
  async function lane(user: number, stream: boolean): Promise<void> {
    const of = books.users[user] as Books['users'][number]
    while (!life.ending()) {
      books.names += 1
      const content = `${user}/${books.names}`
      of.sent.add(content)
      const messages = [{ role: 'user', content }]
      const response = await fetch(`${url}/api/groq/openai/v1/chat/completions`, {
        method: 'POST',
        headers: { authorization: `Bearer ${tokenOf(user)}` },
        body: JSON.stringify({ model: MODEL, stream, messages }),
      })
      if (response.status === 200) {
        const id = response.headers.get('x-weir-id') ?? ''
        if (books.answered.has(id)) books.problems.push(`two answers with the id ${id}`)
        books.answered.set(id, { user, tokens: stream ? STREAM : PLAIN })
        happened('an answer begins')
      } else if (!life.ending()) {
        books.problems.push(`status ${response.status}`)
      }
      await response.arrayBuffer()
    }
  }

  async function admin(): Promise<void> {
    while (!life.ending()) {
      const usage = await readUsage(url)
      books.read = usage
      for (const event of usage.events) books.events.set(event.id, event)
      happened('the admin is told')
      await delay(3)
    }
  }

  async function blocker(): Promise<void> {
    const { block } = books
    while (!life.ending()) {
      block.asked += 1
      const response = await fetch(`${url}/api/admin/usage`, {
        method: 'POST',
        headers: { authorization: `Bearer ${ADMIN_KEY}` },
        body: JSON.stringify({
          userId: idOf(0),
          model: OTHER,
          blocked: true,
          reason: `${block.asked}`,
        }),
      })
      if (response.status === 200) {
        block.done = block.asked
        happened('a block is done')
      } else if (!life.ending()) {
        books.problems.push(`status ${response.status} of a block`)
      }
      await response.arrayBuffer()
      await delay(1)
    }
  }

  const lanes = Array.from({ length: USERS * LANES_PER_USER }, (_, n) =>
    lane(n % USERS, Math.floor(n / USERS) % 2 === 1),
  )
  const workers = [...lanes, admin(), blocker()].map((worker) =>
    // Failures after that are connections to the killed server.
    worker.catch((error: unknown) => {
      if (!life.ending()) throw error
    }),
  )
  await Promise.all(workers)
}

/**
 * Fills the journal with lines that are already in the snapshot, until only `left` bytes remain before it is folded.
 */
async function fillJournal(left: number): Promise<void> {
  const size = existsSync(file) ? statSync(file).size : 0
  const id = 'x'.repeat(Math.max(4 * 1024 * 1024, size) - left)
  const command = { op: 'settle', now: 0, user: 'nobody', event: { id } }
  await appendFile(`${file}.journal`, `${JSON.stringify({ v: VERSION, seq: 0, command })}\n`)
}

test(`kill -9 at ${KILLS} moments under load loses nothing that was told to anybody, and doubles nothing`, async ({
  onTestFailed,
}) => {
  const seed = Date.now() % 2 ** 31
  let kills = 0
  onTestFailed(() => console.error(`seed ${seed}, after ${kills} kills`))
  const pick = random(seed)
  const books = openBooks()
  const asked = new Set<string>()
  let happened: (moment: Moment) => void

  upstream.on(MODEL, (seen) => {
    const { messages } = JSON.parse(Buffer.from(seen.body).toString()) as {
      messages: { content: string }[]
    }
    const name = messages[0]?.content ?? ''
    const user = books.users[Number(name.split('/')[0])] as Books['users'][number]
    if (asked.has(name)) books.problems.push(`upstream was asked ${name} twice`)
    asked.add(name)
    // Data that a killed server wrote to its socket may still arrive after the check.
    if (user.sent.has(name)) user.arrived.add(name)
    void seen.done.then(() => (user.finished += seen.finished ? 1 : 0))
    happened('upstream is asked')
    return { delay: pick(8), pause: 1 + pick(4) }
  })

  /** Chooses a moment at which the server is killed, and returns the function to call at that moment. */
  function killSoon(life: Life, folding: boolean): () => void {
    const kill = () => life.signal('SIGKILL')
    let left = 1 + pick(150)
    const moment = MOMENTS[pick(MOMENTS.length)]
    happened = (one) => {
      if (!folding && one === moment && --left === 0) kill()
    }
    const timer = setTimeout(kill, folding ? 500 : 1 + pick(300))
    // The last snapshot also folds the journal.
    const stop = folding && pick(2) === 0
    const stopping = setTimeout(() => stop && life.signal('SIGTERM'), pick(200))
    if (folding) left = 1 + pick(8)
    let began = false
    const files = watch(dirname(file), (_, name) => {
      began ||= /json(\.tmp)?$/.test(name ?? '')
      if (folding && began && --left === 0) kill()
    })
    return () => {
      clearTimeout(timer)
      clearTimeout(stopping)
      files.close()
    }
  }

  let documents = emptyState()
  while (kills < KILLS) {
    const folding = kills > 0 && pick(3) === 0
    if (folding) await fillJournal(pick(80_000))
    // An incomplete line, which was never acknowledged.
    if (kills > 0 && pick(3) === 0)
      await appendFile(`${file}.journal`, '{"v":2,"seq":77,"command":{"op":')
    if (pick(5) === 0) {
      const life = start()
      await delay(pick(100))
      await life.end('SIGKILL')
    }
    const life = start()
    const url = await life.listens
    await expectServed(url, documents)
    const done = killSoon(life, folding)
    await load(life, url, books, (moment) => happened(moment))
    if ((await life.end('SIGKILL')) === null) kills += 1
    done()
    documents = await readDocuments()
    check(books, documents)
  }

  const life = start()
  await expectServed(await life.listens, documents)
  expect(await life.end('SIGTERM')).toBe(0)
  check(books, await readDocuments())
  expect(statSync(`${file}.journal`).size).toBe(0)
}, 120_000)

/** Sends one request, and waits until it is settled. */
async function spend(url: string, settled: number): Promise<void> {
  const response = await fetch(`${url}/api/groq`, {
    method: 'POST',
    headers: { 'x-user-token': tokenOf(0) },
    body: '{"prompt":"Hello"}',
  })
  expect(response.status).toBe(200)
  await expect
    .poll(async () => (await readUsage(url)).days[0])
    .toMatchObject({ requests: settled, exact: settled, charged: PLAIN * settled })
}

const settledOn = async (life: Life) => (await readUsage(await life.listens)).days[0]?.exact

/** The contents of all files of the store, without the lock. */
async function filesOf(): Promise<Record<string, string>> {
  const names = (await readdir(dirname(file))).filter((name) => !name.includes('.lock'))
  const texts = names.map((name) => readFile(join(dirname(file), name), 'utf8'))
  return Object.fromEntries((await Promise.all(texts)).map((text, n) => [names[n], text]))
}

/** Expects that the server does not start, reports that in one line, and leaves the files unchanged. */
async function expectRefused(life: Life, message: RegExp): Promise<void> {
  const before = await filesOf()
  await expect(life.listens).rejects.toThrow(message)
  expect(life.output().trim().split('\n')).toHaveLength(1)
  expect(await life.end('SIGKILL')).toBe(1)
  expect(await filesOf()).toEqual(before)
}

test('an empty snapshot prevents the start, with a message that says what to do', async () => {
  const first = start()
  await spend(await first.listens, 1)
  await first.end('SIGKILL')
  await writeFile(file, '')
  await expectRefused(start(), /token_usage\.json is empty; restore a copy, or move it away/)
  await rm(file)
  expect(await settledOn(start())).toBe(1)
}, 20_000)

test('the server starts with an empty journal or without one', async () => {
  const first = start()
  await spend(await first.listens, 1)
  expect(await first.end('SIGTERM')).toBe(0)
  expect(statSync(`${file}.journal`).size).toBe(0)
  const second = start()
  expect(await settledOn(second)).toBe(1)
  await second.end('SIGKILL')
  await rm(`${file}.journal`)
  expect(await settledOn(start())).toBe(1)
}, 20_000)

test('a path that cannot be a file prevents the start, with a message', async () => {
  await writeFile(join(folder, 'logs'), '')
  const life = start()
  await expect(life.listens).rejects.toThrow(
    /cannot use .*token_usage\.json \((ENOTDIR|EEXIST)\); check its permissions, or set another USAGE_FILE/,
  )
  expect(life.output().trim().split('\n')).toHaveLength(1)
  expect(await life.end('SIGKILL')).toBe(1)
}, 20_000)

/** File permissions do not apply to root, so root runs the server as the user nobody. */
const NOBODY = process.getuid?.() === 0 ? 65_534 : undefined
const canLockOut =
  process.getuid !== undefined &&
  (NOBODY === undefined || spawnSync(process.execPath, ['-v'], { uid: NOBODY }).status === 0)

test.runIf(canLockOut)(
  'a folder that becomes read-only does not harm a running server, and prevents the next start',
  async () => {
    if (NOBODY !== undefined) await chown(folder, NOBODY, -1)
    await chmod(folder, 0o755)
    const first = start(NOBODY)
    const url = await first.listens
    await spend(url, 1)
    await chmod(dirname(file), 0o555)
    await spend(url, 2)
    // The journal can still be written; only the last snapshot fails.
    expect(await first.end('SIGTERM')).toBe(0)
    expect(existsSync(file)).toBe(false)
    await expectRefused(
      start(NOBODY),
      /cannot write .*token_usage\.json\.lock\.guard \(EACCES\); check its permissions, or set another USAGE_FILE/,
    )
    await chmod(dirname(file), 0o755)
    const again = start(NOBODY)
    expect(await settledOn(again)).toBe(2)
    expect(await again.end('SIGTERM')).toBe(0)
    expect(existsSync(file)).toBe(true)
  },
  20_000,
)

test('a second process learns the owner of the files, and takes them over after the first is killed', async () => {
  const first = start()
  await spend(await first.listens, 1)
  await expectRefused(start(), /process \d+ already uses these files .*; stop it, or set another/)
  await spend(await first.listens, 2)
  await first.end('SIGKILL')
  expect(await settledOn(start())).toBe(2)
}, 20_000)
