import { expect, test } from 'vitest'
import { bare, forwardedFor } from '../../src/platform/node/client-address.ts'

const FORWARDED = '192.0.2.66, 203.0.113.7, 198.51.100.1'

test.each([
  [1, '198.51.100.1'],
  [2, '203.0.113.7'],
  [3, '192.0.2.66'],
  [9, '192.0.2.66'],
])('behind %i proxies the client is %s', (hops, address) => {
  expect(forwardedFor(FORWARDED, hops)).toBe(address)
})

test('a client adds nothing that is believed', () => {
  const sent = 'unknown, [::1]:1, 10.0.0.1'
  expect(forwardedFor(`${sent}, 203.0.113.7:4711,198.51.100.1:80`, 2)).toBe('203.0.113.7')
})

test.each([
  ['203.0.113.7', '203.0.113.7'],
  [' 203.0.113.7 ', '203.0.113.7'],
  ['203.0.113.7:4711', '203.0.113.7'],
  ['[2001:db8::1]', '2001:db8::1'],
  ['[2001:db8::1]:4711', '2001:db8::1'],
  ['"[2001:db8::1]:4711"', '2001:db8::1'],
  ['2001:db8::1', '2001:db8::1'],
  ['::ffff:203.0.113.7', '::ffff:203.0.113.7'],
  ['fe80::1%eth0', 'fe80::1'],
  ['[fe80::1%25eth0]:80', 'fe80::1'],
  ['unknown', 'unknown'],
  ['', ''],
])('%j is the address %j', (written, address) => {
  expect(bare(written)).toBe(address)
})
