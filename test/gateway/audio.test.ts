/** Audio through the gateway: what goes up, what comes back, what is charged, and what is refused. */
import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import type { Vars } from '../../src/config/config.ts'
import { eventOf, KINDS, type Gateway, type Kind } from '../support/gateways.ts'
import { BOUNDARY, FORM_TYPE, formOf, type Field } from '../support/form.ts'
import { DURATION, SPEECH, transcription } from '../support/upstream.ts'
import { samples, wavOf } from '../support/wav.ts'
import { useWorld } from '../support/world.ts'

const world = useWorld()

const WHISPER = 'whisper-large-v3-turbo'
const TOKEN = 'token-of-a-user'
const second = wavOf(samples(32_000))
const model: Field = { name: 'model', value: WHISPER }
const file = (filename = 'a.wav', value: Uint8Array = second): Field => ({
  name: 'file',
  filename,
  value,
})
const form = (value: string): Field => ({ name: 'response_format', value })

type Sent = { type?: string; token?: string; signal?: AbortSignal }

const post = (gateway: Gateway, path: string, body: BodyInit, { type, token, signal }: Sent = {}) =>
  fetch(`${gateway.url}/api/groq/openai/v1/audio/${path}`, {
    method: 'POST',
    headers: { authorization: `Bearer ${token ?? TOKEN}`, 'content-type': type ?? FORM_TYPE },
    body,
    ...(signal && { signal }),
  })

const upload = (gateway: Gateway, fields: Field[], sent?: Sent) =>
  post(gateway, 'transcriptions', formOf(fields), sent)

const speak = (gateway: Gateway, body: object, sent?: Sent) =>
  post(gateway, 'speech', JSON.stringify(body), { type: 'application/json', ...sent })

async function told(answer: Response) {
  const { error } = (await answer.json()) as {
    error: { code: string; message: string; param?: string }
  }
  return { status: answer.status, ...error }
}

const charged = async (answer: Response) => {
  await answer.arrayBuffer()
  return eventOf(world.store, answer.headers.get('x-weir-id'))
}

const on = (kind: Kind, vars?: Vars) => world.gateway(kind, vars)

describe.each(KINDS)('on %s', (kind) => {
  test('the length is asked for, and the client gets the form that it asked for', async () => {
    const gateway = await on(kind)
    for (const [asked, path] of [
      [undefined, 'transcriptions'],
      ['json', 'translations'],
      ['text', 'transcriptions'],
      ['verbose_json', 'translations'],
    ] as const) {
      const fields = [file(), model, ...(asked ? [form(asked)] : [])]
      const answer = await post(gateway, path, formOf(fields))
      const direct = transcription(asked ?? 'json', DURATION)
      const text = await answer.clone().text()
      if (asked === 'text') expect(text).toBe(direct.body)
      else expect(JSON.parse(text)).toEqual(JSON.parse(direct.body as string))
      expect(answer.headers.get('content-type')).toContain(asked === 'text' ? 'text/plain' : 'json')
      expect(answer.headers.get('x-request-id')).toMatch(/^req_/)
      const { outcome, audioMs, reservedAudioMs, route, charged: tokens } = await charged(answer)
      expect({ outcome, audioMs, reservedAudioMs, route, tokens }).toEqual({
        ...{ outcome: 'exact', audioMs: 36_710, reservedAudioMs: 10_000, tokens: 0 },
        route: `audio/${path}`,
      })
      const { body, headers } = world.upstream.seen.at(-1)!
      expect(headers['content-type']).toBe(FORM_TYPE)
      expect(headers.authorization).toBe('Bearer gsk_server_key')
      const wanted = fields.filter(({ name }) => name !== 'response_format')
      const full = asked === 'json' || asked === 'text' || !asked ? 'verbose_json' : asked
      expect(Buffer.from(body)).toEqual(Buffer.from(formOf([...wanted, form(full)])))
    }
  })

  test('speech is streamed as it comes, and charged by its characters', async () => {
    const gateway = await on(kind)
    const input = 'Grüße, 🎧!'
    const said = { model: 'canopylabs/orpheus-v1-english', input, voice: 'troy' }
    const answer = await speak(gateway, said)
    expect(Buffer.from(await answer.clone().arrayBuffer())).toEqual(SPEECH)
    expect(answer.headers.get('content-type')).toBe('audio/wav')
    const event = await charged(answer)
    // Of code points there are fewer.
    expect(event).toMatchObject({ outcome: 'exact', characters: input.length, charged: 0 })
    expect(event.cost).toBe(String(input.length * 22_000))
    expect(JSON.parse(Buffer.from(world.upstream.seen.at(-1)!.body).toString())).toEqual(said)
  })

  test('a short recording is charged ten seconds, and its cost is rounded up once', async () => {
    const gateway = await on(kind)
    world.upstream.on(WHISPER, transcription('verbose_json', 1.5))
    expect(await charged(await upload(gateway, [file(), model]))).toMatchObject({
      ...{ outcome: 'exact', audioMs: 10_000, cost: '111112', reservedCost: '111112' },
    })
  })

  test('what the provider refuses costs nothing, and comes back as it is', async () => {
    const gateway = await on(kind)
    const body = '{"error":{"message":"The model does not exist.","code":"model_not_found"}}\n'
    world.upstream.on(WHISPER, { status: 404, body })
    const answer = await upload(gateway, [file(), model])
    expect([answer.status, await answer.clone().text()]).toEqual([404, body])
    const event = await charged(answer)
    expect(event).toMatchObject({ outcome: 'failed', reservedAudioMs: 10_000 })
    expect(event.audioMs).toBeUndefined()
  })

  test('an upload beyond the limit of the day is told what it needs and what is left', async () => {
    const limits = { '*': { audioSecondsPerDay: 50, charactersPerDay: 10, tokensPerDay: 5 } }
    const gateway = await on(kind, { MODEL_LIMITS: JSON.stringify(limits) })
    const first = await upload(gateway, [file(), model])
    expect(first.headers.get('ratelimit')).toMatch(/^"audioSeconds-day";r=40;t=\d+$/)
    expect(first.headers.get('ratelimit-policy')).toBe(
      '"audioSeconds-day";q=50;qu="audio-seconds";w=86400',
    )
    await charged(first)
    const long = [file('a.mp3', new Uint8Array(40_000)), model]
    expect(await told(await upload(gateway, long))).toMatchObject({
      status: 429,
      code: 'insufficient_quota',
      message: expect.stringMatching(
        /^This request may need up to 20 audio seconds of whisper-large-v3-turbo, and 13 audio seconds of your 50 audio seconds a day are left\. They reset /,
      ),
    })
    expect(
      await told(await upload(gateway, [file('a.mp3', new Uint8Array(150_000)), model])),
    ).toMatchObject({
      status: 429,
      message: expect.stringContaining(
        'this is more than the whole limit. Send a shorter recording.',
      ),
    })
    const speech = { model: 'canopylabs/orpheus-v1-english', input: 'Eleven char' }
    expect(await told(await speak(gateway, speech))).toMatchObject({
      status: 429,
      message: expect.stringContaining('up to 11 characters of canopylabs/orpheus-v1-english'),
    })
  })

  test.each<[string, number, string, string | undefined, Field[]]>([
    ['no file', 400, 'invalid_request', 'file', [model]],
    ['two files', 400, 'invalid_request', 'file', [file(), file(), model]],
    ['a file without an extension', 400, 'invalid_request', 'file', [file('audio'), model]],
    [
      'a file without a name',
      400,
      'invalid_request',
      'file',
      [{ name: 'file', value: 'RIFF' }, model],
    ],
    ['an empty file', 400, 'invalid_request', 'file', [file('a.wav', new Uint8Array()), model]],
    ['no model', 400, 'invalid_request', 'model', [file()]],
    ['two models', 400, 'invalid_request', 'model', [file(), model, model]],
    [
      'a model that is a file',
      400,
      'invalid_request',
      'model',
      [file(), { ...model, filename: 'm' }],
    ],
    ['a misspelt model', 400, 'invalid_request', 'Model', [file(), { ...model, name: 'Model' }]],
    [
      'a name that is no model',
      400,
      'invalid_request',
      'model',
      [file(), { ...model, value: 'a b' }],
    ],
    [
      'two forms',
      400,
      'invalid_request',
      'response_format',
      [file(), model, form('json'), form('text')],
    ],
    [
      'an address',
      400,
      'cost_unbounded',
      'url',
      [{ name: 'url', value: 'https://a.example/a.mp3' }, model],
    ],
    [
      'an address beside a file',
      400,
      'cost_unbounded',
      'url',
      [file(), { name: 'url', value: '' }, model],
    ],
  ])('%s is %i %s', async (_, status, code, param, fields) => {
    const gateway = await on(kind)
    const error = await told(await upload(gateway, fields))
    expect(error).toMatchObject({ status, code, ...(param !== undefined && { param }) })
    expect(world.upstream.seen).toHaveLength(0)
  })

  test('a body that is too large, of another kind, or cut off is refused', async () => {
    const gateway = await on(kind, { MAX_AUDIO_BYTES: '40000' })
    const large = await upload(gateway, [file('a.wav', new Uint8Array(41_000)), model])
    expect(await told(large)).toMatchObject({ status: 413, code: 'body_too_large' })
    const json = JSON.stringify({ model: WHISPER, url: 'https://a.example/a.mp3' })
    const other = await post(gateway, 'transcriptions', json, { type: 'application/json' })
    expect(await told(other)).toMatchObject({ status: 415, code: 'unsupported_audio' })
    const whole = formOf([file(), model])
    for (const end of [0, 20, 200, 32_000, whole.length - 10]) {
      const cut = await post(gateway, 'transcriptions', whole.slice(0, end))
      expect(await told(cut)).toMatchObject({ status: 400, code: 'invalid_request' })
    }
    const get = await fetch(`${gateway.url}/api/groq/openai/v1/audio/transcriptions`)
    expect(get.status).toBe(405)
    const unknown = await post(gateway, 'voices', '{}', { type: 'application/json' })
    expect(unknown.status).toBe(404)
    expect(world.upstream.seen).toHaveLength(0)
  })

  test('a text to speak must be one', async () => {
    const gateway = await on(kind)
    for (const body of [{ model: 'm' }, { model: 'm', input: '' }, { model: 'm', input: ['a'] }]) {
      expect(await told(await speak(gateway, body))).toMatchObject({ status: 400, param: 'input' })
    }
    expect(await told(await speak(gateway, { input: 'a' }))).toMatchObject({ param: 'model' })
  })

  test('forms without a length, streams and AUDIO_METERING=estimate leave the bytes alone', async () => {
    const estimate = { AUDIO_METERING: 'estimate' }
    for (const [vars, fields] of [
      [{}, [file(), model, form('srt')]],
      [{}, [file(), model, { name: 'stream', value: 'true' }]],
      [estimate, [file(), model, form('json')]],
      [estimate, [model, file()]],
    ] as [Vars, Field[]][]) {
      const gateway = await on(kind, vars)
      const answer = await upload(gateway, fields)
      expect(answer.status).toBe(200)
      expect(await charged(answer)).toMatchObject({ outcome: 'estimated', audioMs: 10_000 })
      expect(Buffer.from(world.upstream.seen.at(-1)!.body)).toEqual(Buffer.from(formOf(fields)))
    }
  })

  test('with a strict cap only PCM is taken, by its content and whatever its header says', async () => {
    const gateway = await on(kind, { CAP: 'strict' })
    const minute = wavOf(samples(32_000 * 60), { said: 32_000 })
    const answer = await upload(gateway, [file('a.wav', minute), model])
    expect(await charged(answer)).toMatchObject({ outcome: 'exact', reservedAudioMs: 60_000 })
    for (const one of [
      file('a.mp3', second),
      file('a.wav', new Uint8Array(50_000)),
      file('a.wav', wavOf(samples(1000), { tag: 0x55 })),
      file('a.wav', wavOf(samples(1000), { bytesPerSecond: 1e6 })),
    ]) {
      expect(await told(await upload(gateway, [one, model]))).toMatchObject({
        ...{ status: 415, code: 'unsupported_audio', param: 'file' },
      })
    }
    const unknown = { name: 'audio_url', value: 'https://a.example/a.mp3' }
    expect(await told(await upload(gateway, [file(), model, unknown]))).toMatchObject({
      ...{ status: 400, code: 'cost_unbounded', param: 'audio_url' },
    })
  })

  test('an answer without a length, or cut off, is charged its reservation', async () => {
    const gateway = await on(kind)
    const long = file('a.mp3', new Uint8Array(60_000))
    for (const body of ['{"text":"no length"}', '{"text":1,"duration":"5"}', 'no json']) {
      world.upstream.on(WHISPER, { body })
      const answer = await upload(gateway, [long, model])
      const text = await answer.clone().text()
      if (body.includes('no length')) expect(JSON.parse(text)).toEqual(JSON.parse(body))
      else expect(text).toBe(body)
      expect(await charged(answer)).toMatchObject({ outcome: 'estimated', audioMs: 30_000 })
    }
    world.upstream.on(WHISPER, { body: '{"text":"a","usage":{"type":"duration","seconds":21}}' })
    expect(await charged(await upload(gateway, [long, model]))).toMatchObject({
      ...{ outcome: 'exact', audioMs: 21_000 },
    })
  })

  test('an answer that breaks off is 502 where its form was to be changed, and broken off elsewhere', async () => {
    const gateway = await on(kind)
    world.upstream.on(WHISPER, { ...transcription('verbose_json', 12), chunk: 20, cut: 40 })
    const broken = await upload(gateway, [file(), model])
    const id = broken.headers.get('x-weir-id')
    expect(await told(broken)).toMatchObject({ status: 502, code: 'upstream_unreachable' })
    expect(await eventOf(world.store, id)).toMatchObject({ outcome: 'estimated', audioMs: 10_000 })
    world.upstream.on(WHISPER, {
      ...transcription('verbose_json', 12),
      hold: Promise.resolve(),
      raw: 'x',
    })
    expect(await told(await upload(gateway, [file(), model]))).toMatchObject({ status: 502 })
  })

  test('pages of other origins may upload, and users need a token', async () => {
    const gateway = await on(kind)
    const asked = await fetch(`${gateway.url}/api/groq/openai/v1/audio/speech`, {
      method: 'OPTIONS',
      headers: { origin: 'https://app.example', 'access-control-request-method': 'POST' },
    })
    expect(asked.headers.get('access-control-allow-origin')).toBe('*')
    const nobody = await fetch(`${gateway.url}/api/groq/openai/v1/audio/transcriptions`, {
      ...{ method: 'POST', headers: { 'content-type': FORM_TYPE }, body: formOf([file(), model]) },
    })
    expect(nobody.status).toBe(401)
  })

  test('a limit in dollars counts audio, and a model without a price of audio is refused', async () => {
    const limits = { '*': { usdPerDay: 0.0002 } }
    const gateway = await on(kind, {
      MODEL_LIMITS: JSON.stringify(limits),
      MODEL_PRICES: '{"a/chat":{"input":1,"output":1},"my/whisper":{"audioHour":0.036}}',
    })
    world.upstream.on(WHISPER, transcription('verbose_json', 2))
    await charged(await upload(gateway, [file(), model]))
    expect(await told(await upload(gateway, [file(), model]))).toMatchObject({
      ...{ status: 429, code: 'insufficient_quota' },
      message: expect.stringContaining('$0.000112 of whisper-large-v3-turbo, and $0.000088'),
    })
    const chat = { name: 'model', value: 'a/chat' }
    expect(await told(await upload(gateway, [file(), chat]))).toMatchObject({
      ...{ status: 403, code: 'model_not_priced' },
    })
    world.upstream.on('my/whisper', transcription('verbose_json', 2))
    const own = await upload(gateway, [file(), { name: 'model', value: 'my/whisper' }])
    expect(await charged(own)).toMatchObject({ cost: '100000' })
  })
})

/** Files that ffmpeg made, and the seconds that its decoder makes of each. */
const FILES = new URL('../support/fixtures/audio/', import.meta.url)
const SECONDS = JSON.parse(readFileSync(new URL('durations.json', FILES), 'utf8')) as Record<
  string,
  number
>
const PCM = ['u8', 's16', 's24', 's32', 'float', 'stereo', 'long', 'piped'].map(
  (one) => `${one}.wav`,
)

test.each(Object.entries(SECONDS))(
  '%s is charged the %d seconds that it lasts, and at least ten',
  async (name, seconds) => {
    const audio = file(name, readFileSync(new URL(name, FILES)))
    world.upstream.on(WHISPER, transcription('verbose_json', seconds))
    const event = await charged(await upload(await on('node'), [audio, model]))
    expect(event).toMatchObject({ outcome: 'exact', audioMs: Math.max(10, seconds) * 1000 })
    const strict = await upload(await on('node', { CAP: 'strict' }), [audio, model])
    if (!PCM.includes(name)) return expect(strict.status).toBe(415)
    const { audioMs, reservedAudioMs } = await charged(strict)
    expect(reservedAudioMs).toBe(Math.max(10, Math.ceil(seconds)) * 1000)
    expect(audioMs).toBeLessThanOrEqual(reservedAudioMs ?? 0)
  },
)

test.each([
  ['node', 8],
  ['workerd', 2],
] as const)('%s takes in at most %i uploads at once', async (kind, places) => {
  const gateway = await on(kind)
  let release = () => {}
  const hold = new Promise<void>((resolve) => (release = resolve))
  world.upstream.on(WHISPER, { ...transcription('verbose_json', 12), hold })
  const held = Array.from({ length: places }, () => world.upstream.next())
  const answers = held.map(() => upload(gateway, [file(), model]))
  await Promise.all(held)
  const more = await upload(gateway, [file(), model])
  expect(more.headers.get('retry-after')).toBe('1')
  expect(await told(more)).toMatchObject({ status: 429, code: 'rate_limit_exceeded' })
  release()
  for (const answer of await Promise.all(answers)) expect(answer.status).toBe(200)
  const after = await upload(gateway, [file(), model])
  expect((await charged(after)).outcome).toBe('exact')
})

test('the boundary may be quoted, and fields may be in any order', async () => {
  const gateway = await on('node')
  const type = `multipart/form-data; charset=utf-8; boundary="${BOUNDARY}"`
  const answer = await upload(gateway, [form('text'), model, file()], { type })
  expect(await answer.text()).toBe(' Your answer.')
  expect(world.upstream.seen.at(-1)!.headers['content-type']).toBe(type)
})
