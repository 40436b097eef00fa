/** Bytes over a socket of their own, past every client that would mend them on the way. */
import { connect, type Socket } from 'node:net'

export type RawAnswer = {
  /** What came back, one character per byte. */
  text: string
  /** The status of each answer in it, in order. */
  statuses: number[]
}

/** Nothing is waited for longer than this, in ms. */
const PATIENCE = 3_000

/** Opens a connection to the server of a URL. */
export function dial(url: string): Promise<Socket> {
  const { hostname, port } = new URL(url)
  return new Promise((resolve, reject) => {
    const socket = connect({ host: hostname, port: Number(port) }, () => resolve(socket))
    socket.once('error', reject)
  })
}

/** Whether the first answer is there to its end. */
function isWhole(text: string): boolean {
  const [head = '', ...rest] = text.split('\r\n\r\n')
  if (rest.length === 0) return false
  const length = /^content-length: *(\d+)/im.exec(head)?.[1]
  if (length !== undefined) return rest.join('\r\n\r\n').length >= Number(length)
  return /^HTTP\/1.1 (204|304)/.test(head) || text.endsWith('\r\n0\r\n\r\n')
}

/**
 * Sends bytes (a string has one character per byte) and gathers what comes until the server hangs up, or with
 * `first` until the first answer is there, since workerd does not do as `Connection: close` says.
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
  const statuses = [...text.matchAll(/^HTTP\/1\.[01] (\d{3})/gm)].map(([, status]) =>
    Number(status),
  )
  return { text, statuses }
}

/** The bytes of one request; `headers` are whole lines. */
export const requestOf = (line: string, headers: string[], body = ''): string =>
  `${line}\r\n${headers.map((header) => `${header}\r\n`).join('')}\r\n${body}`
