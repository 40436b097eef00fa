import { expect, test } from 'vitest'
import { cutMark, FILLER, missingBytes } from '../../src/metering/cut-text.ts'

test('a mark says how many bytes are missing, itself left out of the count', () => {
  for (const missing of [128, 4_194_304, 2 ** 40]) {
    const cut = `data:image/png${cutMark(missing)}`
    expect(cut.length + missingBytes(cut)).toBe('data:image/png'.length + missing)
  }
})

test('several marks in one JSON add up', () => {
  const json = JSON.stringify(['abc', `a${cutMark(1000)}`, { b: `b${cutMark(2000)}` }])
  const whole = JSON.stringify(['abc', 'a', { b: 'b' }])
  expect(json.length + missingBytes(json)).toBe(whole.length + 3000)
})

test('a text that looks like a mark says nothing', () => {
  const secret = cutMark(1).slice(1, -2)
  for (const text of [
    `${FILLER}zzzz${FILLER}`,
    `${FILLER}${secret.slice(1)}zzzz${FILLER}`,
    'zzzz',
    FILLER,
  ]) {
    expect(missingBytes(text)).toBe(0)
  }
})
