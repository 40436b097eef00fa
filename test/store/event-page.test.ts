/** Pages of a list that grows and shrinks between them. */
import { expect, test } from 'vitest'
import { pageAfter, type GrowingList } from '../../src/store/event-page.ts'
import type { EventCursor } from '../../src/store/store.ts'
import { randomOf } from '../support/random.ts'

/** A list of names, the newest first. */
function listOf(names: string[], most = Infinity) {
  const calls = { count: 0 }
  const list: GrowingList<string> = {
    most,
    async read(skip, count) {
      calls.count += 1
      return names.slice(skip, skip + count).map((name) => name || undefined)
    },
    keyOf: (name) => name,
  }
  return { list, calls }
}

const numbered = (count: number, prefix = 'old') =>
  Array.from({ length: count }, (_, n) => `${prefix}-${n}`)

/** Reads all pages. `between` changes the list after each one. */
async function readAll(names: string[], limit: number, between = () => {}, most = Infinity) {
  const { list, calls } = listOf(names, most)
  const read: string[] = []
  let from: EventCursor | undefined
  do {
    const { items, next } = await pageAfter(list, limit, from)
    read.push(...items)
    from = next
    between()
  } while (from)
  return { read, calls: calls.count }
}

test('a list that does not change is read once, in as many calls as it has pages', async () => {
  expect(await readAll(numbered(10), 3)).toEqual({ read: numbered(10), calls: 5 })
  expect(await readAll([], 3)).toEqual({ read: [], calls: 1 })
  expect((await readAll(numbered(9), 3)).read).toEqual(numbered(9))
})

test.each([1, 2, 3, 4, 7, 50])(
  'with %i new items between two pages of 3, each item is read once',
  async (count) => {
    const names = numbered(20)
    let round = 0
    const grow = () => void names.unshift(...numbered(count, `new-${(round += 1)}`))
    expect((await readAll(names, 3, grow)).read).toEqual(numbered(20))
  },
)

test('items that are erased meanwhile move the others to the front, and none is left out', async () => {
  const names = numbered(20)
  const erase = () => void names.splice(0, 2)
  const { read } = await readAll(names, 3, erase)
  expect(read).toEqual(numbered(20).slice(0, read.length))
  expect(read.length).toBeGreaterThan(15)
})

test('a list that is cleared and begins again ends the pages', async () => {
  const names = numbered(20)
  const clear = () => void names.splice(0, names.length, ...numbered(20, 'new'))
  expect((await readAll(names, 3, clear)).read).toEqual(numbered(3))
})

test('items that cannot be read are left out, also more than a page of them', async () => {
  const names = numbered(20).flatMap((name, n) => (n % 8 === 3 ? ['', '', '', '', name] : [name]))
  for (const limit of [1, 2, 3, 5, 9]) {
    expect((await readAll([...names], limit)).read).toEqual(numbered(20))
    const growing = [...names]
    const { read } = await readAll(growing, limit, () => void growing.unshift('', `${limit}`))
    expect(read).toEqual(numbered(20))
  }
})

test('items beyond the most that count are not read', async () => {
  expect((await readAll(numbered(20), 3, () => {}, 7)).read).toEqual(numbered(7))
  expect((await readAll(numbered(20), 3, () => {}, 0)).read).toEqual([])
})

test('whatever is added, at random, each of the first items is read once and in order', async ({
  onTestFailed,
}) => {
  const seed = Date.now() % 2 ** 31
  onTestFailed(() => console.error(`seed ${seed}`))
  const random = randomOf(seed)
  for (let round = 0; round < 300; round += 1) {
    const names = numbered(random.int(0, 40))
    const before = [...names]
    let added = 0
    const grow = () => {
      for (let n = random.int(0, 15); n > 0; n -= 1) names.unshift(`new-${(added += 1)}`)
    }
    expect((await readAll(names, random.int(1, 9), grow)).read).toEqual(before)
  }
})
