import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync, statSync } from 'node:fs'
import {
  appendFile,
  cp,
  mkdir,
  mkdtemp,
  open,
  readdir,
  readFile,
  rm,
  utimes,
  writeFile,
} from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, beforeEach, expect, test, vi } from 'vitest'
import { openLocal, type LocalStore } from '../src/store/local.ts'
import { StoreError, type Retention } from '../src/store/store.ts'
import { DAY_MS, type Admit } from '../src/usage/record.ts'
import { admitOf, NOON, settleOf } from './commands.ts'
import { RETENTION, type Warning, usersOf } from './stores.ts'

let root: string
let script: string
let folder: string
let warnings: Warning[]
const stores: LocalStore[] = []
const children: ChildProcess[] = []

/** Does to the store what it is told, or admits and settles for ever and says what was acknowledged. */
const CHILD = `
import { appendFileSync, cpSync, unlinkSync, writeFileSync, writeSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { openLocal } from '${new URL('../src/store/local.ts', import.meta.url)}'
import { admitOf, NOON, settleOf } from '${new URL('./commands.ts', import.meta.url)}'

function say(...words) {
  for (let text = words.join(' ') + '\\n'; text;) {
    try {
      text = text.slice(writeSync(1, text))
    } catch (error) {
      // The pipe is full: nobody has read for a while.
      if (error.code !== 'EAGAIN') throw error
    }
  }
}
const retention = { userDays: 7, historyDays: 90, eventsKept: 1e6 }
const open = (file) => openLocal({ file, retention, now: () => NOON, warn: () => undefined })

async function work(store, round, lane) {
  for (let n = 0; ; n += 1) {
    const admit = admitOf({ id: [round, lane, n].join('-'), user: 'user-' + lane })
    await store.admit(admit)
    say('admitted', admit.id)
    if (n % 3 === 0) continue
    await store.settle(settleOf(admit, { charged: 10 + lane }))
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
  if (word === 'admit') await each(ids, (admit) => store.admit(admit))
  if (word === 'settle') await each(ids, (admit) => store.settle(settleOf(admit)))
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

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'weir-journal-'))
  script = join(root, 'child.mts')
  await writeFile(script, CHILD)
})

afterAll(() => rm(root, { recursive: true, force: true }))

beforeEach(async () => {
  folder = await mkdtemp(join(root, 'case-'))
  warnings = []
})

afterEach(async () => {
  vi.restoreAllMocks()
  for (const store of stores.splice(0)) await store.close()
  for (const child of children.splice(0)) child.kill('SIGKILL')
})

const fileIn = (place: string) => join(place, 'logs', 'token_usage.json')

type Options = { place?: string; retention?: Partial<Retention>; now?: number }

async function openStore({ place = folder, retention = {}, now = NOON }: Options = {}) {
  const store = await openLocal({
    file: fileIn(place),
    retention: { ...RETENTION, ...retention },
    now: () => now,
    warn: (event, fields) => warnings.push({ event, fields }),
  })
  stores.push(store)
  return store
}

/** The files as they are right now, in a place of their own: what kill -9 at this moment leaves. */
async function crash(place = folder): Promise<string> {
  const copy = await mkdtemp(join(root, 'crash-'))
  await cp(place, copy, { recursive: true })
  await rm(`${fileIn(copy)}.lock`, { force: true })
  return copy
}

const stateOf = async (store: LocalStore) => ({
  users: await usersOf(store, { sort: 'lastActive', limit: 1e6, now: NOON }),
  days: await store.days(['2026-11-22']),
  events: await store.events(1e6),
})

/** Admits and settles. */
async function spend(store: LocalStore, id: string, fields: Partial<Admit> = {}): Promise<void> {
  const admit = admitOf({ id, ...fields })
  await store.admit(admit)
  await store.settle(settleOf(admit))
}

const journalOf = (place = folder) => `${fileIn(place)}.journal`
const linesOf = (place = folder) => readFileSync(journalOf(place), 'utf8').split('\n').slice(0, -1)
const writeLines = (place: string, lines: string[]) =>
  writeFile(journalOf(place), lines.map((line) => `${line}\n`).join(''))

type Child = ReturnType<typeof launch>

/** Answers of a child, one by one. */
function launch(before: string[] = []) {
  const [command = '', ...args] = [...before, process.execPath, '--import', 'tsx', script]
  const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'] })
  children.push(child)
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]()
  return {
    pid: child.pid,
    async kill() {
      child.kill('SIGKILL')
      await once(child, 'exit')
    },
    say: (words: string) => void child.stdin.write(`${words}\n`),
    /** The next line; undefined after the last. */
    hear: async (): Promise<string | undefined> => {
      const { value, done } = await lines.next()
      return done ? undefined : (value as string)
    },
  }
}

test('usage is still there after close and reopen, and the journal is folded away', async () => {
  const store = await openStore()
  await spend(store, '1')
  const open = admitOf({ id: '2', bound: 70 })
  await store.admit(open)
  await store.setBlock({ op: 'block', now: NOON, user: 'bob', model: '*', block: { at: NOON } })
  const before = await stateOf(store)
  await store.close()
  expect(statSync(journalOf()).size).toBe(0)
  expect(existsSync(`${fileIn(folder)}.lock`)).toBe(false)
  const again = await openStore()
  expect(await stateOf(again)).toEqual(before)
  expect(await again.settle(settleOf(open))).toEqual({ applied: true })
  expect(await again.admit(admitOf({ id: '3', user: 'bob' }))).toMatchObject({ reason: 'blocked' })
})

test('usage is still there after a crash, and after a second one', async () => {
  const store = await openStore()
  await spend(store, '1')
  await store.close()
  const second = await openStore()
  await spend(second, '2')
  const third = await openStore({ place: await crash() })
  expect(await stateOf(third)).toEqual(await stateOf(second))
})

test('refusals and replays are not written', async () => {
  const store = await openStore()
  const admit = admitOf({ id: '1' })
  await store.admit(admit)
  const before = readFileSync(journalOf(), 'utf8')
  await store.admit(admit)
  await store.admit(admitOf({ id: '2', limits: { model: { tokensPerDay: 1, requestsPerDay: 1 } } }))
  await store.settle(settleOf(admitOf({ id: 'unknown' })))
  expect(readFileSync(journalOf(), 'utf8')).toBe(before)
})

test('kill -9 loses nothing that was acknowledged and doubles nothing', async () => {
  const admitted = new Set<string>()
  const settled = new Set<string>()
  for (let round = 0; round < 5; round += 1) {
    const child = launch()
    child.say(`work ${fileIn(folder)} ${round}`)
    const count = 40 + Math.floor(Math.random() * 700)
    let line: string | undefined
    let killed: Promise<void> | undefined
    for (let n = 0; (line = await child.hear()) !== undefined; n += 1) {
      const [word = '', id = ''] = line.split(' ')
      if (word === 'admitted') admitted.add(id)
      if (word === 'settled') settled.add(id)
      if (n === count) killed = child.kill()
    }
    expect(killed).toBeDefined()
    await killed
    const store = await openStore({ retention: { eventsKept: 1e6 } })
    const { users, days, events } = await stateOf(store)
    const ended = events.map(({ id }) => id)
    const open = users.flatMap(({ leases }) => Object.keys(leases))
    expect(new Set([...ended, ...open]).size).toBe(ended.length + open.length)
    expect([...settled].filter((id) => !ended.includes(id))).toEqual([])
    expect([...admitted].filter((id) => !ended.includes(id) && !open.includes(id))).toEqual([])
    // At most the one command of each lane that was under way is there without having been told.
    expect(ended.length + open.length).toBeLessThanOrEqual(admitted.size + 8 * (round + 1))
    for (const user of users) {
      const mine = events.filter((event) => event.user === user.id)
      const charged = mine.reduce((sum, event) => sum + event.charged, 0)
      const held = 100 * Object.keys(user.leases).length
      expect(user.rows['a/one']).toMatchObject({
        requests: mine.length + Object.keys(user.leases).length,
        charged: charged + held,
        held,
      })
    }
    expect(days[0]?.total.requests).toBe(ended.length)
    await store.close()
  }
}, 60_000)

test('a last line that was cut anywhere is cut off, and what follows is kept', async () => {
  const store = await openStore()
  await spend(store, '1')
  const before = await stateOf(store)
  const size = statSync(journalOf()).size
  const reason = 'zażółć 🦢'
  const block = { at: NOON, reason }
  await store.setBlock({ op: 'block', now: NOON, user: 'alice', model: 'x', block })
  const whole = readFileSync(journalOf())
  for (let cut = size; cut < whole.length; cut += 1) {
    const place = await crash()
    await writeFile(journalOf(place), whole.subarray(0, cut))
    const again = await openStore({ place })
    expect(await stateOf(again)).toEqual(before)
    expect(statSync(journalOf(place)).size).toBe(size)
    await spend(again, '2')
    const third = await openStore({ place: await crash(place) })
    expect(await stateOf(third)).toEqual(await stateOf(again))
  }
  expect(warnings).toEqual([])
}, 30_000)

const DAMAGE: [string, (line: string) => string | Buffer][] = [
  ['is garbage', () => 'garbage'],
  ['is empty', () => ''],
  ['is cut', (line) => line.slice(0, -9)],
  ['is not UTF-8', (line) => Buffer.from(line.replace('bob', '\xff\xfe\xff'), 'latin1')],
  ['has no number', (line) => line.replace('"seq"', '"sec"')],
  ['has no command', (line) => line.replace('"command"', '"comment"')],
  ['has a command that is null', () => '{"seq":3,"command":null}'],
  ['has a command of an unknown kind', (line) => line.replace('"admit"', '"adnit"')],
  ['has a command without limits', (line) => line.replace('"limits"', '"limitz"')],
]

test.each(DAMAGE)('a line that %s is set aside and the rest is kept', async (_, spoil) => {
  const store = await openStore()
  await spend(store, '1')
  const before = await stateOf(store)
  await store.admit(admitOf({ id: '2', user: 'bob' }))
  const after = settleOf(admitOf({ id: '3', user: 'carol' }))
  await spend(store, '3', { user: 'carol' })
  const place = await crash()
  const lines = linesOf(place).map((line) => Buffer.from(line))
  const damaged = Buffer.from(spoil(String(lines[2])))
  lines[2] = damaged
  await writeFile(
    journalOf(place),
    Buffer.concat(lines.flatMap((line) => [line, Buffer.from('\n')])),
  )

  const again = await openStore({ place })
  const setAside = `${fileIn(place)}.damaged`
  expect(warnings).toEqual([
    { event: 'journal.damaged', fields: { file: journalOf(place), lines: [3], setAside } },
  ])
  expect(await readFile(setAside)).toEqual(Buffer.concat([damaged, Buffer.from('\n')]))
  const { users, events } = await stateOf(again)
  expect(users.find(({ id }) => id === 'alice')).toEqual(before.users[0])
  expect(events.map(({ id }) => id)).toEqual([after.event.id, '1'])
  expect(await again.settle(settleOf(admitOf({ id: '2', user: 'bob' })))).toEqual({
    applied: false,
  })

  await spend(again, '4')
  const third = await openStore({ place: await crash(place) })
  expect(await stateOf(third)).toEqual(await stateOf(again))
})

test('a second open in the same process is refused and names the owner', async () => {
  const store = await openStore()
  const error = await openStore().catch((cause: unknown) => cause)
  expect(error).toBeInstanceOf(StoreError)
  expect((error as StoreError).message).toContain(`process ${process.pid} already uses`)
  await spend(store, '1')
  await store.close()
  expect((await stateOf(await openStore())).events).toHaveLength(1)
})

test('a second process is refused and is told the owner, in either direction', async () => {
  const child = launch()
  const store = await openStore()
  child.say(`open ${fileIn(folder)}`)
  expect(await child.hear()).toMatch(`refused StoreError process ${process.pid} already uses`)
  await store.close()
  child.say(`open ${fileIn(folder)}`)
  expect(await child.hear()).toBe('opened')
  await expect(openStore()).rejects.toThrow(`process ${child.pid} already uses these files`)
  await child.kill()
  expect(await stateOf(await openStore())).toMatchObject({ users: [] })
}, 20_000)

test('of processes that open at once, over a stale lock or none, one gets the files', async () => {
  const gone = launch()
  await gone.kill()
  const contenders = Array.from({ length: 4 }, launch)
  for (let round = 0; round < 30; round += 1) {
    const place = join(folder, `${round}`)
    await mkdir(dirname(fileIn(place)), { recursive: true })
    const stale = JSON.stringify({ pid: gone.pid, started: '1' })
    if (round % 2) await writeFile(`${fileIn(place)}.lock`, stale)
    for (const one of contenders) one.say(`open ${fileIn(place)}`)
    const heard = await Promise.all(contenders.map((one) => one.hear()))
    expect(heard.filter((line) => line === 'opened')).toHaveLength(1)
    for (const one of contenders) one.say('close')
    await Promise.all(contenders.map((one) => one.hear()))
  }
}, 60_000)

/** State and start of a process, fields 3 and 22. */
const lifeOf = (pid: number) => {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return { state: fields[0], started: fields[19] }
}
const onLinux = test.runIf(existsSync(`/proc/${process.pid}/stat`))

test('a lock of a process that is gone is taken over', async () => {
  const child = launch()
  await child.kill()
  await mkdir(dirname(fileIn(folder)))
  await writeFile(`${fileIn(folder)}.lock`, JSON.stringify({ pid: child.pid, started: '1' }))
  await spend(await openStore(), '1')
  const lock = JSON.parse(await readFile(`${fileIn(folder)}.lock`, 'utf8')) as unknown
  expect(lock).toMatchObject({ pid: process.pid })
})

onLinux('a lock with our own pid from an earlier life is taken over', async () => {
  await mkdir(dirname(fileIn(folder)))
  const lock = { pid: process.pid, started: '1' }
  await writeFile(`${fileIn(folder)}.lock`, JSON.stringify(lock))
  await spend(await openStore(), '1')
})

onLinux('a lock with our own pid and life is respected', async () => {
  await mkdir(dirname(fileIn(folder)))
  const lock = { pid: process.pid, started: lifeOf(process.pid).started }
  await writeFile(`${fileIn(folder)}.lock`, JSON.stringify(lock))
  await expect(openStore()).rejects.toThrow(`process ${process.pid} already uses`)
})

onLinux('a lock of a process that is dead but not buried is taken over', async () => {
  const shell = spawn('sh', ['-c', 'sleep 60 & echo $!; exec sleep 60'])
  children.push(shell)
  const [line] = (await once(shell.stdout, 'data')) as [Buffer]
  const pid = Number(line.toString())
  const { started } = lifeOf(pid)
  // A shell buries its children; what it turns into does not.
  const comm = `/proc/${shell.pid}/comm`
  while ((await readFile(comm, 'utf8')).trim() !== 'sleep') await new Promise(setImmediate)
  process.kill(pid, 'SIGKILL')
  while (lifeOf(pid).state !== 'Z') await new Promise(setImmediate)
  await mkdir(dirname(fileIn(folder)))
  await writeFile(`${fileIn(folder)}.lock`, JSON.stringify({ pid, started }))
  await spend(await openStore(), '1')
})

test('a lock that does not tell when its process started is held by whoever has the pid', async () => {
  const child = launch()
  await child.kill()
  await mkdir(dirname(fileIn(folder)))
  const lock = `${fileIn(folder)}.lock`
  await writeFile(lock, JSON.stringify({ pid: process.pid }))
  await expect(openStore()).rejects.toThrow(`process ${process.pid} already uses`)
  await writeFile(lock, JSON.stringify({ pid: child.pid }))
  await spend(await openStore(), '1')
})

test('a guard that another process holds is left to it', async () => {
  const guard = `${fileIn(folder)}.lock.guard`
  await mkdir(dirname(guard))
  await writeFile(guard, '')
  const opening = openStore()
  await delay(100)
  expect(existsSync(guard)).toBe(true)
  await rm(guard)
  await spend(await opening, '1')
})

test('a guard that a crash left behind is taken over', async () => {
  const guard = `${fileIn(folder)}.lock.guard`
  await mkdir(dirname(guard))
  await writeFile(guard, '')
  await utimes(guard, new Date(0), new Date(0))
  await spend(await openStore(), '1')
  expect(existsSync(guard)).toBe(false)
})

test.each(['', '{', 'null', '[]', '{"pid":"1"}'])(
  'a lock that says %j is taken over',
  async (text) => {
    await mkdir(dirname(fileIn(folder)))
    await writeFile(`${fileIn(folder)}.lock`, text)
    await spend(await openStore(), '1')
  },
)

test('a journal of 4 MB is folded into the snapshot, and nothing is lost', async () => {
  const store = await openStore()
  const reason = 'x'.repeat(100_000)
  const block = (n: number) =>
    store.setBlock({
      op: 'block',
      now: NOON,
      user: `user-${n}`,
      model: '*',
      block: { at: NOON, reason },
    })
  for (let n = 0; n < 41; n += 1) {
    await spend(store, `${n}`, { user: `user-${n}` })
    await block(n)
  }
  expect(existsSync(fileIn(folder))).toBe(false)
  await block(41)
  // Written while the journal is folded, and after.
  await Promise.all(['a', 'b', 'c'].map((id) => spend(store, id)))
  await spend(store, 'd')
  expect(statSync(fileIn(folder)).size).toBeGreaterThan(4_000_000)
  expect(statSync(journalOf()).size).toBeLessThan(10_000)
  expect(existsSync(`${fileIn(folder)}.tmp`)).toBe(false)
  const again = await openStore({ place: await crash() })
  expect(await stateOf(again)).toEqual(await stateOf(store))
})

test('an empty line is set aside, and what comes before and after it is kept', async () => {
  const store = await openStore()
  await spend(store, '1')
  const place = await crash()
  await writeLines(place, ['', ...linesOf(place)])
  expect(await stateOf(await openStore({ place }))).toEqual(await stateOf(store))
  expect(warnings).toMatchObject([{ event: 'journal.damaged', fields: { lines: [1] } }])
})

test('not even the last command of a snapshot is applied again', async () => {
  const store = await openStore()
  await store.note({ op: 'note', now: NOON, action: 'export' })
  const lines = linesOf()
  await store.close()
  await writeLines(folder, lines)
  expect(await (await openStore()).audit(9)).toHaveLength(1)
})

test('a journal that outlived its snapshot is not applied twice', async () => {
  const store = await openStore()
  await spend(store, '1')
  const admit = admitOf({ id: '2' })
  await store.admit(admit)
  const old = linesOf()
  const before = await stateOf(store)
  await store.close()
  await writeLines(folder, old)
  const again = await openStore()
  expect(await stateOf(again)).toEqual(before)
  await again.settle(settleOf(admit))
  const third = await openStore({ place: await crash() })
  expect(await stateOf(third)).toEqual(await stateOf(again))
})

type HandlePrototype = {
  write(
    bytes: Buffer,
    offset: number,
    length: number,
    position: number,
  ): Promise<{ bytesWritten: number }>
  truncate(length: number): Promise<void>
  sync(): Promise<void>
}

/** The methods of all file handles, to make them fail: a full disk is not at hand everywhere. */
async function handles(): Promise<HandlePrototype> {
  const probe = await open(script)
  await probe.close()
  return Object.getPrototypeOf(probe) as HandlePrototype
}

const full = () => Object.assign(new Error('no space left on device'), { code: 'ENOSPC' })

test('a failed append rejects, the next one goes through, and nothing is lost', async () => {
  const store = await openStore()
  await spend(store, '1')
  vi.spyOn(await handles(), 'write').mockRejectedValueOnce(full())
  const error = await store.admit(admitOf({ id: '2' })).catch((cause: unknown) => cause)
  expect(error).toBeInstanceOf(StoreError)
  expect((error as StoreError).cause).toMatchObject({ code: 'ENOSPC' })
  expect((error as StoreError).message).toBe(`cannot write beside ${fileIn(folder)}`)
  await spend(store, '3')
  const again = await openStore({ place: await crash() })
  expect(await stateOf(again)).toEqual(await stateOf(store))
  expect(await again.settle(settleOf(admitOf({ id: '2' })))).toEqual({ applied: true })
})

test('what comes while an append fails is written after it', async () => {
  const store = await openStore()
  await spend(store, '1')
  let second: Promise<unknown> | undefined
  vi.spyOn(await handles(), 'write').mockImplementationOnce(() => {
    second = store.admit(admitOf({ id: '3' }))
    return Promise.reject(full())
  })
  await expect(store.admit(admitOf({ id: '2' }))).rejects.toBeInstanceOf(StoreError)
  expect(await second).toMatchObject({ ok: true })
  const again = await openStore({ place: await crash() })
  expect(await stateOf(again)).toEqual(await stateOf(store))
})

test('an append of which the disk takes a part at a time is whole', async () => {
  const store = await openStore()
  await spend(store, '1')
  const prototype = await handles()
  const { write } = prototype
  const parts: number[] = []
  vi.spyOn(prototype, 'write').mockImplementation(function (
    this: HandlePrototype,
    ...[bytes, offset, length, position]
  ) {
    expect(offset + length).toBe(bytes.length)
    parts.push(position)
    return write.call(this, bytes, offset, Math.min(length, 50), position)
  })
  await spend(store, '2')
  expect(parts.length).toBeGreaterThan(4)
  const again = await openStore({ place: await crash() })
  expect(await stateOf(again)).toEqual(await stateOf(store))
  expect(warnings).toEqual([])
})

test('an append that fails half way leaves no half line', async () => {
  const store = await openStore()
  await spend(store, '1')
  const size = statSync(journalOf()).size
  const prototype = await handles()
  const { write } = prototype
  vi.spyOn(prototype, 'write')
    .mockImplementationOnce(function (this: HandlePrototype, bytes, offset, length, position) {
      return write.call(this, bytes, offset, Math.floor(length / 2), position)
    })
    .mockRejectedValueOnce(full())
  await expect(store.admit(admitOf({ id: '2' }))).rejects.toBeInstanceOf(StoreError)
  expect(statSync(journalOf()).size).toBe(size)
  const torn = await openStore({ place: await crash() })
  expect(await torn.settle(settleOf(admitOf({ id: '2' })))).toEqual({ applied: false })
  await spend(store, '3')
  const again = await openStore({ place: await crash() })
  expect(await stateOf(again)).toEqual(await stateOf(store))
  expect(warnings).toEqual([])
})

type Disk = {
  name: string
  /** Whether it can be had here. */
  able: () => boolean
  code: string
  before(place: string): string[]
  /** Leaves so many bytes for the journal, where that can be said, and less than a page of 4 KB elsewhere. */
  fill(child: Child, place: string, left: number): Promise<void>
  free(child: Child, place: string): Promise<void>
}

const works = (command: string, ...args: string[]) => spawnSync(command, args).status === 0
const prlimit = (child: Child, size: number | string) =>
  expect(works('prlimit', '--pid', `${child.pid}`, `--fsize=${size}:`)).toBe(true)

/** Disks that get full. Each leaves it to the kernel to write a part and fail then. */
const DISKS: Disk[] = [
  {
    name: 'a limit to the size of files',
    able: () => works('prlimit', '--version'),
    code: 'EFBIG',
    before: () => [],
    fill: async (child, place, left) =>
      prlimit(child, Math.max(1, statSync(journalOf(place)).size + left)),
    free: async (child) => prlimit(child, 'unlimited'),
  },
  {
    name: 'a small disk of its own',
    able: () => works('unshare', '-rm', 'mount', '-t', 'tmpfs', 'none', tmpdir()),
    code: 'ENOSPC',
    before: (place) => {
      const mount = 'mount -t tmpfs -o size=256k none "$0" && exec "$@"'
      return ['unshare', '-rm', 'sh', '-c', mount, place]
    },
    async fill(child, place) {
      child.say(`fill ${join(place, 'filler')}`)
      expect(await child.hear()).toMatch('filled')
    },
    async free(child, place) {
      child.say(`free ${join(place, 'filler')}`)
      expect(await child.hear()).toMatch('freed')
    },
  },
]

for (const disk of DISKS) {
  const ids = (from: number, to: number) =>
    Array.from({ length: to - from }, (_, n) => `${from + n}`)

  test.runIf(disk.able())(
    `on ${disk.name} that is full appends reject, and once there is room nothing is lost or doubled`,
    async () => {
      const place = await mkdtemp(join(folder, 'disk-'))
      const child = launch(disk.before(place))
      const ask = async (words: string) => {
        child.say(words)
        return child.hear()
      }
      /** What is on the disk, opened as after a crash. */
      const open = async () => {
        const copy = await mkdtemp(join(folder, 'copy-'))
        expect(await ask(`copy ${place} ${copy}`)).toMatch('copied')
        await rm(`${fileIn(copy)}.lock`)
        const store = await openStore({ place: copy })
        return { copy, ...(await stateOf(store)), store }
      }
      const leasesIn = async () => {
        const { copy, store } = await open()
        await store.close()
        const { state } = JSON.parse(await readFile(fileIn(copy), 'utf8')) as {
          state: { users: { leases: Record<string, unknown>; rows: Record<string, unknown> }[] }
        }
        expect(state.users).toHaveLength(1)
        return state.users[0]
      }

      expect(await ask(`open ${fileIn(place)}`)).toBe('opened')
      let count = 10
      expect(await ask(`admit ${ids(0, count).join(' ')}`)).toBe('fulfilled')
      for (const left of [0, 1, 200, 1000]) {
        await disk.fill(child, place, left)
        // More than a page, of which a part may fit.
        const more = count + 40
        const failure = `StoreError ${disk.code}`
        expect(await ask(`admit ${ids(count, more).join(' ')}`)).toBe(failure)
        // Again, as somebody might who was refused.
        expect(await ask(`admit ${ids(count, more).join(' ')}`)).toBe(failure)
        const full = await leasesIn()
        expect(Object.keys(full?.leases ?? {})).toEqual(ids(0, count))
        expect(full?.rows['a/one']).toMatchObject({ requests: count, charged: 100 * count })

        await disk.free(child, place)
        expect(await ask(`admit ${more}`)).toBe('fulfilled')
        count = more + 1
        const free = await leasesIn()
        expect(Object.keys(free?.leases ?? {})).toEqual(ids(0, count))
        expect(free?.rows['a/one']).toMatchObject({ requests: count, charged: 100 * count })
      }

      expect(await ask(`settle ${ids(0, count).join(' ')}`)).toBe('fulfilled')
      const { events } = await open()
      expect(events.map(({ id }) => id).toSorted((a, b) => +a - +b)).toEqual(ids(0, count))

      // The last snapshot has no room either: the journal stays, and nothing half-written is in its way.
      await disk.fill(child, place, -Infinity)
      expect(await ask('close')).toBe('closed')
      await disk.free(child, place)
      const copy = await mkdtemp(join(folder, 'copy-'))
      expect(await ask(`copy ${place} ${copy}`)).toMatch('copied')
      expect(existsSync(fileIn(copy))).toBe(false)
      expect(existsSync(`${fileIn(copy)}.tmp`)).toBe(false)
      expect((await stateOf(await openStore({ place: copy }))).events).toEqual(events)
      expect(warnings).toEqual([])
    },
    30_000,
  )
}

test('what failed to be written is in the last snapshot', async () => {
  const store = await openStore()
  vi.spyOn(await handles(), 'write').mockRejectedValueOnce(full())
  await expect(store.admit(admitOf({ id: '1' }))).rejects.toBeInstanceOf(StoreError)
  await store.close()
  const again = await openStore()
  expect(await again.settle(settleOf(admitOf({ id: '1' })))).toEqual({ applied: true })
})

test('a replay is not answered before what it repeats is written', async () => {
  const store = await openStore()
  await spend(store, '0')
  vi.spyOn(await handles(), 'write').mockRejectedValueOnce(full())
  const admit = admitOf({ id: '1' })
  const answers = await Promise.allSettled([store.admit(admit), store.admit(admit)])
  expect(answers.map(({ status }) => status)).toEqual(['rejected', 'rejected'])
  expect(await store.admit(admit)).toMatchObject({ ok: true })
  const again = await openStore({ place: await crash() })
  expect(await again.settle(settleOf(admit))).toEqual({ applied: true })
})

test('what is read is in the file by then, or cannot be written', async () => {
  const store = await openStore()
  await spend(store, '1')
  const prototype = await handles()
  const { write } = prototype
  const slow = vi.spyOn(prototype, 'write')
  slow.mockImplementationOnce(async function (this: HandlePrototype, ...args) {
    await delay(50)
    return write.apply(this, args)
  })
  const ends = spend(store, '2')
  const { users } = await stateOf(store)
  expect(users[0]?.rows['a/one']).toMatchObject({ requests: 2 })
  const again = await openStore({ place: await crash() })
  expect((await stateOf(again)).users[0]?.rows['a/one']).toMatchObject({ requests: 2 })
  await ends
  slow.mockRejectedValue(full())
  await expect(store.admit(admitOf({ id: '3' }))).rejects.toBeInstanceOf(StoreError)
  expect((await stateOf(store)).users[0]?.rows['a/one']).toMatchObject({ requests: 3 })
})

test('a snapshot that cannot be written leaves the journal as it is', async () => {
  await mkdir(`${fileIn(folder)}.tmp`, { recursive: true })
  const store = await openStore()
  await spend(store, '1')
  const before = await stateOf(store)
  await store.close()
  expect(warnings).toEqual([{ event: 'journal.not_compacted', fields: { file: fileIn(folder) } }])
  expect(await stateOf(await openStore())).toEqual(before)
})

test('a journal that cannot be emptied after its snapshot does no harm', async () => {
  const store = await openStore()
  await spend(store, '1')
  vi.spyOn(await handles(), 'truncate').mockRejectedValueOnce(full())
  const before = await stateOf(store)
  await store.close()
  expect(existsSync(`${fileIn(folder)}.lock`)).toBe(false)
  expect(await stateOf(await openStore())).toEqual(before)
})

test('a store that closes waits for what is being written', async () => {
  const store = await openStore()
  await spend(store, '1')
  const prototype = await handles()
  const { write } = prototype
  let closing: Promise<void> | undefined
  vi.spyOn(prototype, 'write').mockImplementationOnce(async function (
    this: HandlePrototype,
    bytes,
    offset,
    length,
    position,
  ) {
    closing = store.close()
    // Long enough for a store that does not wait to close.
    await Promise.race([closing, delay(50)])
    return write.call(this, bytes, offset, length, position)
  })
  expect(await store.admit(admitOf({ id: '2' }))).toMatchObject({ ok: true })
  await closing
  const again = await openStore()
  expect(await again.settle(settleOf(admitOf({ id: '2' })))).toEqual({ applied: true })
})

test('what is acknowledged while the last snapshot is written is kept', async () => {
  const store = await openStore()
  await spend(store, '1')
  const late = admitOf({ id: '2' })
  let acknowledged: boolean | undefined
  vi.spyOn(await handles(), 'sync').mockImplementationOnce(async () => {
    acknowledged = await store.admit(late).then(
      () => true,
      () => false,
    )
  })
  await store.close()
  const again = await openStore()
  expect(await again.settle(settleOf(late))).toEqual({ applied: acknowledged })
})

test('what is acknowledged around the close of the store is kept', async () => {
  for (let round = 0; round < 10; round += 1) {
    const store = await openStore()
    const admits = Array.from({ length: 30 }, (_, n) => admitOf({ id: `${round}-${n}` }))
    const answers = await Promise.allSettled(
      admits.map(async (admit, n) => {
        for (let tick = 0; tick < n; tick += 1) await new Promise(setImmediate)
        if (n === 5) void store.close()
        return store.admit(admit)
      }),
    )
    await store.close()
    const again = await openStore()
    for (const [n, { status }] of answers.entries()) {
      if (status === 'rejected') continue
      expect(await again.settle(settleOf(admits[n] as Admit))).toEqual({ applied: true })
    }
    await again.close()
  }
})

test('a closed store writes nothing any more, whoever has the files then', async () => {
  const store = await openStore()
  await spend(store, '1')
  await store.close()
  const next = await openStore()
  await spend(next, '2')
  const before = readFileSync(fileIn(folder), 'utf8')
  await store.close()
  const error = await store.admit(admitOf({ id: '3' })).catch((cause: unknown) => cause)
  expect(error).toEqual(new StoreError(`${fileIn(folder)} is closed`))
  expect(readFileSync(fileIn(folder), 'utf8')).toBe(before)
  await expect(openStore()).rejects.toThrow('already uses')
})

test('an empty snapshot is refused, and moved away it leaves what the journal holds', async () => {
  const store = await openStore()
  await spend(store, '1')
  const before = await stateOf(store)
  const place = await crash()
  await writeFile(fileIn(place), '')
  const journal = readFileSync(journalOf(place))
  const error = await openStore({ place }).catch((cause: unknown) => cause)
  expect(error).toBeInstanceOf(StoreError)
  expect((error as StoreError).message).toBe(
    `${fileIn(place)} is empty; put a copy of it back, or move it away to go on with what ${journalOf(place)} holds`,
  )
  expect(readFileSync(fileIn(place), 'utf8')).toBe('')
  expect(readFileSync(journalOf(place))).toEqual(journal)
  await rm(fileIn(place))
  expect(await stateOf(await openStore({ place }))).toEqual(before)
})

test('an empty journal is as good as none', async () => {
  const store = await openStore()
  await spend(store, '1')
  const before = await stateOf(store)
  await store.close()
  expect(statSync(journalOf()).size).toBe(0)
  const again = await openStore()
  expect(await stateOf(again)).toEqual(before)
  await again.close()
  await rm(journalOf())
  expect(await stateOf(await openStore())).toEqual(before)
})

test('what is acknowledged while the journal is folded is in the files at each moment', async () => {
  await mkdir(dirname(fileIn(folder)))
  const ended = { op: 'settle', now: NOON, user: 'nobody', event: { id: 'x'.repeat(4 << 20) } }
  await writeLines(folder, [JSON.stringify({ seq: 0, command: ended })])
  const store = await openStore()
  const prototype = await handles()
  const { write, sync } = prototype
  const acknowledged: string[] = []
  const admit = (id: string) => store.admit(admitOf({ id })).then(() => acknowledged.push(id))
  let during: Promise<unknown> | undefined
  vi.spyOn(prototype, 'write').mockImplementationOnce(function (this: HandlePrototype, ...args) {
    // Applied already when the snapshot is made, and not in the journal.
    during = admit('2')
    return write.apply(this, args)
  })
  let copy: string | undefined
  vi.spyOn(prototype, 'sync').mockImplementationOnce(async function (this: HandlePrototype) {
    // Long enough to acknowledge what must not be yet.
    await delay(50)
    acknowledged.push('the copy is made')
    copy = await crash()
    return sync.call(this)
  })
  await admit('1')
  await during
  expect(acknowledged).toEqual(['1', 'the copy is made', '2'])
  const again = await openStore({ place: String(copy) })
  expect(await again.settle(settleOf(admitOf({ id: '1' })))).toEqual({ applied: true })
})

test.each([
  'not json',
  '[]',
  'null',
  '{"v":2,"seq":1,"state":{"users":[],"days":[],"events":[]}}',
  '{"v":1,"seq":"1","state":{"users":[],"days":[],"events":[]}}',
  '{"v":1,"seq":1}',
  '{"v":1,"seq":1,"state":{"users":[],"days":[]}}',
])('a snapshot that says %j is refused, left alone, and can be moved away', async (text) => {
  await mkdir(dirname(fileIn(folder)))
  await writeFile(fileIn(folder), text)
  const error = await openStore().catch((cause: unknown) => cause)
  expect(error).toBeInstanceOf(StoreError)
  expect((error as StoreError).message).toBe(
    `${fileIn(folder)} is not a usage file of Weir; move it away to start afresh`,
  )
  expect(readFileSync(fileIn(folder), 'utf8')).toBe(text)
  await rm(fileIn(folder))
  await spend(await openStore(), '1')
})

/** What a store says that does not open. */
async function refusal(): Promise<string> {
  const error = await openStore().catch((cause: unknown) => cause)
  expect(error).toBeInstanceOf(StoreError)
  expect((error as StoreError).cause).toBeInstanceOf(Error)
  return (error as StoreError).message
}

test('a folder that cannot be had is a StoreError', async () => {
  await writeFile(join(folder, 'logs'), 'a file')
  expect(await refusal()).toBe(
    `cannot use ${fileIn(folder)} (EEXIST); make that possible, or set another USAGE_FILE`,
  )
})

test('a journal that cannot be opened is a StoreError', async () => {
  await mkdir(journalOf(), { recursive: true })
  expect(await refusal()).toContain(`cannot read ${journalOf()} (EISDIR)`)
  await rm(journalOf(), { recursive: true })
  await spend(await openStore(), '1')
})

test.each([
  ['token_usage.json', 'read'],
  ['token_usage.json.lock', 'write'],
])('where a folder has the name %s that is a StoreError', async (name, verb) => {
  const path = join(folder, 'logs', name)
  await mkdir(path, { recursive: true })
  expect(await refusal()).toContain(`cannot ${verb} ${path} (EISDIR)`)
  await rm(path, { recursive: true })
  await spend(await openStore(), '1')
})

test('a guard that cannot be had is a StoreError', async () => {
  const file = join(folder, 'n'.repeat(250))
  const opening = openLocal({
    file,
    retention: RETENTION,
    now: () => NOON,
    warn: () => undefined,
  })
  await expect(opening).rejects.toThrow(`cannot write ${file}.lock.guard (ENAMETOOLONG)`)
})

test('the snapshot leaves out what has aged, but no block in force', async () => {
  const store = await openStore()
  const block = (user: string, until?: number) =>
    store.setBlock({
      op: 'block',
      now: NOON,
      user,
      model: '*',
      block: { at: NOON, ...(until === undefined ? {} : { until }) },
    })
  await spend(store, '1', { user: 'old' })
  await block('endless')
  await block('timed', NOON + 30 * DAY_MS)
  await block('brief', NOON + 1000)
  await block('just over', NOON + 12 * DAY_MS)
  await spend(store, '2', { user: 'young', now: NOON + 6 * DAY_MS })
  await store.close()
  const saved = async () => {
    const { state } = JSON.parse(await readFile(fileIn(folder), 'utf8')) as {
      state: { users: { id: string }[]; days: { date: string }[]; events: { id: string }[] }
    }
    return {
      users: state.users.map(({ id }) => id).sort(),
      days: state.days.map(({ date }) => date).sort(),
      events: state.events.map(({ id }) => id).sort(),
    }
  }
  const all = ['brief', 'endless', 'just over', 'old', 'timed', 'young']
  expect((await saved()).users).toEqual(all)
  const retention = { userDays: 7, historyDays: 10, eventsKept: 1 }
  await (await openStore({ now: NOON + 7 * DAY_MS, retention })).close()
  expect((await saved()).users).toEqual(all)
  await (await openStore({ now: NOON + 12 * DAY_MS, retention })).close()
  expect(await saved()).toEqual({
    users: ['endless', 'timed', 'young'],
    days: ['2026-11-28'],
    events: ['2'],
  })
})

test('sessions, the trail and what was entered outlast a restart, and no longer than they count', async () => {
  const store = await openStore()
  const login = { op: 'login', now: NOON, session: 'open', until: NOON + DAY_MS } as const
  await store.login(login)
  await store.login({ ...login, session: 'ended' })
  await store.logout({ op: 'logout', now: NOON, session: 'ended' })
  const { user, event } = settleOf(admitOf({ id: '1', now: NOON - DAY_MS }))
  const entry = { op: 'enter', now: NOON, user, event } as const
  expect(await store.replay([entry])).toEqual([{ applied: true }])
  await spend(store, '2')
  await store.close()
  const again = await openStore()
  expect(await again.session('open', NOON)).toBe(true)
  expect(await again.session('ended', NOON)).toBe(false)
  expect(await again.replay([entry])).toEqual([{ applied: false }])
  const actions = (await again.audit(9)).map(({ action }) => action)
  expect(actions).toEqual(['logout', 'login', 'login'])
  await again.close()

  const kept = async (now: number) => {
    await (await openStore({ now })).close()
    const { state } = JSON.parse(await readFile(fileIn(folder), 'utf8')) as {
      state: { sessions: unknown; entered: unknown }
    }
    return [state.sessions, state.entered]
  }
  const [session, entered] = [
    ['open', NOON + DAY_MS],
    ['1', NOON - DAY_MS],
  ]
  expect(await kept(NOON + DAY_MS - 1)).toEqual([[session], [entered]])
  expect(await kept(NOON + DAY_MS)).toEqual([[], [entered]])
  expect(await kept(NOON + 6 * DAY_MS - 1)).toEqual([[], [entered]])
  expect(await kept(NOON + 6 * DAY_MS)).toEqual([[], []])
})

test('of many more events than are kept the newest are there', async () => {
  const retention = { userDays: 7, historyDays: 90, eventsKept: 100 }
  const store = await openStore({ retention })
  const entries = Array.from({ length: 180 }, (_, n) => {
    const { user, event } = settleOf(admitOf({ id: `${n}` }))
    return { op: 'enter', now: NOON, user, event } as const
  })
  await store.replay(entries)
  const ids = (await store.events(1000)).map(({ id }) => id)
  expect(ids).toEqual(Array.from({ length: 100 }, (_, n) => `${179 - n}`))
})

test('a probe leaves nothing behind, and fails where nothing can be written', async () => {
  const store = await openStore()
  const logs = dirname(fileIn(folder))
  const before = await readdir(logs)
  await store.probe()
  expect(await readdir(logs)).toEqual(before)
  await rm(logs, { recursive: true })
  const error = await store.probe().catch((cause: unknown) => cause)
  expect(error).toEqual(new StoreError(`cannot write beside ${fileIn(folder)}`))
  expect((error as StoreError).cause).toMatchObject({ code: 'ENOENT' })
})

test('lines are appended together, in order', async () => {
  const store = await openStore()
  await Promise.all(Array.from({ length: 50 }, (_, n) => store.admit(admitOf({ id: `${n}` }))))
  const lines = linesOf().map((line) => JSON.parse(line) as { seq: number; command: Admit })
  expect(lines.map(({ seq }) => seq)).toEqual(Array.from({ length: 50 }, (_, n) => n + 1))
  expect(lines.map(({ command }) => command.id)).toEqual(lines.map((_, n) => `${n}`))
})

/** The files of a folder, the lock aside. */
async function textsIn(place: string): Promise<Record<string, string>> {
  const logs = join(place, 'logs')
  const names = (await readdir(logs)).filter((name) => !name.endsWith('.lock'))
  const texts = names.map(async (name) => [name, await readFile(join(logs, name), 'utf8')] as const)
  return Object.fromEntries(await Promise.all(texts))
}

/** Where the files name a user; that they were erased is known for as long as what they did may still be entered. */
async function named(place: string, user: string): Promise<string[]> {
  const texts = Object.values(await textsIn(place))
  return texts.flatMap((text) => text.match(new RegExp(`.{2}"${user}".`, 'g')) ?? [])
}

const ERASED = 'alice-who-is-erased'
const erase = (store: LocalStore) => store.erase({ op: 'erase', now: NOON + 5000, user: ERASED })

async function useOf(store: LocalStore, user: string): Promise<void> {
  const admit = admitOf({ id: `of ${user}`, user })
  await store.admit(admit)
  await store.settle(settleOf(admit, { session: 's' }))
  await store.setBlock({ op: 'block', now: NOON, user, model: '*', block: { at: NOON } })
}

test('who is erased is in no file any more when that is said, but for the mark that they were', async () => {
  const store = await openStore()
  await useOf(store, ERASED)
  await useOf(store, 'bob')
  expect((await named(folder, ERASED)).length).toBeGreaterThan(0)
  await Promise.all([erase(store), useOf(store, 'carol')])
  expect(await named(folder, ERASED)).toEqual([`[["${ERASED}",`])
  expect(Object.keys(await textsIn(folder)).sort()).toEqual([
    'token_usage.json',
    'token_usage.json.journal',
  ])
  await store.close()
  const again = await openStore({ now: NOON + 7 * DAY_MS + 4999 })
  expect(await again.user('bob')).toBeDefined()
  expect(await again.user(ERASED)).toBeUndefined()
  const late = { ...settleOf(admitOf({ id: 'late', user: ERASED })), op: 'enter' } as const
  expect(await again.replay([late])).toEqual([{ applied: false }])
  await again.close()
  expect(await named(folder, ERASED)).toEqual([`[["${ERASED}",`])
  await (await openStore({ now: NOON + 7 * DAY_MS + 5000 })).close()
  expect(await named(folder, ERASED)).toEqual([])
})

test('an erasing that a crash cut short is carried through by the next start', async () => {
  const store = await openStore()
  await useOf(store, ERASED)
  await store.note({ op: 'note', now: NOON, action: 'export' })
  const place = join(folder, 'after the crash')
  await cp(join(folder, 'logs'), join(place, 'logs'), { recursive: true })
  await rm(`${fileIn(place)}.lock`, { force: true, recursive: true })
  const line = { seq: 5, command: { op: 'erase', now: NOON + 5000, user: ERASED } }
  await appendFile(`${fileIn(place)}.journal`, `${JSON.stringify(line)}\n`)
  const again = await openStore({ place })
  expect(await named(place, ERASED)).toEqual([`[["${ERASED}",`])
  expect(await again.user(ERASED)).toBeUndefined()
  expect((await again.audit(1))[0]?.action).toBe('erase')
})

test('an erasing fails while the files cannot be rid of the user, and works when asked again', async () => {
  const store = await openStore()
  await useOf(store, ERASED)
  await useOf(store, 'bob')
  await mkdir(`${fileIn(folder)}.tmp`)
  const error = await erase(store).catch((cause: unknown) => cause)
  expect(error).toEqual(new StoreError(`cannot write beside ${fileIn(folder)}`))
  expect((error as StoreError).cause).toBeInstanceOf(Error)
  expect(warnings.map(({ event }) => event)).toEqual(['journal.not_compacted'])
  expect(await store.user(ERASED)).toBeUndefined()
  await useOf(store, 'carol')
  await rm(`${fileIn(folder)}.tmp`, { recursive: true })
  expect(await erase(store)).toEqual({ ok: true })
  expect(await named(folder, ERASED)).toEqual([`[["${ERASED}",`])
  await store.close()
  await expect(erase(store)).rejects.toBeInstanceOf(StoreError)
})
