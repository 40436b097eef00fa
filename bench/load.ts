/** The load generator: a fixed number of requests in flight, every answer read to its end and checked. */
import { Agent, request, type ClientRequest } from 'node:http'
import { transcripts } from '../test/transcripts.ts'

export type Workload = {
  stream: boolean
  inFlight: number
  requests: number
  /** Every so many requests one is abandoned, in turn before its answer and in the middle of it. */
  abortEvery?: number
}

/** In ms: to the first byte of the body, and to its end. Abandoned requests are not in it. */
export type Timing = { first: number; whole: number }

const chat = (stream: boolean, slow: boolean) =>
  JSON.stringify({
    model: 'openai/gpt-oss-20b',
    messages: [
      { role: 'system', content: 'You are a helpful assistant. Answer in one short sentence.' },
      { role: 'user', content: `What is two plus two${slow ? ', and take your time' : ''}?` },
    ],
    max_completion_tokens: 256,
    temperature: 0.2,
    ...(stream && { stream }),
    ...(slow && { user: 'slow' }),
  })

/** Sends a workload to a chat completions address, as one user per request in flight. */
export async function load(url: string, work: Workload): Promise<Timing[]> {
  const agent = new Agent({ keepAlive: true, maxSockets: work.inFlight })
  const { body: expected } = transcripts[work.stream ? 'stream' : 'plain']
  const usual = Buffer.from(chat(work.stream, false))
  const slow = Buffer.from(chat(true, true))
  const timings: Timing[] = []
  let sent = 0

  const open = (body: Buffer, user: number): ClientRequest =>
    request(url, {
      agent,
      method: 'POST',
      headers: {
        authorization: `Bearer token-of-user-${user}`,
        'content-type': 'application/json',
        'content-length': body.length,
        accept: 'application/json',
        'user-agent': 'bench/1.0',
      },
    }).end(body)

  const whole = (user: number): Promise<void> =>
    new Promise((resolve, reject) => {
      const start = performance.now()
      let first = 0
      let length = 0
      const fail = (problem: unknown) => reject(new Error(`${url}: ${String(problem)}`))
      open(usual, user)
        .on('error', fail)
        .on('response', (response) => {
          response
            .on('data', (chunk: Buffer) => {
              first ||= performance.now() - start
              length += chunk.length
            })
            .on('error', fail)
            .on('end', () => {
              const { statusCode } = response
              if (statusCode !== 200) return fail(`status ${statusCode}`)
              if (length !== expected.length) return fail(`${length} bytes`)
              timings.push({ first, whole: performance.now() - start })
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

  async function slot(user: number): Promise<void> {
    while (sent < work.requests) {
      sent += 1
      const turn = work.abortEvery && sent % work.abortEvery === 0 && sent / work.abortEvery
      await (turn ? abandoned(user, turn % 2 === 0) : whole(user))
    }
  }

  await Promise.all(Array.from({ length: work.inFlight }, (_, user) => slot(user)))
  agent.destroy()
  return timings
}
