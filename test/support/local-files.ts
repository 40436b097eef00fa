/** The files of the local store for the tests of a file: one folder per test, and processes that work on it. */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { cp, mkdir, mkdtemp, open, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { afterAll, afterEach, beforeAll, beforeEach, expect, vi } from 'vitest'
import type { Admit } from '../../src/ledger/commands.ts'
import { DAY_MS, dateOf } from '../../src/ledger/windows.ts'
import type { State } from '../../src/store/local/state.ts'
import { openLocal, type LocalStore } from '../../src/store/local/store.ts'
import type { Retention } from '../../src/ledger/advance.ts'
import { StoreError, type Store } from '../../src/store/store.ts'
import { admitOf, NOON, settleOf } from './commands.ts'
import { bundleText } from './entry.ts'
import { RETENTION, type Warning } from './stores.ts'

/**
 * Runs the commands that it is sent on the store, or admits and settles without end and reports what was acknowledged.
 */
const CHILD = `
import { appendFileSync, cpSync, unlinkSync, writeFileSync, writeSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { openLocal } from '../../src/store/local/store.ts'
import { admitOf, NOON, settleOf } from './commands.ts'

function say(...words) {
  for (let text = words.join(' ') + '\\n'; text;) {
    try {
      text = text.slice(writeSync(1, text))
    } catch (error) {
      // The pipe is full: the reader has paused.
      if (error.code !== 'EAGAIN') throw error
    }
  }
}
const retention = { userDays: 7, historyDays: 90, eventsKept: 1e6 }
const open = (file) =>
  openLocal({ file, retention, now: () => NOON, tolerance: Infinity, warn: () => undefined })

async function work(store, round, lane) {
  for (let n = 0; ; n += 1) {
    const admit = admitOf({ id: [round, lane, n].join('-'), user: 'user-' + lane })
    await store.execute(admit)
    say('admitted', admit.id)
    if (n % 3 === 0) continue
    await store.execute(settleOf(admit, { charged: 10 + lane }))
    say('settled', admit.id)
  }
}

async function each(ids, act) {
  const results = await Promise.allSettled(ids.map((id) => act(admitOf({ id }))))
  const told = ({ status, reason }) => (reason ? reason.name + ' ' + reason.cause.code : status)
  say([...new Set(results.map(told))].join(' and '))
}

/** Writes until the disk is full. */
function fill(file) {
  writeFileSync(file, '')
  for (let size = 4096; size >= 1; size = Math.floor(size / 2)) {
    try {
      for (;;) appendFileSync(file, 'x'.repeat(size))
    } catch {}
  }
}

let store
for await (const line of createInterface(process.stdin)) {
  const [word, file, round] = line.split(' ')
  const ids = line.split(' ').slice(1)
  if (word === 'admit') await each(ids, (admit) => store.execute(admit))
  if (word === 'settle') await each(ids, (admit) => store.execute(settleOf(admit)))
  if (word === 'fill') say('filled', fill(file))
  if (word === 'free') say('freed', unlinkSync(file))
  if (word === 'copy') say('copied', cpSync(file, round, { recursive: true }))
  if (word === 'open') {
    store = undefined
    try {
      store = await open(file)
      say('opened')
    } catch (error) {
      say('refused', error.name, error.message)
    }
  }
  if (word === 'close') {
    await store?.close()
    say('closed')
  }
  if (word === 'work') {
    store = await open(file)
    for (const lane of [0, 1, 2, 3, 4, 5, 6, 7]) void work(store, round, lane)
  }
}
`

export type OpenOptions = {
  /** The folder of the files; by default the test's folder. */
  place?: string
  retention?: Partial<Retention>
  /** The clock of the process. */
  now?: () => number
  tolerance?: number
}

export type Child = {
  pid: number | undefined
  kill(): Promise<void>
  say(words: string): void
  /** The next line; undefined after the last one. */
  hear(): Promise<string | undefined>
}

/** One folder per test. After the test, stores are closed and processes are ended. */
export function useLocalFiles() {
  let root = ''
  let script = ''
  let folder = ''
  const warnings: Warning[] = []
  const stores: LocalStore[] = []
  const children: ChildProcess[] = []

  beforeAll(async () => {
    root = await mkdtemp(join(tmpdir(), 'weir-journal-'))
    script = join(root, 'child.mjs')
    await bundleText(CHILD, script)
  })
  afterAll(() => rm(root, { recursive: true, force: true }))
  beforeEach(async () => {
    folder = await mkdtemp(join(root, 'case-'))
    warnings.length = 0
  })
  afterEach(async () => {
    vi.restoreAllMocks()
    vi.useRealTimers()
    for (const store of stores.splice(0)) await store.close()
    for (const child of children.splice(0)) child.kill('SIGKILL')
  })

  const fileIn = (place = folder) => join(place, 'logs', 'token_usage.json')
  const journalOf = (place?: string) => `${fileIn(place)}.journal`

  async function openStore({ place, retention, now = () => NOON, tolerance }: OpenOptions = {}) {
    const store = await openLocal({
      file: fileIn(place),
      retention: { ...RETENTION, ...retention },
      now,
      tolerance: tolerance ?? Infinity,
      warn: (event, fields) => warnings.push({ event, fields }),
    })
    stores.push(store)
    return store
  }

  return {
    /** The folder of the test. */
    get folder() {
      return folder
    },
    /** Processes to end after the test. */
    children,
    /** The warnings of the stores in this test. */
    warnings,
    fileIn,
    journalOf,
    openStore,
    /** The error of a store that cannot be opened. */
    async refusal(options: OpenOptions = {}): Promise<StoreError> {
      const error = await openStore(options).catch((cause: unknown) => cause)
      expect(error).toBeInstanceOf(StoreError)
      return error as StoreError
    },
    /** A copy of the files at this moment: what a kill -9 would leave. */
    async crash(place = folder): Promise<string> {
      const copy = await mkdtemp(join(root, 'crash-'))
      await cp(place, copy, { recursive: true })
      await rm(`${fileIn(copy)}.lock`, { force: true })
      return copy
    },
    /** The lines of a journal. */
    linesOf: (place?: string) => readFileSync(journalOf(place), 'utf8').split('\n').slice(0, -1),
    async writeLines(place: string, lines: string[]): Promise<void> {
      await mkdir(dirname(fileIn(place)), { recursive: true })
      await writeFile(journalOf(place), lines.map((line) => `${line}\n`).join(''))
    },
    /** The content of the snapshot. */
    saved: (place?: string) =>
      JSON.parse(readFileSync(fileIn(place), 'utf8')) as { v: number; seq: number; state: State },
    /** A process that answers commands line by line. */
    launch(before: string[] = []): Child {
      const [command, ...args] = [...before, process.execPath, script]
      const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'] })
      children.push(child)
      const lines = createInterface(child.stdout)[Symbol.asyncIterator]()
      return {
        pid: child.pid,
        async kill() {
          child.kill('SIGKILL')
          await once(child, 'exit')
        },
        say: (words) => void child.stdin.write(`${words}\n`),
        async hear() {
          const { value, done } = await lines.next()
          return done ? undefined : value
        },
      }
    },
    /** The methods of all file handles, to make them fail: a full disk is not available everywhere. */
    async handles(): Promise<HandlePrototype> {
      const probe = await open(script)
      await probe.close()
      return Object.getPrototypeOf(probe) as HandlePrototype
    },
  }
}

export type HandlePrototype = {
  write(
    bytes: Buffer,
    offset: number,
    length: number,
    position: number,
  ): Promise<{ bytesWritten: number }>
  truncate(length: number): Promise<void>
  sync(): Promise<void>
}

/** Everything that a store returns about users, blocks and events, and about two days from a moment on. */
export async function stateOf(store: LocalStore, now = NOON) {
  const users = { sort: 'lastActive', limit: 1e6, now } as const
  const dates = [dateOf(now), dateOf(now + DAY_MS)]
  const { page, ...rest } = await store.overview({ dates, users, events: 1e6 })
  return { ...rest, users: page.users, blocked: await store.blockedUsers(1e6) }
}

/** Admits and settles. */
export async function spend(store: Store, id: string, fields: Partial<Admit> = {}): Promise<void> {
  const admit = admitOf({ id, ...fields })
  await store.execute(admit)
  await store.execute(settleOf(admit))
}
