/** Floods of calls, with the database at work: no limit gives way because the gateway itself is busy. */
import { once } from 'node:events'
import { describe, expect, test } from 'vitest'
import type { Gateway } from '../support/gateways.ts'
import { dial, requestOf } from '../support/raw.ts'
import { useWorld } from '../support/world.ts'

const world = useWorld()

const CHAT = '/api/groq/openai/v1/chat/completions'
const LIMIT = 20

const STRICT = { CAP: 'strict', STORE_TIMEOUT_MS: '50' }
const GLOBAL_LIMITS = JSON.stringify({ total: { tokensPerDay: 1e9, requestsPerDay: LIMIT } })

let callers = 0

/** A small call under a new token. */
const small = () => {
  const body = '{"model":"a/b","messages":[],"max_tokens":1}'
  const token = `X-User-Token: made-up-token-${(callers += 1)}`
  return requestOf(
    `POST ${CHAT} HTTP/1.1`,
    ['Host: h', token, `Content-Length: ${body.length}`],
    body,
  )
}

/** Sends calls on one connection, all at once, and returns the answers' heads when all have come. */
async function pipelined(gateway: Gateway, calls: number): Promise<string[]> {
  const socket = await dial(gateway.url)
  let text = ''
  let heads: string[] = []
  socket.on('data', (data: Buffer) => {
    text += data.toString('latin1')
    heads = text.split(/(?=HTTP\/1\.1 \d)/).filter(Boolean)
    if (heads.length === calls && text.endsWith('}}')) socket.end()
  })
  socket.write(Array.from({ length: calls }, small).join(''))
  await once(socket, 'close')
  return heads
}

const statusOf = (head: string): string =>
  head.slice(9, 12) + (/^x-weir-degraded/im.test(head) ? ' degraded' : '')

describe.each(['Redis over TCP', 'Redis over REST'])('%s', (database) => {
  test('a flood of pipelined calls passes no limit, and the database does not seem away', async () => {
    const vars = { ...STRICT, GLOBAL_LIMITS }
    const gateway = await world.gateway(
      'node',
      database === 'Redis over TCP' ? { ...vars, REDIS_URL: world.redis.url } : vars,
    )
    const answers = await Promise.all(Array.from({ length: 20 }, () => pipelined(gateway, 50)))
    const statuses = answers.flat().map(statusOf)
    expect(statuses.filter((status) => status === '200')).toHaveLength(LIMIT)
    expect(new Set(statuses)).toEqual(new Set(['200', '429']))
    expect(world.upstream.seen).toHaveLength(LIMIT)
    expect(gateway.log.filter((line) => line.includes('store.down'))).toEqual([])
  }, 60_000)
})

test('bodies that are dear to read do not make the database seem away', async () => {
  const gateway = await world.gateway('node', { STORE_TIMEOUT_MS: '200' })
  const keys = Array.from({ length: 250_000 }, (_, n) => `"_${n.toString(36)}":0`).join(',')
  const dear = Buffer.from(`{"model":"a/b","messages":[],${keys}}`)
  const ask = (token: string, body: string | Buffer<ArrayBuffer>) =>
    fetch(gateway.url + CHAT, { method: 'POST', headers: { 'x-user-token': token }, body })
  const cheap = '{"model":"a/b","messages":[],"max_tokens":1}'
  let busy = true
  const flood = (async () => {
    for (let n = 0; n < 2; n += 1) await (await ask(`flooder-${n}`, dear)).arrayBuffer()
    busy = false
  })()
  const seen = new Set<string>()
  const probe = async (who: number) => {
    for (let n = 0; busy; n += 1) {
      const response = await ask(`probe-${who}-${n}`, cheap)
      await response.arrayBuffer()
      seen.add(`${response.status} ${response.headers.get('x-weir-degraded')}`)
    }
  }
  await Promise.all([flood, ...Array.from({ length: 8 }, (_, who) => probe(who))])
  expect(seen).toEqual(new Set(['200 null']))
  expect(gateway.log.filter((line) => line.includes('store.down'))).toEqual([])
}, 60_000)
