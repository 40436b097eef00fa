/**
 * The relay: one pump that reads upstream, writes to the client and lets the meter listen.
 *
 * Its promise goes to waitUntil before the response is returned. Neither tee() nor a pull/cancel stream will
 * do: on workerd an aborted one takes the settlement with it.
 */
import type { Meter, Metered } from '../usage/meter.ts'
import type { Bytes, Pipe } from './pipe.ts'
import type { BodyReader } from './upstream.ts'

/** What relaying takes on a platform. */
export type RelayPlatform = {
  /** Makes a pipe to the client. */
  pipe(): Pipe
  /** Headers that an answer needs to be streamed. */
  headers: Record<string, string>
  /** How far upstream is read on after the client has gone, so that its usage is known exactly. */
  drain: { ms: number; bytes: number; atOnce: number }
}

export type RelayOptions = {
  body: { getReader(): BodyReader }
  meter: Meter | undefined
  /** Ends the upstream request; also aborted from outside when the request's time is up. */
  upstream: AbortController
  onClientAbort: 'drain' | 'cancel'
}

export type Relayed = {
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

/** Builds the relay of one app; the limit on drains at once is the app's. */
export function createRelay({ pipe, drain: limits }: RelayPlatform): Relay {
  let draining = 0

  return function relay({ body, meter, upstream, onClientAbort }) {
    const { readable, writer, fail } = pipe()
    const reader = body.getReader()
    let gone = false
    let drains = false
    let drained = 0
    let timer: ReturnType<typeof setTimeout> | undefined

    const cut = () => upstream.abort()
    const leave = () => {
      if (gone) return
      gone = true
      if (onClientAbort === 'cancel' || draining >= limits.atOnce) return cut()
      drains = true
      draining += 1
      if (Number.isFinite(limits.ms)) timer = setTimeout(cut, limits.ms)
    }
    // The client's leaving shows here even while upstream is silent.
    writer.closed.catch(leave)
    // Frees a pump that waits, for upstream or for a client that does not read.
    upstream.signal.addEventListener('abort', () => {
      fail(new Error('upstream was cut'))
      reader.cancel().catch(() => undefined)
    })

    async function pump(): Promise<Relayed> {
      let ended = false
      try {
        for (;;) {
          const { done, value } = await reader.read()
          // What we cut looks ended too, since its reader was told to stop.
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
        // A pipe that fails says that its client has gone, and nobody would end that drain.
        gone = true
        clearTimeout(timer)
        if (drains) draining -= 1
      }
      const metered = meter?.end() ?? { deltas: 0, bytes: 0 }
      return { metered, ended, cut: !ended && upstream.signal.aborted }
    }

    return { body: readable, done: pump() }
  }
}
