import { expect, test } from 'vitest'
import { ApiError } from '../../src/errors.ts'
import { createUploads } from '../../src/http/uploads.ts'

function world(places: number) {
  const clock = { now: 0 }
  const open = createUploads(places, () => clock.now)
  const gone: string[] = []
  const start = (name: string) => {
    const share = open(() => {
      gone.push(name)
      share.release()
    })
    return share
  }
  return { clock, start, gone }
}

test('there are so many places, and one that is left is taken again', () => {
  const { start } = world(2)
  const first = start('a')
  start('b').arrived()
  expect(() => start('c')).toThrow(ApiError)
  first.release()
  first.release()
  start('c')
  expect(() => start('d')).toThrow('This server is taking in 2 uploads')
})

test('an upload that arrives slowly gives way to one that finds no place, and one that has arrived does not', () => {
  const { start, clock, gone } = world(2)
  start('arrived').arrived()
  start('slow')
  clock.now = 29_999
  expect(() => start('new')).toThrow(ApiError)
  clock.now = 30_000
  start('new')
  expect(gone).toEqual(['slow'])
  expect(() => start('another')).toThrow(ApiError)
})
