import { afterEach, beforeEach, expect, test } from 'vitest'
import { createIds } from '../../src/identity/ids.ts'
import { createIssuedKeys } from '../../src/identity/issued-key.ts'
import { HOUR_MS, MINUTE_MS, NO_END } from '../../src/ledger/windows.ts'
import { MODEL, SECRET, localApp, type LocalApp } from '../support/local-app.ts'
import { turnsWhile } from '../support/turns.ts'

const ids = createIds(SECRET)

let app: LocalApp
let other: LocalApp
beforeEach(async () => {
  ;[app, other] = await Promise.all([localApp(), localApp()])
})
afterEach(() => Promise.all([app.close(), other.close()]))

/** Everything that an admin can decide. Returns a key of a user. */
async function decide(): Promise<string> {
  const until = app.clock.now + HOUR_MS
  await app.admin('PUT', 'plans/pro', {
    ...{ limits: { '*': { tokensPerDay: 5 } }, models: [], maxCompletionTokens: 9 },
  })
  await app.admin('PUT', 'plans/default', { limits: {} })
  await app.admin('PUT', 'settings', {
    ...{ globalLimits: { total: { tokensPerDay: 7 } }, defaultPlan: 'pro' },
  })
  const sent = { user: 'alice', name: 'Laptop', models: ['a/*'], expires_at: until }
  const { json: key } = await app.admin('POST', 'keys', sent)
  const { json: off } = await app.admin('POST', 'keys', { user: 'alice' })
  await app.admin('PATCH', `keys/${off.id}`, { disabled: true })
  const path = `users/${key.userId}`
  await app.admin('PATCH', path, {
    ...{ label: 'Ann', note: 'Note', plan: 'pro', models: [MODEL], notBefore: 5 },
    limits: { '*': { tokensPerDay: null, requestsPerDay: 3 } },
    boost: { limits: { total: { tokensPerDay: 1 } }, until },
  })
  const block = { model: MODEL, blocked: true, reason: 'No', until }
  await app.admin('POST', 'usage', { userId: key.userId, ...block })
  await app.admin('POST', 'usage', { userId: 'B'.repeat(22), model: '*', blocked: true })
  return (await app.admin('POST', `keys/${key.id}/rotate`, { grace_seconds: 60 })).json.key
}

const saved = async (from: LocalApp) => (await from.admin('GET', 'policy')).text
const restore = (lines: string) => other.admin('POST', 'policy', lines)
const linesOf = (text: string) =>
  text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>)

test('what an admin decided is saved, and brought back to another gateway as it was', async () => {
  const key = await decide()
  const { headers, text } = await app.admin('GET', 'policy')
  expect(headers.get('content-type')).toBe('application/x-ndjson')
  expect(headers.get('content-disposition')).toContain('weir-policy-2026-11-25.ndjson')
  expect(headers.get('cache-control')).toBe('no-store')
  expect(text).not.toContain(key)
  expect(linesOf(text).map(({ kind }) => kind)).toEqual([
    ...['plan', 'plan', 'settings', 'user', 'user'],
  ])

  const { status, json } = await restore(text)
  expect([status, json]).toEqual([200, { success: true, plans: 2, users: 2 }])
  expect(linesOf(await saved(other))).toEqual(linesOf(text))
  for (const path of ['plans', 'settings', 'keys', 'users?user=alice']) {
    const [one, two] = await Promise.all([app, other].map((one) => one.admin('GET', path)))
    expect(two?.json, path).toEqual(one?.json)
  }
  const read = await createIssuedKeys(SECRET).read(key)
  const { keys } = (await other.store.user(await ids.ofUser('alice')))?.profile ?? {}
  expect(Object.values(keys ?? {}).map(({ hash }) => hash)).toContain(read?.hash)
})

test('what is brought back twice changes nothing the second time', async () => {
  await decide()
  const text = await saved(app)
  await restore(text)
  const before = await other.store.audit(1000)
  expect((await restore(text)).json).toEqual({ success: true, plans: 2, users: 2 })
  expect(await other.store.audit(1000)).toEqual(before)
})

test('a user is as the line says, and what no line names stays', async () => {
  await decide()
  const userId = await ids.ofUser('alice')
  const [own] = (await other.admin('GET', 'keys')).json.keys
  expect(own).toBeUndefined()
  const { json: mine } = await other.admin('POST', 'keys', { user: 'alice', label: 'Other' })
  await other.admin('PATCH', `users/${userId}`, { limits: { 'a/b': { tokensPerDay: 1 } } })
  await other.admin('PUT', 'plans/mine', { limits: {} })
  await restore(await saved(app))
  const { label, limits, keys } = (await other.admin('GET', `users/${userId}`)).json
  expect([label, limits]).toEqual(['Ann', { '*': { tokensPerDay: null, requestsPerDay: 3 } }])
  expect(keys.map(({ id }) => id)).toContain(mine.id)
  expect((await other.admin('GET', 'plans/mine')).status).toBe(200)
})

test('a key that was changed since is as it was saved', async () => {
  await decide()
  const text = await saved(app)
  await restore(text)
  const { keys } = (await other.admin('GET', 'users?user=alice')).json
  for (const { id } of keys) await other.admin('POST', `keys/${id}/rotate`)
  await restore(text)
  expect((await other.admin('GET', 'users?user=alice')).json.keys).toEqual(keys)
})

test('an end in the past is brought back, and a block that has ended is not', async () => {
  await decide()
  const text = await saved(app)
  other.clock.now += 2 * HOUR_MS
  expect((await restore(text)).status).toBe(200)
  const { boost, blocks, keys } = (await other.admin('GET', 'users?user=alice')).json
  expect([boost, blocks]).toEqual([null, []])
  expect(keys.map(({ expiresAt }) => expiresAt)).toContain(app.clock.now + HOUR_MS)
})

test('saving is in the audit trail', async () => {
  await saved(app)
  expect(await app.store.audit(1)).toMatchObject([{ action: 'export', ip: '192.0.2.1' }])
})

test('a thousand users are saved in pages and brought back', async () => {
  const rows = Array.from({ length: 1000 }, (_, n) => `user-${n},Label ${n}`).join('\n')
  const headers = { authorization: 'Bearer admin-key-of-the-tests' }
  const file = { method: 'POST', headers, body: `user,label\n${rows}` }
  await app.send('/api/admin/users/import', file)
  const text = await saved(app)
  expect((await restore(text)).json).toEqual({ success: true, plans: 0, users: 1000 })
  expect(await saved(other)).toBe(text)
})

const PLAN = { v: 2, kind: 'plan', name: 'pro', limits: {} }
const SETTINGS = { v: 2, kind: 'settings' }
const USER = {
  ...{ v: 2, kind: 'user', userId: 'A'.repeat(22), limits: {}, blocks: [], keys: [] },
}
const KEY = {
  ...{ id: '12345678', hash: 'h'.repeat(43), start: 'weir_1abc', last4: 'wxyz' },
  createdAt: MINUTE_MS,
}

test.each<[string, unknown, string]>([
  ['no JSON', 'plan pro', 'invalid_json'],
  ['a list', [PLAN], 'invalid_json'],
  ['another kind', { ...PLAN, kind: 'budget' }, 'kind'],
  ['no kind', { v: 2 }, 'kind'],
  ['no version', { ...PLAN, v: undefined }, 'v'],
  ['a newer version', { ...PLAN, v: 99 }, 'newer version'],
  ['a plan with a capital', { ...PLAN, name: 'Pro' }, 'name'],
  ['a field that there is not', { ...PLAN, budget: 5 }, 'budget'],
  ['a limit that there is not', { ...PLAN, limits: { total: { x: 1 } } }, 'limits.total.x'],
  ['rows for all models of everyone', { ...SETTINGS, globalLimits: { '*': {} } }, 'globalLimits.*'],
  ['a user without an id', { ...USER, userId: 'alice' }, 'userId'],
  ['a key without a hash', { ...USER, keys: [{ ...KEY, hash: undefined }] }, 'keys.0.hash'],
  ['a key with a secret', { ...USER, keys: [{ ...KEY, key: 'weir_1' }] }, 'keys.0.key'],
  ['too many keys', { ...USER, keys: Array(21).fill(KEY) }, 'keys'],
  ['a block at no time', { ...USER, blocks: [{ model: '*' }] }, 'blocks.0.at'],
  ['the same plan twice', PLAN, 'two lines for the plan pro'],
])('lines with %s write nothing, and the line is named', async (_, line, told) => {
  const text = typeof line === 'string' ? line : JSON.stringify(line)
  const { status, json } = await restore(`${JSON.stringify(PLAN)}\n\n${text}\n`)
  expect(status).toBe(400)
  expect(JSON.stringify(json.error)).toContain(told)
  if (!told.startsWith('two')) expect(json.error.message).toContain('Line 3: ')
  expect((await other.admin('GET', 'plans')).json.plans).toHaveLength(1)
})

test('lines of more than 4 MB, or of bytes that are no text, are refused', async () => {
  expect((await restore('x'.repeat(4 * 1024 * 1024 + 1))).status).toBe(413)
  expect((await restore('\n')).json).toEqual({ success: true, plans: 0, users: 0 })
  const far = { ...USER, boost: { limits: {}, until: NO_END } }
  expect((await restore(JSON.stringify(far))).status).toBe(200)
})

test.each([
  [
    'short lines',
    Array.from({ length: 2000 }, (_, n) =>
      JSON.stringify({ ...USER, userId: `${n}`.padStart(22, '0') }),
    ),
  ],
  ['empty lines', Array<string>(5000).fill('')],
])('while many lines are checked, others get their turns: %s', async (_, lines) => {
  const sent = [...lines, 'wrong'].join('\n')
  let answer: Awaited<ReturnType<typeof restore>> | undefined
  const turns = await turnsWhile(async () => (answer = await restore(sent)))
  expect(answer?.json.error.message).toContain(`Line ${lines.length + 1}: `)
  const each = 16 * 1024
  expect(turns).toBeGreaterThanOrEqual(Math.floor((sent.length + 63 * lines.length) / each))
})
