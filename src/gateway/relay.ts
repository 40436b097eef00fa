/**
 * The relay: one pump that reads upstream, writes to the client and passes the bytes to the meter.
 *
 * Its promise goes to waitUntil before the response is returned. Neither tee() nor a pull/cancel stream works: on
 * workerd, when the client aborts one, the settlement is lost too.
 */
import type { Meter, Metered } from '../metering/meter.ts'
import type { BodyReader, Bytes, Frame, RelayPlatform } from '../ports.ts'
import { createPlaces } from './places.ts'

type RelayOptions = {
  /** The client's request. */
  client: Request
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
  body: ReadableStream<Bytes>
  done: Promise<Relayed>
}

/** A user may have one in this many of all drains. */
const SHARE_OF_DRAINS = 4

/** Builds the relay of one app. All its requests share the limit on drains at once. */
export function createRelay({ pipe, drain: limits }: Pick<RelayPlatform, 'pipe' | 'drain'>): Relay {
  const drains = createPlaces({
    perUser: Math.ceil(limits.atOnce / SHARE_OF_DRAINS),
    total: limits.atOnce,
  })

  return function relay({ client, body, frame, meter, upstream, onClientAbort, user = '' }) {
    const { readable, writer, fail } = pipe(frame, client)
    const reader = body.getReader()
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
    // `closed` rejects when the client disconnects, even while upstream sends nothing.
    writer.closed.catch(leave)
    // Releases a pump that waits for upstream, or for a client that does not read.
    upstream.signal.addEventListener('abort', () => {
      fail(new Error('upstream was cut'))
      reader.cancel().catch(() => undefined)
    })

    async function pump(): Promise<Relayed> {
      let ended = false
      try {
        for (;;) {
          const { done, value } = await reader.read()
          // An answer that we cut also reports its end, because its reader was cancelled.
          ended = done && !upstream.signal.aborted
          if (done) break
          if (!gone) await writer.write(value).catch(leave)
          meter?.write(value)
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
      const metered = meter?.end() ?? { deltas: 0, bytes: 0 }
      return { metered, ended, cut: !ended && upstream.signal.aborted }
    }

    return { body: readable, done: pump() }
  }
}
