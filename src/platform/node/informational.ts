/**
 * Connections for undici that skip informational answers, of which any server may send some before its final one (RFC
 * 9110, section 15.2). undici takes an unexpected `100 Continue` for an error and ends the connection.
 */
import type { Socket } from 'node:net'
import type { buildConnector } from 'undici'

const BEGIN = Buffer.from('HTTP/1.1 1')
const MAX_BYTES = 16 * 1024

/** A connector for undici's `Agent`, whose connections skip informational answers. */
export const skipInformational =
  (connect: buildConnector.connector): buildConnector.connector =>
  (options, callback) =>
    connect(options, (...result) => {
      const [, socket] = result
      if (socket) skipOn(socket)
      callback(...result)
    })

/** An answer begins after a request was written: undici writes the next one only when the answer has ended. */
function skipOn(socket: Socket): void {
  const read = socket.read.bind(socket) as (size?: number) => Buffer | null
  const write: Socket['write'] = socket.write.bind(socket)
  let begins = false
  let held: Buffer | undefined

  socket.write = ((...args: Parameters<Socket['write']>) => {
    begins = true
    return write(...args)
  }) as Socket['write']

  socket.read = (size) => {
    for (;;) {
      const chunk = read(size)
      if (chunk === null || !begins) return chunk
      held = withoutInformational(held ? Buffer.concat([held, chunk]) : chunk)
      if (isOpen(held)) continue
      const answer = held
      begins = false
      held = undefined
      return answer
    }
  }
}

/** Removes all complete informational answers except `101`, after which no final answer comes. */
function withoutInformational(bytes: Buffer): Buffer {
  if (!bytes.subarray(0, BEGIN.length).equals(BEGIN) || isSwitch(bytes)) return bytes
  const end = bytes.indexOf('\r\n\r\n')
  return end < 0 ? bytes : withoutInformational(bytes.subarray(end + 4))
}

const isSwitch = (bytes: Buffer): boolean =>
  bytes.subarray(BEGIN.length, BEGIN.length + 2).equals(SWITCH)
const SWITCH = Buffer.from('01')

/** Whether more must come before one can tell if an answer is informational. */
const isOpen = (bytes: Buffer): boolean =>
  bytes.length < MAX_BYTES &&
  bytes.subarray(0, BEGIN.length).equals(BEGIN.subarray(0, bytes.length)) &&
  !isSwitch(bytes)
