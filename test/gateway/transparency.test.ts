import fc from 'fast-check'
import OpenAI from 'openai'
import { createHash } from 'node:crypto'
import { deflateRawSync, gzipSync } from 'node:zlib'
import { describe, expect, test } from 'vitest'
import { whole } from '../../src/ledger/rows.ts'
import { call as rawCall } from '../support/client.ts'
import { eventOf, KINDS } from '../support/gateways.ts'
import { transcripts, type Transcript } from '../support/transcripts.ts'
import { useWorld } from '../support/world.ts'
import { usersOf } from '../support/stores.ts'

const world = useWorld()

const metered = Object.values(transcripts).filter(({ route }) => !route.startsWith('models'))
const hash = (bytes: ArrayBuffer | Uint8Array) =>
  createHash('sha256').update(new Uint8Array(bytes)).digest('hex')

function call(base: string, transcript: Transcript): Promise<Response> {
  const { route, stream } = transcript
  const model = `transcript/${transcript.name}`
  const ask =
    route === 'chat/completions' ? { messages: [{ role: 'user', content: 'hi' }] } : { input: 'hi' }
  return fetch(`${base}/openai/v1/${route}`, {
    method: 'POST',
    // Otherwise workerd's front compresses the answer, as Cloudflare does.
    headers: { authorization: 'Bearer token-of-a-user', 'accept-encoding': 'identity' },
    body: JSON.stringify({ model, stream, ...ask }),
  })
}

/** The same call, by a client that decodes nothing. */
async function callRaw(base: string, { route, name }: Transcript) {
  const pieces: Buffer[] = []
  const heard = await rawCall(`${base}/openai/v1/${route}`, {
    headers: { authorization: 'Bearer token-of-a-user', 'accept-encoding': 'identity' },
    body: JSON.stringify({ model: `transcript/${name}`, messages: [] }),
    take: (piece) => pieces.push(piece),
  })
  return { ...heard, body: new Uint8Array(Buffer.concat(pieces)) }
}

/** Headers without hop-by-hop headers and without Weir's own. */
function plainHeaders(response: Response): Record<string, string> {
  const drop =
    /^(date|connection|keep-alive|transfer-encoding|content-length|set-cookie|alt-svc|strict-transport-security|server-timing|ratelimit.*|x-weir-.*|access-control-.*)$/
  return Object.fromEntries([...response.headers].filter(([name]) => !drop.test(name)))
}

describe.each(KINDS)('on %s', (kind) => {
  test.each(metered.map((transcript) => [transcript.name, transcript] as const))(
    '%s arrives byte for byte with any split, and its usage is recorded once',
    async (_, transcript) => {
      const gateway = await world.gateway(kind)
      const sizes = fc.oneof(
        fc.integer({ min: 1, max: 64 }),
        fc.integer({ min: 65, max: transcript.body.length + 1 }),
      )
      let total = 0
      let count = 0
      await fc.assert(
        fc.asyncProperty(sizes, async (chunk) => {
          world.upstream.on(`transcript/${transcript.name}`, { transcript, chunk })
          const direct = await call(world.upstream.url, transcript)
          const through = await call(`${gateway.url}/api/groq`, transcript)
          expect(through.status).toBe(direct.status)
          expect(plainHeaders(through)).toEqual(plainHeaders(direct))
          expect(hash(await through.arrayBuffer())).toBe(hash(await direct.arrayBuffer()))
          const event = await eventOf(world.store, through.headers.get('x-weir-id'))
          const { prompt, completion, total: sum, cached, reasoning } = event
          const usage = JSON.parse(
            JSON.stringify({ prompt, completion, total: sum, cached, reasoning }),
          ) as object
          expect(usage).toEqual(transcript.usage ?? {})
          expect(event.outcome).toBe(
            transcript.status !== 200 ? 'failed' : transcript.usage ? 'exact' : 'estimated',
          )
          total += event.charged
          count += 1
        }),
        { numRuns: kind === 'node' ? 5 : 3, examples: [[1]] },
      )
      const [user] = await usersOf(world.store, { sort: 'lastActive', limit: 9, now: Date.now() })
      const row = whole(Object.values(user?.usage.models ?? {})[0]?.row ?? {})
      expect(row).toMatchObject({
        requests: count,
        charged: total,
        reserved: 0,
        prompt: count * (transcript.usage?.prompt ?? 0),
      })
    },
    60_000,
  )

  test('an answer of 40 MB passes through and is charged an estimate', async () => {
    const gateway = await world.gateway(kind)
    const body = new Uint8Array(40 * 1024 * 1024).fill(0x20)
    world.upstream.on('transcript/plain', { transcript: transcripts.plain, body })
    const through = await call(`${gateway.url}/api/groq`, transcripts.plain)
    expect(hash(await through.arrayBuffer())).toBe(hash(body))
    const event = await eventOf(world.store, through.headers.get('x-weir-id'))
    expect(event).toMatchObject({ outcome: 'estimated' })
  }, 60_000)

  test('an answer in a content coding keeps the name of the coding or loses the coding, and is charged in full if it cannot be read', async () => {
    const gateway = await world.gateway(kind)
    const transcript = transcripts.plain
    const plain = Buffer.from(transcript.body)
    const known = kind === 'node' ? /^(x-)?gzip$|^deflate$/i : /^gzip$/
    for (const [coding, body] of [
      ['gzip', gzipSync(plain)],
      ['GZIP', gzipSync(plain)],
      ['x-gzip', gzipSync(plain)],
      ['deflate', deflateRawSync(plain)],
      ['zstd', Buffer.from('28b52ffd0458', 'hex')],
      ['gzip, identity', gzipSync(plain)],
      ['identity', plain],
    ] as const) {
      const headers = { 'content-encoding': coding }
      world.upstream.on('transcript/plain', { transcript, headers, body })
      const through = await callRaw(`${gateway.url}/api/groq`, transcript)
      const decoded = known.test(coding)
      const kept = through.headers['content-encoding']
      expect([coding, kept]).toEqual([coding, decoded ? undefined : coding])
      expect([coding, hash(through.body)]).toEqual([coding, hash(decoded ? plain : body)])
      const event = await eventOf(world.store, String(through.headers['x-weir-id']))
      const expected =
        decoded || coding === 'identity'
          ? { outcome: 'exact', charged: transcript.usage?.total }
          : { outcome: 'estimated', charged: event.reserved }
      expect([coding, event]).toEqual([coding, expect.objectContaining(expected)])
    }
  })

  test('an answer that upstream cuts off has its length, or no end, so that a client can tell', async () => {
    const gateway = await world.gateway(kind)
    const transcript = transcripts.plain
    for (const cut of [0, 1, transcript.body.length - 1]) {
      world.upstream.on('transcript/plain', { transcript, cut })
      const heard = await callRaw(`${gateway.url}/api/groq`, transcript)
      expect(heard.status).toBe(200)
      expect(heard.broke).toBeInstanceOf(Error)
    }
    world.upstream.on('transcript/plain', { transcript })
    const whole = await callRaw(`${gateway.url}/api/groq`, transcript)
    expect(whole.broke).toBeUndefined()
    expect(whole.headers['content-length']).toBe(String(transcript.body.length))
  })

  test.each(['stream', 'responses-stream'] as const)(
    'openai throws when upstream breaks off %s',
    async (name) => {
      const gateway = await world.gateway(kind)
      const transcript = transcripts[name]
      const end = Buffer.from(transcript.body).indexOf('\n\n') + 2
      // Between two events, and within one.
      for (const cut of [end, end + 20]) {
        world.upstream.on('m', { transcript, cut })
        const { chat, responses } = new OpenAI({
          baseURL: `${gateway.url}/api/groq/openai/v1`,
          apiKey: 'token-of-a-user',
          maxRetries: 0,
        })
        const stream =
          name === 'stream'
            ? await chat.completions.create({ model: 'm', messages: [], stream: true })
            : await responses.create({ model: 'm', input: 'hi', stream: true })
        const chunks = (stream as AsyncIterable<unknown>)[Symbol.asyncIterator]()
        const read = async () => {
          while (!(await chunks.next()).done);
        }
        await expect(read()).rejects.toThrow()
      }
    },
  )

  test('a stream that upstream cuts off is cut off for the client too', async () => {
    const gateway = await world.gateway(kind)
    const transcript = transcripts.stream
    for (const cut of [0, 1, 700, transcript.body.length - 1]) {
      world.upstream.on('transcript/stream', { transcript, cut })
      const through = await call(`${gateway.url}/api/groq`, transcript)
      const id = through.headers.get('x-weir-id')
      // workerd ends a chunked answer normally in any case, so the stream itself says that it broke off.
      if (kind === 'node') await expect(through.arrayBuffer()).rejects.toThrow()
      else {
        const [arrived, last] = (await through.text()).split('\n\nevent: error\ndata: ')
        const sent = new TextDecoder().decode(transcript.body.subarray(0, cut))
        expect(arrived).toBe(sent)
        expect(JSON.parse(last ?? '')).toMatchObject({
          error: {
            code: 'upstream_unreachable',
            message: expect.stringContaining('broke off') as string,
          },
        })
      }
      const event = await eventOf(world.store, id)
      expect(event.outcome).toBe('estimated')
      // At the last cut, only the end of the answer is missing. The usage has arrived, so it is charged.
      if (cut === transcript.body.length - 1) expect(event.charged).toBe(397)
      else expect(event.charged).toBeLessThan(397)
      expect(event.charged).toBeLessThanOrEqual(event.reserved)
    }
  }, 30_000)
})
