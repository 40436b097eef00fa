import fc from 'fast-check'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { expect, test } from 'vitest'
import { createMeter, usageOf, type Meter, type Metered } from '../../src/metering/meter.ts'
import type { MeteredRoute } from '../../src/metering/reservation.ts'
import { transcripts, type Transcript } from '../support/transcripts.ts'

const METERED: readonly string[] = ['chat/completions', 'responses', 'embeddings']
const isMetered = (route: string): route is MeteredRoute => METERED.includes(route)

/** The fields of a stream's deltas that contain text. */
const SAYING = new Set(['content', 'reasoning', 'arguments', 'delta'])

function saidIn(value: unknown): string[] {
  if (typeof value !== 'object' || value === null) return []
  return Object.entries(value).flatMap(([key, one]) =>
    typeof one === 'string' && SAYING.has(key) ? [one] : saidIn(one),
  )
}

/** The bytes of an answer, or of the deltas of a stream, computed from the whole answer at once. */
function bytesIn(body: Uint8Array, headers: Record<string, string>): number {
  if (!headers['content-type']?.startsWith(SSE)) return body.length
  const lines = Buffer.from(body).toString().split(/\r?\n/)
  const events = lines.filter((line) => line.startsWith('data: {') && line.includes('"delta"'))
  const said = events.flatMap((line) => saidIn(JSON.parse(line.slice(6))))
  return said.reduce((sum, text) => sum + Buffer.byteLength(JSON.stringify(text)) - 2, 0)
}

const SSE = 'text/event-stream'
const JSON_TYPE = 'application/json'
const MB = 1024 * 1024

/** The transcripts for a meter, each with the expected result. */
const answers = Object.values<Transcript>(transcripts).flatMap(
  ({ name, route, status, headers, body, usage, deltas }) =>
    isMetered(route) && status === 200
      ? [
          {
            name,
            route,
            body,
            type: headers['content-type'] ?? null,
            expected: { ...(usage && { usage }), deltas, bytes: bytesIn(body, headers) },
          },
        ]
      : [],
)

const encode = (text: string) => new TextEncoder().encode(text)

/** Cuts bytes at the given places. A repeated place gives an empty chunk. */
function cut(bytes: Uint8Array, places: number[]): Uint8Array[] {
  const sorted = [0, ...places.toSorted((a, b) => a - b), bytes.length]
  return sorted.slice(1).map((place, i) => bytes.subarray(sorted[i], place))
}

/** The meter's whole result for an answer. */
function meter(
  chunks: Uint8Array[],
  type: string | null,
  route: MeteredRoute = 'chat/completions',
): Metered {
  const meter = createMeter(route, type)
  for (const chunk of chunks) meter.write(chunk)
  return meter.end()
}

/** A meter's result, without the number of bytes. */
function foundBy(meter: Meter): Omit<Metered, 'bytes'> {
  const { bytes: _, ...found } = meter.end()
  return found
}

const read = (chunks: Uint8Array[], type: string | null, route?: MeteredRoute) =>
  foundBy({ write: () => undefined, end: () => meter(chunks, type, route) })

const readStream = (text: string, places: number[] = []) => read(cut(encode(text), places), SSE)
const readJson = (body: unknown, route?: MeteredRoute) =>
  read([encode(JSON.stringify(body))], JSON_TYPE, route)

const places = (length: number) => fc.array(fc.nat(length), { maxLength: 12 })

/** A chunk of a chat stream with usage at the top level. */
const data = (prompt: number, completion: number) =>
  `data: {"usage":{"prompt_tokens":${prompt},"completion_tokens":${completion}}}`
const counted = (prompt: number, completion: number): Omit<Metered, 'bytes'> => ({
  usage: { prompt, completion, total: prompt + completion },
  deltas: 0,
})

test.each(answers)(
  'finds the usage, the deltas and the bytes of $name',
  ({ body, type, route, expected }) => {
    expect(meter([body], type, route)).toEqual(expected)
  },
)

test.each(answers)('finds the same in $name byte by byte', ({ body, type, route, expected }) => {
  const bytes = Array.from(body, (_, i) => body.subarray(i, i + 1))
  expect(meter(bytes, type, route)).toEqual(expected)
})

test.each(answers)('finds the same in $name cut in two', ({ body, type, route, expected }) => {
  for (let at = 0; at <= body.length; at += 1) {
    expect(meter(cut(body, [at]), type, route)).toEqual(expected)
  }
})

test.each(answers)('finds the same in $name with any cuts', ({ body, type, route, expected }) => {
  fc.assert(
    fc.property(places(body.length), (at) => {
      expect(meter(cut(body, at), type, route)).toEqual(expected)
    }),
  )
})

test.each(answers.filter(({ type }) => type === SSE))(
  'finds the same in $name with any line ends, a BOM and comments',
  ({ body, route, expected }) => {
    const lines = new TextDecoder().decode(body).split(/\r?\n/)
    for (const end of ['\n', '\r\n', '\r']) {
      const comment = `${end}: a comment with "usage" and "delta"${end}`
      const bytes = encode(`\ufeff:${end}${lines.join(comment)}`)
      fc.assert(
        fc.property(places(bytes.length), (at) => {
          expect(meter(cut(bytes, at), SSE, route)).toEqual(expected)
        }),
        { numRuns: 30 },
      )
    }
  },
)

test.each(answers.filter(({ type }) => type === SSE))(
  'never finds more in $name if it breaks off',
  ({ body, route, expected }) => {
    for (let end = 0; end <= body.length; end += 1) {
      const { usage, deltas, bytes } = meter([body.subarray(0, end)], SSE, route)
      expect(deltas).toBeLessThanOrEqual(expected.deltas)
      expect(bytes).toBeLessThanOrEqual(expected.bytes)
      if (usage) expect(usage).toEqual(expected.usage)
    }
  },
)

test.each([
  ['LF', `${data(3, 4)}\n\n`],
  ['CR only', `${data(3, 4)}\r\r`],
  ['CRLF', `${data(3, 4)}\r\n\r\n`],
  ['a mix of line ends', `:\r\n\n\r${data(3, 4)}\r\n\r`],
  ['a BOM', `\ufeff${data(3, 4)}\n\n`],
  ['comments in between', `: "usage"\n${data(3, 4)}\n: more\n\n`],
  ['other fields', `id: 7\nevent: chunk\nretry: 10\n${data(3, 4)}\n\n`],
  ['no blank after the colon', `${data(3, 4).replace('data: ', 'data:')}\n\n`],
  ['data over several lines', `${data(3, 4).replaceAll(',', ',\ndata: ')}\n\n`],
  ['data over several lines with CRLF', `${data(3, 4).replaceAll(',', ',\r\ndata: ')}\r\n\r\n`],
  ['an empty data line before', `data:\n${data(3, 4)}\n\n`],
  ['no blank line at the end', `${data(3, 4)}\n`],
  ['no line end at the end', data(3, 4)],
  ['a lone CR at the end', `${data(3, 4)}\r`],
  ['[DONE] after it', `${data(3, 4)}\n\ndata: [DONE]\n\n`],
  ['broken JSON after it', `${data(3, 4)}\n\ndata: {"usage":{"prompt_tokens":\n\n`],
])('reads a stream with %s, cut anywhere', (_, text) => {
  const { length } = encode(text)
  for (let at = 0; at <= length; at += 1) expect(readStream(text, [at])).toEqual(counted(3, 4))
  const everyByte = Array.from({ length }, (_, i) => i)
  expect(readStream(text, everyByte)).toEqual(counted(3, 4))
})

test.each([
  ['nothing', ''],
  ['an event that breaks off', data(3, 4).slice(0, -1)],
  ['a line that is no field', data(3, 4).replace('data: ', '')],
  ['a field that only begins like data', data(3, 4).replace('data', 'database')],
  ['an indented field', ` ${data(3, 4)}`],
  ['usage in a string', 'data: {"choices":[{"text":"\\"usage\\":{\\"prompt_tokens\\":1}"}]}'],
  ['usage in a choice', `data: {"choices":[${data(3, 4).slice(6)}]}`],
])('finds no usage in a stream of %s', (_, text) => {
  expect(readStream(`${text}\n\n`)).toEqual({ deltas: 0 })
})

test('loses nothing after a CR that ends a chunk, whatever ends the next one', () => {
  expect(readStream(`: a comment\r${data(3, 4)}\n`, [12])).toEqual(counted(3, 4))
})

/** A stream of these events. */
const stream = (...events: unknown[]) =>
  events.map((event) => `data: ${typeof event === 'string' ? event : JSON.stringify(event)}\n\n`)
const chat = (delta: unknown) => ({ choices: [{ index: 0, delta }] })
const sizedStream = (events: string[]) => meter([encode(events.join(''))], SSE)

test.each<[string, unknown, number]>([
  ['text', chat({ content: 'Hello' }), 5],
  ['no text', chat({ role: 'assistant', content: '' }), 0],
  ['null', chat({ content: null }), 0],
  ['an end', chat({}), 0],
  ['reasoning', chat({ reasoning: 'Greet', channel: 'analysis' }), 5],
  ['reasoning and text', chat({ reasoning: 'Hm', content: 'Hi!' }), 5],
  [
    'the arguments of a tool call',
    chat({ tool_calls: [{ index: 0, id: 'call_1', function: { name: 'f', arguments: '{}' } }] }),
    2,
  ],
  [
    'the arguments of two tool calls',
    chat({ tool_calls: [{ function: { arguments: '[1]' } }, { function: { arguments: '[22]' } }] }),
    7,
  ],
  ['two choices', { choices: [{ delta: { content: 'one' } }, { delta: { content: 'other' } }] }, 8],
  ['probabilities', chat({ content: 'Hi', logprobs: { content: [{ token: 'Hi' }] } }), 2],
  ['text of the Responses API', { type: 'response.output_text.delta', delta: 'Hello' }, 5],
  ['reasoning of the Responses API', { type: 'response.reasoning_text.delta', delta: 'Hm' }, 2],
  [
    'arguments of the Responses API',
    { type: 'response.function_call_arguments.delta', delta: '{"a":1}' },
    // Counted as escaped in the JSON: {\"a\":1}
    9,
  ],
  ['blanks around the colon', '{"choices":[{"delta":{"content": "Hi"}}]}', 2],
])('counts one delta with the bytes of its text: %s', (_, event, bytes) => {
  const events = stream(event)
  expect(sizedStream(events)).toEqual({ deltas: 1, bytes })
  expect(sizedStream([...events, ...events])).toEqual({ deltas: 2, bytes: 2 * bytes })
})

test.each<[string, string, number]>([
  ['a quote', '\\"', 2],
  ['an escaped backslash at the end', 'a\\\\', 3],
  ['a quote behind a backslash', '\\\\\\"', 4],
  ['an escape by number', '\\u00e9', 6],
  ['two bytes', 'é', 2],
  ['three bytes', '水', 3],
  ['four bytes', '👋', 4],
  ['a line end', 'a\\nb', 4],
  ['what looks like a field', '\\"content\\":\\"abc\\"', 19],
  ['what looks like an end', '\\"}}]}', 6],
])('counts the bytes of a text as escaped in the JSON: %s', (_, text, bytes) => {
  const events = stream(`{"choices":[{"delta":{"content":"${text}"}}]}`)
  expect(sizedStream(events)).toEqual({ deltas: 1, bytes })
  const whole = encode(events.join(''))
  for (let at = 0; at <= whole.length; at += 1) {
    expect(meter(cut(whole, [at]), SSE)).toEqual({ deltas: 1, bytes })
  }
})

test('counts the bytes of any text that is streamed', () => {
  const text = fc.string({ unit: 'binary', maxLength: 50 })
  fc.assert(
    fc.property(fc.array(text, { maxLength: 8 }), (texts) => {
      const size = texts.reduce((sum, one) => sum + encode(JSON.stringify(one)).length - 2, 0)
      const said = texts.map((one) => chat({ content: one }))
      const written = texts.map((delta) => ({ type: 'response.output_text.delta', delta }))
      for (const events of [said, written]) {
        const expected = { deltas: texts.length, bytes: size }
        expect(sizedStream(stream(...events))).toEqual(expected)
      }
    }),
  )
})

test('counts no bytes of text that a complete answer repeats', () => {
  const events = stream(
    { type: 'response.output_text.delta', delta: 'Hello' },
    { type: 'response.output_text.done', text: 'Hello' },
    { type: 'response.content_part.done', part: { type: 'output_text', text: 'Hello' } },
    { type: 'response.completed', response: { output: [{ content: [{ text: 'Hello' }] }] } },
  )
  expect(sizedStream(events)).toEqual({ deltas: 1, bytes: 5 })
})

test('counts the bytes of any answer that is not a stream', () => {
  expect(meter([encode('{"a":"é"}'), encode(' no JSON')], JSON_TYPE)).toEqual({
    deltas: 0,
    bytes: 18,
  })
  expect(meter([], JSON_TYPE)).toEqual({ deltas: 0, bytes: 0 })
})

test('still counts bytes in a JSON answer that it has given up, and no longer in a stream', () => {
  const bytes = 9 * MB
  expect(writeMuch(JSON_TYPE, '', '', 9).end()).toEqual({ deltas: 0, bytes, over: true })
  const before = stream(chat({ content: 'Hello' })).join('')
  const after = `\n\n${before}`
  expect(writeMuch(SSE, `${before}data: `, after, 9).end()).toEqual({
    deltas: 1,
    bytes: 5,
    over: true,
  })
})

test.each(['x', '\\n', 'é'])('reads a delta of 7 MB of %j', (char) => {
  const text = char.repeat((7 * MB) / char.length)
  const { deltas, bytes } = sizedStream(stream(`{"choices":[{"delta":{"content":"${text}"}}]}`))
  expect({ deltas, bytes }).toEqual({ deltas: 1, bytes: Buffer.byteLength(text) })
})

test('counts no delta for the word in a text', () => {
  const text = JSON.stringify({ choices: [{ message: { content: 'a "delta" \\"delta\\"' } }] })
  expect(readStream(`data: ${text}\n\n`).deltas).toBe(0)
})

test('takes the last readable usage of a stream and adds nothing up', () => {
  const events = [data(1, 2), data(3, 4), data(3, 5), 'data: {"usage":null}', data(9, -1)]
  expect(readStream(events.join('\n\n'))).toEqual(counted(3, 5))
})

test.each([
  ['only cache counters', { x_groq: { usage: { dram_cached_tokens: 0, sram_cached_tokens: 64 } } }],
  ['null', { usage: null }],
  ['a list', { usage: [] }],
  ['a text', { usage: '{"prompt_tokens":1,"completion_tokens":1}' }],
  ['nothing in it', { usage: {} }],
  ['no prompt', { usage: { completion_tokens: 4, total_tokens: 7 } }],
  ['no completion', { usage: { prompt_tokens: 3, total_tokens: 7 } }],
])('ignores usage that is or has %s', (_, body) => {
  expect(readJson(body)).toEqual({ deltas: 0 })
  const text = `${data(3, 4)}\n\ndata: ${JSON.stringify(body)}\n\n`
  expect(readStream(text)).toEqual(counted(3, 4))
})

test('reads usage from x_groq if it is nowhere else', () => {
  const usage = { prompt_tokens: 3, completion_tokens: 4, total_tokens: 7 }
  expect(readJson({ x_groq: { usage } })).toEqual(counted(3, 4))
  expect(readJson({ x_groq: { usage }, usage: null })).toEqual(counted(3, 4))
  expect(
    readJson({ x_groq: { usage }, usage: { prompt_tokens: 3, completion_tokens: 5 } }),
  ).toEqual(counted(3, 5))
})

test.each([
  ['response.completed', {}],
  ['response.incomplete', { incomplete_details: { reason: 'max_output_tokens' } }],
  ['response.failed', { error: { code: 'server_error', message: 'x' } }],
])('reads the usage of the Responses API from %s', (type, fields) => {
  const usage = {
    input_tokens: 77,
    input_tokens_details: { cached_tokens: 64 },
    output_tokens: 8,
    output_tokens_details: { reasoning_tokens: 3 },
    total_tokens: 85,
  }
  const event = (value: unknown) =>
    `event: ${type}\ndata: ${JSON.stringify({ type, response: { ...fields, usage: value } })}\n\n`
  expect(readStream(event(null) + event(usage))).toEqual({
    usage: { prompt: 77, completion: 8, total: 85, cached: 64, reasoning: 3 },
    deltas: 0,
  })
})

test('needs completion tokens, except for embeddings', () => {
  const body = { usage: { prompt_tokens: 6, total_tokens: 6 } }
  expect(readJson(body, 'embeddings')).toEqual(counted(6, 0))
  expect(readJson(body, 'chat/completions')).toEqual({ deltas: 0 })
  expect(readJson(body, 'responses')).toEqual({ deltas: 0 })
})

test('takes zero as a number and not as missing', () => {
  const zero = { prompt_tokens: 0, completion_tokens: 0, total_tokens: 0 }
  const details = {
    prompt_tokens_details: { cached_tokens: 0 },
    completion_tokens_details: { reasoning_tokens: 0 },
  }
  expect(readJson({ usage: { ...zero, ...details } })).toEqual({
    usage: { prompt: 0, completion: 0, total: 0, cached: 0, reasoning: 0 },
    deltas: 0,
  })
  expect(readStream(`${data(3, 4)}\n\n${data(0, 0)}\n\n`)).toEqual(counted(0, 0))
})

test('keeps cached and reasoning tokens out of the sums', () => {
  const usage = usageOf({
    usage: {
      prompt_tokens: 100,
      completion_tokens: 50,
      total_tokens: 150,
      prompt_tokens_details: { cached_tokens: 90 },
      completion_tokens_details: { reasoning_tokens: 40 },
    },
  })
  expect(usage).toEqual({ prompt: 100, completion: 50, total: 150, cached: 90, reasoning: 40 })
})

test.each([
  [99, 99],
  [100, 100],
  [101, undefined],
])('accepts no more cached tokens than the prompt has: of 100, %i are %s', (stated, cached) => {
  const usage = {
    prompt_tokens: 100,
    completion_tokens: 50,
    total_tokens: 150,
    prompt_tokens_details: { cached_tokens: stated },
  }
  expect(usageOf({ usage })?.cached).toBe(cached)
  expect(usageOf({ usage })).toMatchObject({ prompt: 100, completion: 50, total: 150 })
})

test.each([
  [7, undefined],
  [8, true],
  [0, true],
  [undefined, undefined],
  [null, undefined],
  ['8', undefined],
  [-7, undefined],
])('with a stated total of %j beside 3 and 4, flags a mismatch: %j', (total_tokens, mismatch) => {
  const usage = usageOf({ usage: { prompt_tokens: 3, completion_tokens: 4, total_tokens } })
  expect(usage?.total).toBe(7)
  expect(usage?.mismatch).toBe(mismatch)
})

test.each([
  ['nothing written and no total', 3, 0, 0, undefined],
  ['nothing written and a wrong total', 3, 0, 4, true],
  ['something written and no total', 3, 4, 0, true],
  ['no prompt and a total', 0, 0, 1, true],
])(
  '%s is a mismatch: %i, %i, %i: %j',
  (_, prompt_tokens, completion_tokens, total_tokens, flag) => {
    const usage = usageOf({ usage: { prompt_tokens, completion_tokens, total_tokens } })
    expect(usage?.total).toBe(prompt_tokens + completion_tokens)
    expect(usage?.mismatch).toBe(flag)
  },
)

/** JSON values that are not a whole number of tokens. */
const UNREADABLE = [
  'null',
  '-1',
  '1.5',
  '1e-3',
  '1e308',
  '1e999',
  '-1e999',
  '1000000001',
  '9007199254740993',
  '"12"',
  '""',
  'true',
  'false',
  '[]',
  '[3]',
  '{}',
]

test.each(UNREADABLE)('counts %s as missing in any field', (value) => {
  const usage = (fields: string) => `{"usage":{${fields}}}`
  const unreadable = [
    usage(`"prompt_tokens":${value},"completion_tokens":4`),
    usage(`"prompt_tokens":3,"completion_tokens":${value}`),
    usage(`"input_tokens":${value},"output_tokens":${value}`),
  ]
  for (const body of unreadable) {
    expect(read([encode(body)], JSON_TYPE)).toEqual({ deltas: 0 })
    expect(readStream(`${data(3, 4)}\n\ndata: ${body}\n\n`)).toEqual(counted(3, 4))
  }
  const details = `"prompt_tokens_details":{"cached_tokens":${value}},"completion_tokens_details":{"reasoning_tokens":${value}}`
  const body = usage(`"prompt_tokens":3,"completion_tokens":4,"total_tokens":${value},${details}`)
  expect(read([encode(body)], JSON_TYPE)).toEqual(counted(3, 4))
  const prompt = usage(`"prompt_tokens":${value},"total_tokens":${value}`)
  expect(read([encode(prompt)], JSON_TYPE, 'embeddings')).toEqual({ deltas: 0 })
})

test('accepts the largest amount', () => {
  expect(readStream(data(1e9, 1e9))).toEqual(counted(1e9, 1e9))
  expect(readStream('data: {"usage":{"prompt_tokens":16.0,"completion_tokens":1e2}}')).toEqual(
    counted(16, 100),
  )
})

test.each([
  [SSE, true],
  ['text/event-stream; charset=utf-8', true],
  ['Text/Event-Stream ;charset=utf-8', true],
  ['application/json', false],
  ['application/json; charset=utf-8', false],
  ['text/plain', false],
  ['', false],
  [null, false],
])('takes the content type %j for a stream: %j', (type, stream) => {
  expect(read([encode(`${data(3, 4)}\n\n`)], type)).toEqual(stream ? counted(3, 4) : { deltas: 0 })
  expect(read([encode(data(3, 4).slice(6))], type)).toEqual(stream ? { deltas: 0 } : counted(3, 4))
})

test('reads JSON with a BOM and white space around it', () => {
  expect(read([encode(`\ufeff\r\n ${data(3, 4).slice(6)} \n`)], JSON_TYPE)).toEqual(counted(3, 4))
})

const filler = encode('x'.repeat(64 * 1024))

const OVER = { deltas: 0, over: true }

/** Writes more than the meter's buffer can hold, between two texts. */
function writeMuch(type: string, before: string, after: string, megabytes: number) {
  const meter = createMeter('chat/completions', type)
  meter.write(encode(before))
  for (let i = 0; i < megabytes * 16; i += 1) meter.write(filler)
  meter.write(encode(after))
  return meter
}

test.each([
  ['JSON of 7 MB', JSON_TYPE, '{"text":"', `",${data(3, 4).slice(7)}`, 7, counted(3, 4)],
  ['JSON of 9 MB', JSON_TYPE, '{"text":"', `",${data(3, 4).slice(7)}`, 9, OVER],
  ['an event of 7 MB', SSE, 'data: {"text":"', `",${data(3, 4).slice(7)}\n\n`, 7, counted(3, 4)],
  ['an event of 9 MB', SSE, 'data: {"text":"', `",${data(3, 4).slice(7)}\n\n`, 9, OVER],
  ['a comment of 9 MB', SSE, ': ', `\n${data(3, 4)}\n\n`, 9, OVER],
])('reads an answer of up to 8 MB: %s', (_, type, before, after, megabytes, expected) => {
  expect(foundBy(writeMuch(type, before, after, megabytes))).toEqual(expected)
})

test('gives up an event of many lines that is too long in total', () => {
  const meter = createMeter('chat/completions', SSE)
  const line = encode(`data: ${'x'.repeat(64 * 1024)}\n`)
  for (let i = 0; i < 9 * 16; i += 1) meter.write(line)
  meter.write(encode(`\n${data(3, 4)}\n\n`))
  expect(foundBy(meter)).toEqual(OVER)
})

test('keeps what it had found before an event that is too long', () => {
  const before = `data: {"delta":1}\n\n${data(3, 4)}\n\ndata: `
  expect(foundBy(writeMuch(SSE, before, '\n\n', 9))).toEqual({
    ...counted(3, 4),
    ...OVER,
    deltas: 1,
  })
})

test.each([JSON_TYPE, SSE])('keeps no memory of a %s answer that it has given up', (type) => {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  collect()
  const before = process.memoryUsage().heapUsed
  const meter = writeMuch(type, '', '', 64)
  collect()
  expect(process.memoryUsage().heapUsed - before).toBeLessThan(4 * MB)
  expect(foundBy(meter)).toEqual(OVER)
})

test('takes linear time for an event in many small chunks', () => {
  const chunk = encode('x'.repeat(256))
  const time = (bytes: number) => {
    const meter = createMeter('responses', SSE)
    const from = performance.now()
    meter.write(encode('data: '))
    for (let i = 0; i < bytes / chunk.length; i += 1) meter.write(chunk)
    meter.end()
    return performance.now() - from
  }
  time(MB)
  // The best of five runs, because the machine is also busy with other work.
  const best = (bytes: number) => Math.min(...Array.from({ length: 5 }, () => time(bytes)))
  // Linear time gives a factor of 8; rereading everything with each chunk would give 64.
  expect(best(4 * MB)).toBeLessThan(32 * Math.max(best(MB / 2), 1))
})

const word = fc.constantFrom(
  'data: ',
  'data:',
  'data',
  '\n',
  '\r',
  '\r\n',
  '\n\n',
  ':',
  '\ufeff',
  '{"usage":',
  '{"response":',
  '{"x_groq":{"usage":',
  '"prompt_tokens":1,',
  '"completion_tokens":2',
  '"delta"',
  '{',
  '}',
  '}}',
  '[DONE]',
  'null',
  '\u{1f9ee}',
)

test.each([SSE, JSON_TYPE])('never throws for any bytes as %s, and cuts change nothing', (type) => {
  const bytes = fc.oneof(
    fc.uint8Array({ maxLength: 200 }),
    fc.array(word, { maxLength: 40 }).map((words) => encode(words.join(''))),
  )
  fc.assert(
    fc.property(bytes, fc.array(fc.nat(200), { maxLength: 20 }), (body, at) => {
      const inside = at.map((place) => Math.min(place, body.length))
      for (const route of METERED.filter(isMetered)) {
        expect(meter(cut(body, inside), type, route)).toEqual(meter([body], type, route))
      }
    }),
    { numRuns: 1000 },
  )
})

test('never throws for any JSON, and its counts are whole, small and add up', () => {
  const amount = fc.oneof(fc.nat(1000), fc.constantFrom(0, 1e9), fc.jsonValue(), fc.double())
  const details = fc.record(
    { cached_tokens: amount, reasoning_tokens: amount },
    { requiredKeys: [] },
  )
  const usage = fc.record(
    {
      prompt_tokens: amount,
      completion_tokens: amount,
      input_tokens: amount,
      output_tokens: amount,
      total_tokens: amount,
      prompt_tokens_details: fc.oneof(details, fc.jsonValue()),
      completion_tokens_details: fc.oneof(details, fc.jsonValue()),
    },
    { requiredKeys: [] },
  )
  const holder = fc.record({ usage: fc.oneof(usage, fc.jsonValue()) }, { requiredKeys: [] })
  const body = fc.oneof(
    fc.jsonValue(),
    holder,
    fc.record({ response: holder, x_groq: holder }, { requiredKeys: [] }),
  )
  fc.assert(
    fc.property(body, fc.boolean(), (value, promptOnly) => {
      const found = usageOf(value, promptOnly)
      if (!found) return
      const { prompt, completion, total, cached = 0, reasoning = 0 } = found
      expect(total).toBe(prompt + completion)
      expect(cached).toBeLessThanOrEqual(prompt)
      for (const count of [prompt, completion, cached, reasoning]) {
        expect(Number.isSafeInteger(count) && count >= 0 && count <= 1e9).toBe(true)
      }
    }),
    { numRuns: 1000 },
  )
})
