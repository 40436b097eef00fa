/** The answers of the soak's upstream, good and bad, and the charge that each must have in the ledger. */
import { createHash } from 'node:crypto'
import { atOnce } from '../../src/gateway/steps.ts'
import type { Usage } from '../../src/metering/meter.ts'
import { reservationOf, type MeteredRoute } from '../../src/metering/reservation.ts'
import type { Random } from './random.ts'
import { transcripts } from './transcripts.ts'
import type { Behaviour, Seen, Upstream } from './upstream.ts'

/** How the answer ends for a client that stays: complete, broken off in the middle, or never begun. */
type Ends = 'whole' | 'broken' | 'never'

/** What is charged: the reported usage, an estimate from what was received, the whole reservation, or nothing. */
type Due = 'usage' | 'estimate' | 'reservation' | 'nothing'

type Reply = { behaviour: Behaviour; due: Due; ends: Ends; usage?: Usage; digest?: string }

/** One request to upstream, and its answer. */
export type Served = Omit<Reply, 'behaviour'> & {
  model: string
  status: number
  reserved: number
  promptBytes: number
  /** Tokens, estimated from the text that was sent; known when it is done. */
  received: number
  done: boolean
}

export type SoakUpstream = {
  /** By the request's marker. */
  served: Map<string, Served>
  /** Everything that was not as it should be. */
  wrong: string[]
}

type Question = {
  route: MeteredRoute
  stream: boolean
  usage: Usage
  random: Random
  largeBytes: number
}

/** Completion tokens that the gateway assumes if a client sends no maximum. */
export const MAX_COMPLETION_TOKENS = 700

const MARKER = /request-\d+/

/** The marker of a request, anywhere in its body. */
const markerOf = ({ body }: Seen): string => MARKER.exec(Buffer.from(body).toString())?.[0] ?? ''

const digestOf = (body: Uint8Array | string): string =>
  createHash('sha1').update(body).digest('hex')

/**
 * Estimates tokens at four bytes each: in a stream from the text of its deltas, at least one token per delta; otherwise
 * from the whole body.
 */
export function receivedIn(body: Buffer, contentType = ''): number {
  if (!contentType.startsWith('text/event-stream')) return Math.ceil(body.length / 4)
  const deltas = body
    .toString()
    .split(/\r?\n\r?\n/)
    .filter((text) => text.startsWith('data:') && text.includes('"delta"'))
  const bytes = deltas.flatMap(writtenIn).reduce((sum, text) => sum + Buffer.byteLength(text), 0)
  return Math.max(Math.ceil(bytes / 4), deltas.length)
}

/** The texts that an event adds to an answer; of an event that was cut off, what there is of its text. */
function writtenIn(event: string): string[] {
  try {
    const { delta, choices = [] } = JSON.parse(event.slice('data:'.length)) as Delta
    const all = [delta, ...choices.flatMap((one) => [one.delta?.content, one.delta?.reasoning])]
    return all.map((text) => (text ? JSON.stringify(text).slice(1, -1) : ''))
  } catch {
    return /"(?:content|delta)":"([^"]*)/.exec(event)?.slice(1) ?? []
  }
}

/** A delta of either API that streams. */
type Delta = {
  delta?: string
  choices?: { delta?: { content?: string; reasoning?: string } }[]
}

const event = (data: object | string): string =>
  `data: ${typeof data === 'string' ? data : JSON.stringify(data)}\n\n`

/** An answer in three parts. The second part reports the usage. */
function written({ route, stream, random }: Question, usage: object): [string, string, string] {
  const words = Array.from({ length: random.int(2, 12) }, () => 'word '.repeat(random.int(1, 40)))
  if (!stream) {
    const head = { id: 'answer', choices: [{ message: { content: words.join('') } }] }
    const rest = JSON.stringify({ model: 'm', usage }).slice(1)
    return [`${JSON.stringify(head).slice(0, -1)},`, rest, '']
  }
  if (route === 'responses') {
    const deltas = words.map((delta) => event({ type: 'response.output_text.delta', delta }))
    return [deltas.join(''), event({ type: 'response.completed', response: { usage } }), '']
  }
  const deltas = words.map((content) => event({ choices: [{ index: 0, delta: { content } }] }))
  const end = event({ choices: [{ index: 0, delta: {} }], x_groq: { usage }, usage })
  // Like Groq, it may report the usage again.
  const again = random.chance(0.5) ? event({ choices: [], usage }) : ''
  return [deltas.join(''), end, `${again}${event('[DONE]')}`]
}

/** Usage in the route's form. */
function reported(route: MeteredRoute, { prompt, completion, total }: Usage): object {
  if (route === 'embeddings') return { prompt_tokens: prompt, total_tokens: total }
  if (route === 'responses')
    return { input_tokens: prompt, output_tokens: completion, total_tokens: total }
  return { prompt_tokens: prompt, completion_tokens: completion, total_tokens: total }
}

const good = (question: Question) => written(question, reported(question.route, question.usage))

const transcriptOf = ({ stream }: Question) => transcripts[stream ? 'stream' : 'plain']

const calm = ({ random }: Question): Behaviour => ({
  delay: random.int(0, 100),
  pause: random.int(0, 10),
  ...(random.chance(0.3) && { chunk: random.int(200, 2000) }),
})

const broken = (due: Due, behaviour: Behaviour): Reply => ({ behaviour, due, ends: 'broken' })
const whole = (due: Due, behaviour: Behaviour): Reply => ({ behaviour, due, ends: 'whole' })

const refusal = (question: Question, statuses: number[]): Reply => {
  const { random } = question
  const html = '<!DOCTYPE html><html><title>Sorry</title></html>'
  const json = '{"error":{"message":"Sorry","type":"internal_server_error"}}'
  return whole('nothing', {
    ...{ delay: random.int(0, 50), status: random.pick(statuses), transcript: transcripts.plain },
    body: random.pick([html, json, '']),
  })
}

const NONSENSE_USAGE = [
  { prompt_tokens: -5, completion_tokens: 10, total_tokens: 5 },
  { prompt_tokens: '12', completion_tokens: '9', total_tokens: '21' },
  { prompt_tokens: 1e300, completion_tokens: 1, total_tokens: 1e300 },
  { prompt_tokens: 1.5, completion_tokens: 2.5, total_tokens: 4 },
  [],
  'much',
  null,
]

type Large = { body: Uint8Array; digest: string }

const larges = new Map<string, Large>()

/** A body of this many bytes. It is made only once, since making it is slow. */
function large(kind: string, bytes: number, make: () => string): Large {
  const key = `${kind} ${bytes}`
  const known = larges.get(key)
  if (known) return known
  const body = Buffer.from(make())
  const made = { body, digest: digestOf(body) }
  larges.set(key, made)
  return made
}

const WRITES = 64 * 1024
const LARGE_USAGE: Usage = { prompt: 1234, completion: 567, total: 1801 }
const FLOOD = event({ choices: [{ index: 0, delta: { content: 'x'.repeat(16_000) } }] })

/** One piece of JSON that is too large for the meter, with incomplete usage at its end. */
function largeJson({ largeBytes }: Pick<Question, 'largeBytes'>): Reply {
  const { body, digest } = large('json', largeBytes, () => {
    const content = 'x'.repeat(largeBytes)
    return JSON.stringify({ choices: [{ message: { content } }], usage: { prompt_tokens: 1 } })
  })
  return { ...whole('reservation', { transcript: transcripts.plain, body, chunk: WRITES }), digest }
}

/** A stream of the same size, whose events can all be read. */
function largeStream({ largeBytes }: Pick<Question, 'largeBytes'>): Reply {
  const { body, digest } = large('stream', largeBytes, () => {
    const usage = reported('chat/completions', LARGE_USAGE)
    const end = event({ choices: [], usage })
    return FLOOD.repeat(Math.ceil(largeBytes / FLOOD.length)) + end + event('[DONE]')
  })
  const behaviour = { transcript: transcripts.stream, body, chunk: WRITES }
  return { ...whole('usage', behaviour), digest, usage: LARGE_USAGE }
}

type Answer = { /** How many of a thousand requests get it. */ share: number } & {
  reply(question: Question): Reply
}

/** By the part of the model's name after `m/`. */
export const ANSWERS: Record<string, Answer> = {
  well: {
    share: 700,
    reply(question) {
      const body = good(question).join('')
      const behaviour = { ...calm(question), transcript: transcriptOf(question), body }
      return { ...whole('usage', behaviour), usage: question.usage }
    },
  },
  slowly: {
    share: 40,
    reply(question) {
      const pause = question.random.int(40, 120)
      const behaviour = {
        ...{ transcript: transcriptOf(question), body: good(question).join(''), pause },
      }
      return { ...whole('usage', behaviour), usage: question.usage }
    },
  },
  'other-total': {
    share: 10,
    reply(question) {
      const { prompt, completion, total } = question.usage
      const usage = { ...reported(question.route, question.usage), total_tokens: total + 7 }
      const body = written(question, usage).join('')
      return {
        ...whole('usage', { ...calm(question), transcript: transcriptOf(question), body }),
        usage: { prompt, completion, total, mismatch: true },
      }
    },
  },
  limited: {
    share: 40,
    reply: ({ random }) =>
      whole('nothing', { transcript: transcripts['rate-limited'], delay: random.int(0, 50) }),
  },
  refuses: { share: 20, reply: (question) => refusal(question, [302, 400, 404, 413, 422]) },
  fails: { share: 40, reply: (question) => refusal(question, [500, 502, 503, 529]) },
  garbage: {
    share: 15,
    reply(question) {
      const { random } = question
      const body = Buffer.from(Array.from({ length: random.int(1, 3000) }, () => random.int(0, 33)))
      return whole('estimate', { ...calm(question), transcript: transcriptOf(question), body })
    },
  },
  'nonsense-usage': {
    share: 10,
    reply(question) {
      const usage = question.random.pick(NONSENSE_USAGE) as object
      const body = written(question, usage).join('')
      return whole('estimate', { ...calm(question), transcript: transcriptOf(question), body })
    },
  },
  nothing: {
    share: 5,
    reply: (question) => whole('estimate', { transcript: transcriptOf(question), body: '' }),
  },
  'fails-midway': {
    share: 10,
    reply: (question) =>
      whole('estimate', { ...calm(question), transcript: transcripts['mid-stream-error'] }),
  },
  cut: {
    share: 40,
    reply(question) {
      const [head, ...rest] = good(question)
      return broken('estimate', {
        ...{ transcript: transcriptOf(question), body: head + rest.join('') },
        ...{ pause: question.random.int(5, 20), cut: question.random.int(1, head.length) },
      })
    },
  },
  'cut-after-headers': {
    share: 10,
    reply: (question) => broken('estimate', { transcript: transcriptOf(question), cut: 0 }),
  },
  'hangs-up': {
    share: 10,
    reply: () => ({ behaviour: { raw: '' }, due: 'nothing', ends: 'never' }),
  },
  'no-http': {
    share: 10,
    reply: () => ({
      ...{ behaviour: { raw: 'SSH-2.0-OpenSSH_9.6\r\n' }, due: 'nothing', ends: 'never' },
    }),
  },
  stalls: {
    share: 8,
    reply(question) {
      const [head, ...rest] = good(question)
      return broken('reservation', {
        ...{ transcript: transcriptOf(question), body: head + rest.join('') },
        stall: question.random.int(1, head.length),
      })
    },
  },
  'stalls-after-its-usage': {
    share: 4,
    reply(question) {
      const parts = good({ ...question, route: 'chat/completions', stream: true })
      const body = parts.join('')
      // More was to come, so this usage is not final.
      return broken('reservation', {
        ...{ transcript: transcripts.stream, body: `${body}: more\n\n` },
        stall: body.length,
      })
    },
  },
  silent: {
    share: 4,
    reply: () => ({
      ...{ behaviour: { hold: new Promise(() => undefined) }, due: 'reservation', ends: 'never' },
    }),
  },
  'headers-only': {
    share: 5,
    reply: (question) => broken('reservation', { transcript: transcriptOf(question), stall: 0 }),
  },
  endless: {
    share: 6,
    reply: (question) =>
      broken('reservation', {
        ...{ transcript: transcriptOf(question), body: good(question)[0], endless: true },
        pause: question.random.int(2, 20),
      }),
  },
  /** As fast as the client reads, up to 16 MB a second; its clients do not read. */
  floods: {
    share: 1,
    reply: () =>
      broken('reservation', {
        transcript: transcripts.stream,
        body: FLOOD,
        endless: true,
        pause: 1,
      }),
  },
  'large-json': { share: 2, reply: largeJson },
  'large-stream': { share: 2, reply: largeStream },
  /** The same bytes in one event. */
  'large-event': {
    share: 1,
    reply(question) {
      const reply = largeJson(question)
      return { ...reply, behaviour: { ...reply.behaviour, transcript: transcripts.stream } }
    },
  },
  // These two have their own limits, so that users reach them.
  'day-limit': { share: 15, reply: (question) => well(question) },
  'minute-limit': { share: 20, reply: (question) => well(question) },
}

const well = (question: Question): Reply => ANSWERS.well!.reply(question)

/** Makes upstream answer like this, and keeps what it has served. */
export function misbehave(upstream: Upstream, random: Random, largeBytes: number): SoakUpstream {
  const served = new Map<string, Served>()
  const wrong: string[] = []
  // Making them takes so long that upstream would seem unreachable.
  largeJson({ largeBytes })
  largeStream({ largeBytes })
  for (const [name, { reply }] of Object.entries(ANSWERS)) {
    upstream.on(`m/${name}`, (seen) => {
      const marker = markerOf(seen)
      const route = seen.path.slice('/openai/v1/'.length) as MeteredRoute
      const json = JSON.parse(Buffer.from(seen.body).toString()) as Record<string, unknown>
      const [prompt, written] = [random.int(1, 2000), random.int(0, 900)]
      const completion = route === 'embeddings' ? 0 : written
      const usage = { prompt, completion, total: prompt + completion }
      const stream = json.stream === true
      const { behaviour, ...owed } = reply({ route, stream, usage, random, largeBytes })
      const { transcript = transcripts.plain } = behaviour
      const body = behaviour.body ?? transcript.body
      const rules = { cap: 'balanced', maxCompletionTokens: MAX_COMPLETION_TOKENS } as const
      const { tokens, promptBytes } = atOnce(reservationOf(route, json, seen.body, rules))
      const entry: Served = {
        ...{ ...owed, model: `m/${name}`, status: behaviour.status ?? transcript.status },
        ...{ reserved: tokens, promptBytes, received: 0, done: false },
      }
      if (entry.ends === 'whole') entry.digest ??= digestOf(body)
      if (served.has(marker)) wrong.push(`upstream was asked twice for ${marker}`)
      served.set(marker, entry)
      void seen.done.then(() => {
        if (entry.due === 'estimate') {
          const sent = Buffer.from(body).subarray(0, seen.sent)
          entry.received = receivedIn(sent, transcript.headers['content-type'])
        }
        entry.done = true
      })
      return behaviour
    })
  }
  return { served, wrong }
}
