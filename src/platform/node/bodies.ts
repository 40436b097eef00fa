/** The bodies of requests on Node, from the server's own stream: a web stream costs more for each piece. */
import type { HttpBindings } from '@hono/node-server'
import { areTooMany } from '../../http/bodies.ts'
import type { BodyPlatform } from '../../ports.ts'

export const NODE_BODIES: BodyPlatform = {
  memory: 64 * 1024 * 1024,
  read(_, env, { piece, end, fail }) {
    const { incoming, outgoing } = env as HttpBindings
    let pieces = 0
    let size = 0
    const stop = () => {
      incoming.off('data', take).off('end', finish).off('error', breakOff).off('close', breakOff)
    }
    // A Buffer is not quite a Uint8Array: its `slice` copies nothing.
    const take = ({ buffer, byteOffset, length }: Buffer<ArrayBuffer>) => {
      pieces += 1
      size += length
      piece(new Uint8Array(buffer, byteOffset, length))
    }
    const finish = () => {
      stop()
      end()
    }
    const breakOff = () => {
      stop()
      fail()
    }
    incoming.on('data', take).on('end', finish).on('error', breakOff).on('close', breakOff)
    // From then on, none of these events comes.
    if (incoming.destroyed) queueMicrotask(breakOff)
    return () => {
      stop()
      // The server would read the rest of a refused body. In tiny pieces that takes long.
      if (!areTooMany(pieces, size)) return
      incoming.pause()
      outgoing.once('finish', () => incoming.socket.destroySoon())
    }
  },
}
