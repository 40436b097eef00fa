/** The fastest possible upstream: a known answer, written at once. On demand it sends a slow stream. */
import { createServer, type ServerResponse } from 'node:http'
import { transcripts, type Transcript } from '../test/support/transcripts.ts'
import { answerParent, listen } from './child.ts'
import { answersOf } from './hostile.ts'

/** A slow stream ends this long after its first half, so that a client can leave between the two. */
const SLOW_MS = 20

/** A paced stream: the number of events and the time between them. Each event says when it was sent. */
const PACED = { events: 12, ms: 5 }

const { plain, stream } = transcripts
const half = stream.body.length / 2

/** A large answer that was asked for by its name and its size. */
const largeAnswer = (query: URLSearchParams) =>
  query.has('answer')
    ? answersOf(Number(query.get('bytes'))).find(({ name }) => name === query.get('answer'))
    : undefined

const server = createServer((req, res) => {
  const chunks: Buffer[] = []
  req.on('data', (chunk: Buffer) => chunks.push(chunk))
  req.on('end', () => {
    const body = Buffer.concat(chunks).toString()
    const large = largeAnswer(new URL(req.url ?? '/', 'http://bench.test').searchParams)
    if (large) {
      return void res.writeHead(200, { 'content-type': large.answerType }).end(large.answer)
    }
    if (!body.includes('"stream":true')) return void begin(res, plain).end(plain.body)
    if (body.includes('"paced"')) return void pace(begin(res, stream), PACED.events)
    if (!body.includes('"slow"')) return void begin(res, stream).end(stream.body)
    begin(res, stream).write(stream.body.subarray(0, half))
    setTimeout(() => res.end(stream.body.subarray(half)), SLOW_MS)
  })
})

/** The clock is the machine's, so another process can measure how long an event took. */
function pace(res: ServerResponse, left: number): void {
  if (left === 0) return void res.end(END)
  const content = String(process.hrtime.bigint())
  res.write(`data: ${JSON.stringify({ choices: [{ index: 0, delta: { content } }] })}\n\n`)
  setTimeout(pace, PACED.ms, res, left - 1)
}

const END = `data: ${JSON.stringify({
  choices: [],
  usage: { prompt_tokens: 20, completion_tokens: 12, total_tokens: 32 },
})}\n\ndata: [DONE]\n\n`

function begin(res: ServerResponse, { status, headers, body, stream }: Transcript): ServerResponse {
  return res.writeHead(status, stream ? headers : { ...headers, 'content-length': body.length })
}

answerParent(await listen(server), () => true)
