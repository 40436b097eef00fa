import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync, statSync } from 'node:fs'
import { mkdir, readFile, readdir, rm, utimes, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { beforeEach, expect, test, vi } from 'vitest'
import { openLocal } from '../../src/store/local/store.ts'
import { StoreError } from '../../src/store/store.ts'
import { admitOf, NOON } from '../support/commands.ts'
import { spend, stateOf, useLocalFiles, type HandlePrototype } from '../support/local-files.ts'
import { RETENTION } from '../support/stores.ts'

/** What happens between two looks at a lock, instead of the second that passes there. */
const looks = vi.hoisted(() => ({ count: 0, between: async () => {} }))

vi.mock('node:timers/promises', async (importOriginal) => {
  const original = await importOriginal<typeof import('node:timers/promises')>()
  const setTimeout: typeof original.setTimeout = async (ms, value, options) => {
    if (ms !== 1000) return original.setTimeout(ms, value, options)
    looks.count += 1
    await looks.between()
    return value as never
  }
  return { ...original, setTimeout }
})

const files = useLocalFiles()
const { crash, fileIn, handles, journalOf, launch, openStore, refusal, saved, warnings } = files

beforeEach(() => {
  looks.count = 0
  looks.between = async () => {}
})

const lockOf = (place?: string) => `${fileIn(place)}.lock`

/** A lock as a process of this machine writes it, with some fields changed. */
async function lockText(fields: object): Promise<string> {
  const store = await openStore()
  const own = JSON.parse(readFileSync(lockOf(), 'utf8')) as object
  await store.close()
  return JSON.stringify({ ...own, nonce: 'of another', ...fields })
}

const writeLock = async (fields: object) => writeFile(lockOf(), await lockText(fields))

test('a second open in the same process is refused and names the owner', async () => {
  const store = await openStore()
  expect((await refusal()).message).toContain(`process ${process.pid} already uses`)
  await spend(store, '1')
  await store.close()
  expect((await stateOf(await openStore())).events).toHaveLength(1)
})

test('a second process is refused and is told the owner, in either direction', async () => {
  const child = launch()
  const store = await openStore()
  child.say(`open ${fileIn()}`)
  expect(await child.hear()).toMatch(`refused StoreError process ${process.pid} already uses`)
  await store.close()
  child.say(`open ${fileIn()}`)
  expect(await child.hear()).toBe('opened')
  await expect(openStore()).rejects.toThrow(`process ${child.pid} already uses these files`)
  await child.kill()
  expect(await stateOf(await openStore())).toMatchObject({ users: [] })
}, 20_000)

test('one of several processes that open at once gets the files, with a stale lock or without a lock', async () => {
  const gone = launch()
  await gone.kill()
  const stale = await lockText({ pid: gone.pid, started: '1' })
  const contenders = Array.from({ length: 4 }, () => launch())
  for (let round = 0; round < 30; round += 1) {
    const place = join(files.folder, `${round}`)
    await mkdir(dirname(fileIn(place)), { recursive: true })
    if (round % 2) await writeFile(lockOf(place), stale)
    for (const one of contenders) one.say(`open ${fileIn(place)}`)
    const heard = await Promise.all(contenders.map((one) => one.hear()))
    expect(heard.filter((line) => line === 'opened')).toHaveLength(1)
    for (const one of contenders) one.say('close')
    await Promise.all(contenders.map((one) => one.hear()))
  }
}, 60_000)

/** State and start time of a process, fields 3 and 22. */
const lifeOf = (pid: number) => {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return { state: fields[0], started: fields[19] }
}
const onLinux = test.runIf(existsSync(`/proc/${process.pid}/stat`))

test('a lock of a process that has ended is taken over', async () => {
  const child = launch()
  await child.kill()
  await writeLock({ pid: child.pid, started: '1' })
  await spend(await openStore(), '1')
  const lock = JSON.parse(await readFile(`${fileIn()}.lock`, 'utf8')) as unknown
  expect(lock).toMatchObject({ pid: process.pid })
})

onLinux('a lock with the pid of this process but an earlier start is taken over', async () => {
  await writeLock({ pid: process.pid, started: '1' })
  await spend(await openStore(), '1')
})

onLinux('a lock of this process is respected', async () => {
  await writeLock({ pid: process.pid, started: lifeOf(process.pid).started })
  await expect(openStore()).rejects.toThrow(`process ${process.pid} already uses`)
})

onLinux('a lock of a zombie process is taken over', async () => {
  const shell = spawn('sh', ['-c', 'sleep 60 & echo $!; exec sleep 60'])
  files.children.push(shell)
  const [line] = (await once(shell.stdout, 'data')) as [Buffer]
  const pid = Number(line.toString())
  const { started } = lifeOf(pid)
  // A shell waits for its ended children; the program that replaces it does not.
  const comm = `/proc/${shell.pid}/comm`
  while ((await readFile(comm, 'utf8')).trim() !== 'sleep') await new Promise(setImmediate)
  process.kill(pid, 'SIGKILL')
  while (lifeOf(pid).state !== 'Z') await new Promise(setImmediate)
  await writeLock({ pid, started })
  await spend(await openStore(), '1')
})

/** Locks whose owner may or may not be alive, as far as a process here can see. */
const UNCLEAR: [string, object][] = [
  ['of another container, with a pid that nobody has here', { space: 'another', pid: 2 ** 22 }],
  ['of another container, with the pid and the start of this process', { space: 'another' }],
  ['of a process that does not know where it is', { space: undefined }],
  ['without a start time', { started: undefined }],
]

test.each(UNCLEAR)(
  'a lock %s is taken over after ten looks without a heartbeat',
  async (_, fields) => {
    await writeLock(fields)
    await spend(await openStore(), '1')
    expect(looks.count).toBe(10)
    expect(warnings).toEqual([{ event: 'lock.waiting', fields: { file: lockOf(), seconds: 10 } }])
  },
)

test.each(UNCLEAR)('a lock %s is respected if there is a heartbeat', async (_, fields) => {
  await writeLock({ ...fields, host: 'box' })
  const before = readFileSync(lockOf(), 'utf8')
  // An owner whose clock stands in another century, and that is slow.
  looks.between = async () => {
    if (looks.count === 9) await utimes(lockOf(), new Date(1e9), new Date(1e9))
  }
  const { message } = await refusal()
  expect(message).toContain(`already uses these files (${lockOf()}); stop it, or set another`)
  if ('space' in fields) expect(message).toContain('of another container or machine (box)')
  expect(looks.count).toBe(9)
  expect(readFileSync(lockOf(), 'utf8')).toBe(before)
})

test('a lock that its owner removes while it is looked at is taken', async () => {
  await writeLock({ space: 'another' })
  looks.between = () => rm(lockOf())
  await spend(await openStore(), '1')
  expect(looks.count).toBe(1)
})

test('a lock that changes its owner while it is looked at is respected', async () => {
  await writeLock({ space: 'another' })
  looks.between = async () => {
    const text = readFileSync(lockOf(), 'utf8').replace('of another', 'of a third')
    await writeFile(lockOf(), text)
  }
  expect((await refusal()).message).toContain('already uses these files')
})

test.each(['', '{', 'null', '[]', '{"pid":"1"}'])(
  'a lock that says %j is taken over',
  async (text) => {
    await mkdir(dirname(fileIn()))
    await writeFile(lockOf(), text)
    await spend(await openStore(), '1')
    expect(looks.count).toBe(10)
  },
)

test('an owner changes the time of its lock every two seconds', async () => {
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] })
  await openStore()
  const times = new Set<number>()
  for (let beat = 0; beat < 3; beat += 1) {
    times.add(statSync(lockOf()).mtimeMs)
    vi.advanceTimersByTime(2000)
    await expect.poll(() => times.has(statSync(lockOf()).mtimeMs)).toBe(false)
  }
  expect(times.size).toBe(3)
})

/** Lets another store take the files over, as if the first one had been paused for long. */
async function takeOver() {
  await rm(lockOf())
  return openStore()
}

const taken = (error: unknown) => {
  expect(error).toBeInstanceOf(StoreError)
  expect((error as StoreError).message).toContain(`another process has taken over ${lockOf()}`)
}

test('an owner that has lost its lock acknowledges and changes nothing more, and says so', async () => {
  const first = await openStore()
  await spend(first, '1')
  const second = await takeOver()
  await spend(second, '2')
  const failed = await first.execute(admitOf({ id: '3' })).catch((error: unknown) => error)
  taken(failed)
  taken(await first.execute(admitOf({ id: '4' })).catch((error: unknown) => error))
  const journal = readFileSync(journalOf(), 'utf8')
  const lock = readFileSync(lockOf(), 'utf8')
  await first.close()
  expect([readFileSync(journalOf(), 'utf8'), readFileSync(lockOf(), 'utf8')]).toEqual([
    journal,
    lock,
  ])
  expect(existsSync(fileIn())).toBe(false)
  expect(warnings).toEqual([{ event: 'lock.lost', fields: { file: lockOf() } }])
  await spend(second, '5')
  const { events } = await stateOf(await openStore({ place: await crash() }))
  expect(events.map(({ id }) => id)).toEqual(['5', '2', '1'])
})

test('an idle owner notices with the next heartbeat that its lock is gone', async () => {
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] })
  const lost = vi.fn()
  const open = { file: fileIn(), retention: RETENTION, now: () => NOON, warn: () => undefined }
  const store = await openLocal({ ...open, lost })
  await rm(lockOf())
  vi.advanceTimersByTime(2000)
  await expect.poll(() => lost.mock.calls.length).toBe(1)
  taken(lost.mock.calls[0]?.[0])
  await store.close()
  expect(lost).toHaveBeenCalledTimes(1)
  expect(await readdir(dirname(fileIn()))).toEqual(['token_usage.json.journal'])
})

test('an owner that is paused while it appends does not acknowledge, and damages nothing', async () => {
  const first = await openStore()
  await spend(first, '1')
  const prototype = await handles()
  const { write } = prototype
  let second: Awaited<ReturnType<typeof openStore>> | undefined
  vi.spyOn(prototype, 'write').mockImplementationOnce(async function (
    this: HandlePrototype,
    ...args
  ) {
    second = await takeOver()
    await spend(second, '2')
    return write.apply(this, args)
  })
  taken(await first.execute(admitOf({ id: 'late' })).catch((error: unknown) => error))
  const { events, users } = await stateOf(await openStore({ place: await crash() }))
  expect(events.map(({ id }) => id)).toEqual(['2', '1'])
  expect(users).toEqual((await stateOf(second as never)).users)
})

test('an owner that is paused just before it renames its snapshot replaces nothing', async () => {
  const first = await openStore()
  await spend(first, '1')
  const prototype = await handles()
  const { sync } = prototype
  let second: Awaited<ReturnType<typeof openStore>> | undefined
  vi.spyOn(prototype, 'sync').mockImplementationOnce(async function (this: HandlePrototype) {
    await sync.call(this)
    second = await takeOver()
    await spend(second, '2')
    await second.execute({ op: 'erase', now: NOON, user: 'nobody' })
  })
  await first.close()
  expect(saved().state.events.map(({ id }) => id)).toEqual(['1', '2'])
  await spend(second as never, '3')
  const { events } = await stateOf(await openStore({ place: await crash() }))
  expect(events.map(({ id }) => id)).toEqual(['3', '2', '1'])
  expect((await readdir(dirname(fileIn()))).filter((name) => name.endsWith('.tmp'))).toEqual([])
})

test('a temporary snapshot is removed before the next owner reads anything', async () => {
  await spend(await openStore(), '1')
  const place = await crash()
  const id = '0b9d1c1e-1111-4222-8333-444455556666'
  const left = [`${fileIn(place)}.${id}.tmp`, `${journalOf(place)}.${id}.tmp`]
  const kept = [`${fileIn(place)}.tmp`, `${fileIn(place)}.mine.tmp`, `${fileIn(place)}x.${id}.tmp`]
  for (const path of [...left, ...kept]) await writeFile(path, 'anything')
  await openStore({ place })
  expect([...left, ...kept].map(existsSync)).toEqual([false, false, true, true, true])
})

const CONTAINER = ['unshare', '-r', '--pid', '--fork', '--mount-proc', '--kill-child=SIGKILL']
const inContainers = test.runIf(
  spawnSync(String(CONTAINER[0]), [...CONTAINER.slice(1), 'true']).status === 0,
)

inContainers('of two containers on one volume the second is refused', async () => {
  const [one, other] = [launch(CONTAINER), launch(CONTAINER)]
  one.say(`open ${fileIn()}`)
  expect(await one.hear()).toBe('opened')
  other.say(`open ${fileIn()}`)
  expect(await other.hear()).toMatch(/^refused StoreError process \d+ of another container/)
  one.say('admit 1 2 3')
  expect(await one.hear()).toBe('fulfilled')
  await one.kill()
  expect((await stateOf(await openStore({ place: await crash() }))).users).toHaveLength(1)
})

test('a guard of another process is not removed', async () => {
  const guard = `${fileIn()}.lock.guard`
  await mkdir(dirname(guard))
  await writeFile(guard, '')
  const opening = openStore()
  await delay(100)
  expect(existsSync(guard)).toBe(true)
  await rm(guard)
  await spend(await opening, '1')
})

test('a guard that a crash left behind is taken over', async () => {
  const guard = `${fileIn()}.lock.guard`
  await mkdir(dirname(guard))
  await writeFile(guard, '')
  await utimes(guard, new Date(0), new Date(0))
  await spend(await openStore(), '1')
  expect(existsSync(guard)).toBe(false)
})

test.each(['', '{', 'null', '[]', '{"pid":"1"}'])(
  'a lock that says %j is taken over',
  async (text) => {
    await mkdir(dirname(fileIn()))
    await writeFile(`${fileIn()}.lock`, text)
    await spend(await openStore(), '1')
  },
)

/** The error message of a store that cannot open because of a system error. */
async function refused(): Promise<string> {
  const error = await refusal()
  expect(error.cause).toBeInstanceOf(Error)
  return error.message
}

test('a folder that cannot be created is a StoreError', async () => {
  await writeFile(join(files.folder, 'logs'), 'a file')
  expect(await refused()).toBe(
    `cannot use ${fileIn()} (EEXIST); check its permissions, or set another USAGE_FILE`,
  )
})

test('a journal that cannot be opened is a StoreError', async () => {
  await mkdir(journalOf(), { recursive: true })
  expect(await refused()).toContain(`cannot read ${journalOf()} (EISDIR)`)
  await rm(journalOf(), { recursive: true })
  await spend(await openStore(), '1')
})

test.each([
  ['token_usage.json', 'read'],
  ['token_usage.json.lock', 'write'],
])('where a folder has the name %s that is a StoreError', async (name, verb) => {
  const path = join(files.folder, 'logs', name)
  await mkdir(path, { recursive: true })
  expect(await refused()).toContain(`cannot ${verb} ${path} (EISDIR)`)
  await rm(path, { recursive: true })
  await spend(await openStore(), '1')
})

test('a guard that cannot be created is a StoreError', async () => {
  const file = join(files.folder, 'n'.repeat(250))
  const opening = openLocal({
    file,
    retention: RETENTION,
    now: () => NOON,
    warn: () => undefined,
  })
  await expect(opening).rejects.toThrow(`cannot write ${file}.lock.guard (ENAMETOOLONG)`)
})
