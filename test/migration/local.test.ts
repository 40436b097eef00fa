/** The old system's file without a database: it becomes a file of the local store. */
import { existsSync } from 'node:fs'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { importOld } from '../../src/migration/import-old.ts'
import { openLocal } from '../../src/store/local/store.ts'
import { StoreError } from '../../src/store/store.ts'
import { DAY_MS, dateOf } from '../../src/ledger/windows.ts'
import { createIds } from '../../src/identity/ids.ts'
import { admitOf, NOON, settleOf } from '../support/commands.ts'
import { lineOf, linesOf, oldRequests, totalsOf } from '../support/old-file.ts'
import { RETENTION } from '../support/stores.ts'

let folder: string
let file: string

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'weir-import-'))
  file = join(folder, 'usage.json')
})

afterEach(() => rm(folder, { recursive: true, force: true }))

const options = () => ({
  file,
  retention: RETENTION,
  userHashSecret: undefined,
  now: () => NOON,
})

const open = () => openLocal({ ...options(), warn: () => undefined, tolerance: Infinity })

test('its contents are counted like usage of Weir, and usage continues', async () => {
  const requests = [...oldRequests(100)]
  await writeFile(file, JSON.stringify(requests.flat()))
  const records = requests.flat().length
  expect(await importOld(options())).toEqual({ records, leftOut: 0, damaged: 0, positions: [] })
  expect((await readdir(folder)).sort()).toEqual(['usage.json', 'usage.json.migrated'])
  const store = await open()
  const dates = Array.from({ length: 91 }, (_, ago) => dateOf(NOON - ago * DAY_MS))
  const days = await store.days(dates)
  const totals = days.map(({ date, total: { requests, charged } }) => [date, { requests, charged }])
  expect(Object.fromEntries(totals)).toEqual(totalsOf(requests))
  const admit = admitOf({ id: 'next', user: await createIds(undefined).user('token-of-user-1') })
  await store.execute(admit)
  expect(await store.execute(settleOf(admit))).toEqual({ applied: true })
  expect(await store.events(1000)).toHaveLength(101)
  await store.close()
  const again = await open()
  expect(await again.events(1000)).toHaveLength(101)
  await again.close()
})

test('there is nothing to do without a file, or with a file of Weir', async () => {
  expect(await importOld(options())).toBeUndefined()
  const store = await open()
  await store.execute(admitOf({ id: '1' }))
  await store.close()
  const before = await readFile(file)
  expect(await importOld(options())).toBeUndefined()
  expect(await readFile(file)).toEqual(before)
})

test('a file that is not an array is left to the store, which refuses it', async () => {
  for (const text of ['', 'null', '{"a":1}', 'garbage']) {
    await writeFile(file, text)
    expect(await importOld(options())).toBeUndefined()
    await expect(open()).rejects.toThrow(StoreError)
  }
})

test.each(['[]', '  [ ]\n', '\uFEFF[]', '['])('the array %j is an empty file', async (text) => {
  await writeFile(file, text)
  expect(await importOld(options())).toMatchObject({ records: 0, damaged: 0 })
  const store = await open()
  expect(await store.events(10)).toEqual([])
  await store.close()
})

test('damaged records are set aside and reported', async () => {
  await writeFile(file, `[${JSON.stringify(lineOf())}, nonsense`)
  expect(await importOld(options())).toMatchObject({ records: 1, damaged: 1, positions: [2] })
  expect(await readFile(`${file}.damaged`, 'utf8')).toBe('nonsense\n')
})

test('files that are in use are not changed', async () => {
  const store = await open()
  const old = JSON.stringify(linesOf(0))
  await writeFile(file, old)
  await expect(importOld(options())).rejects.toThrow('already uses these files')
  expect(await readFile(file, 'utf8')).toBe(old)
  await store.close()
})

test('a file that is partly imported into a database is refused, because it would count twice', async () => {
  await writeFile(file, JSON.stringify(linesOf(0)))
  await writeFile(`${file}.migrating`, '{}')
  await expect(importOld(options())).rejects.toThrow(StoreError)
  await expect(importOld(options())).rejects.toThrow('partly migrated to a database')
})

test('an old file that has changed since a crash is read again', async () => {
  await writeFile(file, JSON.stringify(linesOf(0)))
  await importOld(options())
  await writeFile(`${file}.imported`, await readFile(file))
  await writeFile(file, JSON.stringify([linesOf(0), linesOf(1, { timestamp: NOON - 1 })].flat()))
  expect(await importOld(options())).toMatchObject({ records: 6 })
  expect(existsSync(`${file}.imported`)).toBe(false)
})
