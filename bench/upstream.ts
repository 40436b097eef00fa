/** The fastest upstream there can be: a known answer, written in one go. */
import { createServer, type ServerResponse } from 'node:http'
import { transcripts, type Transcript } from '../test/transcripts.ts'
import { answerParent, listen } from './child.ts'

/** Ends a slow stream long enough after its first half for a client to leave in between. */
const SLOW_MS = 20

const { plain, stream } = transcripts
const half = stream.body.length / 2

const server = createServer((req, res) => {
  const chunks: Buffer[] = []
  req.on('data', (chunk: Buffer) => chunks.push(chunk))
  req.on('end', () => {
    const body = Buffer.concat(chunks).toString()
    if (!body.includes('"stream":true')) return void begin(res, plain).end(plain.body)
    if (!body.includes('"slow"')) return void begin(res, stream).end(stream.body)
    begin(res, stream).write(stream.body.subarray(0, half))
    setTimeout(() => res.end(stream.body.subarray(half)), SLOW_MS)
  })
})

function begin(res: ServerResponse, { status, headers, body, stream }: Transcript): ServerResponse {
  return res.writeHead(status, stream ? headers : { ...headers, 'content-length': body.length })
}

answerParent(await listen(server), () => true)
