/**
 * The pipe between the pump and the client: a write waits until the client wants more, and fails after the client has
 * disconnected.
 */

import type { Bytes, Pipe } from '../ports.ts'

/**
 * A pipe on a standard TransformStream. `fail` uses the controller, since the writer's abort would wait for the pending
 * write.
 */
export function transformPipe(): Pipe {
  let fail = (_: unknown) => {}
  const { readable, writable } = new TransformStream<Bytes, Bytes>({
    start: (controller) => void (fail = (error) => controller.error(error)),
  })
  return { readable, writer: writable.getWriter(), fail }
}

/**
 * A pipe on one ReadableStream. On Node it costs an eighth of a TransformStream. If `fail` has a connection to break
 * off, it does only that: @hono/node-server would write an error of the stream to the console, past the log. The
 * promise that `breakOff` gets resolves when the server has taken all that was written.
 */
export function streamPipe(breakOff?: (taken: Promise<void>) => void): Pipe {
  let controller: ReadableStreamDefaultController<Bytes>
  let wanted = false
  let over: { error: unknown } | undefined
  let wake = () => {}
  let taken = () => {}
  let leave = (_: unknown) => {}
  const closed = new Promise<never>((_, reject) => (leave = reject))

  const end = (error: unknown) => {
    over ??= { error }
    leave(error)
    wake()
  }
  const readable = new ReadableStream<Bytes>(
    {
      start: (given) => void (controller = given),
      pull() {
        wanted = true
        wake()
        taken()
      },
      cancel: () => end(new Error('the client has gone')),
    },
    { highWaterMark: 0 },
  )
  return {
    readable,
    writer: {
      closed,
      async write(chunk) {
        while (!wanted && !over) await new Promise<void>((resolve) => (wake = resolve))
        if (over) throw over.error
        wanted = false
        controller.enqueue(chunk)
      },
      async close() {
        if (over) throw over.error
        over = { error: new Error('the answer has ended') }
        controller.close()
      },
    },
    fail(error) {
      if (over) return
      if (breakOff)
        breakOff(wanted ? Promise.resolve() : new Promise((resolve) => (taken = resolve)))
      else controller.error(new Error('the answer was broken off', { cause: error }))
      end(error)
    },
  }
}
