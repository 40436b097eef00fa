import { expect, test } from 'vitest'
import { createRelay } from '../../src/gateway/relay.ts'
import { streamPipe } from '../../src/gateway/pipe.ts'
import { turnsWhile } from '../support/turns.ts'

test('while an answer passes that is there already as a whole, others get their turns', async () => {
  const pieces = Array.from({ length: 32 }, () => new Uint8Array(32 * 1024))
  const relay = createRelay({
    pipe: () => streamPipe(),
    drain: { ms: 1000, bytes: 1000, atOnce: 1 },
  })
  const reader = {
    read: async () => {
      const value = pieces.shift()
      return value ? { done: false as const, value } : { done: true as const, value: undefined }
    },
    cancel: async () => undefined,
  }
  const turns = await turnsWhile(async () => {
    const { body, done } = relay({
      client: undefined,
      body: { getReader: () => reader },
      frame: { isEventStream: true },
      meter: undefined,
      upstream: new AbortController(),
      onClientAbort: 'drain',
    })
    const stream = (await body) as ReadableStream<Uint8Array>
    let size = 0
    for await (const piece of stream) size += piece.length
    expect(size).toBe(1024 * 1024)
    await done
  })
  expect(turns).toBeGreaterThanOrEqual(10)
})
