/** The pipe between the pump and the client: a write waits until the client wants more, and fails once it has gone. */

export type Bytes = Uint8Array<ArrayBuffer>

export type Pipe = {
  readable: ReadableStream<Bytes>
  writer: {
    write(chunk: Bytes): Promise<void>
    close(): Promise<void>
    /** Rejects when the client goes. */
    closed: Promise<unknown>
  }
  /** Breaks the answer off, and ends a write that waits. */
  fail(error: unknown): void
}

/** The pipe of the standard. Its writer's abort would wait for the write that waits for the client. */
export function transformPipe(): Pipe {
  let fail = (_: unknown) => {}
  const { readable, writable } = new TransformStream<Bytes, Bytes>({
    start: (controller) => void (fail = (error) => controller.error(error)),
  })
  return { readable, writer: writable.getWriter(), fail }
}

/** The same on a single stream, which on Node costs an eighth of a TransformStream. */
export function streamPipe(): Pipe {
  let controller: ReadableStreamDefaultController<Bytes>
  let wanted = false
  let over: { error: unknown } | undefined
  let wake = () => {}
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
      controller.error(
        Object.assign(new Error('the answer was broken off', { cause: error }), BROKEN_OFF),
      )
      end(error)
    },
  }
}

/** Of any other error @hono/node-server writes the stack to the console, past the log: clients could fill it. */
const BROKEN_OFF = { code: 'ERR_STREAM_PREMATURE_CLOSE' }
