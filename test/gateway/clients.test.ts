import { createGroq } from '@ai-sdk/groq'
import {
  APICallError,
  experimental_transcribe as transcribe,
  generateText,
  jsonSchema,
  streamText,
  tool,
} from 'ai'
import Groq from 'groq-sdk'
import OpenAI from 'openai'
import { beforeEach, describe, expect, test } from 'vitest'
import { samples, wavOf } from '../support/wav.ts'
import { ADMIN_KEY, KINDS } from '../support/gateways.ts'
import { ownJwt } from '../support/issuer.ts'
import { transcripts } from '../support/transcripts.ts'
import { useWorld } from '../support/world.ts'

const world = useWorld()

const messages = [{ role: 'user' as const, content: 'hello' }]
const weather = {
  type: 'function' as const,
  function: {
    name: 'get_weather',
    parameters: { type: 'object', properties: { city: { type: 'string' } } },
  },
}

const WHISPER = 'whisper-large-v3'
const recording = wavOf(samples(32_000))
const file = () => new File([recording], 'a.wav')
const said = { model: 'canopylabs/orpheus-v1-english', input: 'Hello', voice: 'troy' } as const

/** What each form of audio call gives; `audio` is of a client. */
async function audioOf({ transcriptions, translations, speech }: Groq.Audio) {
  const plain = { file: file(), model: WHISPER } as const
  const text = { ...plain, response_format: 'text' } as const
  return {
    json: await transcriptions.create(plain),
    text: await transcriptions.create(text),
    full: await transcriptions.create({
      ...plain,
      response_format: 'verbose_json',
      timestamp_granularities: ['word', 'segment'],
    }),
    translated: await translations.create(plain),
    spoken: await (await speech.create(said)).arrayBuffer(),
    limited: await outcome(() => transcriptions.create({ ...plain, model: 'case/limited' })),
  }
}

/** The upstream's answer by model. */
const CASES = {
  plain: transcripts.plain,
  details: transcripts['plain-details'],
  stream: transcripts.stream,
  usage: transcripts['stream-include-usage'],
  tool: transcripts['tool-call'],
  limited: transcripts['rate-limited'],
  broken: transcripts['mid-stream-error'],
}

/** An error as a caller sees it, without the host. */
function seen(error: unknown): unknown {
  if (APICallError.isInstance(error)) {
    return {
      name: error.name,
      message: error.message,
      status: error.statusCode,
      body: error.responseBody,
      retry: error.isRetryable,
    }
  }
  if (error instanceof OpenAI.APIError || error instanceof Groq.APIError) {
    const { name, message, status } = error
    return {
      name,
      message,
      status,
      body: error.error,
      retryAfter: error.headers?.get('retry-after'),
    }
  }
  throw error
}

async function outcome(run: () => Promise<unknown>): Promise<unknown> {
  try {
    return await run()
  } catch (error) {
    return { error: seen(error) }
  }
}

async function collect(stream: AsyncIterable<unknown>): Promise<unknown[]> {
  const parts: unknown[] = []
  try {
    for await (const part of stream) parts.push(part)
  } catch (error) {
    parts.push({ error: seen(error) })
  }
  return parts
}

type Script = (base: string, apiKey: string) => Promise<Record<string, unknown>>

const groqScript: Script = async (base, apiKey) => {
  const client = new Groq({ apiKey, baseURL: base, maxRetries: 0 })
  const { completions } = client.chat
  return {
    plain: await completions.create({ model: 'case/plain', messages }),
    details: await completions.create({ model: 'case/details', messages }),
    stream: await collect(
      await completions.create({ model: 'case/stream', messages, stream: true }),
    ),
    tool: await collect(
      await completions.create({ model: 'case/tool', messages, stream: true, tools: [weather] }),
    ),
    limited: await outcome(() => completions.create({ model: 'case/limited', messages })),
    broken: await collect(
      await completions.create({ model: 'case/broken', messages, stream: true }),
    ),
    models: (await client.models.list()).data,
    model: await client.models.retrieve('openai/gpt-oss-20b'),
    audio: await audioOf(client.audio),
  }
}

const openaiScript: Script = async (base, apiKey) => {
  const client = new OpenAI({
    apiKey,
    baseURL: `${base}/openai/v1`,
    maxRetries: 0,
  })
  const { completions } = client.chat
  return {
    plain: await completions.create({ model: 'case/plain', messages }),
    stream: await collect(
      await completions.create({ model: 'case/stream', messages, stream: true }),
    ),
    usage: await collect(
      await completions.create({
        model: 'case/usage',
        messages,
        stream: true,
        stream_options: { include_usage: true },
      }),
    ),
    tool: await collect(
      await completions.create({ model: 'case/tool', messages, stream: true, tools: [weather] }),
    ),
    limited: await outcome(() => completions.create({ model: 'case/limited', messages })),
    broken: await collect(
      await completions.create({ model: 'case/broken', messages, stream: true }),
    ),
    response: await client.responses.create({ model: 'openai/gpt-oss-20b', input: 'hello' }),
    responses: await collect(
      await client.responses.create({ model: 'openai/gpt-oss-20b', input: 'hello', stream: true }),
    ),
    embedding: await client.embeddings.create({
      model: 'nomic/embed',
      input: 'hello',
      encoding_format: 'float',
    }),
    models: (await client.models.list()).data,
    audio: await audioOf(client.audio as unknown as Groq.Audio),
  }
}

const aiScript: Script = async (base, apiKey) => {
  const groq = createGroq({ apiKey, baseURL: `${base}/openai/v1` })
  const ask = (name: string) => ({ model: groq(`case/${name}`), messages, maxRetries: 0 })
  const tools = {
    get_weather: tool({
      inputSchema: jsonSchema({ type: 'object', properties: { city: { type: 'string' } } }),
    }),
  }
  const text = async (name: string) => {
    const { text, usage, finishReason } = await generateText(ask(name))
    return { text, usage, finishReason }
  }
  const stream = (name: string) =>
    collect(streamText({ ...ask(name), tools, onError: () => undefined }).fullStream).then(
      (parts) =>
        // The AI SDK adds its own ids and times to parts.
        JSON.parse(
          JSON.stringify(parts, (key, value: unknown) => (UNSTEADY.has(key) ? undefined : value)),
        ),
    )
  const transcription = async (responseFormat?: string) => {
    const { text, segments, language, durationInSeconds } = await transcribe({
      model: groq.transcription(WHISPER),
      audio: recording,
      maxRetries: 0,
      ...(responseFormat !== undefined && { providerOptions: { groq: { responseFormat } } }),
    })
    return { text, segments, language, durationInSeconds }
  }
  return {
    audio: [
      await transcription(),
      await transcription('text'),
      await transcription('verbose_json'),
    ],
    plain: await text('plain'),
    details: await text('details'),
    stream: await stream('stream'),
    tool: await stream('tool'),
    limited: await outcome(() => text('limited')),
    broken: await stream('broken'),
  }
}

const UNSTEADY = new Set(['request', 'warnings', 'id', 'timestamp', 'headers', 'date'])

const CLIENTS: [string, Script][] = [
  ['groq-sdk', groqScript],
  ['openai', openaiScript],
  ['@ai-sdk/groq', aiScript],
]

const SECRET = 'secret-of-an-application-of-the-tests'

describe.each(KINDS)('on %s', (kind) => {
  beforeEach(() => {
    for (const [name, transcript] of Object.entries(CASES)) {
      world.upstream.on(`case/${name}`, { transcript })
    }
  })

  test.each(CLIENTS)('%s gets the same through the gateway as without it', async (_, script) => {
    const gateway = await world.gateway(kind)
    const direct = await script(world.upstream.url, 'token-of-a-user')
    expect(await script(`${gateway.url}/api/groq`, 'token-of-a-user')).toEqual(direct)
  })

  test.each(CLIENTS)('%s takes a signed token as its API key', async (_, script) => {
    const vars = { USER_TOKENS: 'signed', USER_TOKEN_SECRETS: SECRET }
    const gateway = await world.gateway(kind, vars)
    const exp = Math.floor(Date.now() / 1000) + 600
    const token = ownJwt({ sub: 'user-7', exp, label: 'x'.repeat(2000) }, SECRET)
    const direct = await script(world.upstream.url, token)
    expect(await script(`${gateway.url}/api/groq`, token)).toEqual(direct)
    await expect(script(`${gateway.url}/api/groq`, `${token}x`)).rejects.toThrow('signed token')
  })

  test.each(CLIENTS)('%s takes an issued key as its API key', async (_, script) => {
    const gateway = await world.gateway(kind, { USER_TOKENS: 'issued' })
    const made = await fetch(`${gateway.url}/api/admin/keys`, {
      method: 'POST',
      headers: { authorization: `Bearer ${ADMIN_KEY}` },
      body: JSON.stringify({ user: 'user-7' }),
    })
    const { key } = (await made.json()) as { key: string }
    const direct = await script(world.upstream.url, key)
    expect(await script(`${gateway.url}/api/groq`, key)).toEqual(direct)
    await expect(script(`${gateway.url}/api/groq`, `${key}x`)).rejects.toThrow('mistyped')
  })
})
