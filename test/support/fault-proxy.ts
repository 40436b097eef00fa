/** A TCP proxy that fails on demand, in front of a redis-server or another local server. */
import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'

type Mode =
  | 'pass'
  /** It takes no connection and breaks off the open ones. */
  | 'refuse'
  /** It takes connections and drops what comes in. */
  | 'stall'
  /** It passes the question on, and breaks the connection off in the middle of the answer. */
  | 'cut'
  /** It answers every question with a web page. */
  | 'page'
  /** It passes each question on this many ms late, even if nobody waits for the answer any more. */
  | { late: number }

export type FaultProxy = {
  readonly port: number
  /** Connections taken so far. */
  readonly connections: number
  /** Pieces that were passed on late, and pieces that still wait. */
  readonly late: { done: number; waiting: number }
  set(mode: Mode): Promise<void>
  /** Gets everything that comes in, also what is dropped. */
  tap(listener: ((piece: string) => void) | undefined): void
  close(): Promise<void>
}

const PAGE = 'HTTP/1.1 502 Bad Gateway\r\ncontent-length: 20\r\n\r\n<html>Bad gateway\r\n\r\n'

export async function startFaultProxy(port: number): Promise<FaultProxy> {
  const sockets = new Set<Socket>()
  const late = { done: 0, waiting: 0 }
  let mode: Mode = 'pass'
  let connections = 0
  let listener: ((piece: string) => void) | undefined
  let server: Server | undefined

  function serve(near: Socket): void {
    connections += 1
    const far = connect(port, '127.0.0.1')
    let lost = false
    /** The waiting pieces of this connection, in order. */
    let underWay = Promise.resolve()
    for (const socket of [near, far]) {
      sockets.add(socket)
      socket.setNoDelay(true)
      socket.on('error', () => undefined)
      socket.on('close', () => sockets.delete(socket))
    }
    near.on('data', (piece: Buffer) => {
      listener?.(piece.toString('latin1'))
      if (mode === 'stall') lost = true
      if (lost) return
      if (mode === 'page') return void near.write(PAGE)
      if (typeof mode !== 'object') {
        underWay = underWay.then(() => void far.write(piece))
        return
      }
      late.waiting += 1
      const { late: ms } = mode
      const before = underWay
      underWay = sleep(ms)
        .then(() => before)
        .then(() => {
          late.waiting -= 1
          if (far.destroyed) return
          late.done += 1
          far.write(piece)
        })
    })
    far.on('data', (piece: Buffer) => {
      if (lost || near.destroyed) return
      if (mode !== 'cut') return void near.write(piece)
      lost = true
      near.write(piece.subarray(0, piece.length / 2), () => near.resetAndDestroy())
    })
    // Earlier questions are still passed on.
    near.on('close', () => void underWay.then(() => far.end()))
    far.on('close', () => near.destroy())
  }

  /** The port is ours, but another program may connect from it for a moment. */
  async function listen(on: number): Promise<void> {
    for (let attempt = 1; ; attempt += 1) {
      server = createServer(serve).listen(on, '127.0.0.1')
      try {
        await once(server, 'listening')
        return
      } catch (error) {
        if (attempt === 100) throw error
        await sleep(20)
      }
    }
  }

  const shut = (): void => {
    server?.close()
    server = undefined
    for (const socket of sockets) socket.resetAndDestroy()
  }

  await listen(0)
  const own = (server as unknown as Server).address() as AddressInfo
  return {
    port: own.port,
    get connections() {
      return connections
    },
    late,
    async set(next) {
      mode = next
      if (next === 'refuse') shut()
      else if (!server) await listen(own.port)
    },
    tap(next) {
      listener = next
    },
    async close() {
      mode = 'refuse'
      shut()
    },
  }
}
