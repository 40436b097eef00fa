/** What workerd needs for its connections: how an answer breaks off, and a body that nobody read. */
import { ApiError } from '../errors.ts'
import type { Bytes, Frame, Pipe } from '../ports.ts'

type Stream = { readable: ReadableStream<Bytes>; writable: WritableStream<Bytes> }

/** https://developers.cloudflare.com/workers/runtime-apis/streams/transformstream/ */
type Workerd = {
  IdentityTransformStream: new () => Stream
  FixedLengthStream: new (length: number) => Stream
}

export const isWorkerd = 'IdentityTransformStream' in globalThis

/**
 * workerd ends every chunked answer as if it were whole, whatever its stream does. So the client is told by the event
 * with which the provider reports an error in a stream, and which clients know. The empty line before it ends what has
 * arrived of an event.
 *
 * It is a function, because an error that is made while a bundle loads makes a cold start a quarter longer: workerd
 * looks up the lines of its stack, for which V8 parses the whole bundle again.
 */
const brokenOff = () =>
  new TextEncoder().encode(
    `\n\nevent: error\ndata: ${JSON.stringify(
      new ApiError('upstream_unreachable', 'The answer broke off before its end.'),
    )}\n\n`,
  )

/** How long a client may take to read the last event. */
const LAST_EVENT_MS = 1000

/**
 * A pipe that fails when the client has disconnected: a write to a standard TransformStream may then hang for ever (seen
 * with compatibility dates of 2026). The length is kept, so that a client can tell that an answer is not whole.
 */
export function workerdPipe({ length, isEventStream }: Frame): Pipe {
  const { IdentityTransformStream, FixedLengthStream } = globalThis as unknown as Workerd
  const { readable, writable } =
    length === undefined ? new IdentityTransformStream() : new FixedLengthStream(length)
  const writer = writable.getWriter()
  const abort = (error: unknown) => void writer.abort(error).catch(() => undefined)
  let waits = false

  async function breakOff(error: unknown): Promise<void> {
    const timer = setTimeout(abort, LAST_EVENT_MS, error)
    try {
      await writer.write(brokenOff())
      await writer.close()
    } catch {
      // The client has gone, or the pipe was closed meanwhile.
    } finally {
      clearTimeout(timer)
    }
  }

  return {
    readable,
    writer: {
      closed: writer.closed,
      close: () => writer.close(),
      async write(chunk) {
        waits = true
        await writer.write(chunk)
        waits = false
      },
    },
    fail(error) {
      // Behind a write that waits for the client, nothing else would arrive either.
      if (isEventStream && length === undefined && !waits) void breakOff(error)
      else abort(error)
    },
  }
}

/** The most of an unread body that is read, in bytes and in ms. */
const DRAIN = { bytes: 1024 * 1024, ms: 1000 }

/**
 * Reads the body of a request that was answered without it. Otherwise workerd closes the connection, and the next request
 * on it is lost, or the answer itself.
 */
export async function drainBody({ body, bodyUsed, headers }: Request): Promise<void> {
  if (!body || bodyUsed || body.locked) return
  if (Number(headers.get('content-length') ?? 0) > DRAIN.bytes) return
  const reader = body.getReader()
  const cancel = () => void reader.cancel().catch(() => undefined)
  const timer = setTimeout(cancel, DRAIN.ms)
  try {
    let size = 0
    for (let next = await reader.read(); !next.done; next = await reader.read()) {
      size += next.value.length
      if (size > DRAIN.bytes) return cancel()
    }
  } catch {
    // It broke off, or is malformed: the connection ends anyway.
  } finally {
    clearTimeout(timer)
  }
}
