import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { createIds } from '../../src/identity/ids.ts'
import { KEY_ID, createIssuedKeys, isIssuedKey } from '../../src/identity/issued-key.ts'

const keys = createIssuedKeys('a secret')
const USER = await createIds('a secret').ofUser('alice')

test('a key says whose it is, and which one', async () => {
  const { key, id, secret } = await keys.make(USER)
  const hash = createHash('sha256').update(key).digest('base64url')
  expect(await keys.read(key)).toEqual({ userId: USER, id, hash })
  expect(secret).toEqual({ hash, start: key.slice(0, 9), last4: key.slice(-4) })
  expect(`${USER}.${id}`).toMatch(KEY_ID)
})

test('any id of a user is in its key, and no two keys are the same', async () => {
  const made = new Set<string>()
  await fc.assert(
    fc.asyncProperty(fc.stringMatching(/^[\w-]{22}$/), async (user) => {
      const { key } = await keys.make(user)
      expect(await createIssuedKeys('a secret').read(key)).toMatchObject({ userId: user })
      expect(made.has(key)).toBe(false)
      made.add(key)
    }),
  )
})

test('a new secret of a key has the same id, and is another key', async () => {
  const first = await keys.make(USER)
  const second = await keys.make(USER, first.id)
  expect(second.id).toBe(first.id)
  expect(second.key).not.toBe(first.key)
  expect(second.secret.hash).not.toBe(first.secret.hash)
})

test('a key with any one character changed, added or left off is no key', async () => {
  const { key } = await keys.make(USER)
  for (let at = 0; at < key.length; at += 1) {
    const other = key[at] === 'x' ? 'y' : 'x'
    expect(await keys.read(key.slice(0, at) + other + key.slice(at + 1)), `${at}`).toBeUndefined()
    expect(await keys.read(key.slice(0, at) + key.slice(at + 1)), `${at}`).toBeUndefined()
  }
  for (const text of [`${key}x`, ` ${key}`, `${key}\n`, key.toUpperCase(), 'weir_', '']) {
    expect(await keys.read(text)).toBeUndefined()
  }
  expect(['weir_', key, `${key}x`, 'weir-1', 'a-token'].map(isIssuedKey)).toEqual([
    ...[true, true, true, false, false],
  ])
})

test('the key of another deployment is no key here', async () => {
  const { key } = await createIssuedKeys('another secret').make(USER)
  expect(await keys.read(key)).toBeUndefined()
})

test('a key that differs from a remembered one only at its end is not taken for it', async () => {
  const { key } = await keys.make(USER)
  await keys.read(key)
  const twin = (await keys.make(USER)).key
  expect(await keys.read(key.slice(0, 40) + twin.slice(40))).toBeUndefined()
})

test('no token has the id of a user with the same text as its name', async () => {
  const ids = createIds('a secret')
  expect(await ids.ofUser('alice')).not.toBe(await ids.user('alice'))
  expect(await ids.ofUser('alice')).not.toBe(await ids.user('user alice'))
  expect(await ids.ofUser('alice')).toMatch(/^[\w-]{22}$/)
})

test('the rule in docs/gitleaks.toml finds every key, and neither more nor less of it', async () => {
  const file = readFileSync('docs/gitleaks.toml', 'utf8')
  const [, pattern = ''] = /^regex = '''(.+)'''$/m.exec(file) ?? []
  const rule = new RegExp(pattern, 'g')
  for (let n = 0; n < 50; n += 1) {
    const { key } = await keys.make(USER)
    for (const line of [`WEIR_KEY=${key}`, `{"apiKey":"${key}"}`, key, `Bearer ${key}\n`]) {
      expect([...line.matchAll(rule)].map(([found]) => found)).toEqual([key])
    }
  }
  for (const text of ['weir_session=abc', 'weir_1short', `weir_2${'a'.repeat(61)}`]) {
    expect(text).not.toMatch(new RegExp(pattern))
  }
})
