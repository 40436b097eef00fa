import fc from 'fast-check'
import { expect, test } from 'vitest'
import { ApiError } from '../../src/errors.ts'
import { LOOKS, TooManySteps, indexesOf } from '../../src/gateway/byte-search.ts'
import {
  MOST_ADDED,
  boundaryOf,
  multipartOf as scanning,
  textOf,
  withField,
} from '../../src/gateway/multipart.ts'
import { atOnce } from '../../src/gateway/steps.ts'
import type { Bytes } from '../../src/ports.ts'

const bytesOf = (text: string): Bytes => new Uint8Array(Buffer.from(text, 'latin1'))
const latin1 = (bytes: Uint8Array) => Buffer.from(bytes).toString('latin1')

function outcome<T>(run: () => T): T | ApiError {
  try {
    return run()
  } catch (error) {
    if (error instanceof ApiError) return error
    throw error
  }
}

const part = (disposition: string, content: string, more = '') =>
  `--b\r\nContent-Disposition: form-data; ${disposition}\r\n${more}\r\n${content}\r\n`
const model = part('name="model"', 'whisper-large-v3')
const file = part('name="file"; filename="a.wav"', 'RIFF', 'Content-Type: audio/wav\r\n')
const multipartOf = (...given: Parameters<typeof scanning>) => atOnce(scanning(...given))
const scan = (text: string) => multipartOf('b', bytesOf(text))

test('a body is scanned as it is: names, files and where their contents are', () => {
  const text = `preamble\r\n${file}${model}${part('name=prompt', '')}--b--\r\nepilogue`
  const { parts } = scan(text)
  const found = parts.map(({ start, end, ...named }) => ({
    ...named,
    text: text.slice(start, end),
  }))
  expect(found).toEqual([
    { name: 'file', filename: 'a.wav', text: 'RIFF' },
    { name: 'model', text: 'whisper-large-v3' },
    { name: 'prompt', text: '' },
  ])
})

test.each([
  ['name=file; filename=a.wav', 'file', 'a.wav'],
  ["name=file; filename=a.wav; filename*=utf-8''%C3%A4.wav", 'file', 'ä.wav'],
  ['NAME="file" ; FileName="C:\\dir\\a b;c.wav"', 'file', 'C:\\dir\\a b;c.wav'],
  ['name="timestamp_granularities[]"', 'timestamp_granularities[]', undefined],
  ['name=timestamp_granularities[]', 'timestamp_granularities[]', undefined],
])('the disposition %s is read as clients mean it', (disposition, name, filename) => {
  expect(scan(`${part(disposition, 'x')}--b--`).parts[0]).toMatchObject({
    name,
    ...(filename !== undefined && { filename }),
  })
})

test.each([
  ['no closing boundary', model],
  ['an empty body', ''],
  ['another boundary', model.replaceAll('--b', '--c') + '--c--'],
  ['the boundary inside a content', `${part('name="file"; filename="a"', 'x--by')}--b--`],
  [
    'the boundary at the beginning of a line of a content',
    `${part('name="file"; filename="a"', 'x\r\n--by')}--b--`,
  ],
  [
    'a boundary behind a bare LF',
    `${file.replace('\r\nContent-T', '\nContent-T')}--b--`.replace('RIFF\r\n--b--', 'RIFF\n--b--'),
  ],
  ['a boundary that a bare LF ends', `${file}${model.replace('--b\r\n', '--b\n')}--b--`],
  ['padding behind a boundary', `${file}${model.replace('--b\r\n', '--b \r\n')}--b--`],
  ['something behind the closing boundary', `${model}--b--x`],
  ['a boundary after the closing one', `${model}--b--\r\n${file}--b--`],
  ['a part without headers', '--b\r\n\r\nx\r\n--b--'],
  ['a part without an empty line', '--b\r\nContent-Disposition: form-data; name="model"\r\n--b--'],
  ['a header that is continued', `${part('name="model"', 'x', ' more\r\n')}--b--`],
  ['a header that ends with a bare LF', `${part('name="model"', 'x', 'A: b\nC: d\r\n')}--b--`],
  ['a space before a colon', `${part('name="model"', 'x', 'A : b\r\n')}--b--`],
  [
    'a header twice',
    `${part('name="model"', 'x', 'Content-Disposition: form-data; name="file"\r\n')}--b--`,
  ],
  ['a name twice', `${part('name="model"; name="file"', 'x')}--b--`],
  ['a name in pieces', `${part('name="model"; name*0="file"', 'x')}--b--`],
  ['an extended name', `${part('name="model"; name*=utf-8\'\'file', 'x')}--b--`],
  ['a quotation mark in a name', `${part('name="a\\"; name="file"', 'x')}--b--`],
  ['a disposition of another kind', `${model.replace('form-data', 'attachment')}--b--`],
  [
    'an encoded content',
    `${part('name="model"', 'x', 'Content-Transfer-Encoding: quoted-printable\r\n')}--b--`,
  ],
  [
    'a multipart part',
    `${part('name="file"', 'x', 'Content-Type: multipart/mixed; boundary=c\r\n')}--b--`,
  ],
  ['very long headers', `${part('name="model"', 'x', `A: ${'b'.repeat(5000)}\r\n`)}--b--`],
  ['very many parts', `${model.repeat(200)}--b--`],
])('%s is refused', (_, text) => {
  expect(outcome(() => scan(text))).toMatchObject({ code: 'invalid_request', status: 400 })
})

test.each([
  ['multipart/form-data; boundary=b', 'b'],
  ['Multipart/Form-Data;boundary="a b"', 'a b'],
  [
    'multipart/form-data; charset=utf-8; boundary=----WebKitFormBoundary7MA4YWxkTrZu0gW',
    '----WebKitFormBoundary7MA4YWxkTrZu0gW',
  ],
  [`multipart/form-data; boundary=${'x'.repeat(70)}`, 'x'.repeat(70)],
])('the boundary of %s is known', (type, boundary) => {
  expect(boundaryOf(type)).toBe(boundary)
})

test.each([
  ['multipart/form-data', 400],
  ['multipart/form-data; boundary=', 400],
  ['multipart/form-data; boundary=a; boundary=b', 400],
  ["multipart/form-data; boundary=a; boundary*=utf-8''b", 400],
  ['multipart/form-data; boundary="a "', 400],
  ['multipart/form-data; boundary="a\\"b"', 400],
  [`multipart/form-data; boundary=${'x'.repeat(71)}`, 400],
  ['multipart/mixed; boundary=a', 415],
  ['multipart/form-data-x; boundary=a', 415],
  ['application/json', 415],
  [undefined, 415],
])('the Content-Type %s is refused with %i', (type, status) => {
  expect(outcome(() => boundaryOf(type))).toMatchObject({ status })
})

const NAMES = ['model', 'response_format', 'language', 'extra', 'a b']
const content = fc.oneof(
  fc.constantFrom('', '\r\n', '\n', '-', '--', '--b', '\r\n--', '\r\n--bounc', 'json', '\r'),
  fc.string({ unit: 'binary-ascii', maxLength: 30 }),
)
const header = fc.constantFrom(
  '',
  'Content-Type: text/plain; charset=utf-8\r\n',
  'content-length: 4\r\n',
)

/** Bodies as clients write them, which may hold parts of their boundary. */
const body = fc.record({
  boundary: fc.constantFrom('bound', 'bounce', '--', '-', 'b--', '----WebKitFormBoundaryX'),
  preamble: fc.constantFrom('', '\r\n', 'This is multipart.\r\n', 'x'),
  epilogue: fc.constantFrom('', '\r\n', '\r\nthe end', '\r\n--', ' '),
  fields: fc.array(
    fc.record({ name: fc.constantFrom(...NAMES), quoted: fc.boolean(), header, content }),
    { maxLength: 4 },
  ),
  file: content,
})

function written({ boundary, preamble, epilogue, fields, file }: Made): string {
  const parts = fields.map(({ name, quoted, header, content }) => {
    const named = quoted || name.includes(' ') ? `"${name}"` : name
    return `Content-Disposition: form-data; name=${named}\r\n${header}\r\n${content}`
  })
  parts.push(`Content-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n${file}`)
  return `${preamble}${parts.map((one) => `--${boundary}\r\n${one}\r\n`).join('')}--${boundary}--${epilogue}`
}
type Made = typeof body extends fc.Arbitrary<infer T> ? T : never

/** A plain parser of what is written: the parts between lines that are the boundary. */
const plain = (text: string, boundary: string) =>
  `\r\n${text}`
    .split(`\r\n--${boundary}`)
    .slice(1, -1)
    .map((one) => one.slice(one.indexOf('\r\n\r\n') + 4))

test('a body gets the one field and keeps all other bytes, or is refused', () => {
  let scanned = 0
  fc.assert(
    fc.property(body, fc.nat(), fc.boolean(), (made, cut, isWhole) => {
      const whole = written(made)
      const text = isWhole ? whole : whole.slice(0, cut % (whole.length + 1))
      const bytes = bytesOf(text)
      const found = outcome(() => multipartOf(made.boundary, bytes))
      if (found instanceof ApiError) {
        expect(found.status).toBe(400)
        return
      }
      scanned += 1
      const contents = found.parts.map((one) => text.slice(one.start, one.end))
      expect(contents).toEqual(plain(text, made.boundary))
      const changed = latin1(withField(bytes, 0, found, 'response_format', 'verbose_json'))
      const known = found.parts.find(({ name }) => name === 'response_format')
      if (known) {
        expect(changed).toBe(`${text.slice(0, known.start)}verbose_json${text.slice(known.end)}`)
      } else {
        const after = text.slice(found.close)
        expect(changed.startsWith(text.slice(0, found.close))).toBe(true)
        expect(changed.endsWith(after)).toBe(true)
      }
      // In place, where there is room.
      const roomy = new Uint8Array(bytes.length + MOST_ADDED)
      roomy.set(bytes)
      const inPlace = roomy.subarray(0, bytes.length)
      const placed = withField(inPlace, MOST_ADDED, found, 'response_format', 'verbose_json')
      expect([latin1(placed), placed.buffer === roomy.buffer]).toEqual([changed, true])
      const again = multipartOf(made.boundary, bytesOf(changed))
      const value = again.parts.find(({ name }) => name === 'response_format')
      expect(value && textOf(bytesOf(changed), value)).toBe('verbose_json')
      expect(again.parts.length).toBe(found.parts.length + (known ? 0 : 1))
    }),
    { numRuns: 3000 },
  )
  expect(scanned).toBeGreaterThan(300)
})

test('all places of a text are found, also those that overlap', () => {
  const letters = fc.string({ unit: fc.constantFrom('a', 'b', '-'), maxLength: 60 })
  fc.assert(
    fc.property(
      letters.filter((one) => one.length > 0 && one.length < 8),
      letters,
      (wanted, text) => {
        const expected = Array.from(text, (_, at) => at).flatMap((at) =>
          text.startsWith(wanted, at) ? [at] : [],
        )
        try {
          expect(atOnce(indexesOf(bytesOf(wanted), bytesOf(text)))).toEqual(expected)
        } catch (error) {
          if (!(error instanceof TooManySteps)) throw error
        }
      },
    ),
  )
})

test('while the boundary is looked for in a large body, others get their turns', () => {
  const steps = scanning('a', bytesOf('y'.repeat(12 * LOOKS)))
  let turns = 0
  const whole = outcome(() => {
    while (!steps.next().done) turns += 1
  })
  expect(whole).toBeInstanceOf(ApiError)
  // A boundary of one letter is three bytes with its hyphens.
  expect(turns).toBeGreaterThanOrEqual(3)
})

test('a boundary that is like its content is refused before it takes long', () => {
  const body = bytesOf(`${'-'.repeat(5_000_000)}`)
  const began = performance.now()
  expect(outcome(() => multipartOf(`x${'-'.repeat(69)}`.slice(0, 69) + '-', body))).toBeInstanceOf(
    ApiError,
  )
  expect(outcome(() => multipartOf(`${'-'.repeat(60)}y`, body))).toBeInstanceOf(ApiError)
  expect(performance.now() - began).toBeLessThan(5000)
})
