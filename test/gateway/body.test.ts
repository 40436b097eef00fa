import fc from 'fast-check'
import { expect, test, vi } from 'vitest'
import { readConfig, type Vars } from '../../src/config/config.ts'
import { ApiError } from '../../src/errors.ts'
import { readProxyRequest as reading } from '../../src/gateway/body.ts'
import {
  parseBody,
  parseForUpstream,
  rawText,
  type ParsedBody,
} from '../../src/gateway/body-json.ts'
import { MAX_DEPTH, MAX_STRUCTURE, NEW_KEY, STEP } from '../../src/gateway/json-scan.ts'
import { atOnce } from '../../src/gateway/steps.ts'
import {
  reservationOf as reserving,
  type Cap,
  type MeteredRoute,
} from '../../src/metering/reservation.ts'

const readProxyRequest = (...given: Parameters<typeof reading>) => atOnce(reading(...given))
const reservationOf = (...given: Parameters<typeof reserving>) => atOnce(reserving(...given))

const CHAT = 'chat/completions'
const encode = (text: string): Uint8Array<ArrayBuffer> => new TextEncoder().encode(text)
const decode = (bytes: Uint8Array) => new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes)
const parse = (text: string) => parseBody(encode(text))

const parseUp = (bytes: Uint8Array<ArrayBuffer>, cap: Cap): ParsedBody =>
  atOnce(parseForUpstream(bytes, { cap }))

function read(body: string | object, vars: Vars = {}, route: MeteredRoute = CHAT) {
  const bytes = encode(typeof body === 'string' ? body : JSON.stringify(body))
  const config = readConfig(vars, 'node')
  return readProxyRequest(route, bytes, config, parseUp(bytes, config.cap))
}

function refusal(call: () => unknown): ApiError {
  try {
    call()
  } catch (error) {
    if (error instanceof ApiError) return error
    throw error
  }
  throw new Error('It was not refused.')
}

const messages = [{ role: 'user', content: 'Hi' }]

test.each([
  ['nothing', ''],
  ['white space', ' \n'],
  ['no JSON', 'model=a'],
  ['JSON that breaks off', '{"a":1'],
  ['two values', '{} {}'],
  ['a comma too many', '{"a":1,}'],
  ['single quotes', "{'a':1}"],
  ['a comment', '{}//'],
  ['a BOM', '\ufeff{"a":1}'],
  ['a list', '[{"a":1}]'],
  ['a text', '"{}"'],
  ['a number', '7'],
  ['null', 'null'],
  ['NaN', '{"a":NaN}'],
  ['a line break in a text', '{"a":"\n"}'],
])('refuses a body of %s', (_, text) => {
  expect(refusal(() => parse(text))).toMatchObject({ code: 'invalid_json', status: 400 })
})

test.each([
  ['UTF-16', [...Buffer.from('{"a":1}', 'utf16le')]],
  ['Latin-1', [...Buffer.from('{"a":"\xfc"}', 'latin1')]],
  ['a byte that is never there', [0x7b, 0xff, 0x7d]],
  ['an overlong form', [...encode('{"a":"'), 0xc0, 0xa2, ...encode('"}')]],
  ['a surrogate', [...encode('{"a":"'), 0xed, 0xa0, 0x80, ...encode('"}')]],
  ['a character that breaks off', [...encode('{"a":"'), 0xe6, 0xbc, ...encode('"}')]],
])('refuses a body that is no UTF-8: %s', (_, bytes) => {
  expect(refusal(() => parseBody(new Uint8Array(bytes))).code).toBe('invalid_json')
})

test.each([
  ['the same', '{"a":1,"a":1}', 'a'],
  ['another case', '{"seed":1,"Seed":2}', 'Seed'],
  ['an escape', '{"model":"a","m\\u006fdel":"b"}', 'model'],
  ['an escape in the first', '{"m\\u006Fdel":"a","model":"b"}', 'model'],
  ['an escape and another case', '{"model":"a","\\u004dodel":"b"}', 'Model'],
  ['the Kelvin sign', '{"k":1,"\u212a":2}', '\u212a'],
  ['the Kelvin sign, escaped', '{"top_k":1,"top_\\u212A":2}', 'top_\u212a'],
  ['the long s', '{"stop":1,"\u017ftop":2}', '\u017ftop'],
  ['the long s beside the capital', '{"\u017ftop":1,"STOP":2}', 'STOP'],
  ['the empty key', '{"":1,"":2}', ''],
  ['keys far apart', '{"a":{"b":[1,{"c":2}]},"d":"}","a":3}', 'a'],
  ['white space around', '{ "a" : 1 ,\n\t"b":2, "a"\r\n: 3 }', 'a'],
  ['an escaped quote', '{"a\\"b":1,"a\\u0022b":2}', 'a"b'],
  ['an escaped backslash', '{"a\\\\":1,"a\\u005c":2}', 'a\\'],
  ['an escaped slash', '{"a/b":1,"a\\/b":2}', 'a/b'],
  ['__proto__', '{"__proto__":1,"__proto__":2}', '__proto__'],
  ['half of a pair', '{"\\ud83e":1,"\\uD83E":2}', '\ud83e'],
])('refuses a key that is there twice: %s', (_, text, param) => {
  expect(refusal(() => parse(text))).toMatchObject({ code: 'invalid_request', param })
})

test.each([
  ['in other objects', '{"a":{"b":1},"c":{"b":1,"a":2},"b":[{"a":1},{"a":2}]}'],
  ['twice within another object', '{"a":{"b":1,"b":2},"c":[{"d":1,"d":2}]}'],
  ['as a value', '{"a":"a","b":"a","c":["a","b",["c"]]}'],
  ['in a text', '{"a":"\\",\\"a\\":1","b":"{\\"a\\":[","c":"\\\\","d":"]}"}'],
  ['once, of many', '{"a":1,"A_":2,"_a":3,"aa":4,"":5," a":6}'],
  ['as part of a longer one', '{"top_k":1,"top_kk":2,"stop":3,"stops":4}'],
])('accepts a key that is repeated %s', (_, text) => {
  expect(parse(text)).toEqual(JSON.parse(text))
})

test.each([
  ['Model', 'model'],
  ['MAX_TOKENS', 'max_tokens'],
  ['me\u017f\u017fage\u017f', 'messages'],
  ['max_to\u212aens', 'max_tokens'],
  ['N', 'n'],
  ['\\u004e', 'n'],
  ['Stream', 'stream'],
  ['Tools', 'tools'],
  ['INPUT', 'input'],
  ['usertoken', 'userToken'],
  ['UserToken', 'userToken'],
])('refuses %s, which upstream might take for %s', (key, field) => {
  const error = refusal(() => parse(`{"${key}":1}`))
  expect(error).toMatchObject({ code: 'invalid_request', param: JSON.parse(`"${key}"`) as string })
  expect(error.message).toContain(`\`${field}\``)
})

test('accepts the exact names of the fields it reads', () => {
  const body = { model: 'a', userToken: 'b', n: 1, Temperature: 1, tool_choice: 'auto' }
  expect(parse(JSON.stringify(body))).toEqual(body)
})

test('shows at most 64 characters of a key', () => {
  const key = 'x'.repeat(200)
  expect(refusal(() => parse(`{"${key}":1,"${key}":2}`)).param).toHaveLength(64)
})

/** Names, with other spellings that are equal if case is ignored. */
const NAMES = [
  ['a', 'A', '\\u0061', '\\u0041'],
  ['ask', 'ASK', 'a\u017fk', 'as\u212a', 'a\\u017Fk', '\\u0061s\\u212a'],
  ['\\"', '\\u0022'],
  ['\\\\', '\\u005C', '\\u005c'],
  ['{', '\\u007b'],
  ['}', '\\u007d'],
  ['},\\"a\\":1'],
  ['\\\\\\"', '\\u005c\\u0022'],
  ['', ''],
  ['\u{1f9ee}', '\\ud83e\\uddee'],
  ['constructor', 'Constructor'],
]
const blank = fc.stringMatching(/^[ \t\r\n]{0,3}$/)
const value = fc.oneof(
  fc.json({ maxDepth: 4 }),
  fc.constantFrom(
    '"a"',
    '"},\\"a\\":"',
    '"\\\\"',
    '"\\\\\\""',
    '{"a":1,"a":2}',
    '[{"a":[]},"ask"]',
  ),
)
const name = fc
  .nat(NAMES.length - 1)
  .chain((index) =>
    fc.record({ index: fc.constant(index), text: fc.constantFrom(...(NAMES[index] ?? [])) }),
  )

test('finds a repeated key in any JSON, and no other', () => {
  const pair = fc.record({ name, value, blanks: fc.tuple(blank, blank, blank, blank) })
  fc.assert(
    fc.property(fc.array(pair, { maxLength: 5 }), blank, (pairs, around) => {
      const members = pairs.map(
        ({ name, value, blanks: [a, b, c, d] }) => `${a}"${name.text}"${b}:${c}${value}${d}`,
      )
      const text = `${around}{${members.join(',') || around}}${around}`
      const names = pairs.map(({ name }) => name.index)
      const repeated = pairs.find(({ name }, i) => names.indexOf(name.index) < i)
      if (repeated) {
        const param = JSON.parse(`"${repeated.name.text}"`) as string
        expect(refusal(() => parse(text))).toMatchObject({ code: 'invalid_request', param })
      } else {
        expect(parse(text)).toEqual(JSON.parse(text))
      }
    }),
    { numRuns: 500 },
  )
})

test('throws nothing but its own errors for any bytes', () => {
  const nearJson = fc
    .tuple(fc.json(), fc.nat(), fc.constantFrom('', '"', '\\', '{', '}', ',', '\u0000'))
    .map(([text, at, more]) => {
      const place = at % (text.length + 1)
      return encode(`{"a":${text.slice(0, place)}${more}${text.slice(place)}}`)
    })
  fc.assert(
    fc.property(fc.oneof(fc.uint8Array(), nearJson), (bytes) => {
      let body: unknown
      try {
        body = parseBody(bytes)
      } catch (error) {
        expect(error).toBeInstanceOf(ApiError)
        return
      }
      expect(body).toEqual(JSON.parse(decode(bytes)))
    }),
    { numRuns: 500 },
  )
})

/** A body with this as the value of `x`. */
const having = (x: string) => `{"model":"a","messages":[],"x":${x}}`
const listOf = (count: number, item: string | ((n: number) => string)) =>
  `[${Array.from({ length: count }, (_, n) => (typeof item === 'string' ? item : item(n))).join()}]`

/** Without the key of `having` and its structure. */
const LEFT = MAX_STRUCTURE - 3 * NEW_KEY - 9

test.each([
  ['64 lists', `${'['.repeat(MAX_DEPTH - 1)}${']'.repeat(MAX_DEPTH - 1)}`],
  ['64 objects', `${'{"x":'.repeat(MAX_DEPTH - 1)}0${'}'.repeat(MAX_DEPTH - 1)}`],
  ['as many numbers as it may have structure', listOf(LEFT - 1, '7')],
  ['the same brackets in a text', `"${'[{'.repeat(MAX_STRUCTURE)}"`],
  ['brackets after an escaped quote', `"\\"${'[,'.repeat(MAX_STRUCTURE)}"`],
  ['brackets after an escaped backslash', `"\\\\","y":"${'[,'.repeat(MAX_STRUCTURE)}"`],
  ['one key in 20,000 objects', listOf(20_000, '{"x":0}')],
  ['1,800 keys', listOf(1800, (n) => `{"k${n}":0}`)],
  ['numbers as long as programs write them', listOf(20_000, '-1.2345678901234567e-300')],
])('reads a body with %s', (_, x) => {
  expect(read(having(x)).model).toBe('a')
  expect(parse(having(x))).toEqual(JSON.parse(having(x)))
})

test.each([
  ['65 lists', `${'['.repeat(MAX_DEPTH)}${']'.repeat(MAX_DEPTH)}`, /more than 64 lists/],
  ['65 objects', `${'{"x":'.repeat(MAX_DEPTH)}0${'}'.repeat(MAX_DEPTH)}`, /more than 64 lists/],
  ['2 million lists that are open', '['.repeat(2e6), /more than 64 lists/],
  ['a number too many', listOf(LEFT, '7'), /too much structure/],
  ['a million empty objects', listOf(1e6, '{}'), /too much structure/],
  ['a million empty texts', listOf(1e6, '""'), /too much structure/],
  ['2,500 keys', listOf(2500, (n) => `{"k${n}":0}`), /too much structure/],
  ['2,500 keys in one object', `{${listOf(2500, (n) => `"k${n}":0`).slice(1, -1)}}`, /structure/],
  ['escapes in many short texts', listOf(40_000, '"\\u00e9\\n"'), /too much structure/],
  ['a number of 65 digits', '1'.repeat(65), /64 characters each/],
  ['600,000 digits in all', listOf(12_000, '1'.repeat(50)), /500,000 in all/],
  ['a key of 1,100 bytes', `0,"${'k'.repeat(1100)}":0`, /1,024 bytes/],
  ['a key of 1,100 bytes within', `{"${'k'.repeat(1100)}":0}`, /1,024 bytes/],
])('refuses a body with %s before it is parsed', (_, x, message) => {
  const parser = vi.spyOn(JSON, 'parse').mockClear()
  for (const call of [() => read(having(x)), () => parse(having(x))]) {
    const error = refusal(call)
    expect(error).toMatchObject({ code: 'invalid_request', status: 400 })
    expect(error.message).toMatch(message)
  }
  expect(parser.mock.calls.some(([text]) => text.startsWith('{"model"'))).toBe(false)
  parser.mockRestore()
})

test('an embeddings request of a million empty objects is refused too', () => {
  const body = `{"model":"a","input":${listOf(1e6, '{}')}}`
  expect(refusal(() => read(body, {}, 'embeddings')).message).toMatch(/too much structure/)
})

test.each(['balanced', 'strict'])(
  'with CAP=%s, an escape or another script in a text costs what its bytes cost',
  (CAP) => {
    const reserved = (content: string) =>
      read(`{"model":"a","messages":[{"role":"user","content":"${content}"}],"max_tokens":1}`, {
        CAP,
      }).reservation
    const ascii = reserved('a'.repeat(6000))
    for (const text of ['\\u00e9', '\\n', '\\"', '\\\\']) {
      expect(reserved(text.repeat(6000 / text.length))).toEqual(ascii)
    }
    for (const text of ['é', '漢', '😀']) {
      const size = encode(text).length
      expect(reserved(text.repeat(6000 / size)).promptBytes).toBe(ascii.promptBytes)
    }
  },
)

/** Texts of a few bytes to some thousand, in JSON. */
const longText = fc
  .tuple(
    fc.array(fc.constantFrom('a', 'b c', 'é', '漢', '😀', '\\n', '\\"', '\\\\'), { maxLength: 60 }),
    fc.constantFrom(1, 2, 50),
  )
  .map(([pieces, times]) => `"${pieces.join('').repeat(times)}"`)

test('texts of any length count with their size, images and tools too', () => {
  // The escapes in an address are not part of the image.
  const image = longText
    .filter((text) => !text.includes('\\'))
    .map((text) => `{"type":"image_url","image_url":{"url":"data:image/${text.slice(1)}}}`)
  const part = fc.oneof(
    image,
    longText.map((text) => `{"type":"text","text":${text}}`),
  )
  const tool = longText.map((text) => `{"type":"function","function":{"description":${text}}}`)
  const list = (items: fc.Arbitrary<string>) =>
    fc.array(items, { maxLength: 4 }).map((all) => `[${all.join()}]`)
  fc.assert(
    fc.property(
      list(part),
      list(tool),
      longText,
      fc.constantFrom('balanced', 'strict'),
      (parts, tools, last, cap) => {
        const text = `{"model":"a","tools":${tools},"messages":[{"role":"user","content":${parts}}],"last":${last}}`
        const bytes = encode(text)
        const rules = { cap, maxCompletionTokens: 1 } as const
        const { tokens, promptBytes } = reservationOf(
          CHAT,
          JSON.parse(inBytes(text)) as Record<string, unknown>,
          bytes,
          rules,
        )
        const parsed = parseUp(bytes, cap)
        expect(reservationOf(CHAT, parsed.value, bytes, rules)).toMatchObject({
          tokens,
          promptBytes,
        })
        expect(decode(atOnce(rawText(parsed, bytes, 'last')))).toBe(last)
      },
    ),
  )
})

/** JSON whose texts have as many characters as bytes in the body. */
const inBytes = (text: string): string =>
  text.replaceAll(/[^\0-\x7f]/gu, (character) => 'x'.repeat(encode(character).length))

test.each([
  ['an escape that is none', '\\q'],
  ['a \\u without its digits', '\\u00g0'],
  ['a control character', '\u0001'],
  ['half of a character', '\xe6\xbc'],
  ['a byte that is never there', '\xff'],
])('refuses %s anywhere in a text', (_, wrong) => {
  const around = 'déjà vu \\n'.repeat(200)
  fc.assert(
    fc.property(fc.nat(around.length - 1), (place) => {
      // Not inside an escape.
      const at = around[place] === 'n' ? place + 1 : place
      const bytes = Buffer.concat([
        encode(`{"model":"a","messages":[],"x":["${around.slice(0, at)}`),
        Buffer.from(wrong, 'latin1'),
        encode(`${around.slice(at)}"]}`),
      ])
      const call = () => parseUp(new Uint8Array(bytes), 'balanced')
      expect(refusal(call).code).toBe('invalid_json')
    }),
  )
})

/** How often others get a turn. */
function turnsOf(steps: Generator): number {
  let turns = 0
  while (!steps.next().done) turns += 1
  return turns
}

const turnsToParse = (bytes: Uint8Array<ArrayBuffer>) =>
  turnsOf(parseForUpstream(bytes, { cap: 'strict' }))

test('while a large body is read, others get a turn after each step and before each further work', () => {
  const body = (size: number) => encode(having(`"${'ж'.repeat(size / 2)}"`))
  expect(turnsToParse(body(STEP / 2))).toBe(0)
  expect(turnsToParse(body(8 * STEP))).toBeGreaterThan(9)
  const bytes = body(8 * STEP)
  const strict = readConfig({ CAP: 'strict' }, 'node')
  expect(turnsOf(reading(CHAT, bytes, strict, parseUp(bytes, 'strict')))).toBe(2)
})

test.each([
  ['escaped keys of parts', '{"\\u0061":0}', 15_000, 10],
  ['long keys of parts, none of which can be ours', `{"${'ж'.repeat(500)}":0}`, 600, 0],
])('while many keys are checked, others get their turns: %s', (_, part, count, turns) => {
  const content = `[${Array<string>(count).fill(part).join()}]`
  const bytes = encode(`{"model":"a/b","messages":[{"role":"user","content":${content}}]}`)
  const ofScan = Math.ceil(bytes.length / STEP) + 3
  expect(turnsToParse(bytes) - ofScan).toBeGreaterThanOrEqual(turns)
  expect(turnsToParse(bytes) - ofScan).toBeLessThan(turns + 10)
})

test.each(['a', '\\"', 'ж'])(
  'while a long text of %s is found, others get their turns',
  (piece) => {
    const text = piece.repeat((3.5 * STEP) / encode(piece).length)
    const bytes = encode(`{"model":"a/b","prompt":"${text}","n":1}`)
    const steps = rawText(parseUp(bytes, 'balanced'), bytes, 'prompt')
    expect(turnsOf(steps)).toBe(3)
  },
)

test.each(['ж', '漢', '😀', '\\n', '\\"', '\\u00e9', `${'a'.repeat(40)}","`])(
  'a body that is read in steps means the same, wherever a step ends: %s',
  (piece) => {
    const size = encode(piece).length
    for (let before = 0; before < Math.min(size, 6); before += 1) {
      const text = `${'a'.repeat(before)}${piece.repeat(STEP / size + 2)}`
      const bytes = encode(`{"model":"a","x":["${text}"],"max_tokens":7}`)
      const parsed = parseUp(bytes, 'balanced')
      expect(parsed.value).toMatchObject({ model: 'a', max_tokens: 7 })
      expect(decode(bytes.subarray(parsed.placeOf('max_tokens')))).toBe('7}')
    }
  },
)

test('of large bodies that are read at the same time, each counts its own structure', () => {
  const keys = Array.from({ length: 300 }, (_, n) => `"k${n}":0`)
  const large = having(listOf(64, `{${keys.join()},"text":"${'a'.repeat(STEP / 8)}"}`))
  const reading = [1, 2, 3].map(() => parseForUpstream(encode(large), { cap: 'balanced' }))
  const read = (): boolean[] => reading.map((steps) => steps.next().done === true)
  let ended = read()
  while (!ended.every(Boolean)) ended = read()
})

test.each(['input_file', 'item_reference'])(
  'when strict, a type is known where each of its characters is an escape: %s',
  (type) => {
    const escaped = type.replaceAll(/./g, (c) => `\\u00${c.charCodeAt(0).toString(16)}`)
    const item = (part: string) =>
      `{"model":"a","input":[{"role":"user","content":[${part}]}],"max_output_tokens":1}`
    const body =
      type === 'input_file'
        ? item(`{"type":"${escaped}","file_data":"JVBE"}`)
        : `{"model":"a","input":[{"type":"${escaped}","id":"m"}]}`
    expect(refusal(() => read(body, { CAP: 'strict' }, 'responses')).code).toBe('cost_unbounded')
  },
)

test('a long key that is there twice is found, and shown as it was sent', () => {
  const key = 'ключ\\n'.repeat(60)
  const before = `"x":${JSON.stringify('a'.repeat(5000))}`
  const error = refusal(() => parse(`{${before},"${key}":1,"${key}":2}`))
  expect(error.param).toBe((JSON.parse(`"${key}"`) as string).slice(0, 64))
})

test('the address of an image is found where its slashes are escaped', () => {
  const image = (url: string) =>
    `{"model":"a","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"${url}"}}]}]}`
  const data = 'A/b+'.repeat(1000)
  const plain = read(image(`data:image/png;base64,${data}`)).reservation
  const escaped = read(image(`data:image/png;base64,${data}`.replaceAll('/', '\\/'))).reservation
  // Escapes at its beginning are taken for part of the prompt.
  expect(escaped.tokens - plain.tokens).toBeLessThan(20)
})

test('a name of a model that is escaped is the same name', () => {
  expect(read('{"model":"openai\\/gpt-oss-20b","messages":[]}').model).toBe('openai/gpt-oss-20b')
  expect(read('{"model":"\\u0061","messages":[]}').model).toBe('a')
})

test.each([
  ['model', { messages }],
  ['model', { model: null, messages }],
  ['model', { model: 7, messages }],
  ['model', { model: ['a'], messages }],
  ['model', { model: { id: 'a' }, messages }],
  ['stream', { model: 'a', messages, stream: 'true' }],
  ['stream', { model: 'a', messages, stream: 1 }],
  ['stream', { model: 'a', messages, stream: {} }],
  ['messages', { model: 'a' }],
  ['messages', { model: 'a', messages: null }],
  ['messages', { model: 'a', messages: 'Hi' }],
  ['messages', { model: 'a', messages: { 0: 'Hi' } }],
  ['messages', { model: 'a', messages: Array(10_000).fill(messages[0]) }],
  ['messages', { model: 'a', messages: Array(5001).fill('') }],
  ['input', { model: 'a', messages, input: Array(10_000).fill('') }],
  ['n', { model: 'a', messages, n: 0 }],
])('refuses a chat request whose %s is wrong', (param, body) => {
  expect(refusal(() => read(body))).toMatchObject({ code: 'invalid_request', status: 400, param })
})

test.each<[MeteredRoute, object, string | undefined]>([
  [CHAT, { messages: [] }, undefined],
  [CHAT, { messages: Array(5000).fill(messages[0]) }, undefined],
  [CHAT, { messages, stream: true }, undefined],
  [CHAT, { messages, stream: null }, undefined],
  ['responses', { input: 'Hi' }, undefined],
  ['responses', { input: messages }, undefined],
  ['responses', { input: messages, messages: 'Hi' }, undefined],
  ['responses', { input: Array(5001).fill('') }, 'input'],
  ['embeddings', { input: 'Hi' }, undefined],
  ['embeddings', { input: ['a', 'b'] }, undefined],
  ['embeddings', { input: Array(10_000).fill(7) }, undefined],
  ['embeddings', {}, 'input'],
  ['embeddings', { input: null }, 'input'],
  ['embeddings', { input: 7 }, 'input'],
  ['embeddings', { input: { text: 'a' } }, 'input'],
])('asks of %s no more than it needs (%#)', (route, fields, param) => {
  const call = () => read({ model: 'a', ...fields }, {}, route)
  if (param === undefined) expect(call()).toMatchObject({ route, model: 'a' })
  else expect(refusal(call)).toMatchObject({ code: 'invalid_request', param })
})

test.each([
  'a',
  '0',
  'openai/gpt-oss-20b',
  'meta-llama/llama-4-maverick-17b-128e-instruct',
  'llama-3.1-8b-instant',
  'constructor',
  'ft:llama-3.1-8b-instant:org_0/my-adapter-0a1b',
  'A_b',
  'a'.repeat(128),
])('takes the model name %s', (model) => {
  expect(read({ model, messages }).model).toBe(model)
})

test.each([
  ['nothing', ''],
  ['a colon in front', ':a'],
  ['NUL', 'a\0b'],
  ['a line end', 'a\n'],
  ['a line end inside', 'a\nb'],
  ['white space', 'a b'],
  ['white space around', ' a'],
  ['300 characters', 'a'.repeat(300)],
  ['129 characters', 'a'.repeat(129)],
  ['two dots', '..'],
  ['two dots and a slash', '../a'],
  ['a slash in front', '/a'],
  ['a dash in front', '-a'],
  ['__proto__', '__proto__'],
  ['an asterisk', '*'],
  ['an asterisk inside', 'a*'],
  ['a percent sign', 'a%2fb'],
  ['a letter of another script', 'm\u043edel'],
  ['braces', '{a}'],
])('refuses a model name of %s', (_, model) => {
  const error = refusal(() => read({ model, messages }))
  expect(error).toMatchObject({ code: 'invalid_request', param: 'model' })
  expect(error.message).not.toContain('\n')
})

test.each([
  ['*', 'openai/gpt-oss-20b', true],
  ['**', 'a', true],
  ['openai/*', 'openai/gpt-oss-20b', true],
  ['openai/*', 'openai/', true],
  ['openai/*', 'openai', false],
  ['openai/*', 'my/openai/a', false],
  ['*-20b', 'openai/gpt-oss-20b', true],
  ['*-20b', 'openai/gpt-oss-120b', false],
  ['*-20b', 'a-20b-b', false],
  ['a*b*c', 'abc', true],
  ['a*b*c', 'axbxc', true],
  ['a*b*c', 'abbcbc', true],
  ['a*b*c', 'acb', false],
  ['a*b*c', 'abxd', false],
  ['a*a', 'a', false],
  ['a*a', 'aa', true],
  ['a*b*b', 'ab', false],
  ['a*bc*c', 'abc', false],
  ['openai/gpt-oss-20b', 'openai/gpt-oss-20b', true],
  ['openai/gpt-oss-20b', 'openai/gpt-oss-20', false],
  ['openai/gpt-oss-20b', 'OpenAI/gpt-oss-20b', false],
  ['a.c', 'abc', false],
  ['a?c', 'abc', false],
  ['x, a, y', 'a', true],
  ['x,openai/*', 'openai/a', true],
  ['x,y', 'a', false],
])('with ALLOWED_MODELS=%s, %s is allowed: %s', (globs, model, allowed) => {
  const call = () => read({ model, messages }, { ALLOWED_MODELS: globs })
  if (allowed) expect(call().model).toBe(model)
  else {
    const error = refusal(call)
    expect(error).toMatchObject({ code: 'model_not_allowed', status: 403, param: 'model' })
    expect(error.message).toContain(model)
  }
})

test('reads a glob like the equivalent regular expression', () => {
  const glob = fc.stringMatching(/^[ab*.]{1,8}$/)
  fc.assert(
    fc.property(glob, fc.stringMatching(/^[ab][ab.]{0,9}$/), (glob, model) => {
      const pattern = new RegExp(`^${glob.replaceAll('.', '\\.').replaceAll('*', '.*')}$`)
      const call = () => read({ model, messages }, { ALLOWED_MODELS: glob })
      if (pattern.test(model)) expect(call().model).toBe(model)
      else expect(refusal(call).code).toBe('model_not_allowed')
    }),
    { numRuns: 500 },
  )
})

test.each([
  ['balanced', {}],
  ['strict, with a maximum', { max_tokens: 7 }],
] as const)('passes the same bytes on: %s', (cap, fields) => {
  const text = ` ${JSON.stringify({ model: 'a', messages, ...fields }, null, 2)}\r\n`
  const bytes = encode(text)
  const CAP = cap === 'balanced' ? 'balanced' : 'strict'
  const request = readProxyRequest(CHAT, bytes, readConfig({ CAP }, 'node'), parseUp(bytes, CAP))
  expect(request.bytes).toBe(bytes)
  expect(decode(bytes)).toBe(text)
  expect(request.reservation.promptBytes).toBe(bytes.length)
  expect(request.reservation.splice).toBeUndefined()
})

test('when strict, ignores the keys of fields that it does not read', () => {
  const body = { model: 'a', messages, max_tokens: 1, metadata: { iD: 'a', Type: [{ ROLE: 1 }] } }
  expect(read(body, { CAP: 'strict' }).model).toBe('a')
})

test('when strict, puts a missing maximum in front, and changes nothing else', () => {
  fc.assert(
    fc.property(
      blank,
      blank,
      fc.dictionary(fc.string(), fc.jsonValue()),
      fc.constantFrom<MeteredRoute>(CHAT, 'responses'),
      fc.integer({ min: 1, max: 1_000_000 }),
      (before, inside, extra, route, maximum) => {
        const body = { extra, model: 'a', messages, input: 'Hi {' }
        const text = `${before}{${inside}${JSON.stringify(body).slice(1)}${before}`
        const vars = { CAP: 'strict', MAX_COMPLETION_TOKENS: String(maximum) }
        const { bytes } = read(text, vars, route)
        const field = route === CHAT ? 'max_completion_tokens' : 'max_output_tokens'
        expect(JSON.parse(decode(bytes))).toEqual({
          ...(JSON.parse(text) as object),
          [field]: maximum,
        })
        expect(decode(bytes).replace(`"${field}":${maximum},`, '')).toBe(text)
        expect(parseBody(bytes)).toHaveProperty(field, maximum)
      },
    ),
  )
})

test('when strict, writes a maximum in place of its null, and changes nothing else', () => {
  fc.assert(
    fc.property(
      blank,
      fc.dictionary(fc.string(), fc.jsonValue()),
      fc.constantFrom<MeteredRoute>(CHAT, 'responses'),
      (space, extra, route) => {
        const field = route === CHAT ? 'max_completion_tokens' : 'max_output_tokens'
        const tool = { type: 'function', function: { name: `é "${field}":null`, [field]: null } }
        const head = JSON.stringify({ extra, model: 'a', messages, input: 'Hi', tools: [tool] })
        const text = (value: string) =>
          `${head.slice(0, -1)},${space}"${field}"${space}:${space}${value}${space},"z":null}`
        const { bytes } = read(text('null'), { CAP: 'strict' }, route)
        expect(decode(bytes)).toBe(text('2500'))
      },
    ),
  )
  const escaped = String.raw`{"model":"a","max_completion_tokens":null,"messages":[]}`
  const { bytes } = read(escaped, { CAP: 'strict' })
  expect(decode(bytes)).toBe(escaped.replace('null', '2500'))
})

test.each([
  ['TOOL_CHOICE', '{"TOOL_CHOICE":1}'],
  ['Response_Format', '{"Response_Format":1}'],
  ['Tool_Calls', '{"messages":[{"Tool_Calls":[]}]}'],
  ['tool_calls', '{"messages":[{"tool_calls":[],"tool_calls":[]}]}'],
])(
  'when strict, refuses another spelling of what it measures, or a second one: %s',
  (param, text) => {
    const error = refusal(() => parseUp(encode(text), 'strict'))
    expect(error).toMatchObject({ code: 'invalid_request', param })
  },
)

test('reserves the maximum that it puts in', () => {
  const vars = { CAP: 'strict', MAX_COMPLETION_TOKENS: '321' }
  const { reservation } = read({ model: 'a', messages }, vars)
  expect(reservation.splice).toEqual({ field: 'max_completion_tokens', tokens: 321 })
  expect(reservation.tokens).toBeGreaterThan(321 + JSON.stringify({ model: 'a', messages }).length)
})
