/**
 * One client that takes as much of a server as it can, in a way that the parent chooses, until the parent chooses
 * another.
 */
import { request } from 'node:http'
import { connect, type Socket } from 'node:net'
import { bodiesOf } from './bodies.ts'
import { answerParent, optionsOfParent } from './child.ts'

const { url, bytes } = optionsOfParent<{ url: string; bytes: number }>()
const { hostname, port, pathname } = new URL(url)
const bodies = bodiesOf(bytes)

/** Sockets and requests of the running attack. */
const open = new Set<{ destroy(): unknown }>()
let running = ''

const head = (length: string) =>
  `POST ${pathname} HTTP/1.1\r\nHost: weir.test\r\nX-User-Token: token-of-an-attacker\r\n${length}\r\n\r\n`

function dial(): Socket {
  const socket = connect({ host: hostname, port: Number(port) })
  socket.on('error', () => undefined)
  socket.once('close', () => open.delete(socket))
  open.add(socket)
  return socket
}

/** Repeats an action without end, `atOnce` of it at a time. */
function repeat(kind: string, atOnce: number, step: () => Promise<unknown>): void {
  async function slot(): Promise<void> {
    while (running === kind) await step()
  }
  for (let n = 0; n < atOnce; n += 1) void slot()
}

const post = (body: string | Buffer) =>
  new Promise((resolve) => {
    const headers = { 'x-user-token': 'token-of-an-attacker', 'content-length': body.length }
    const sent = request(url, { method: 'POST', headers }, (answer) => {
      answer.resume().once('close', resolve)
    })
    open.add(sent)
    sent
      .once('error', resolve)
      .once('close', () => open.delete(sent))
      .end(body)
  })

const small = '{"model":"a/b","messages":[]}'
const pipelined = (head(`Content-Length: ${small.length}`) + small).repeat(4000)

/** One connection with all its requests at once. Resolves when it closes, or after a second without an answer. */
const pipeline = (reads: boolean) =>
  new Promise((resolve) => {
    const socket = dial()
    if (reads) socket.resume()
    socket.setTimeout(1000, () => socket.destroy()).once('close', resolve)
    socket.write(pipelined)
  })

const tiny = Buffer.from(head('Transfer-Encoding: chunked') + '1\r\na\r\n'.repeat(bytes / 16))

const ATTACKS: Record<string, (kind: string) => void> = {
  'pipelined calls': (kind) => repeat(kind, 1, () => pipeline(true)),
  'calls whose answers it does not read': (kind) => repeat(kind, 8, () => pipeline(false)),
  'chunks of one byte': (kind) =>
    repeat(kind, 4, async () => {
      const socket = dial()
      socket.resume().setTimeout(1000, () => socket.destroy())
      socket.write(tiny)
      await new Promise((resolve) => socket.once('close', resolve))
    }),
  'bodies without their end': () => {
    const body = bodies['one text'] ?? ''
    for (let n = 0; n < 100; n += 1) {
      dial().write(head(`Content-Length: ${body.length}`) + body.slice(0, -1))
    }
  },
}
for (const [name, body] of Object.entries(bodies)) {
  const sent = Buffer.from(body)
  ATTACKS[`bodies: ${name}`] = (kind) => repeat(kind, 4, () => post(sent))
}

answerParent<{ attack?: string }, string[]>(url, ({ attack = '' }) => {
  running = attack
  for (const one of open) one.destroy()
  ATTACKS[attack]?.(attack)
  return Object.keys(ATTACKS)
})
