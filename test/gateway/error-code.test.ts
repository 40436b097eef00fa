import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { createErrorReader } from '../../src/gateway/error-code.ts'

const bytes = (text: string) => new TextEncoder().encode(text)

/** The code that is read of a text, however it is split. */
function codeOf(text: string): (string | undefined)[] {
  const all = bytes(text)
  return [all.length, 1, 7].map((size) => {
    const reader = createErrorReader()
    for (let at = 0; at < all.length; at += size) reader.write(all.subarray(at, at + size))
    return reader.code()
  })
}

test.each([
  [
    'an answer of Groq',
    readFileSync('test/support/transcripts/rate-limited.json', 'utf8').replace(/^[^{]*/, ''),
    'rate_limit_exceeded',
  ],
  [
    'a code',
    '{"error":{"message":"é\\"code\\":\\"other\\"","code":"model_not_found"}}',
    'model_not_found',
  ],
  [
    'a type only',
    '{"error":{"type":"invalid_request_error","code":null}}',
    'invalid_request_error',
  ],
  ['a code that is no word', '{"error":{"code":"my secret prompt"}}', undefined],
  ['a number', '{"error":{"code":429}}', undefined],
  ['no error', '{"message":"x"}', undefined],
  ['null', 'null', undefined],
  ['a page', '<html>502</html>', undefined],
  ['nothing', '', undefined],
  ['a long text', `{"error":{"code":"a"},"x":"${'y'.repeat(5000)}"}`, undefined],
])('reads the code of upstream’s error from %s', (_, text, code) => {
  expect(codeOf(text)).toEqual([code, code, code])
})
