import { createGroq } from '@ai-sdk/groq'
import { APICallError, generateText, streamText, tool } from 'ai'
import Groq from 'groq-sdk'
import OpenAI from 'openai'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { z } from 'zod'
import { raw, requestOf } from '../support/raw.ts'
import { transcripts } from '../support/transcripts.ts'
import type { Transcript } from '../support/transcripts.ts'
import { startUpstream } from '../support/upstream.ts'
import type { Behaviour, Upstream } from '../support/upstream.ts'

const all: Transcript[] = Object.values(transcripts)
const { plain, stream, multibyte } = transcripts
const tools = { get_weather: tool({ inputSchema: z.object({ city: z.string() }) }) }
const messages = [{ role: 'user' as const, content: 'Hi' }]

let upstream: Upstream

beforeAll(async () => {
  upstream = await startUpstream()
})

afterEach(() => upstream.reset())

afterAll(() => upstream.close())

type Call = { model?: string; json?: object; path?: string; method?: string; signal?: AbortSignal }

function call({ model, json, path = 'chat/completions', method = 'POST', signal }: Call = {}) {
  return fetch(`${upstream.url}/openai/v1/${path}`, {
    method,
    headers: { authorization: 'Bearer key', 'content-type': 'application/json' },
    ...(method === 'POST' && { body: JSON.stringify({ model, ...json }) }),
    ...(signal && { signal }),
  })
}

async function ask(behaviour: Behaviour, request: Call = {}) {
  upstream.on('m', behaviour)
  const seen = upstream.next()
  const res = await call({ model: 'm', ...request })
  return { res, seen: await seen }
}

function groq(behaviour: Behaviour) {
  upstream.on('m', behaviour)
  return new Groq({ apiKey: 'key', baseURL: upstream.url, maxRetries: 0 }).chat.completions
}

function openai(behaviour: Behaviour) {
  upstream.on('m', behaviour)
  return new OpenAI({ apiKey: 'key', baseURL: `${upstream.url}/openai/v1`, maxRetries: 0 })
}

function ai(behaviour: Behaviour) {
  upstream.on('m', behaviour)
  const model = createGroq({ apiKey: 'key', baseURL: `${upstream.url}/openai/v1` })('m')
  return { model, messages, maxRetries: 0, tools, onError: () => {} }
}

async function list<T>(items: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = []
  for await (const item of items) found.push(item)
  return found
}

/** All items of an iterable, and the error at its end. */
async function drain<T>(items: AsyncIterable<T>): Promise<{ items: T[]; error: unknown }> {
  const found: T[] = []
  try {
    for await (const item of items) found.push(item)
  } catch (error) {
    return { items: found, error }
  }
  return { items: found, error: undefined }
}

const bytes = async (res: Response) => new Uint8Array(await res.arrayBuffer())

const text = (body: Uint8Array) => new TextDecoder('utf-8', { ignoreBOM: true }).decode(body)

const events = (body: Uint8Array) => text(body).split(/(?<=\n\r?\n)/)

const object = (value: unknown) => (value ?? {}) as Record<string, unknown>

const totals = (chunks: object[]) =>
  chunks.flatMap((chunk) => object(object(chunk).usage).total_tokens ?? [])

const payloads = ({ body, stream }: Transcript): Record<string, unknown>[] => {
  const found = stream ? [...text(body).matchAll(/^data: (\{[^\r\n]*)/gm)] : [['', text(body)]]
  return found.map(([, json]) => object(JSON.parse(json ?? '')))
}

test.each(all)('$name is served byte for byte', async (transcript) => {
  const { res } = await ask({ transcript })
  expect(res.status).toBe(transcript.status)
  expect(await bytes(res)).toEqual(transcript.body)
  expect(Object.fromEntries(res.headers)).toMatchObject(transcript.headers)
})

test.each(all)('$name is served byte for byte one byte at a time', async (transcript) => {
  const { res, seen } = await ask({ transcript, chunk: 1 })
  expect(await bytes(res)).toEqual(transcript.body)
  expect(seen.sent).toBe(transcript.body.length)
})

test.each(all)('the noted usage of $name is the last one it reports', (transcript) => {
  const found = payloads(transcript).flatMap((data) => {
    const places = [object(data.x_groq).usage, data.usage, object(data.response).usage]
    return places.map(object).filter(({ total_tokens }) => total_tokens !== undefined)
  })
  const last = found.at(-1)
  if (!last) return expect(transcript.usage).toBeUndefined()
  const cached = object(last.prompt_tokens_details ?? last.input_tokens_details).cached_tokens
  const reasoning = object(
    last.completion_tokens_details ?? last.output_tokens_details,
  ).reasoning_tokens
  const prompt = last.prompt_tokens ?? last.input_tokens
  const completion = last.completion_tokens ?? last.output_tokens ?? 0
  expect(transcript.usage).toEqual({
    ...{ prompt, completion },
    // Guard models leave the total out.
    total: last.total_tokens === 0 && completion === 0 ? prompt : last.total_tokens,
    ...(cached !== undefined && { cached }),
    ...(reasoning !== undefined && { reasoning }),
  })
})

test.each(all)('the noted deltas of $name are the ones in its bytes', (transcript) => {
  const found = payloads(transcript).filter((data) => {
    const [choice] = Array.isArray(data.choices) ? data.choices : []
    return 'delta' in object(choice) || String(data.type).endsWith('.delta')
  })
  expect(found).toHaveLength(transcript.deltas)
})

test.each(all.filter(({ stream }) => stream))('$name ends with a blank line', ({ body }) => {
  expect(text(body)).toMatch(/[^\r\n]\r?\n\r?\n$/)
})

test('the crlf transcript is the stream with other line ends', () => {
  expect(text(transcripts.crlf.body).replaceAll('\r\n', '\n')).toBe(text(stream.body))
})

test('a stream is chunked and json carries its length', async () => {
  const { res: chunked } = await ask({ transcript: stream })
  const { res: whole } = await ask({ transcript: plain })
  await Promise.all([chunked.text(), whole.text()])
  expect(chunked.headers.get('content-length')).toBeNull()
  expect(chunked.headers.get('transfer-encoding')).toBe('chunked')
  expect(whole.headers.get('content-length')).toBe(String(plain.body.length))
})

test.each<[string, Call, Transcript]>([
  ['a chat', {}, plain],
  ['a streamed chat', { json: { stream: true } }, stream],
  [
    'a streamed chat with include_usage',
    { json: { stream: true, stream_options: { include_usage: true } } },
    transcripts['stream-include-usage'],
  ],
  ['a response', { path: 'responses' }, transcripts.responses],
  [
    'a streamed response',
    { path: 'responses', json: { stream: true } },
    transcripts['responses-stream'],
  ],
  ['an embedding', { path: 'embeddings' }, transcripts.embeddings],
  ['the model list', { path: 'models?limit=2', method: 'GET' }, transcripts.models],
  ['one model', { path: 'models/openai%2Fgpt-oss-20b', method: 'GET' }, transcripts.model],
  ['a model with a slash', { path: 'models/openai/gpt-oss-20b', method: 'GET' }, transcripts.model],
])('%s gets its transcript without a behaviour', async (_, request, transcript) => {
  expect(await bytes(await call(request))).toEqual(transcript.body)
})

test('a behaviour without a transcript keeps the one of the route', async () => {
  const { res } = await ask({ chunk: 7 }, { json: { stream: true } })
  expect(await bytes(res)).toEqual(stream.body)
})

test('an unknown path gets a 404 in the shape of groq', async () => {
  const res = await call({ path: 'nothing', method: 'GET' })
  expect(res.status).toBe(404)
  expect(await res.json()).toMatchObject({
    error: { type: 'invalid_request_error', code: 'unknown_url' },
  })
})

test('a request without a bearer gets a 401 in the shape of groq', async () => {
  const res = await fetch(`${upstream.url}/openai/v1/models`)
  expect(res.status).toBe(401)
  expect(await res.json()).toMatchObject({ error: { message: 'Invalid API Key' } })
})

test('a request is seen with its raw path, headers and bytes', async () => {
  const seen = upstream.next()
  await (await call({ model: 'm', path: 'models/a%2Fb?x=%20y', method: 'GET' })).text()
  expect(await seen).toMatchObject({ method: 'GET', path: '/openai/v1/models/a%2Fb?x=%20y' })
  const { seen: post } = await ask({}, { json: { n: 1 } })
  expect(text(post.body)).toBe('{"model":"m","n":1}')
  expect(post).toMatchObject({ model: 'm', headers: { authorization: 'Bearer key' } })
  expect(upstream.seen).toHaveLength(2)
})

test('pending calls of next get one request each', async () => {
  const both = Promise.all([upstream.next(), upstream.next()])
  await (await call({ model: 'a' })).text()
  await (await call({ model: 'b' })).text()
  expect((await both).map(({ model }) => model)).toEqual(['a', 'b'])
})

test('a reset forgets behaviours and requests', async () => {
  await (await ask({ status: 500 })).res.text()
  upstream.reset()
  expect(upstream.seen).toEqual([])
  expect((await call({ model: 'm' })).status).toBe(200)
})

test('a behaviour can depend on the request', async () => {
  upstream.on('m', () => ({ status: upstream.seen.length === 1 ? 503 : 200 }))
  expect((await call({ model: 'm' })).status).toBe(503)
  expect((await call({ model: 'm' })).status).toBe(200)
})

test('status, headers and body are overridden', async () => {
  const headers = { 'x-own': '1', 'content-type': 'text/plain' }
  const { res } = await ask({ status: 498, headers, body: 'é' })
  expect(res.status).toBe(498)
  expect(Object.fromEntries(res.headers)).toMatchObject({ ...headers, 'content-length': '2' })
  expect(await res.text()).toBe('é')
})

test('a finished answer is done and not gone', async () => {
  const { res, seen } = await ask({ transcript: stream })
  await res.text()
  await seen.done
  expect(seen).toMatchObject({ finished: true, sent: stream.body.length })
  expect(await Promise.race([seen.gone, Promise.resolve('here')])).toBe('here')
})

test('a stream is cut into its events', async () => {
  const pieces: number[] = []
  const { res } = await ask({
    transcript: stream,
    gate: async (piece) => void pieces.push(piece),
  })
  await res.text()
  expect(pieces).toEqual(events(stream.body).map((_, index) => index))
})

test('a gate holds each piece back', async () => {
  const opened: (() => void)[] = []
  const gates = events(stream.body).map(
    (_, index) => new Promise<void>((resolve) => (opened[index] = resolve)),
  )
  const { res } = await ask({ transcript: stream, gate: async (piece) => gates[piece] })
  const reader = res.body?.getReader()
  for (const [index, event] of events(stream.body).entries()) {
    opened[index]?.()
    expect(text((await reader?.read())?.value ?? new Uint8Array())).toBe(event)
  }
  expect((await reader?.read())?.done).toBe(true)
})

test('a chunk may split a character', async () => {
  const pieces: number[] = []
  const { res } = await ask({
    transcript: multibyte,
    chunk: 5,
    gate: async (piece) => void pieces.push(piece),
  })
  expect(await bytes(res)).toEqual(multibyte.body)
  expect(pieces).toHaveLength(Math.ceil(multibyte.body.length / 5))
})

test('a pause comes between two pieces', async () => {
  const start = performance.now()
  const { res } = await ask({ transcript: stream, pause: 5 })
  await res.text()
  const pauses = events(stream.body).length - 1
  expect(performance.now() - start).toBeGreaterThan(pauses * 4)
})

test('a delay comes before the headers', async () => {
  const start = performance.now()
  await ask({ delay: 50 })
  expect(performance.now() - start).toBeGreaterThan(48)
})

test('a hold keeps the headers back until it resolves', async () => {
  const order: string[] = []
  let open = () => {}
  upstream.on('m', { hold: new Promise<void>((resolve) => (open = resolve)) })
  const next = upstream.next()
  const answer = call({ model: 'm' }).then((res) => {
    order.push('headers')
    return res.text()
  })
  const seen = await next
  await (await call({ model: 'other' })).text()
  order.push('open')
  expect(seen.sent).toBe(0)
  open()
  expect(await answer).toBe(text(plain.body))
  expect(order).toEqual(['open', 'headers'])
})

test('a client that leaves during a hold is gone', async () => {
  const left = new AbortController()
  upstream.on('m', { hold: new Promise(() => {}) })
  const next = upstream.next()
  const answer = call({ model: 'm', signal: left.signal }).catch(() => 'aborted')
  const seen = await next
  left.abort()
  await seen.gone
  await seen.done
  expect(await answer).toBe('aborted')
  expect(seen).toMatchObject({ finished: false, sent: 0 })
})

test.each([plain, stream])('a cut ends $name after that many bytes', async (transcript) => {
  const { res, seen } = await ask({ transcript, cut: 100 })
  const { items, error } = await drain(res.body as AsyncIterable<Uint8Array>)
  expect(error).toBeInstanceOf(TypeError)
  expect(Buffer.concat(items).equals(transcript.body.subarray(0, 100))).toBe(true)
  await seen.gone
  expect(seen).toMatchObject({ finished: false, sent: 100 })
})

test.each([0, stream.body.length])('a cut at byte %i still sends the headers', async (cut) => {
  const { res } = await ask({ transcript: stream, cut })
  const { items, error } = await drain(res.body as AsyncIterable<Uint8Array>)
  expect(res.status).toBe(200)
  expect(error).toBeInstanceOf(TypeError)
  expect(Buffer.concat(items)).toHaveLength(cut)
})

test('what is no answer goes over the connection as it is, and then it closes', async () => {
  upstream.on('m', { raw: 'SSH-2.0-OpenSSH_9.6\r\n' })
  const [{ text }, seen] = await Promise.all([
    raw(
      upstream.url,
      requestOf(
        'POST /openai/v1/chat/completions HTTP/1.1',
        ['Host: upstream', 'Authorization: Bearer key', 'Content-Length: 13'],
        '{"model":"m"}',
      ),
    ),
    upstream.next(),
  ])
  await seen.gone
  expect(text).toBe('SSH-2.0-OpenSSH_9.6\r\n')
})

test('a stall goes silent until the client leaves', async () => {
  const left = new AbortController()
  const { res, seen } = await ask({ transcript: stream, stall: 300 }, { signal: left.signal })
  const reader = res.body?.getReader()
  let read = 0
  while (read < 300) read += (await reader?.read())?.value?.length ?? 0
  const rest = reader?.read().catch(() => 'aborted')
  await (await call()).text()
  expect(seen).toMatchObject({ finished: false, sent: 300 })
  left.abort()
  expect(await rest).toBe('aborted')
  await seen.gone
  expect(read).toBe(300)
})

test('an endless stream repeats its first delta until the client leaves', async () => {
  const { res, seen } = await ask({ transcript: stream, endless: true, pause: 1 })
  const [first = ''] = events(stream.body)
  const reader = res.body?.getReader()
  let read = ''
  while (read.length < first.length * 5)
    read += text((await reader?.read())?.value ?? new Uint8Array())
  await reader?.cancel()
  await seen.gone
  expect(read.startsWith(first.repeat(5))).toBe(true)
  expect(seen.finished).toBe(false)
})

test('an endless stream without a pause waits for its reader', async () => {
  const content = 'x'.repeat(65_536)
  const body = `data: ${JSON.stringify({ choices: [{ delta: { content } }] })}\n\n`
  const { res, seen } = await ask({ transcript: stream, body, endless: true })
  let before = -1
  while (seen.sent !== before) {
    before = seen.sent
    await (await call()).text()
  }
  const reader = res.body?.getReader()
  let read = 0
  while (read <= before) read += (await reader?.read())?.value?.length ?? 0
  await reader?.cancel()
  await seen.gone
  expect(seen.sent).toBeGreaterThan(before)
})

test('an endless stream takes its event from the body', async () => {
  const event = 'data: {"choices":[{"delta":{"content":"x"}}]}\n\n'
  const { res } = await ask({
    transcript: stream,
    body: `: hello\n\n${event}`,
    endless: true,
    cut: event.length * 3,
  })
  const { items } = await drain(res.body as AsyncIterable<Uint8Array>)
  expect(Buffer.concat(items).toString()).toBe(event.repeat(3))
})

test('closing ends open answers', async () => {
  const other = await startUpstream()
  other.on('m', { transcript: stream, stall: 10 })
  const next = other.next()
  const res = await fetch(`${other.url}/openai/v1/chat/completions`, {
    method: 'POST',
    headers: { authorization: 'Bearer key' },
    body: '{"model":"m"}',
  })
  await other.close()
  await (
    await next
  ).gone
  expect((await drain(res.body as AsyncIterable<Uint8Array>)).error).toBeInstanceOf(TypeError)
})

test('groq-sdk reads 35 tokens from a plain answer', async () => {
  const answer = await groq({ transcript: plain }).create({ model: 'm', messages })
  expect(answer.usage?.total_tokens).toBe(35)
  expect(answer.choices[0]?.message.content).toBe('Four. 🧮\n\nAnything else?')
})

test('groq-sdk reads 7 chunks and one usage from a stream', async () => {
  const chat = groq({ transcript: stream, chunk: 97 })
  const chunks = await list(await chat.create({ model: 'm', messages, stream: true }))
  expect(chunks).toHaveLength(7)
  expect(totals(chunks)).toEqual([397])
})

test('groq-sdk reads 76 tokens from a stream with include_usage', async () => {
  const chat = groq({ transcript: transcripts['stream-include-usage'], chunk: 97 })
  const chunks = await list(await chat.create({ model: 'm', messages, stream: true }))
  expect(chunks).toHaveLength(3)
  expect(totals(chunks)).toEqual([76, 76])
})

test('groq-sdk reads the arguments of a tool call', async () => {
  const chat = groq({ transcript: transcripts['tool-call'], chunk: 97 })
  const chunks = await list(await chat.create({ model: 'm', messages, stream: true }))
  const calls = chunks.flatMap(({ choices }) => choices[0]?.delta.tool_calls ?? [])
  expect(calls.map((call) => call.function?.arguments)).toEqual(['{"city":"Oslo"}'])
})

test('groq-sdk reads a rate limit', async () => {
  const answer = groq({ transcript: transcripts['rate-limited'] }).create({ model: 'm', messages })
  await expect(answer).rejects.toBeInstanceOf(Groq.RateLimitError)
  await expect(answer).rejects.toMatchObject({ status: 429 })
})

test('groq-sdk throws an error without a status in the middle of a stream', async () => {
  const chat = groq({ transcript: transcripts['mid-stream-error'], chunk: 97 })
  const { items, error } = await drain(await chat.create({ model: 'm', messages, stream: true }))
  expect(items).toHaveLength(3)
  expect(error).toBeInstanceOf(Groq.APIError)
  expect(error).toMatchObject({ status: undefined })
})

test('openai reads 35 tokens from a plain answer', async () => {
  const { chat } = openai({ transcript: plain })
  const answer = await chat.completions.create({ model: 'm', messages })
  expect(answer.usage?.total_tokens).toBe(35)
  expect(answer.choices[0]?.message.content).toBe('Four. 🧮\n\nAnything else?')
})

test('openai reads 7 chunks and one usage from a stream', async () => {
  const { chat } = openai({ transcript: stream, chunk: 97 })
  const chunks = await list(await chat.completions.create({ model: 'm', messages, stream: true }))
  expect(chunks).toHaveLength(7)
  expect(totals(chunks)).toEqual([397])
})

test('openai reads 76 tokens from a stream with include_usage', async () => {
  const { chat } = openai({ chunk: 97 })
  const chunks = await list(
    await chat.completions.create({
      model: 'm',
      messages,
      stream: true,
      stream_options: { include_usage: true },
    }),
  )
  expect(chunks).toHaveLength(3)
  expect(totals(chunks)).toEqual([76, 76])
})

test('openai reads the arguments of a tool call', async () => {
  const { chat } = openai({ transcript: transcripts['tool-call'], chunk: 97 })
  const chunks = await list(await chat.completions.create({ model: 'm', messages, stream: true }))
  const calls = chunks.flatMap(({ choices }) => choices[0]?.delta.tool_calls ?? [])
  expect(calls.map((call) => call.function?.arguments)).toEqual(['{"city":"Oslo"}'])
})

test('openai reads a rate limit', async () => {
  const { chat } = openai({ transcript: transcripts['rate-limited'] })
  const answer = chat.completions.create({ model: 'm', messages })
  await expect(answer).rejects.toBeInstanceOf(OpenAI.RateLimitError)
  await expect(answer).rejects.toMatchObject({ status: 429, code: 'rate_limit_exceeded' })
})

test('openai throws an error without a status in the middle of a stream', async () => {
  const { chat } = openai({ transcript: transcripts['mid-stream-error'], chunk: 97 })
  const answer = await chat.completions.create({ model: 'm', messages, stream: true })
  const { items, error } = await drain(answer)
  expect(items).toHaveLength(3)
  expect(error).toBeInstanceOf(OpenAI.APIError)
  expect(error).toMatchObject({ status: undefined })
})

test.each([stream, transcripts.crlf, multibyte, transcripts['old-stream']])(
  'openai reads every chunk of $name',
  async (transcript) => {
    const { chat } = openai({ transcript, chunk: 3 })
    const chunks = await list(await chat.completions.create({ model: 'm', messages, stream: true }))
    expect(chunks).toEqual(payloads(transcript))
  },
)

test('openai reads a response', async () => {
  const answer = await openai({}).responses.create({ model: 'm', input: 'Hi' })
  expect(answer.output_text).toBe('Four. 🧮')
  expect(answer.usage?.total_tokens).toBe(109)
})

test.each([
  ['response.completed', transcripts['responses-stream'], 'Hello there 👋.', 110],
  ['response.incomplete', transcripts['responses-incomplete'], 'One, two', 85],
] as const)('openai reads a stream that ends with %s', async (end, transcript, said, total) => {
  const { responses } = openai({ transcript, chunk: 97 })
  const found = await list(await responses.create({ model: 'm', input: 'Hi', stream: true }))
  const deltas = found.map((event) =>
    event.type === 'response.output_text.delta' ? event.delta : '',
  )
  expect(deltas.join('')).toBe(said)
  expect(found.at(-1)).toMatchObject({ type: end, response: { usage: { total_tokens: total } } })
})

test('openai reads an embedding and the models', async () => {
  const client = openai({})
  const { usage } = await client.embeddings.create({
    model: 'm',
    input: 'Hi',
    encoding_format: 'float',
  })
  expect(usage).toEqual({ prompt_tokens: 6, total_tokens: 6 })
  expect((await list(client.models.list())).map(({ id }) => id)).toContain('openai/gpt-oss-20b')
  expect((await client.models.retrieve('openai/gpt-oss-20b')).id).toBe('openai/gpt-oss-20b')
})

test('ai-sdk reads 35 tokens from a plain answer', async () => {
  const answer = await generateText(ai({ transcript: plain }))
  expect(answer.usage.totalTokens).toBe(35)
  expect(answer.text).toBe('Four. 🧮\n\nAnything else?')
})

test('ai-sdk reads cached and reasoning tokens', async () => {
  const { usage } = await generateText(ai({ transcript: transcripts['plain-details'] }))
  expect(usage.inputTokenDetails.cacheReadTokens).toBe(8)
  expect(usage.outputTokenDetails.reasoningTokens).toBe(12)
})

test('ai-sdk reads 2 reasoning parts, 3 text parts and 397 tokens from a stream', async () => {
  const answer = streamText(ai({ transcript: stream, chunk: 97 }))
  const types = (await list(answer.fullStream)).map(({ type }) => type)
  expect(types.filter((type) => type === 'reasoning-delta')).toHaveLength(2)
  expect(types.filter((type) => type === 'text-delta')).toHaveLength(3)
  expect((await answer.usage).totalTokens).toBe(397)
})

test('ai-sdk reads 76 tokens from a stream with include_usage', async () => {
  const answer = streamText(ai({ transcript: transcripts['stream-include-usage'], chunk: 97 }))
  expect((await answer.usage).totalTokens).toBe(76)
})

test('ai-sdk reads the arguments of a tool call', async () => {
  const answer = streamText(ai({ transcript: transcripts['tool-call'], chunk: 97 }))
  expect((await answer.toolCalls).map(({ input }) => input)).toEqual([{ city: 'Oslo' }])
  expect((await answer.usage).totalTokens).toBe(353)
})

test('ai-sdk reads a rate limit', async () => {
  const answer = generateText(ai({ transcript: transcripts['rate-limited'] }))
  await expect(answer).rejects.toSatisfy(APICallError.isInstance)
  await expect(answer).rejects.toMatchObject({
    statusCode: 429,
    message: expect.stringContaining('Rate limit reached for model `openai/gpt-oss-20b`'),
  })
})

test('ai-sdk reads an error in the middle of a stream', async () => {
  const answer = streamText(ai({ transcript: transcripts['mid-stream-error'], chunk: 97 }))
  const parts = await list(answer.fullStream)
  expect(parts.filter(({ type }) => type === 'error')).toHaveLength(1)
  expect((await answer.usage).totalTokens).toBeUndefined()
})
