import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { mkdir, readFile, rm, utimes, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { openLocal } from '../../src/store/local/store.ts'
import { NOON } from '../support/commands.ts'
import { spend, stateOf, useLocalFiles } from '../support/local-files.ts'
import { RETENTION } from '../support/stores.ts'

const files = useLocalFiles()
const { fileIn, journalOf, launch, openStore, refusal } = files

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
  const contenders = Array.from({ length: 4 }, () => launch())
  for (let round = 0; round < 30; round += 1) {
    const place = join(files.folder, `${round}`)
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
  await mkdir(dirname(fileIn()))
  await writeFile(`${fileIn()}.lock`, JSON.stringify({ pid: child.pid, started: '1' }))
  await spend(await openStore(), '1')
  const lock = JSON.parse(await readFile(`${fileIn()}.lock`, 'utf8')) as unknown
  expect(lock).toMatchObject({ pid: process.pid })
})

onLinux('a lock with the pid of this process but an earlier start is taken over', async () => {
  await mkdir(dirname(fileIn()))
  const lock = { pid: process.pid, started: '1' }
  await writeFile(`${fileIn()}.lock`, JSON.stringify(lock))
  await spend(await openStore(), '1')
})

onLinux('a lock of this process is respected', async () => {
  await mkdir(dirname(fileIn()))
  const lock = { pid: process.pid, started: lifeOf(process.pid).started }
  await writeFile(`${fileIn()}.lock`, JSON.stringify(lock))
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
  await mkdir(dirname(fileIn()))
  await writeFile(`${fileIn()}.lock`, JSON.stringify({ pid, started }))
  await spend(await openStore(), '1')
})

test('a lock without a start time belongs to any process with its pid', async () => {
  const child = launch()
  await child.kill()
  await mkdir(dirname(fileIn()))
  const lock = `${fileIn()}.lock`
  await writeFile(lock, JSON.stringify({ pid: process.pid }))
  await expect(openStore()).rejects.toThrow(`process ${process.pid} already uses`)
  await writeFile(lock, JSON.stringify({ pid: child.pid }))
  await spend(await openStore(), '1')
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
