import { expect, test } from 'vitest'
import { createLog, type Log, type LogOptions } from '../../src/log.ts'

const NAMES = ['debug', 'info', 'warn', 'error'] as const satisfies (keyof Log)[]

function logged(options: Partial<LogOptions>, say: (log: Log) => void): string[] {
  const lines: string[] = []
  say(createLog({ level: 'debug', format: 'json', write: (line) => lines.push(line), ...options }))
  return lines
}

/** The single line, parsed. */
function json(say: (log: Log) => void): Record<string, unknown> {
  const [line = '', ...more] = logged({}, say)
  expect(more).toEqual([])
  return JSON.parse(line) as Record<string, unknown>
}

const text = (say: (log: Log) => void) => logged({ format: 'text' }, say).join('\n')

test.each([
  ['debug', ['debug', 'info', 'warn', 'error']],
  ['info', ['info', 'warn', 'error']],
  ['warn', ['warn', 'error']],
  ['error', ['error']],
  ['silent', []],
] as const)('at the level %s writes %j', (level, written) => {
  const lines = logged({ level }, (log) => NAMES.forEach((name) => log[name]('a.thing')))
  expect(lines.map((line) => (JSON.parse(line) as { level: string }).level)).toEqual(written)
})

test('writes a line of JSON with the time, the level, the event and its fields', () => {
  const before = Date.now()
  const line = json((log) => log.warn('a.thing', { count: 3, keys: ['a'], none: undefined }))
  expect(Object.keys(line)).toEqual(['time', 'level', 'msg', 'count', 'keys'])
  expect(line).toMatchObject({ level: 'warn', msg: 'a.thing', count: 3, keys: ['a'] })
  const at = Date.parse(String(line.time))
  expect(at).toBeGreaterThanOrEqual(before)
  expect(at).toBeLessThanOrEqual(Date.now())
})

test('writes a readable line with the time of day, the level, the event and its fields', () => {
  expect(text((log) => log.info('a.thing', { count: 3, name: 'a b', keys: ['a'] }))).toMatch(
    /^\d\d:\d\d:\d\d info {2}a\.thing count=3 name="a b" keys=\["a"\]$/,
  )
  expect(text((log) => log.error('a.thing'))).toMatch(/^\d\d:\d\d:\d\d error a\.thing$/)
})

test('keeps the log event if a field is also called event', () => {
  const event = { id: 'id-1', charged: 15 }
  expect(json((log) => log.error('usage.unrecorded', { event }))).toMatchObject({
    msg: 'usage.unrecorded',
    event,
  })
  expect(text((log) => log.error('usage.unrecorded', { event }))).toContain(
    'usage.unrecorded event={"id":"id-1","charged":15}',
  )
})

test('writes an error with name, message and causes, without its stack', () => {
  const cause = new TypeError('fetch failed', { cause: new Error('ECONNREFUSED') })
  const error = new RangeError('no answer', { cause })
  const told =
    'RangeError: no answer; caused by TypeError: fetch failed; caused by Error: ECONNREFUSED'
  expect(json((log) => log.error('a.thing', { error })).error).toBe(told)
  expect(text((log) => log.error('a.thing', { error }))).toContain(`error="${told}"`)
})

test.each([
  ['a text', 'timeout'],
  ['nothing', undefined],
  ['an object', { token: 'secret' }],
])('leaves out a cause that is %s', (_, cause) => {
  const error = new Error('no answer', { cause })
  expect(json((log) => log.error('a.thing', { error })).error).toBe('Error: no answer')
})

test('ends with errors that cause each other', () => {
  const error = new Error('egg')
  error.cause = new Error('hen', { cause: error })
  const told = json((log) => log.error('a.thing', { error })).error
  expect(told).toMatch(/^Error: egg; caused by Error: hen; caused by Error: egg/)
})

const FORGED = 'a\n{"level":"error","msg":"forged"}\r\n12:00:00 error forged'

test.each(['json', 'text'] as const)('writes one %s line for any field', (format) => {
  const lines = logged({ format }, (log) => {
    log.info('a.thing', { value: FORGED })
    log.info('a.thing', { value: { deep: [FORGED] } })
    log.info('a.thing', { value: { [FORGED]: 1 } })
    log.info('a.thing', { error: new Error(FORGED, { cause: new Error(FORGED) }) })
  })
  expect(lines).toHaveLength(4)
  for (const line of lines) expect(line).not.toMatch(/[\r\n]/)
})

test('writes no escape codes to a terminal', () => {
  const line = text((log) => log.info('a.thing', { value: '\u001b[2J\u0007\b' }))
  expect(line).toContain('value="\\u001b[2J\\u0007\\b"')
})
