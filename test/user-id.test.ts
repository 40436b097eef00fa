import { createHmac } from 'node:crypto'
import { expect, test } from 'vitest'
import { createIds } from '../src/usage/user-id.ts'

test('an id is the same every time, with more users than are remembered', async () => {
  const ids = createIds('a secret')
  const tokens = Array.from({ length: 2500 }, (_, n) => `token-of-user-${n}`)
  const expected = tokens.map((token) =>
    createHmac('sha256', 'a secret').update(token).digest().subarray(0, 16).toString('base64url'),
  )
  const all = () => Promise.all(tokens.map((token) => ids.user(token)))
  expect(await all()).toEqual(expected)
  expect((await all()).reverse()).toEqual(expected.reverse())
})

test('secrets do not share what they remember', async () => {
  const [one, other] = [createIds('one secret'), createIds('another secret')]
  expect(await one.user('a-token')).not.toBe(await other.user('a-token'))
})
