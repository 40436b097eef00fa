/**
 * The relay: one pump that reads upstream, writes to the client and passes the bytes to the meter.
 *
 * Its promise goes to waitUntil before the response is returned. Neither tee() nor a pull/cancel stream works: on
 * workerd, when the client aborts one, the settlement is lost too.
 */
import type { Meter, Metered } from '../metering/meter.ts'
import type { BodyReader, Bytes, Frame, Pipe, RelayPlatform } from '../ports.ts'
import { createPlaces } from './places.ts'
import { turn } from './steps.ts'

type RelayOptions = {
  /** The client's request, if the answer goes to it as it is. */
  client: Request | undefined
  /** Aborted when the client leaves, if the platform says so before the next write. */
  left?: AbortSignal
  body: { getReader(): BodyReader }
  frame: Frame
  meter: Meter | undefined
  /** Ends the upstream request; also aborted from outside when the request's time is up. */
  upstream: AbortController
  onClientAbort: 'drain' | 'cancel'
  /** The caller's id: no user can take all drains. */
  user?: string
}

type Relayed = {
  metered: Metered
  /** Upstream ended its answer by itself. */
  ended: boolean
  /** We stopped reading upstream. */
  cut: boolean
}

export type Relay = (options: RelayOptions) => {
  /** The answer, as a stream unless it is short and has come at once. */
  body: Promise<ReadableStream<Bytes> | Bytes>
  done: Promise<Relayed>
}

/** The most bytes of a short answer. */
const SHORT = 64 * 1024

const NOTHING: Metered = { deltas: 0, bytes: 0 }

/**
 * After this many bytes, others get their turn: a whole answer may be there at once, and looking for usage in this many
 * bytes takes milliseconds.
 */
const STEP = 64 * 1024

/** A user may have a part of all drains: one in this many. */
const SHARE_OF_DRAINS = 4

/** Builds the relay of one app. All its requests share the limit on drains at once. */
export function createRelay({ pipe, drain: limits }: Pick<RelayPlatform, 'pipe' | 'drain'>): Relay {
  const drains = createPlaces({
    perUser: Math.ceil(limits.atOnce / SHARE_OF_DRAINS),
    total: limits.atOnce,
  })

  return function relay({ client, left, body, frame, meter, upstream, onClientAbort, user = '' }) {
    const reader = body.getReader()
    let opened: Pipe | undefined
    let begin = (_: ReadableStream<Bytes> | Bytes) => {}
    const begun = new Promise<ReadableStream<Bytes> | Bytes>((resolve) => (begin = resolve))
    let gone = false
    let drained = 0
    let endDrain = () => {}
    let timer: ReturnType<typeof setTimeout> | undefined

    const cut = () => upstream.abort()
    const leave = () => {
      if (gone) return
      gone = true
      const place = onClientAbort === 'drain' && drains.take(user)
      if (typeof place !== 'function') return cut()
      endDrain = place
      if (Number.isFinite(limits.ms)) timer = setTimeout(cut, limits.ms)
    }
    /** The way to the client. A pipe costs more than the rest of a short answer, which needs none. */
    function open(): Pipe {
      if (opened) return opened
      opened = pipe(frame, client)
      // `closed` rejects when the client disconnects, even while upstream sends nothing.
      opened.writer.closed.catch(leave)
      begin(opened.readable)
      return opened
    }
    const fail = (error: unknown) => open().fail(error)
    // A short answer has no pipe that says so before its first piece has come.
    left?.addEventListener('abort', leave)

    // Releases a pump that waits for upstream, or for a client that does not read.
    upstream.signal.addEventListener('abort', () => {
      fail(new Error('upstream was cut'))
      reader.cancel().catch(() => undefined)
    })

    async function pump(): Promise<Relayed> {
      let ended = false
      try {
        const isShort = !frame.isEventStream && (frame.length ?? Infinity) <= SHORT
        let next = isShort ? await reader.read() : undefined
        if (next?.value && next.value.length === frame.length && !opened) {
          begin(next.value)
          meter?.write(next.value)
          return { metered: meter?.end() ?? NOTHING, ended: true, cut: false }
        }
        const { writer } = open()
        let written = 0
        for (;;) {
          const { done, value } = next ?? (await reader.read())
          next = undefined
          // An answer that we cut also reports its end, because its reader was cancelled.
          ended = done && !upstream.signal.aborted
          if (done) break
          if (!gone) await writer.write(value).catch(leave)
          meter?.write(value)
          written += value.length
          if (written > STEP) {
            written = 0
            await turn()
          }
          if (!gone) continue
          drained += value.length
          if (drained > limits.bytes) cut()
        }
        await writer.close().catch(leave)
      } catch (error) {
        fail(error)
      } finally {
        // A failed pipe also reports that its client has gone. That must not start a drain, which
        // nobody would end.
        gone = true
        clearTimeout(timer)
        endDrain()
      }
      const metered = meter?.end() ?? NOTHING
      return { metered, ended, cut: !ended && upstream.signal.aborted }
    }

    return { body: begun, done: pump() }
  }
}
