/**
 * The demo model: it answers like Groq if no provider key is set, so that a newcomer sees streaming, metering and limits
 * work offline. Its answers say that it is a demo. It knows the names of Groq's models, and refuses others as Groq does.
 */
import type { Fetch } from '../../../ports.ts'
import { DEFAULT_MODEL } from '../../../providers/groq.ts'
import { GROQ_PRICES } from '../../../providers/groq-prices.ts'

const MODELS = new Set(GROQ_PRICES.flatMap(({ prices }) => Object.keys(prices)))

type Chat = {
  model?: string
  stream?: boolean
  stream_options?: { include_usage?: boolean }
  messages?: { role?: string; content?: unknown }[]
}

type DemoAnswer = { status: number; type: string; body: string | ReadableStream<Uint8Array> }

/** Answers an upstream request; `path` is what follows the host. */
export function answerDemo(method: string, path: string, body: string): DemoAnswer {
  const route = path.replace(/^\/openai\/v1\//, '').replace(/\?.*$/, '')
  if (method === 'GET' && route === 'models')
    return json(200, { object: 'list', data: [...MODELS].map(modelOf) })
  if (method === 'GET' && route.startsWith('models/')) {
    const name = decodeURIComponent(route.slice('models/'.length))
    return MODELS.has(name) ? json(200, modelOf(name)) : unknown(name)
  }
  if (method !== 'POST' || route !== 'chat/completions') {
    return json(404, {
      error: {
        message: `The demo model has no ${route}; set GROQ_API_KEY.`,
        type: 'invalid_request_error',
      },
    })
  }
  const chat = JSON.parse(body) as Chat
  const { model = DEFAULT_MODEL } = chat
  if (!MODELS.has(model)) return unknown(model)
  const head = {
    id: `chatcmpl-${crypto.randomUUID()}`,
    created: Math.floor(Date.now() / 1000),
    model,
  }
  const words = reply(chat)
  const usage = {
    prompt_tokens: Math.ceil(JSON.stringify(chat.messages ?? []).length / 4),
    completion_tokens: words.length,
    total_tokens: 0,
  }
  usage.total_tokens = usage.prompt_tokens + usage.completion_tokens
  if (chat.stream) return stream(head, words, usage, chat.stream_options?.include_usage === true)
  const message = { role: 'assistant', content: words.join('') }
  return json(200, {
    ...head,
    object: 'chat.completion',
    choices: [{ index: 0, message, logprobs: null, finish_reason: 'stop' }],
    usage,
    x_groq: { id: 'req_demo' },
  })
}

type Head = { id: string; created: number; model: string }

function stream(head: Head, words: string[], usage: object, includeUsage: boolean): DemoAnswer {
  const chunk = (delta: object, rest: object = {}, finish: string | null = null) => ({
    ...head,
    object: 'chat.completion.chunk',
    choices: [{ index: 0, delta, logprobs: null, finish_reason: finish }],
    ...rest,
  })
  const chunks: object[] = [
    chunk({ role: 'assistant', content: '' }, { x_groq: { id: 'req_demo' } }),
    ...words.map((content) => chunk({ content })),
    chunk({}, { x_groq: { id: 'req_demo', usage }, usage }, 'stop'),
  ]
  if (includeUsage) chunks.push({ ...chunk({}), choices: [], usage })
  const events = [...chunks.map((one) => JSON.stringify(one)), '[DONE]']
  const encoder = new TextEncoder()
  const body = new ReadableStream<Uint8Array>({
    async pull(controller) {
      const event = events.shift()
      if (event === undefined) return controller.close()
      controller.enqueue(encoder.encode(`data: ${event}\n\n`))
      await new Promise((resolve) => setTimeout(resolve, 25))
    },
  })
  return { status: 200, type: 'text/event-stream', body }
}

function reply({ messages }: Chat): string[] {
  const last = messages?.at(-1)?.content
  const asked = typeof last === 'string' ? last.trim().slice(0, 80) : ''
  const text =
    "I am Weir's built-in demo model, not a real one: no GROQ_API_KEY is set. " +
    (asked ? `You said: “${asked}”. ` : '') +
    'This answer was metered and counted against your limits like any other.'
  return text.split(/(?<= )/)
}

const modelOf = (id: string) => ({
  id,
  object: 'model',
  created: 0,
  owned_by: 'weir demo',
  active: true,
  context_window: 131_072,
})

/** What Groq answers to the name of a model that it does not have. */
const unknown = (model: string): DemoAnswer =>
  json(404, {
    error: {
      message: `The model \`${model}\` does not exist or you do not have access to it.`,
      type: 'invalid_request_error',
      code: 'model_not_found',
    },
  })

const json = (status: number, value: unknown): DemoAnswer => ({
  status,
  type: 'application/json',
  body: JSON.stringify(value),
})

/** Calls the demo model as if it were upstream. */
export const demoFetch: Fetch = async (url, { method, body: sent }) => {
  const { status, type, body } = answerDemo(
    method,
    new URL(url).pathname,
    new TextDecoder().decode(sent ?? new Uint8Array()),
  )
  return new Response(body, { status, headers: { 'content-type': type } })
}
