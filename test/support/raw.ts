/** Sends bytes over a plain socket, because any HTTP client would correct them. */
import { connect, type Socket } from 'node:net'

export type RawAnswer = {
  /** The answer, one character per byte. */
  text: string
  /** The status of each answer in it, in order. */
  statuses: number[]
}

/** The longest wait, in ms. */
const PATIENCE = 3_000

/** Opens a connection to the server of a URL. */
export function dial(url: string): Promise<Socket> {
  const { hostname, port } = new URL(url)
  return new Promise((resolve, reject) => {
    const socket = connect({ host: hostname, port: Number(port) }, () => resolve(socket))
    socket.once('error', reject)
  })
}

/** Whether the first answer is complete. */
function isWhole(text: string): boolean {
  const [head = '', ...rest] = text.split('\r\n\r\n')
  if (rest.length === 0) return false
  const length = /^content-length: *(\d+)/im.exec(head)?.[1]
  if (length !== undefined) return rest.join('\r\n\r\n').length >= Number(length)
  return /^HTTP\/1.1 (204|304)/.test(head) || text.endsWith('\r\n0\r\n\r\n')
}

/**
 * Sends bytes (a string has one character per byte) and collects the answer until the server closes the connection.
 * With `first` it stops after the first answer, since workerd ignores `Connection: close`.
 */
export async function raw(url: string, bytes: string, first = false): Promise<RawAnswer> {
  const socket = await dial(url)
  const parts: Buffer[] = []
  socket.on('data', (part: Buffer) => {
    parts.push(part)
    if (first && isWhole(Buffer.concat(parts).toString('latin1'))) socket.destroy()
  })
  const closed = new Promise<void>((resolve, reject) => {
    const timer = setTimeout(() => {
      socket.destroy()
      reject(new Error(`the server did not hang up: ${Buffer.concat(parts).toString('latin1')}`))
    }, PATIENCE)
    socket.on('error', () => undefined)
    socket.once('close', () => {
      clearTimeout(timer)
      resolve()
    })
  })
  socket.write(Buffer.from(bytes, 'latin1'))
  await closed
  const text = Buffer.concat(parts).toString('latin1')
  const statuses = [...text.matchAll(/HTTP\/1\.[01] (\d{3}) /g)].map(([, status]) => Number(status))
  return { text, statuses }
}

/** The bytes of one request; `headers` are whole lines. */
export const requestOf = (line: string, headers: string[], body = ''): string =>
  `${line}\r\n${headers.map((header) => `${header}\r\n`).join('')}\r\n${body}`
