/** What admins and users see of audio, and the limits of it that admins set. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { FORM_TYPE, formOf } from '../support/form.ts'
import { localApp, type LocalApp } from '../support/local-app.ts'
import { samples, wavOf } from '../support/wav.ts'

const WHISPER = 'whisper-large-v3'
const ORPHEUS = 'canopylabs/orpheus-v1-english'
const TOKEN = 'token-of-a-user'
let app: LocalApp

beforeAll(async () => {
  app = await localApp()
})
afterAll(() => app.close())

/** The provider of the app reports no length, so the reservation is charged. */
const upload = (seconds: number, token = TOKEN) =>
  app.send('/api/groq/openai/v1/audio/transcriptions', {
    method: 'POST',
    headers: { authorization: `Bearer ${token}`, 'content-type': FORM_TYPE },
    body: formOf([
      { name: 'file', filename: 'a.wav', value: wavOf(samples(seconds * 32_000)) },
      { name: 'model', value: WHISPER },
    ]),
  })

const speak = (input: string, token = TOKEN) =>
  app.send('/api/groq/openai/v1/audio/speech', {
    method: 'POST',
    headers: { authorization: `Bearer ${token}` },
    body: JSON.stringify({ model: ORPHEUS, input }),
  })

const idOf = async (token: string) =>
  (await app.send('/api/usage', { headers: { authorization: `Bearer ${token}` } }))
    .json as unknown as {
    userId: string
    limits: { model: string; unit: string; window: string; limit: number; used: number }[]
  }

test('plans, own limits and boosts have seconds and characters, in every window', async () => {
  const rows = {
    '*': { audioSecondsPerDay: 30, charactersPerMonth: 100, audioSecondsPerMinute: 600 },
  }
  expect((await app.admin('PUT', 'plans/default', { limits: rows })).json).toMatchObject({
    limits: rows,
  })
  expect((await upload(21)).status).toBe(200)
  expect((await upload(10)).json.error).toMatchObject({ code: 'insufficient_quota' })
  expect((await speak('x'.repeat(101))).json.error.message).toContain('Send less text.')
  // A user without audio left may still chat.
  expect((await app.ask(TOKEN)).status).toBe(200)
  const { userId, limits } = await idOf(TOKEN)
  expect(limits).toContainEqual(
    expect.objectContaining({
      ...{ model: WHISPER, unit: 'audioSeconds', window: 'day', limit: 30, used: 21, remaining: 9 },
    }),
  )
  const until = app.clock.now + 60_000
  const boost = { limits: { '*': { audioSecondsPerDay: 5 } }, until }
  await app.admin('PATCH', `users/${userId}`, { boost })
  // Refusals are remembered for two seconds.
  app.clock.now += 3000
  expect((await upload(10)).status).toBe(200)
  await app.admin('PATCH', `users/${userId}`, {
    limits: { [WHISPER]: { audioSecondsPerDay: null } },
  })
  expect((await upload(40)).status).toBe(200)
  const wrong = await app.admin('PUT', 'plans/pro', {
    limits: { '*': { audioSecondsPerDay: 1.5 } },
  })
  expect(wrong).toMatchObject({
    status: 400,
    json: { error: { param: 'limits.*.audioSecondsPerDay' } },
  })
})

test('use, exports and invoices have seconds and characters, with what they cost', async () => {
  const token = 'token-of-another-user'
  await app.admin('DELETE', 'plans/default')
  await upload(90, token)
  await speak('Hello', token)
  const { userId } = await idOf(token)
  const users = (await app.admin('GET', 'usage')).json as unknown as {
    users: { userId: string; models: { model: string }[] }[]
  }
  const mine = users.users.find((user) => user.userId === userId)?.models
  expect(mine).toEqual(
    expect.arrayContaining([
      expect.objectContaining({ model: WHISPER, audioSecondsDay: 90, tokensUsedDay: 0 }),
      expect.objectContaining({ model: ORPHEUS, charactersDay: 5, costUsd: 0.00011 }),
    ]),
  )
  const lines = async (query: string) =>
    (await app.admin('GET', `export?format=ndjson&${query}`)).text
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>)
  const invoice = (await lines('kind=users&group=model')).filter((line) => line.userId === userId)
  expect(invoice).toEqual([
    expect.objectContaining({
      ...{ model: ORPHEUS, characters: 5, charactersPrice: 22, costUsd: '0.00011', requests: 1 },
    }),
    expect.objectContaining({
      ...{ model: WHISPER, audioSeconds: 90, audioHourPrice: 0.111, costUsd: '0.002775' },
    }),
  ])
  const [day] = await lines('kind=days')
  expect(day).toMatchObject({
    models: { [WHISPER]: { audioSeconds: 161 }, [ORPHEUS]: { characters: 5 } },
  })
  const events = await lines('kind=events')
  expect(events).toContainEqual(
    expect.objectContaining({ user: userId, audioMs: 90_000, reservedAudioMs: 90_000, charged: 0 }),
  )
  const csv = (await app.admin('GET', 'export?kind=days&format=csv')).text
  expect(csv.split('\r\n')[0]).toContain('audioSeconds,characters,costUsd')
})

test('a request without audio leaves no trace of audio in the documents', async () => {
  await app.ask('token-of-a-third-user')
  const { userId } = await idOf('token-of-a-third-user')
  expect(JSON.stringify(await app.store.user(userId))).not.toMatch(/audio|characters/)
})
