/** The places for calls of upstream. */
import { expect, test } from 'vitest'
import { ApiError } from '../../src/errors.ts'
import { createCalls } from '../../src/gateway/calls.ts'
import { createPlaces } from '../../src/gateway/places.ts'

test('a user has so many places, and all together so many', () => {
  const { take } = createPlaces({ perUser: 2, total: 3 })
  const leave = take('one') as () => void
  expect(typeof take('one')).toBe('function')
  expect(take('one')).toBe('user')
  expect(typeof take('two')).toBe('function')
  expect(take('two')).toBe('everyone')
  leave()
  // Leaving again leaves no place of another.
  leave()
  expect(typeof take('two')).toBe('function')
  expect(take('three')).toBe('everyone')
})

test.each([
  [
    'a user',
    { perUser: 1, total: 9 },
    'one',
    /You have 1 calls in progress, the most for one user/,
  ],
  ['everyone', { perUser: 9, total: 1 }, 'two', /All users together have 1 calls/],
])('a call beyond those of %s is refused for a second', (_, limits, user, message) => {
  const calls = createCalls(limits)
  const end = calls('one')
  let error: unknown
  try {
    calls(user)
  } catch (thrown) {
    error = thrown
  }
  expect(error).toBeInstanceOf(ApiError)
  expect(error).toMatchObject({ status: 429, headers: { 'retry-after': '1' } })
  expect((error as ApiError).message).toMatch(message)
  end()
  expect(calls(user)).toBeTypeOf('function')
})
