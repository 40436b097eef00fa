/** The requests of one connection, served one after the other. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'

/** The most requests of a connection that wait for the one before them. */
const MOST_WAITING = 100

type Listener = (request: IncomingMessage, response: ServerResponse) => void

/**
 * A listener that passes on a request when the answer to the one before it has been sent. Clients may send many requests
 * at once (pipelining); Node would start them all, and answers that nobody reads would pile up. The connection of a
 * client that sends too many is closed, since Node cannot stop in the middle of what it has read.
 */
export function inTurn(serve: Listener): Listener {
  /** For each connection with a request in progress, those that wait. */
  const busy = new WeakMap<Socket, [IncomingMessage, ServerResponse][]>()

  function start(request: IncomingMessage, response: ServerResponse): void {
    // Others have a turn of the event loop in between: Node reads and passes on up to 2 MB of requests in one turn.
    response.once('close', () => setImmediate(goOn, request.socket))
    serve(request, response)
  }

  function goOn(socket: Socket): void {
    const next = busy.get(socket)?.shift()
    if (next && !isOver(socket)) start(...next)
    else busy.delete(socket)
  }

  return function listen(request, response) {
    const { socket } = request
    const waiting = busy.get(socket)
    if (!waiting) {
      busy.set(socket, [])
      start(request, response)
    } else if (waiting.length < MOST_WAITING) waiting.push([request, response])
    else socket.destroy()
  }
}

/** Whether no further answer can be sent. */
const isOver = (socket: Socket) => socket.destroyed || socket.writableEnded
