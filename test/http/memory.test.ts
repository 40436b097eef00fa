/** The memory that bodies in progress share, and the reader of bodies over it. */
import { expect, test } from 'vitest'
import type { AppContext } from '../../src/context.ts'
import { ApiError } from '../../src/errors.ts'
import { createBodies } from '../../src/http/bodies.ts'
import { createBodyMemory, type Share } from '../../src/http/memory.ts'
import type { BodyPlatform, Bytes } from '../../src/ports.ts'

/** A memory, and the names of the shares that gave way. */
function memoryOf(total: number) {
  const open = createBodyMemory(total)
  const gone: string[] = []
  const named = (name: string): Share => {
    const share = open(() => {
      gone.push(name)
      share.release()
    })
    return share
  }
  return { named, gone }
}

test('the largest body that still arrives gives way, of equal ones the oldest', () => {
  const { named, gone } = memoryOf(100)
  const [old, young, small] = ['old', 'young', 'small'].map(named) as [Share, Share, Share]
  expect([old.take(40), young.take(40), small.take(10)]).toEqual([true, true, true])
  expect(small.take(20)).toBe(true)
  expect(gone).toEqual(['old'])
})

test('a body that would be the largest gets nothing', () => {
  const { named, gone } = memoryOf(100)
  expect(named('other').take(40)).toBe(true)
  const large = named('large')
  expect(large.take(50)).toBe(true)
  expect(large.take(20)).toBe(false)
  expect(gone).toEqual([])
})

test('a body that is complete stays, until it is given back', () => {
  const { named, gone } = memoryOf(100)
  const whole = named('whole')
  whole.take(90)
  whole.arrived()
  const next = named('next')
  expect(next.take(20)).toBe(false)
  expect(gone).toEqual([])
  whole.release()
  whole.release()
  expect([next.take(20), named('more').take(80), named('another').take(1)]).toEqual([
    true,
    true,
    true,
  ])
  expect(gone).toEqual(['more'])
})

type To = Parameters<BodyPlatform['read']>[2]

/** A reader whose bodies the test sends, and how to send them. */
function reader(memory = 1_000_000) {
  const sent: To[] = []
  const bodies = createBodies({
    memory,
    read(_request, _env, to) {
      sent.push(to)
      return () => undefined
    },
  })
  const read = (maxSize: number, headers: Record<string, string> = {}) => {
    const req = { header: (name: string) => headers[name], raw: undefined }
    const body = bodies({ req, env: {} } as unknown as AppContext, maxSize)
    body.catch(() => undefined)
    return { body, to: sent.at(-1) as To }
  }
  return { read, sent }
}

const bytesOf = (text: string): Bytes => new TextEncoder().encode(text)
const failing = (body: Promise<unknown>) =>
  body.then(
    () => expect.fail('it did not fail'),
    (error: unknown) => error as ApiError,
  )

test.each<Record<string, string>>([{}, { 'content-length': '11' }])(
  'pieces become one body, with %j',
  async (headers) => {
    const { body, to } = reader().read(100, headers)
    for (const piece of ['h', 'e', 'llo', ' ', 'world']) to.piece(bytesOf(piece))
    to.end()
    const { bytes } = await body
    expect(new TextDecoder().decode(bytes)).toBe('hello world')
  },
)

test('a body in one piece is not copied', async () => {
  const { body, to } = reader().read(100, { 'content-length': '5' })
  const piece = bytesOf('hello')
  to.piece(piece)
  to.end()
  expect((await body).bytes.buffer).toBe(piece.buffer)
})

test('a body that is too large is refused at its first byte too many, or before it comes', async () => {
  const { read, sent } = reader()
  const { body, to } = read(4)
  to.piece(bytesOf('abcd'))
  to.piece(bytesOf('e'))
  expect(await failing(body)).toMatchObject({ code: 'body_too_large' })
  const declared = read(4, { 'content-length': '5' })
  expect(sent).toHaveLength(1)
  expect(await failing(declared.body)).toMatchObject({ status: 413 })
})

test('a body in thousands of tiny pieces is refused, and one in as many packets of a network is read', async () => {
  const { body, to } = reader().read(1_000_000)
  for (let n = 0; n < 4100; n += 1) to.piece(bytesOf(' '))
  const error = await failing(body)
  expect(error).toMatchObject({ code: 'invalid_request', status: 400 })
  expect(error.message).toContain('at least 512 bytes')

  const large = reader(64_000_000).read(64_000_000)
  const packet = new Uint8Array(1460)
  for (let n = 0; n < 20_000; n += 1) large.to.piece(packet)
  large.to.end()
  expect((await large.body).bytes).toHaveLength(20_000 * 1460)
})

test('what a body holds is what came of it, not what was declared', async () => {
  const { read } = reader(10_000)
  const waiting = Array.from({ length: 100 }, () => read(10_000, { 'content-length': '9000' }))
  for (const { to } of waiting.slice(0, 2)) to.piece(bytesOf('x'))
  const { body, to } = read(10_000, { 'content-length': '1000' })
  to.piece(new Uint8Array(1000))
  to.end()
  expect((await body).bytes).toHaveLength(1000)
})

test('where there is no more memory, a body is refused for a moment', async () => {
  const { read } = reader(9000)
  const held = read(10_000)
  held.to.piece(new Uint8Array(5000))
  held.to.piece(new Uint8Array(100))
  const error = await failing(held.body)
  expect(error).toBeInstanceOf(ApiError)
  expect(error).toMatchObject({ code: 'rate_limit_exceeded', headers: { 'retry-after': '1' } })
  const next = read(10_000)
  next.to.piece(new Uint8Array(5000))
  next.to.end()
  await next.body
})

test('a body that breaks off gives its memory back', async () => {
  const { read } = reader(10_000)
  for (let n = 0; n < 20; n += 1) {
    const { body, to } = read(10_000)
    to.piece(new Uint8Array(4000))
    to.fail()
    expect(await failing(body)).toMatchObject({ code: 'invalid_request' })
  }
})
