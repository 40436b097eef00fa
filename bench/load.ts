/** The load generator: a fixed number of requests in flight. Every answer is read to its end and checked. */
import { Agent, request, type ClientRequest } from 'node:http'
import { transcripts } from '../test/support/transcripts.ts'
import { ownJwt } from '../test/support/issuer.ts'
import { subjectOf, tokenOf } from './populate.ts'
import { BENCH_MODEL, BENCH_TOKEN_SECRET } from './weir-vars.ts'

export type Target = {
  url: string
  /** The token of a user: by default any text, else a JWT, which is the same or a new one for each request. */
  tokens?: 'any' | 'jwt' | 'new jwt'
  headers?: Record<string, string>
  /** It changes upstream's answer, so only the status can be checked. */
  rewrites?: boolean
}

export type Workload = {
  /** Paced streams arrive event by event; other streams and plain answers in one piece. */
  kind: 'plain' | 'stream' | 'paced'
  inFlight: number
  requests: number
  /** One in this many requests is abandoned: in turn before its answer and in the middle of it. */
  abortEvery?: number
  /** If set, every request is from another user, and this is the number of the first one. */
  from?: number
}

/**
 * In ms: to the first byte of the body, to its end, and the transit time of each paced event. Abandoned requests are
 * not included.
 */
export type Timing = { first: number; whole: number; events: number[] }

const chat = (kind: Workload['kind'], slow = false) =>
  JSON.stringify({
    model: BENCH_MODEL,
    messages: [
      { role: 'system', content: 'You are a helpful assistant. Answer in one short sentence.' },
      { role: 'user', content: `What is two plus two${slow ? ', and take your time' : ''}?` },
    ],
    max_completion_tokens: 256,
    temperature: 0.2,
    ...(kind !== 'plain' && { stream: true }),
    ...(slow && { user: 'slow' }),
    ...(kind === 'paced' && { user: kind }),
  })

/** Makes the tokens of users. A JWT is as long as that of an OIDC issuer. */
function tokenMaker(tokens: NonNullable<Target['tokens']>): (user: number) => string {
  const known = new Map<number, string>()
  const exp = Math.floor(Date.now() / 1000) + 3600
  let made = 0
  const jwtOf = (user: number) => {
    made += 1
    const claims = {
      sub: subjectOf(user),
      exp,
      iat: exp - 3600,
      jti: `${process.pid}-${exp}-${made}`,
    }
    return ownJwt({ ...claims, more: 'x'.repeat(400) }, BENCH_TOKEN_SECRET)
  }
  if (tokens === 'any') return tokenOf
  if (tokens === 'new jwt') return jwtOf
  return (user) => {
    const token = known.get(user) ?? jwtOf(user)
    known.set(user, token)
    return token
  }
}

/** Sends a workload to a chat completions address. Without `from`, each request in flight has its own user. */
export async function load(target: Target, work: Workload): Promise<Timing[]> {
  const { url, headers, rewrites, tokens = 'any' } = target
  const token = tokenMaker(tokens)
  const agent = new Agent({ keepAlive: true, maxSockets: work.inFlight })
  const { kind } = work
  const expected = rewrites || kind === 'paced' ? undefined : transcripts[kind].body
  const usual = Buffer.from(chat(kind))
  const slow = Buffer.from(chat('stream', true))
  const timings: Timing[] = []
  let sent = 0

  const open = (body: Buffer, user: number): ClientRequest =>
    request(url, {
      agent,
      method: 'POST',
      headers: {
        authorization: `Bearer ${token(user)}`,
        'content-type': 'application/json',
        'content-length': body.length,
        accept: 'application/json',
        'user-agent': 'bench/1.0',
        ...headers,
      },
    }).end(body)

  const whole = (user: number): Promise<void> =>
    new Promise((resolve, reject) => {
      const start = performance.now()
      let first = 0
      let length = 0
      const events: number[] = []
      const fail = (problem: unknown) => reject(new Error(`${url}: ${String(problem)}`))
      open(usual, user)
        .on('error', fail)
        .on('response', (response) => {
          response
            .on('data', (chunk: Buffer) => {
              first ||= performance.now() - start
              length += chunk.length
              if (kind !== 'paced') return
              const now = process.hrtime.bigint()
              for (const [, sent = ''] of chunk.toString().matchAll(/"content":"(\d+)"/g)) {
                events.push(Number(now - BigInt(sent)) / 1e6)
              }
            })
            .on('error', fail)
            .on('end', () => {
              const { statusCode } = response
              if (statusCode !== 200) return fail(`status ${statusCode}`)
              if (expected && length !== expected.length) return fail(`${length} bytes`)
              timings.push({ first, whole: performance.now() - start, events })
              resolve()
            })
        })
    })

  const abandoned = (user: number, early: boolean): Promise<void> =>
    new Promise((resolve) => {
      const req = open(slow, user)
      req.on('error', () => undefined).on('close', resolve)
      if (early) req.on('finish', () => setImmediate(() => req.destroy()))
      else req.on('response', (response) => response.once('data', () => req.destroy()))
    })

  async function slot(place: number): Promise<void> {
    while (sent < work.requests) {
      const user = work.from === undefined ? place : work.from + sent
      sent += 1
      const turn = work.abortEvery && sent % work.abortEvery === 0 && sent / work.abortEvery
      await (turn ? abandoned(user, turn % 2 === 0) : whole(user))
    }
  }

  await Promise.all(Array.from({ length: work.inFlight }, (_, place) => slot(place)))
  agent.destroy()
  return timings
}
