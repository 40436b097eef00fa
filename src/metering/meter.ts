/**
 * The meter: finds the usage in an answer while its bytes pass through. It never holds back or changes a byte.
 *
 * Groq repeats usage up to three times in a stream (`x_groq.usage`, top level, and the extra chunk of include_usage):
 * the last readable one wins, and nothing is added up.
 */
import { MAX_AUDIO_MS, MAX_TOKENS } from '../ledger/capacity.ts'
import { closingQuote } from './json-text.ts'
import type { Route } from './reservation.ts'

/** Tokens as upstream reported them; cached is part of prompt, reasoning is part of completion. */
export type Usage = {
  prompt: number
  completion: number
  total: number
  cached?: number
  reasoning?: number
  /** Upstream's own total was not prompt + completion. */
  mismatch?: true
}

export type Metered = {
  usage?: Usage
  /** The length of the audio that was transcribed. */
  audioMs?: number
  /**
   * For an estimate if usage is missing: the streamed deltas, and the bytes of the answer; of a stream only the bytes
   * of its text.
   */
  deltas: number
  bytes: number
  /** The answer was too large to be read to its end, so an estimate would be too small. */
  over?: boolean
}

export type Meter = {
  /** Takes the next bytes, split anywhere. */
  write(chunk: Uint8Array): void
  /** Takes the end of the body. */
  end(): Metered
}

/** An answer or a single stream event larger than this is passed on but no longer read. */
const MAX_BUFFER = 8 * 1024 * 1024

/** The meter for a 2xx answer, by its route and content type. */
export function createMeter(route: Route, contentType: string | null | undefined): Meter {
  const type = contentType?.split(';', 1)[0]?.trim().toLowerCase()
  if (route === 'audio/speech') return NO_METER
  if (type === 'text/event-stream') return streamMeter()
  return route === 'audio/transcriptions' || route === 'audio/translations'
    ? jsonMeter(lengthOf)
    : jsonMeter((body) => usageIn(body, route === 'embeddings'))
}

/** The characters that are spoken are known before the call. */
const NO_METER: Meter = { write() {}, end: () => ({ deltas: 0, bytes: 0 }) }

function jsonMeter(read: (body: unknown) => Partial<Metered>): Meter {
  const decoder = new TextDecoder()
  let text = ''
  let over = false
  let bytes = 0
  return {
    write(chunk) {
      bytes += chunk.length
      if (over) return
      text += decoder.decode(chunk, { stream: true })
      over = text.length > MAX_BUFFER
      if (over) text = ''
    },
    end() {
      if (over) return { deltas: 0, bytes, over }
      return { ...read(parse(text + decoder.decode())), deltas: 0, bytes }
    },
  }
}

/** Reads server-sent events: https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream */
function streamMeter(): Meter {
  const decoder = new TextDecoder()
  const metered: Metered = { deltas: 0, bytes: 0 }
  let rest = ''
  let data = ''
  let over = false
  let afterCr = false

  /** Takes an event's data. Only events that can hold usage are parsed. */
  const event = () => {
    const text = data
    data = ''
    const delta = text.indexOf('"delta"')
    if (delta >= 0) {
      metered.deltas += 1
      metered.bytes += textBytes(text, delta)
    }
    if (!text.includes('"usage"')) return
    const usage = usageOf(parse(text))
    if (usage) metered.usage = usage
  }
  const line = (text: string) => {
    if (text === '') return data && event()
    if (!text.startsWith('data:')) return
    const value = text.slice(text.startsWith('data: ') ? 6 : 5)
    data = data ? `${data}\n${value}` : value
  }

  return {
    write(chunk) {
      if (over) return
      // Only the new bytes are searched: searching a long event again with each chunk takes
      // quadratic time.
      const text = decoder.decode(chunk, { stream: true })
      if (text === '') return
      // The LF of a CRLF may come with the next chunk. It does not end a second line.
      let from = afterCr && text.startsWith('\n') ? 1 : 0
      afterCr = text.endsWith('\r')
      let lf = text.indexOf('\n', from)
      let cr = text.indexOf('\r', from)
      while (lf >= 0 || cr >= 0) {
        const end = lf < 0 || (cr >= 0 && cr < lf) ? cr : lf
        line(rest + text.slice(from, end))
        rest = ''
        from = end + (end === cr && lf === end + 1 ? 2 : 1)
        if (lf >= 0 && lf < from) lf = text.indexOf('\n', from)
        if (cr >= 0 && cr < from) cr = text.indexOf('\r', from)
      }
      rest += text.slice(from)
      over = rest.length + data.length > MAX_BUFFER
      if (over) rest = data = ''
    },
    end() {
      if (over) return { ...metered, over }
      line(rest)
      line('')
      return metered
    },
  }
}

/** The fields in which a delta adds to an answer: text, reasoning, or arguments of a tool call. */
const DELTA_FIELDS = ['"content":', '"reasoning":', '"arguments":', '"delta":']

/** The bytes that a delta adds to an answer, JSON escapes included. This runs for every delta, so it does not parse. */
function textBytes(json: string, from: number): number {
  let bytes = 0
  for (const field of DELTA_FIELDS) {
    for (let at = json.indexOf(field, from); at >= 0; at = json.indexOf(field, at)) {
      at += field.length
      while (json[at] === ' ') at += 1
      if (json[at] !== '"') continue
      const end = closingQuote(json, at + 1)
      bytes += bytesOf(json.slice(at + 1, end))
      at = end
    }
  }
  return bytes
}

const encoder = new TextEncoder()
const bytesOf = (text: string): number =>
  /[^\x00-\x7f]/.test(text) ? encoder.encode(text).length : text.length

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

const at = (value: unknown, key: string): unknown =>
  typeof value === 'object' && value !== null && Object.hasOwn(value, key)
    ? (value as Record<string, unknown>)[key]
    : undefined

function usageIn(body: unknown, promptOnly: boolean): Partial<Metered> {
  const usage = usageOf(body, promptOnly)
  return usage ? { usage } : {}
}

/** The length that a transcription reports, in `duration` or in a usage of seconds. */
function lengthOf(body: unknown): Partial<Metered> {
  const usage = at(body, 'usage')
  const inUsage = at(usage, 'type') === 'duration' ? at(usage, 'seconds') : undefined
  const seconds = inUsage ?? at(body, 'duration')
  if (typeof seconds !== 'number' || !(seconds >= 0)) return {}
  const audioMs = Math.round(seconds * 1000)
  return audioMs <= MAX_AUDIO_MS ? { audioMs } : {}
}

/**
 * The usage in an answer, a chunk or an event of the Responses API, if it has a readable one.
 * With `promptOnly` (embeddings) a missing completion counts as 0.
 */
export function usageOf(body: unknown, promptOnly = false): Usage | undefined {
  const read = (usage: unknown): Usage | undefined => {
    const prompt = count(at(usage, 'prompt_tokens') ?? at(usage, 'input_tokens'))
    const written = at(usage, 'completion_tokens') ?? at(usage, 'output_tokens')
    const stated = count(at(usage, 'total_tokens'))
    const completion = promptOnly ? (count(written) ?? 0) : count(written)
    if (prompt === undefined || completion === undefined) return undefined
    const result: Usage = { prompt, completion, total: prompt + completion }
    // Guard models report no completion, and 0 in total beside a real prompt.
    const isLeftOut = stated === 0 && completion === 0
    if (stated !== undefined && stated !== result.total && !isLeftOut) result.mismatch = true
    const cached = count(
      at(at(usage, 'prompt_tokens_details') ?? at(usage, 'input_tokens_details'), 'cached_tokens'),
    )
    const reasoning = count(
      at(
        at(usage, 'completion_tokens_details') ?? at(usage, 'output_tokens_details'),
        'reasoning_tokens',
      ),
    )
    // More cached tokens than prompt tokens cannot be true, and would make the prompt look cheaper.
    if (cached !== undefined && cached <= prompt) result.cached = cached
    if (reasoning !== undefined) result.reasoning = reasoning
    return result
  }
  return (
    read(at(body, 'usage')) ??
    read(at(at(body, 'response'), 'usage')) ??
    read(at(at(body, 'x_groq'), 'usage'))
  )
}

/** A whole number of tokens; anything else counts as missing, and zero is not missing. */
const count = (value: unknown): number | undefined =>
  typeof value === 'number' && Number.isSafeInteger(value) && value >= 0 && value <= MAX_TOKENS
    ? value
    : undefined
