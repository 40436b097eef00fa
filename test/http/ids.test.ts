import { createHash, createHmac } from 'node:crypto'
import { expect, test, vi } from 'vitest'
import { createIds } from '../../src/identity/ids.ts'

test('an id is always the same, also with more users than are remembered', async () => {
  const ids = createIds('a secret')
  const tokens = Array.from({ length: 2500 }, (_, n) => `token-of-user-${n}`)
  const expected = tokens.map((token) =>
    createHmac('sha256', 'a secret').update(token).digest().subarray(0, 16).toString('base64url'),
  )
  const all = () => Promise.all(tokens.map((token) => ids.user(token)))
  expect(await all()).toEqual(expected)
  expect((await all()).reverse()).toEqual(expected.reverse())
})

test('secrets do not share remembered ids', async () => {
  const [one, other] = [createIds('one secret'), createIds('another secret')]
  expect(await one.user('a-token')).not.toBe(await other.user('a-token'))
})

test('without a secret an id is half a SHA-256, in characters that a URL takes', async () => {
  const ids = createIds(undefined)
  for (let n = 0; n < 32; n += 1) {
    const half = createHash('sha256').update(`token-${n}`).digest().subarray(0, 16)
    expect(await ids.user(`token-${n}`)).toBe(half.toString('base64url'))
  }
})

test('a session is identified by the first 512 characters of its name, and is not a user', async () => {
  const ids = createIds('a secret')
  const hash = createHmac('sha256', 'a secret').update('session one').digest('base64url')
  expect(await ids.session('one')).toBe(hash.slice(0, 11))
  expect(await ids.session('one')).not.toBe((await ids.user('one')).slice(0, 11))
  const long = 'x'.repeat(511)
  expect(await ids.session(`${long}ab`)).toBe(await ids.session(`${long}ac`))
  expect(await ids.session(`${long}a`)).not.toBe(await ids.session(`${long}b`))
})

test('the last thousand users are not hashed again', async () => {
  const sign = vi.spyOn(crypto.subtle, 'sign')
  const importKey = vi.spyOn(crypto.subtle, 'importKey')
  const ids = createIds('a secret')
  for (let n = 0; n < 1000; n += 1) await ids.user(`${n}`)
  await ids.user('0')
  expect(sign).toHaveBeenCalledTimes(1000)
  await ids.user('another')
  await ids.user('1')
  expect(sign).toHaveBeenCalledTimes(1001)
  await ids.user('0')
  expect(sign).toHaveBeenCalledTimes(1002)
  expect(importKey).toHaveBeenCalledTimes(1)
  vi.restoreAllMocks()
})
