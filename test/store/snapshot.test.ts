/** Snapshots in pieces: nothing of them is ever in one string, so that their size is not limited. */
import { existsSync, readFileSync, readdirSync, statSync } from 'node:fs'
import { mkdir, readFile, rm, symlink, truncate, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { expect, test, vi } from 'vitest'
import { PIECE } from '../../src/store/local/private-file.ts'
import { readSnapshot, writeSnapshot } from '../../src/store/local/snapshot.ts'
import { admitOf, NOON } from '../support/commands.ts'
import { spend, stateOf, useLocalFiles } from '../support/local-files.ts'

const files = useLocalFiles()
const { crash, fileIn, handles, journalOf, linesOf, openStore, refusal, warnings, writeLines } =
  files

const itemOf = (n: number) => ({ id: `user-${n}`, text: 'x'.repeat(n % 700) })
const STATE = { usage: Array.from({ length: 20_000 }, (_, n) => itemOf(n)), past: [], events: [{}] }

async function readBack(path: string) {
  const lists: Record<string, unknown[]> = {}
  let head: unknown
  const item = (list: string, one: unknown) => (lists[list] ??= []).push(one)
  await readSnapshot(path, { head: (found) => (head = found), item })
  return { head, lists }
}

test('a large snapshot is written in small pieces, and other work runs between them', async () => {
  const path = join(files.folder, 'snapshot')
  const prototype = (await handles()) as unknown as { writeFile(data: string): Promise<void> }
  const pieces = vi.spyOn(prototype, 'writeFile')
  let turns = 0
  let writing = true
  const count = () => {
    turns += 1
    if (writing) setImmediate(count)
  }
  setImmediate(count)
  const size = await writeSnapshot(path, { seq: 7 }, STATE)
  writing = false
  const lengths = pieces.mock.calls.map(([piece]) => piece.length)
  expect(size).toBe(lengths.reduce((sum, length) => sum + length, 0))
  expect(size).toBeGreaterThan(100 * PIECE)
  expect(Math.max(...lengths)).toBeLessThan(PIECE + 1000)
  expect(turns).toBeGreaterThan(100)
})

test('a large snapshot is read item by item', async () => {
  const path = join(files.folder, 'snapshot')
  await writeSnapshot(path, { seq: 7 }, STATE)
  const parse = vi.spyOn(JSON, 'parse')
  const { head, lists } = await readBack(path)
  const longest = Math.max(...parse.mock.calls.map(([text]) => text.length))
  vi.restoreAllMocks()
  expect(longest).toBeLessThan(1000)
  expect(head).toMatchObject({ seq: 7 })
  expect(lists).toEqual({ usage: STATE.usage, events: STATE.events })
})

test('a snapshot is one JSON document, and is read in another layout too, as earlier builds wrote it', async () => {
  const store = await openStore()
  for (const id of ['1', '2', '3']) await spend(store, id, { user: `user-${id}` })
  await store.execute({ op: 'block', now: NOON, user: 'bob', model: '*', block: { at: NOON } })
  const before = await stateOf(store)
  await store.close()
  const whole = JSON.parse(readFileSync(fileIn(), 'utf8')) as object
  for (const text of [JSON.stringify(whole), `${JSON.stringify(whole, null, 2)}\n`]) {
    await writeFile(fileIn(), text)
    const again = await openStore()
    expect(await stateOf(again)).toEqual(before)
    await again.close()
    expect(JSON.parse(readFileSync(fileIn(), 'utf8'))).toEqual(whole)
  }
})

test('a snapshot that was cut off at any byte, or continues after its end, is refused', async () => {
  const store = await openStore()
  await spend(store, '1')
  await store.close()
  const text = readFileSync(fileIn(), 'utf8')
  for (let size = 1; size < text.length; size += size < text.length - 9 ? 7 : 1) {
    await truncate(fileIn(), size)
    await expect(readBack(fileIn())).rejects.toThrow()
    await writeFile(fileIn(), text)
  }
  for (const more of ['\n', '{}\n', '],"events":[\n]}}\n']) {
    await writeFile(fileIn(), text + more)
    await expect(readBack(fileIn())).rejects.toThrow()
  }
  expect((await refusal()).message).toContain('is not a usage file of Weir')
})

test('a damaged line is set aside once, however often the process is killed afterwards', async () => {
  const store = await openStore()
  for (const id of ['1', '2']) await spend(store, id)
  const before = await stateOf(store)
  let place = await crash()
  await writeLines(place, ['damaged', ...linesOf(place)])
  for (let start = 0; start < 3; start += 1) {
    expect(await stateOf(await openStore({ place }))).toEqual(before)
    place = await crash(place)
  }
  expect(warnings.map(({ event }) => event)).toEqual(['journal.damaged'])
  expect(await readFile(`${fileIn(place)}.damaged`, 'utf8')).toBe('damaged\n')
})

/** Names that earlier builds used, or that this one uses, where someone else may write. */
const PLANTED = ['.tmp', '.journal', '.lock', '.lock.next', '.damaged']

test.each(PLANTED)('a link that is planted at %s is not written through', async (suffix) => {
  const victim = join(files.folder, 'victim')
  await writeFile(victim, 'precious\n')
  await mkdir(dirname(fileIn()))
  await symlink(victim, `${fileIn()}${suffix}`)
  if (suffix === '.damaged') await writeLines(files.folder, ['damaged'])
  // The lock says nothing about its owner, so it would be waited for.
  if (suffix === '.lock') await rm(victim)
  const opened = await openStore().catch((error: unknown) => String(error))
  if (typeof opened !== 'string') {
    await spend(opened, '1')
    await opened.close()
  } else expect(opened).toMatch(/cannot use .* \(ELOOP\)/)
  expect(existsSync(victim) && readFileSync(victim, 'utf8')).toBe(
    suffix !== '.lock' && 'precious\n',
  )
})

test('only the owner may read any of the files, whatever the umask allows', async () => {
  const umask = process.umask(0)
  try {
    await mkdir(dirname(fileIn()), { recursive: true })
    await writeLines(files.folder, ['damaged'])
    const store = await openStore()
    await store.execute(admitOf({ id: '1' }))
    const modes = () =>
      readdirSync(dirname(fileIn())).map((name) => {
        const mode = statSync(join(dirname(fileIn()), name)).mode & 0o777
        return `${name} ${mode.toString(8)}`
      })
    const name = 'token_usage.json'
    const open = [`${name}.damaged 600`, `${name}.journal 600`, `${name}.lock 600`]
    expect(modes()).toEqual(open)
    await store.close()
    expect(modes()).toEqual([`${name} 600`, `${name}.damaged 600`, `${name}.journal 600`])
    expect(statSync(journalOf()).size).toBe(0)
  } finally {
    process.umask(umask)
  }
})
