/** Reads the bodies of requests, within a memory that all requests of an instance share. */
import type { AppContext } from '../context.ts'
import { ApiError, brokenOff } from '../errors.ts'
import type { BodyPlatform, Bytes } from '../ports.ts'
import { createBodyMemory } from './memory.ts'

type Body = {
  bytes: Bytes
  /** How many bytes after them may be written to. */
  room: number
  /** The bytes are needed no longer. */
  release(): void
}

/**
 * Reads a body of at most `maxSize` bytes. Throws `body_too_large`, `invalid_request` for a body that breaks off, and
 * `rate_limit_exceeded` where there is no memory.
 */
export type Bodies = (c: AppContext, maxSize: number) => Promise<Body>

/**
 * The most pieces of a body: a fixed number, and one more for each 512 bytes, which is less than a network packet.
 * Taking in a piece costs the same whether it has one byte or thousands.
 */
const MOST_PIECES = { first: 4000, oneFor: 512 }

/** Whether there are too many pieces for their bytes. */
export const areTooMany = (pieces: number, bytes: number): boolean =>
  pieces > MOST_PIECES.first + bytes / MOST_PIECES.oneFor

/** The smallest buffer for a body that comes in pieces. */
const MIN_BUFFER = 4096

/**
 * Builds the reader of bodies. `open` counts their memory. With `room`, a body of a declared length gets a buffer with
 * that much room at its end, so that it need not be copied.
 */
export function createBodies(
  platform = STREAMED,
  open = createBodyMemory(platform.memory),
  room = 0,
): Bodies {
  return async function read(c, maxSize) {
    const declared = lengthOf(c)
    if (declared !== undefined && declared > maxSize) throw tooLarge(maxSize)
    return new Promise((resolve, reject) => {
      let buffer: Bytes = new Uint8Array(0)
      let length = 0
      let pieces = 0
      let stop = () => {}
      const fail = (error: ApiError) => {
        share.release()
        stop()
        reject(error)
      }
      const share = open(() => fail(noMemory()))

      stop = platform.read(c.req.raw, c.env, {
        piece(piece) {
          const size = length + piece.length
          pieces += 1
          if (size > maxSize) return fail(tooLarge(maxSize))
          if (areTooMany(pieces, size)) return fail(tooManyPieces(pieces))
          const isWhole = piece.length === declared && room === 0
          if (size > buffer.length) {
            const most = declared ?? maxSize
            const wanted = isWhole ? size : Math.max(size, 2 * buffer.length, MIN_BUFFER)
            const capacity = (room > 0 ? most : Math.min(wanted, most)) + room
            if (!share.take(capacity - buffer.length)) return fail(noMemory())
            const larger = isWhole ? piece : new Uint8Array(capacity)
            if (!isWhole) larger.set(buffer.subarray(0, length))
            buffer = larger
          }
          if (!isWhole) buffer.set(piece, length)
          length = size
        },
        end() {
          share.arrived()
          const free = room > 0 ? buffer.length - length : 0
          resolve({ bytes: buffer.subarray(0, length), room: free, release: share.release })
        },
        fail: () => fail(brokenOff()),
      })
    })
  }
}

/** For platforms that gather the pieces of a body themselves. */
const STREAMED = streamed(true)

/** The same for bodies that get a buffer with room: each piece is copied into it. */
export const IN_PIECES = streamed(false)

/** `atOnce`: if the length is declared, the platform gathers the pieces. */
function streamed(atOnce: boolean): BodyPlatform {
  return {
    memory: 32 * 1024 * 1024,
    read(request, _, { piece, end, fail }) {
      let stopped = false
      async function pump(): Promise<void> {
        // One call is cheaper than many, and the server reads no more than the declared length (RFC 9112, section 6.3).
        if (atOnce && request.headers.has('content-length')) {
          const bytes = new Uint8Array(await request.arrayBuffer())
          if (!stopped && bytes.length > 0) piece(bytes)
        } else {
          const reader = request.body?.getReader()
          while (!stopped && reader) {
            const { done, value } = await reader.read()
            if (done) break
            if (!stopped) piece(value)
          }
        }
        if (!stopped) end()
      }
      pump().catch(fail)
      return () => void (stopped = true)
    },
  }
}

/** The declared length. With a Transfer-Encoding it says nothing (RFC 9112, section 6.3). */
function lengthOf(c: AppContext): number | undefined {
  const length = c.req.header('content-length')
  if (length === undefined || c.req.header('transfer-encoding') !== undefined) return undefined
  return Number(length)
}

const tooLarge = (maxSize: number) =>
  new ApiError('body_too_large', `The body may have at most ${maxSize} bytes.`)

const tooManyPieces = (pieces: number) =>
  new ApiError(
    'invalid_request',
    `The body came in ${pieces.toLocaleString('en-US')} pieces; send it in pieces of at least ${MOST_PIECES.oneFor} bytes.`,
  )

const noMemory = () =>
  new ApiError(
    'rate_limit_exceeded',
    'This server is receiving too many large bodies. Send yours again in a moment.',
    { headers: { 'retry-after': '1' } },
  )
