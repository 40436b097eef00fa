import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { ApiError } from '../../src/errors.ts'
import { atOnce } from '../../src/gateway/steps.ts'
import {
  reservationOf as reserving,
  type ReservationRules,
  type MeteredRoute,
} from '../../src/metering/reservation.ts'

type Json = Record<string, unknown>

const reservationOf = (...given: Parameters<typeof reserving>) => atOnce(reserving(...given))

const BALANCED: ReservationRules = { cap: 'balanced', maxCompletionTokens: 2500 }
const STRICT: ReservationRules = { cap: 'strict', maxCompletionTokens: 2500 }
const CAPS = [BALANCED, STRICT]

/** The additional cost of every request and every message, and the cost of an image. */
const REQUEST = 128
const MESSAGE = 16
const IMAGE = 6400

const CHAT = 'chat/completions'
const model = 'a/one'
const say = (content: unknown) => [{ role: 'user', content }]
const hi = { model, messages: say('Hi') }

const bytesOf = (value: unknown) => new TextEncoder().encode(JSON.stringify(value))
const sizeOf = (value: unknown) => bytesOf(value).length
const reserve = (route: MeteredRoute, body: Json, rules = BALANCED) =>
  reservationOf(route, body, bytesOf(body), rules)
/** The bytes of a body of this size, all of them ASCII. */
const ascii = (size: number) => new Uint8Array(size)

function refusal(route: MeteredRoute, body: Json, rules = BALANCED): ApiError {
  try {
    reserve(route, body, rules)
  } catch (error) {
    if (error instanceof ApiError) return error
    throw error
  }
  throw new Error('It was not refused.')
}

test('takes two bytes a token and the assumed maximum when balanced', () => {
  expect(reservationOf(CHAT, hi, ascii(1001), BALANCED)).toMatchObject({
    tokens: 501 + REQUEST + MESSAGE + 2500,
    promptBytes: 1001,
  })
})

test('takes a byte a token when strict, and returns the maximum to splice in', () => {
  expect(reservationOf(CHAT, hi, ascii(1001), STRICT)).toMatchObject({
    tokens: 1001 + REQUEST + MESSAGE + 2500,
    promptBytes: 1001,
    splice: { field: 'max_completion_tokens', tokens: 2500 },
  })
})

test.each([
  ['messages', CHAT, { messages: [...say('a'), ...say('b'), ...say('c')] }, 3],
  ['no message', CHAT, { messages: [] }, 1],
  ['a text beside an empty list', 'responses', { input: 'a', messages: [] }, 1],
  ['a text', 'responses', { input: 'a' }, 1],
  ['items', 'responses', { input: say('a') }, 1],
  ['lists in both places', 'responses', { input: [...say('a'), ...say('b')], messages: [] }, 2],
] as const)('adds a little for each message: %s', (_, route, fields, count) => {
  const { tokens } = reservationOf(route, { model, ...fields }, ascii(100), BALANCED)
  expect(tokens).toBe(50 + REQUEST + count * MESSAGE + 2500)
})

test.each([
  ['a text', 'a', 1],
  ['texts', ['a', 'b'], 2],
  ['the numbers of one', [1, 2, 3], 1],
  ['the numbers of two', [[1, 2], [3]], 2],
])('counts the input of embeddings, but not its numbers: %s', (_, input, count) => {
  const { tokens } = reservationOf('embeddings', { model, input }, ascii(100), BALANCED)
  expect(tokens).toBe(50 + REQUEST + count * MESSAGE)
})

test.each([
  [CHAT, { max_completion_tokens: 7 }, 7],
  [CHAT, { max_tokens: 7 }, 7],
  [CHAT, { max_completion_tokens: 7, max_tokens: 9 }, 9],
  [CHAT, { max_completion_tokens: 9, max_tokens: 7 }, 9],
  [CHAT, { max_output_tokens: 7 }, 2500],
  [CHAT, { max_completion_tokens: null, max_tokens: 7 }, 7],
  [CHAT, { max_completion_tokens: 7, max_tokens: null }, 7],
  [CHAT, { max_completion_tokens: null, max_tokens: null }, 2500],
  [CHAT, { max_completion_tokens: 9000 }, 9000],
  [CHAT, { n: 1 }, 2500],
  [CHAT, { n: null }, 2500],
  [CHAT, { n: 3 }, 7500],
  [CHAT, { n: 3, max_tokens: 7 }, 21],
  ['responses', { max_output_tokens: 7 }, 7],
  ['responses', { max_output_tokens: null }, 2500],
  ['responses', { max_tokens: 7, max_completion_tokens: 7 }, 2500],
  ['embeddings', {}, 0],
  ['embeddings', { max_tokens: 7, max_completion_tokens: 7, max_output_tokens: 7 }, 0],
] as const)('takes the completion maximum of %s from %j', (route, fields, maximum) => {
  const { tokens, splice } = reservationOf(
    route,
    { model, input: 'a', ...fields },
    ascii(100),
    BALANCED,
  )
  expect(tokens).toBe(50 + REQUEST + MESSAGE + maximum)
  expect(splice).toBeUndefined()
})

const NO_AMOUNT = [
  0,
  -1,
  1.5,
  1e300,
  Number.MAX_SAFE_INTEGER + 1,
  '7',
  '',
  true,
  false,
  [],
  [7],
  {},
]

test.each(
  NO_AMOUNT.flatMap((value) => [CHAT, 'responses', 'embeddings'].map((route) => [route, value])),
)('refuses %s with n = %j', (route, n) => {
  for (const rules of CAPS) {
    const error = refusal(route as MeteredRoute, { ...hi, input: 'a', max_tokens: 1, n }, rules)
    expect(error).toMatchObject({ code: 'invalid_request', param: 'n' })
    expect(error.message).toBe('`n` must be a positive integer.')
  }
})

const MAXIMA = [
  [CHAT, 'max_completion_tokens'],
  [CHAT, 'max_tokens'],
  ['responses', 'max_output_tokens'],
] as const

describe.each(MAXIMA)('%s with a wrong %s', (route, field) => {
  test.each<[unknown, number]>([
    ...[0, -1, 1.5, '', 'x', '7', '-9000', true, false, [], [9000], {}].map(
      (v): [unknown, number] => [v, 2500],
    ),
    ['9000', 9000],
    [2500.5, 2501],
    [1e300, 1e12],
    [Number.MAX_SAFE_INTEGER + 1, 1e12],
  ])('%j reserves what upstream may take it for: %i', (value, maximum) => {
    const { tokens } = reserve(route, { ...hi, input: 'a', [field]: value })
    const without = reserve(route, { ...hi, input: 'a', [field]: 1 }).tokens - 1
    expect(tokens - without).toBeGreaterThanOrEqual(Math.min(maximum, 1e12 - without))
    expect(tokens - without).toBeLessThanOrEqual(maximum + 10)
  })

  test.each(NO_AMOUNT)('%j is refused when strict', (value) => {
    const error = refusal(route, { ...hi, input: 'a', [field]: value }, STRICT)
    expect(error).toMatchObject({ code: 'cost_unbounded', param: field })
    expect(error.message).toContain(`\`${field}\` is not a positive integer`)
  })
})

test('a wrong maximum beside a right one reserves the larger of the right one and the assumed one', () => {
  const { tokens } = reserve(CHAT, { ...hi, max_completion_tokens: 9000, max_tokens: -1 })
  const right = reserve(CHAT, { ...hi, max_completion_tokens: 9000, max_tokens: 1 })
  expect(tokens).toBeGreaterThanOrEqual(right.tokens)
  const small = reserve(CHAT, { ...hi, max_completion_tokens: 7, max_tokens: 'x' })
  expect(small.tokens).toBeGreaterThan(2500)
})

test('is a whole number for any body', () => {
  const huge = { n: Number.MAX_SAFE_INTEGER, max_tokens: Number.MAX_SAFE_INTEGER }
  for (const rules of CAPS) {
    expect(reserve(CHAT, { ...hi, ...huge }, rules).tokens).toBe(1e12)
  }
})

test.each([
  [CHAT, {}, { field: 'max_completion_tokens', tokens: 2500 }],
  [CHAT, { max_tokens: null }, { field: 'max_completion_tokens', tokens: 2500 }],
  [CHAT, { n: 4 }, { field: 'max_completion_tokens', tokens: 2500 }],
  [CHAT, { max_tokens: 7 }, undefined],
  [CHAT, { max_completion_tokens: 7 }, undefined],
  [CHAT, { max_completion_tokens: null, max_tokens: 7 }, undefined],
  ['responses', {}, { field: 'max_output_tokens', tokens: 2500 }],
  ['responses', { max_output_tokens: 7 }, undefined],
  ['embeddings', {}, undefined],
] as const)('when strict, %s with %j gets the maximum %j', (route, fields, splice) => {
  expect(reserve(route, { ...hi, input: 'a', ...fields }, STRICT).splice).toEqual(splice)
})

test.each([
  ['responses', { max_output_tokens: null }, 'max_output_tokens'],
  [CHAT, { max_completion_tokens: null, max_tokens: null }, 'max_completion_tokens'],
] as const)('when strict, %s with %j gets the maximum too', (route, fields, field) => {
  const { splice } = reserve(route, { ...hi, input: 'a', ...fields }, STRICT)
  expect(splice).toEqual({ field, tokens: 2500 })
})

test('when strict, reserves two tokens for a byte that is not ASCII, since tokenizers normalise', () => {
  const of = (content: string) => reserve(CHAT, { model, messages: say(content) }, STRICT).tokens
  // Qwen's tokenizer makes six tokens of these three bytes.
  expect(of('\u0f76'.repeat(100)) - of('')).toBe(600)
  expect(of('é漢\u{1d160}') - of('')).toBe(2 * (2 + 3 + 4))
  expect(of('abc') - of('')).toBe(3)
})

const schema = { type: 'object', properties: { a: { enum: Array<number>(500).fill(0) } } }
const call = { id: 'c', type: 'function', function: { name: 'f', arguments: '{"a":[0,0,0]}' } }

test.each([
  ['tools', CHAT, { tools: [{ type: 'function', function: { name: 'f', parameters: schema } }] }],
  ['functions of the older form', CHAT, { functions: [{ name: 'f', parameters: schema }] }],
  ['a schema', CHAT, { response_format: { type: 'json_schema', json_schema: { schema } } }],
  ['a choice', CHAT, { tool_choice: { type: 'function', function: { name: 'f' } } }],
  ['a choice of the older form', CHAT, { function_call: { name: 'f' } }],
  ['tools', 'responses', { tools: [{ type: 'function', name: 'f', parameters: schema }] }],
  ['a schema', 'responses', { text: { format: { type: 'json_schema', name: 's', schema } } }],
] as const)('when strict, reserves four tokens for each byte of %s: %s', (_, route, fields) => {
  const body = { model, messages: say('Hi'), max_tokens: 1, max_output_tokens: 1 }
  const more = reserve(route, { ...body, ...fields }, STRICT).tokens
  const added = more - reserve(route, body, STRICT).tokens
  const [value] = Object.values(fields) as object[]
  expect(added).toBeGreaterThanOrEqual(4 * sizeOf(value))
  expect(added).toBeLessThan(4 * sizeOf(value) + 40)
  const balanced = reserve(route, { ...body, ...fields }).tokens - reserve(route, body).tokens
  expect(balanced).toBeLessThan((sizeOf(value) + 40) / 2)
})

test.each([
  ['a message', CHAT, { messages: [{ role: 'assistant', tool_calls: [call] }] }, [call]],
  [
    'a message of the older form',
    CHAT,
    { messages: [{ role: 'assistant', function_call: call.function }] },
    call.function,
  ],
  [
    'an item',
    'responses',
    { input: [{ type: 'function_call', call_id: 'c', name: 'f', arguments: '{"a":[0,0]}' }] },
    '{"a":[0,0]}',
  ],
] as const)('when strict, reserves as much for the calls in %s', (_, route, fields, printed) => {
  const body = { model, ...fields }
  const rest = sizeOf(body) - sizeOf(printed)
  expect(reserve(route, body, STRICT).tokens).toBeGreaterThanOrEqual(
    rest + 4 * sizeOf(printed) + REQUEST + MESSAGE + 2500,
  )
})

test('when strict, counts the JSON of tools and not the spaces and escapes that a body has it in', () => {
  const body = { model, messages: say('Hi'), max_tokens: 1, tools: [] as unknown[] }
  body.tools = [{ type: 'function', function: { name: 'f', description: 'é' } }]
  const text = JSON.stringify(body, null, 8).replace('é', '\\u00e9')
  const { tokens } = reservationOf(CHAT, body, new TextEncoder().encode(text), STRICT)
  const printed = sizeOf([body.tools])
  expect(tokens).toBe(text.length + 3 * printed + REQUEST + MESSAGE + 1)
})

const dataUrl = (length: number) => `data:image/png;base64,${'A'.repeat(length)}`

test.each([
  ['chat, an object', CHAT, { type: 'image_url', image_url: { url: dataUrl(1e6) } }],
  ['chat, a text', CHAT, { type: 'image_url', image_url: dataUrl(1e6) }],
  ['responses', 'responses', { type: 'input_image', image_url: dataUrl(1e6) }],
] as const)('leaves image data out and adds a flat sum: %s', (_, route, image) => {
  const field = route === CHAT ? 'messages' : 'input'
  const body = { model, [field]: say([{ type: 'text', text: 'Hi' }, image, image]) }
  const promptBytes = sizeOf(body) - 2 * dataUrl(1e6).length
  expect(promptBytes).toBeLessThan(300)
  expect(reserve(route, body)).toMatchObject({
    tokens: Math.ceil(promptBytes / 2) + 2 * IMAGE + REQUEST + MESSAGE + 2500,
    promptBytes,
  })
})

test('counts images in the result of a tool', () => {
  const output = [{ type: 'input_image', image_url: dataUrl(1e6) }]
  const body = { model, input: [{ type: 'function_call_output', call_id: 'c', output }] }
  const promptBytes = sizeOf(body) - dataUrl(1e6).length
  const tokens = Math.ceil(promptBytes / 2) + IMAGE + REQUEST + MESSAGE + 2500
  expect(reserve('responses', body)).toMatchObject({ tokens, promptBytes })
})

test.each([
  ['an address', { type: 'image_url', image_url: { url: `https://a.test/${'a'.repeat(1e4)}` } }, 1],
  [
    'other data',
    { type: 'image_url', image_url: { url: `data:text/plain,${'a'.repeat(1e4)}` } },
    1,
  ],
  ['no address', { type: 'image_url', image_url: { url: 7 } }, 1],
  ['nothing', { type: 'image_url', image_url: null }, 1],
  ['another type', { type: 'text', text: '', image_url: { url: dataUrl(1e4) } }, 0],
  ['no type', { image_url: { url: dataUrl(1e4) } }, 0],
])('counts every byte where image data is not an image: %s', (_, part, images) => {
  const body = { model, messages: say([part]) }
  const { tokens, promptBytes } = reserve(CHAT, body)
  expect(promptBytes).toBe(sizeOf(body))
  expect(tokens).toBe(
    Math.ceil(promptBytes / 2) + images * IMAGE + REQUEST + MESSAGE + BALANCED.maxCompletionTokens,
  )
})

test.each([
  ['a text as message', { messages: ['a', null, 7, [dataUrl(10)]] }],
  ['a message without content', { messages: [{}, { content: null }, { content: 7 }] }],
  ['parts that are no objects', { messages: say(['a', null, 7, []]) }],
  ['messages that are no list', { messages: { content: [{ type: 'image_url' }] } }],
])('reads on over %s', (_, fields) => {
  for (const rules of CAPS)
    expect(reserve(CHAT, { model, ...fields }, rules).tokens).toBeGreaterThan(0)
})

const part = (fields: object) => ({ messages: say([{ type: 'text', text: 'a' }, fields]) })
const item = (fields: object) => ({ input: [...say('a'), fields] })
const tool = { type: 'function', function: { name: 'f', parameters: {} } }

test.each([
  ['groq/compound', { model: 'groq/compound' }, 'model'],
  ['tools that are not a list', { tools: { type: 'mcp' } }, 'tools'],
  ['an input that is an object', { input: { type: 'input_file' } }, 'input'],
  [
    'content that is an object',
    { messages: [{ role: 'user', content: { file_id: 'f' } }] },
    'messages',
  ],
  ['documents', { documents: [{}] }, 'documents'],
  ['search settings', { search_settings: {} }, 'search_settings'],
  ['compound settings', { compound_custom: {} }, 'compound_custom'],
  ['background work', { background: true }, 'background'],
  ['groq/compound-mini', { model: 'groq/compound-mini' }, 'model'],
  ['compound-beta', { model: 'compound-beta' }, 'model'],
  ['Groq/Compound', { model: 'Groq/Compound' }, 'model'],
  ['browser search', { tools: [{ type: 'browser_search' }] }, 'tools'],
  ['code interpreter', { tools: [tool, { type: 'code_interpreter' }] }, 'tools'],
  ['web search', { tools: [{ type: 'web_search_preview' }] }, 'tools'],
  ['mcp', { tools: [{ type: 'mcp', server_url: 'https://a.test' }] }, 'tools'],
  ['a tool without a type', { tools: [{}] }, 'tools'],
  ['a tool that is no object', { tools: [null] }, 'tools'],
  ['previous_response_id', { previous_response_id: 'resp_1' }, 'previous_response_id'],
  ['conversation', { conversation: { id: 'conv_1' } }, 'conversation'],
  ['a stored prompt', { prompt: { id: 'pmpt_1' } }, 'prompt'],
  [
    'a file',
    part({ type: 'file', file: { file_data: 'data:application/pdf;base64,' } }),
    'messages',
  ],
  ['a file by id', part({ type: 'input_file', file_id: 'file_1' }), 'messages'],
  ['a file by address', part({ type: 'input_file', file_url: 'https://a.test' }), 'messages'],
  [
    'a packed file',
    part({ type: 'input_file', file_data: 'data:application/pdf;base64,' }),
    'messages',
  ],
  [
    'an image from elsewhere',
    part({ type: 'input_image', file_url: 'https://a.test' }),
    'messages',
  ],
  ['an image by id', part({ type: 'input_image', file_id: 'file_1' }), 'messages'],
  ['an item by id', item({ type: 'item_reference', id: 'msg_1' }), 'input'],
  ['an item by nothing but its id', item({ id: 'msg_1' }), 'input'],
  [
    'a file that a tool gave',
    item({ type: 'function_call_output', output: [{ type: 'input_file', file_id: 'f' }] }),
    'messages',
  ],
])('when strict, refuses what the body cannot bound: %s', (_, fields, param) => {
  const body = { ...hi, ...fields }
  const refused = refusal(CHAT, body, STRICT)
  expect(refused).toMatchObject({ code: 'cost_unbounded', status: 400, param })
  expect(refused.message).toMatch(
    /^This gateway enforces a strict cap, and the cost of \S.+ cannot be bounded in advance\.$/,
  )
  expect(refusal('responses', body, STRICT)).toMatchObject({ code: 'cost_unbounded', param })
  expect(reserve(CHAT, body).tokens).toBeGreaterThan(0)
})

test.each([
  ['functions', { tools: [tool, { type: 'custom', name: 'g' }] }],
  ['null for what refers to kept text', { previous_response_id: null, prompt: null, tools: null }],
  ['an image', part({ type: 'image_url', image_url: { url: dataUrl(10) } })],
  ['no background work', { background: false }],
  ['a call with an id', item({ type: 'function_call', id: 'fc_1', call_id: 'c', name: 'f' })],
  ['items with ids', item({ type: 'message', id: 'msg_1', role: 'assistant', content: [] })],
  ['a message with an id', item({ id: 'msg_1', role: 'user', content: 'a' })],
  ['what a tool gave', item({ type: 'function_call_output', call_id: 'c', output: 'a' })],
  ['a model that only sounds alike', { model: 'a/compound' }],
])('when strict, takes %s', (_, fields) => {
  expect(reserve(CHAT, { ...hi, ...fields }, STRICT).tokens).toBeGreaterThan(0)
})

/** Text with characters that are longer in one of JSON, UTF-8 and UTF-16 than in the other two. */
const text = fc.string({
  unit: fc.oneof(
    fc.string({ unit: 'binary', minLength: 1, maxLength: 1 }),
    fc.constantFrom('"', '\\', '\n', '\0', '\u{1f9ee}', 'ß', '漢'),
  ),
  maxLength: 60,
})
const amount = fc.integer({ min: 1, max: 100_000 })
const content = fc.oneof(
  text,
  fc.array(fc.record({ type: fc.constant('text'), text }), { maxLength: 4 }),
)
const chat = fc.record(
  {
    messages: fc.array(fc.record({ role: fc.constantFrom('user', 'system'), content }), {
      maxLength: 6,
    }),
    n: fc.option(fc.integer({ min: 1, max: 9 })),
    max_tokens: amount,
    max_completion_tokens: amount,
    temperature: fc.double({ noNaN: true, noDefaultInfinity: true }),
  },
  { requiredKeys: ['messages'] },
)

const textsOf = (messages: { content: string | { text: string }[] }[]) =>
  messages.flatMap(({ content }) =>
    typeof content === 'string' ? content : content.map((part) => part.text),
  )

test('when strict, is at least a token for each byte of text and each token of completion', () => {
  fc.assert(
    fc.property(chat, fc.integer({ min: 1, max: 50_000 }), (fields, maxCompletionTokens) => {
      const body = { model, ...fields }
      const { tokens, splice } = reserve(CHAT, body, { cap: 'strict', maxCompletionTokens })
      const bytes = textsOf(body.messages).join('')
      const sent = Math.max(body.max_tokens ?? 0, body.max_completion_tokens ?? 0)
      const maximum = splice?.tokens ?? sent
      expect(maximum).toBe(sent || maxCompletionTokens)
      const utf8 = new TextEncoder().encode(bytes)
      const ofText = utf8.length + utf8.filter((byte) => byte > 0x7f).length
      expect(tokens).toBeGreaterThanOrEqual(ofText + (body.n ?? 1) * maximum)
    }),
    { numRuns: 500 },
  )
})

test('never shrinks when a body grows', () => {
  const more = fc.record(
    {
      // None of these fields may make a body cheaper.
      messages: fc.array(fc.record({ role: fc.constant('user'), content: text })),
      input: fc.oneof(text, fc.array(text)),
      padding: fc.nat(1000),
      user: text,
      max_output_tokens: fc.integer({ min: 2500, max: 9000 }),
      n: fc.integer({ min: 1, max: 4 }),
    },
    { requiredKeys: ['padding'] },
  )
  const small = fc.oneof(
    fc.record({ messages: fc.array(fc.record({ role: fc.constant('user'), content: text })) }),
    fc.record({
      input: fc.oneof(text, fc.array(fc.record({ role: fc.constant('user'), content: text }))),
    }),
  )
  fc.assert(
    fc.property(
      small,
      more,
      fc.constantFrom<MeteredRoute>(CHAT, 'responses', 'embeddings'),
      fc.constantFrom(...CAPS),
      (body, { padding, ...added }, route, rules) => {
        const larger = { ...added, ...body }
        const before = reservationOf(route, body, ascii(sizeOf(body)), rules)
        const after = reservationOf(route, larger, ascii(sizeOf(larger) + padding), rules)
        expect(after.tokens).toBeGreaterThanOrEqual(before.tokens)
        expect(after.promptBytes).toBeGreaterThanOrEqual(before.promptBytes)
        const longer = reservationOf(route, body, ascii(sizeOf(body) + padding), rules)
        expect(longer.tokens).toBeGreaterThanOrEqual(before.tokens)
      },
    ),
    { numRuns: 500 },
  )
})

test('reads nothing that a body only inherits', () => {
  const body = JSON.parse('{"__proto__":{"n":9,"max_tokens":1},"model":"a/one"}') as Json
  expect(reservationOf(CHAT, body, ascii(100), BALANCED).tokens).toBe(50 + REQUEST + MESSAGE + 2500)
})
