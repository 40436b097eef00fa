/** Disks that are full, slow or missing: no acknowledged command is lost, and none is applied twice. */
import { spawnSync } from 'node:child_process'
import { existsSync, statSync } from 'node:fs'
import { mkdir, mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { expect, test, vi } from 'vitest'
import type { Admit } from '../../src/ledger/commands.ts'
import { StoreError } from '../../src/store/store.ts'
import { admitOf, settleOf } from '../support/commands.ts'
import {
  spend,
  stateOf,
  useLocalFiles,
  type Child,
  type HandlePrototype,
} from '../support/local-files.ts'

const files = useLocalFiles()
const { crash, fileIn, handles, journalOf, launch, openStore, saved, warnings } = files

const full = () => Object.assign(new Error('no space left on device'), { code: 'ENOSPC' })

test('a failed append rejects, the next one succeeds, and nothing is lost', async () => {
  const store = await openStore()
  await spend(store, '1')
  vi.spyOn(await handles(), 'write').mockRejectedValueOnce(full())
  const error = await store.execute(admitOf({ id: '2' })).catch((cause: unknown) => cause)
  expect(error).toBeInstanceOf(StoreError)
  expect((error as StoreError).cause).toMatchObject({ code: 'ENOSPC' })
  expect((error as StoreError).message).toBe(`cannot write beside ${fileIn()}`)
  await spend(store, '3')
  const again = await openStore({ place: await crash() })
  expect(await stateOf(again)).toEqual(await stateOf(store))
  expect(await again.execute(settleOf(admitOf({ id: '2' })))).toEqual({ applied: true })
})

test('commands that arrive while an append fails are written after it', async () => {
  const store = await openStore()
  await spend(store, '1')
  let second: Promise<unknown> | undefined
  vi.spyOn(await handles(), 'write').mockImplementationOnce(() => {
    second = store.execute(admitOf({ id: '3' }))
    return Promise.reject(full())
  })
  await expect(store.execute(admitOf({ id: '2' }))).rejects.toBeInstanceOf(StoreError)
  expect(await second).toMatchObject({ ok: true })
  const again = await openStore({ place: await crash() })
  expect(await stateOf(again)).toEqual(await stateOf(store))
})

test('an append that the disk writes in parts is complete', async () => {
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

test('an append that fails halfway leaves no incomplete line', async () => {
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
  await expect(store.execute(admitOf({ id: '2' }))).rejects.toBeInstanceOf(StoreError)
  expect(statSync(journalOf()).size).toBe(size)
  const torn = await openStore({ place: await crash() })
  expect(await torn.execute(settleOf(admitOf({ id: '2' })))).toEqual({ applied: false })
  await spend(store, '3')
  const again = await openStore({ place: await crash() })
  expect(await stateOf(again)).toEqual(await stateOf(store))
  expect(warnings).toEqual([])
})

type Disk = {
  name: string
  /** Whether this machine can provide the disk. */
  able: () => boolean
  code: string
  before(place: string): string[]
  /** Leaves `left` bytes for the journal, if the disk allows an exact amount; otherwise less than a page of 4 KB. */
  fill(child: Child, place: string, left: number): Promise<void>
  free(child: Child, place: string): Promise<void>
}

const works = (command: string, ...args: string[]) => spawnSync(command, args).status === 0
const prlimit = (child: Child, size: number | string) =>
  expect(works('prlimit', '--pid', `${child.pid}`, `--fsize=${size}:`)).toBe(true)

/** Disks that get full. On each, the kernel writes a part of the data and then fails. */
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
      const place = await mkdtemp(join(files.folder, 'disk-'))
      const child = launch(disk.before(place))
      const ask = async (words: string) => {
        child.say(words)
        return child.hear()
      }
      /** Opens the files on the disk, as after a crash. */
      const open = async () => {
        const copy = await mkdtemp(join(files.folder, 'copy-'))
        expect(await ask(`copy ${place} ${copy}`)).toMatch('copied')
        await rm(`${fileIn(copy)}.lock`)
        const store = await openStore({ place: copy })
        return { copy, ...(await stateOf(store)), store }
      }
      const leasesIn = async () => {
        const { copy, store } = await open()
        await store.close()
        const { usage } = saved(copy).state
        expect(usage).toHaveLength(1)
        return usage[0]
      }

      expect(await ask(`open ${fileIn(place)}`)).toBe('opened')
      let count = 10
      expect(await ask(`admit ${ids(0, count).join(' ')}`)).toBe('fulfilled')
      for (const left of [0, 1, 200, 1000]) {
        await disk.fill(child, place, left)
        // More than a page; a part of it may fit.
        const more = count + 40
        const failure = `StoreError ${disk.code}`
        expect(await ask(`admit ${ids(count, more).join(' ')}`)).toBe(failure)
        // Again, as a refused client might do.
        expect(await ask(`admit ${ids(count, more).join(' ')}`)).toBe(failure)
        const full = await leasesIn()
        expect(Object.keys(full?.leases ?? {})).toEqual(ids(0, count))
        expect(full?.models['a/one']?.row).toMatchObject({ requests: count, charged: 100 * count })

        await disk.free(child, place)
        expect(await ask(`admit ${more}`)).toBe('fulfilled')
        count = more + 1
        const free = await leasesIn()
        expect(Object.keys(free?.leases ?? {})).toEqual(ids(0, count))
        expect(free?.models['a/one']?.row).toMatchObject({ requests: count, charged: 100 * count })
      }

      expect(await ask(`settle ${ids(0, count).join(' ')}`)).toBe('fulfilled')
      const { events } = await open()
      expect(events.map(({ id }) => id).toSorted((a, b) => +a - +b)).toEqual(ids(0, count))

      // The last snapshot does not fit either. The journal stays, and no temporary file takes its space.
      await disk.fill(child, place, -Infinity)
      expect(await ask('close')).toBe('closed')
      await disk.free(child, place)
      const copy = await mkdtemp(join(files.folder, 'copy-'))
      expect(await ask(`copy ${place} ${copy}`)).toMatch('copied')
      expect(existsSync(fileIn(copy))).toBe(false)
      expect(await readdir(dirname(fileIn(copy)))).toEqual(['token_usage.json.journal'])
      expect((await stateOf(await openStore({ place: copy }))).events).toEqual(events)
      expect(warnings).toEqual([])
    },
    30_000,
  )
}

test('commands that could not be written are in the last snapshot', async () => {
  const store = await openStore()
  vi.spyOn(await handles(), 'write').mockRejectedValueOnce(full())
  await expect(store.execute(admitOf({ id: '1' }))).rejects.toBeInstanceOf(StoreError)
  await store.close()
  const again = await openStore()
  expect(await again.execute(settleOf(admitOf({ id: '1' })))).toEqual({ applied: true })
})

test('a replay is not answered before the repeated command is written', async () => {
  const store = await openStore()
  await spend(store, '0')
  vi.spyOn(await handles(), 'write').mockRejectedValueOnce(full())
  const admit = admitOf({ id: '1' })
  const answers = await Promise.allSettled([store.execute(admit), store.execute(admit)])
  expect(answers.map(({ status }) => status)).toEqual(['rejected', 'rejected'])
  expect(await store.execute(admit)).toMatchObject({ ok: true })
  const again = await openStore({ place: await crash() })
  expect(await again.execute(settleOf(admit))).toEqual({ applied: true })
})

test('a read waits until its data is in the file or cannot be written', async () => {
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
  expect(users[0]?.usage.models['a/one']?.row).toMatchObject({ requests: 2 })
  const again = await openStore({ place: await crash() })
  expect((await stateOf(again)).users[0]?.usage.models['a/one']?.row).toMatchObject({ requests: 2 })
  await ends
  slow.mockRejectedValue(full())
  await expect(store.execute(admitOf({ id: '3' }))).rejects.toBeInstanceOf(StoreError)
  expect((await stateOf(store)).users[0]?.usage.models['a/one']?.row).toMatchObject({ requests: 3 })
})

test('a snapshot that cannot be written leaves the journal unchanged', async () => {
  const store = await openStore()
  await spend(store, '1')
  await mkdir(fileIn())
  const before = await stateOf(store)
  await store.close()
  expect(warnings).toEqual([{ event: 'journal.not_compacted', fields: { file: fileIn() } }])
  expect(await readdir(dirname(fileIn()))).toEqual(['token_usage.json', 'token_usage.json.journal'])
  await rm(fileIn(), { recursive: true })
  expect(await stateOf(await openStore())).toEqual(before)
})

test('a journal that cannot be emptied after its snapshot is harmless', async () => {
  const store = await openStore()
  await spend(store, '1')
  vi.spyOn(await handles(), 'truncate').mockRejectedValueOnce(full())
  const before = await stateOf(store)
  await store.close()
  expect(existsSync(`${fileIn()}.lock`)).toBe(false)
  expect(await stateOf(await openStore())).toEqual(before)
})

test('a closing store waits for running writes', async () => {
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
    // Long enough for the close of a store that would not wait.
    await Promise.race([closing, delay(50)])
    return write.call(this, bytes, offset, length, position)
  })
  expect(await store.execute(admitOf({ id: '2' }))).toMatchObject({ ok: true })
  await closing
  const again = await openStore()
  expect(await again.execute(settleOf(admitOf({ id: '2' })))).toEqual({ applied: true })
})

test('a command acknowledged during the last snapshot is kept', async () => {
  const store = await openStore()
  await spend(store, '1')
  const late = admitOf({ id: '2' })
  let acknowledged: boolean | undefined
  vi.spyOn(await handles(), 'sync').mockImplementationOnce(async () => {
    acknowledged = await store.execute(late).then(
      () => true,
      () => false,
    )
  })
  await store.close()
  const again = await openStore()
  expect(await again.execute(settleOf(late))).toEqual({ applied: acknowledged })
})

test('a command acknowledged around the close of the store is kept', async () => {
  for (let round = 0; round < 10; round += 1) {
    const store = await openStore()
    const admits = Array.from({ length: 30 }, (_, n) => admitOf({ id: `${round}-${n}` }))
    const answers = await Promise.allSettled(
      admits.map(async (admit, n) => {
        for (let tick = 0; tick < n; tick += 1) await new Promise(setImmediate)
        if (n === 5) void store.close()
        return store.execute(admit)
      }),
    )
    await store.close()
    const again = await openStore()
    for (const [n, { status }] of answers.entries()) {
      if (status === 'rejected') continue
      expect(await again.execute(settleOf(admits[n] as Admit))).toEqual({ applied: true })
    }
    await again.close()
  }
})
