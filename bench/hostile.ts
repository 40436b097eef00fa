/** Requests and answers of other routes and kinds that cost a server as much as possible to read. */
import { fill } from './bodies.ts'

export type Hostile = {
  name: string
  /** Below the address of the gateway. */
  path: string
  type: string
  body: string | Buffer
  /** Sent with the admin key. */
  isAdmin?: true
  /** The request is the same with each cap. */
  isSame?: true
}

export const JSON_TYPE = 'application/json'

const BOUNDARY = 'a'.repeat(70)

/** A form with a model and a file. */
function upload(content: Buffer, boundary = BOUNDARY, fields = ''): Pick<Hostile, 'type' | 'body'> {
  const part = (header: string) =>
    `--${boundary}\r\nContent-Disposition: form-data; ${header}\r\n\r\n`
  const body = Buffer.concat([
    Buffer.from(
      `${part('name="model"')}whisper-large-v3\r\n${fields}${part('name="file"; filename="a.wav"')}`,
    ),
    content,
    Buffer.from(`\r\n--${boundary}--\r\n`),
  ])
  return { type: `multipart/form-data; boundary=${boundary}`, body }
}

const wav = (chunk: string, bytes: number) =>
  Buffer.concat([
    Buffer.from('RIFF\0\0\0\0WAVE'),
    Buffer.alloc(bytes, Buffer.from(chunk, 'latin1')),
  ])

/** What looks like the beginning of a frame of MPEG audio, repeated. */
const frames = (bytes: number) =>
  Buffer.concat([
    Buffer.from(
      'RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x40\x1f\0\0\x01\0\x08\0data\0\0\0\0',
      'latin1',
    ),
    Buffer.alloc(bytes, Buffer.from('ff', 'hex')),
  ])

const planLines = (bytes: number) => {
  const lines: string[] = []
  for (let n = 0, size = 0; size < bytes - 100; n += 1) {
    const line = `{"kind":"user","userId":"${n.toString(16).padStart(22, '0')}","limits":{},"blocks":[],"keys":[]}`
    size += line.length + 1
    lines.push(line)
  }
  return lines.join('\n')
}

/** Requests of this many bytes, or fewer if the route takes fewer. */
export function hostileOf(bytes: number): Hostile[] {
  const room = bytes - 1000
  const post = (name: string, path: string, body: string): Hostile => ({
    name,
    path,
    type: JSON_TYPE,
    body,
  })
  const audio = (name: string, sent: Pick<Hostile, 'type' | 'body'>): Hostile => ({
    name,
    path: '/api/groq/openai/v1/audio/transcriptions',
    ...sent,
  })
  const admin = (name: string, path: string, type: string, body: string): Hostile => ({
    name,
    path,
    type,
    body,
    isAdmin: true,
    isSame: true,
  })
  const simple = (name: string, unit: string, size = unit.length) =>
    post(`simple form: ${name}`, '/api/groq', `{"prompt":"${unit.repeat(room / size)}"}`)
  const speech = (name: string, unit: string, size = unit.length) =>
    post(
      `speech: ${name}`,
      '/api/groq/openai/v1/audio/speech',
      `{"model":"a/b","input":"${unit.repeat(room / size)}"}`,
    )
  const embeddings = (name: string, input: string) =>
    post(
      `embeddings: ${name}`,
      '/api/groq/openai/v1/embeddings',
      `{"model":"a/b","input":[${input}]}`,
    )
  return [
    simple('one text', 'a'),
    simple('escaped quotes', '\\"'),
    simple('outside ASCII', 'ж', 2),
    speech('one text', 'a'),
    speech('escaped quotes', '\\"'),
    speech('outside ASCII', 'ж', 2),
    embeddings('numbers', `0${fill(',12345', Math.min(room, 580_000))}`),
    embeddings('texts', `""${fill(`,"${'a'.repeat(36)}"`, room)}`),
    embeddings('lists of numbers', `[0]${fill(',[1234,1234,1234]', Math.min(room, 420_000))}`),
    post(
      'responses: items',
      '/api/groq/openai/v1/responses',
      `{"model":"a/b","input":[{"role":"user","content":""}${fill(`,{"role":"user","content":[{"type":"input_text","text":"${'a'.repeat(700)}"}]}`, room)}]}`,
    ),
    audio('upload: zeros', upload(Buffer.alloc(room))),
    audio('upload: tiny chunks of a WAV file', upload(wav('LIST\0\0\0\0', room))),
    audio('upload: frames', upload(frames(room))),
    audio('upload: nearly its boundary', upload(Buffer.alloc(room, `\r\n--${BOUNDARY.slice(1)}b`))),
    audio(
      'upload: the end of its boundary',
      upload(Buffer.alloc(room, 'a'), `b${BOUNDARY.slice(1)}`),
    ),
    audio('upload: a short boundary', upload(Buffer.alloc(room, '-'), 'a')),
    audio('upload: breaks', upload(Buffer.alloc(room, '\r\n'))),
    audio(
      'upload: a hundred parts',
      upload(
        Buffer.alloc(100),
        'x',
        `--x\r\nContent-Disposition: form-data; name="y"\r\nContent-Type: ${'a'.repeat(4000)}\r\n\r\n${'y'.repeat(Math.min(room / 100, 36_000))}\r\n`.repeat(
          97,
        ),
      ),
    ),
    post(
      'sync: models',
      '/api/tracking/sync',
      `{"models":{${Array.from({ length: 1500 }, (_, n) => `"m${n}":{"tokens":1}`).join()}}}`.slice(
        0,
        64_000,
      ),
    ),
    post('sync: lists', '/api/tracking/sync', `{"x":[0${fill(',[]', 64_000)}]}`),
    admin('policy: lines of users', '/api/admin/policy', 'application/x-ndjson', planLines(room)),
    admin(
      'policy: lines that are wrong at the end',
      '/api/admin/policy',
      'application/x-ndjson',
      `${planLines(room)}\n{}`,
    ),
    admin('policy: empty lines', '/api/admin/policy', 'application/x-ndjson', fill(' \n', room)),
    admin(
      'policy: one line of lists',
      '/api/admin/policy',
      'application/x-ndjson',
      `{"kind":"plan","name":"a","limits":{},"x":[0${fill(',[]', room)}]}`,
    ),
    admin(
      'policy: one line of models',
      '/api/admin/policy',
      'application/x-ndjson',
      `{"kind":"plan","name":"a","limits":{},"models":["a"${fill(',"a"', Math.min(room, 380_000))}]}`,
    ),
    admin(
      'import: commas',
      '/api/admin/users/import',
      'text/csv',
      fill(',', Math.min(room, 1_000_000)),
    ),
    admin(
      'import: line breaks',
      '/api/admin/users/import',
      'text/csv',
      `user\n${fill('a\n', Math.min(room, 1_000_000))}`,
    ),
    admin(
      'import: quotes',
      '/api/admin/users/import',
      'text/csv',
      fill('"', Math.min(room, 1_000_000)),
    ),
    admin(
      'import: one quoted cell',
      '/api/admin/users/import',
      'text/csv',
      `user\n"${fill('a""', Math.min(room, 1_000_000))}`,
    ),
  ]
}

/** A request, and the answer of the provider to it. */
export type Answered = Hostile & { answer: string; answerType: string }

const USAGE = '"usage":{"prompt_tokens":20,"completion_tokens":12,"total_tokens":32}'

/** Answers of the provider. */
export function answersOf(bytes: number): Answered[] {
  const room = bytes - 400
  const chat = '/api/groq/openai/v1/chat/completions'
  const asked = '{"model":"a/b","messages":[]}'
  const choice = (text: string) =>
    `{"model":"a/b","choices":[{"message":{"role":"assistant","content":"${text}"}}],${USAGE}}`
  const whole = (name: string, body: string, path = chat, asks: string = asked): Answered => ({
    ...{ name, path, type: JSON_TYPE, body: asks, isSame: true },
    ...{ answer: body, answerType: JSON_TYPE },
  })
  const stream = (name: string, body: string): Answered => ({
    ...whole(`stream: ${name}`, body),
    answerType: 'text/event-stream',
  })
  const delta = (text: string) =>
    `data: {"choices":[{"index":0,"delta":{"content":"${text}"}}],${USAGE}}\n\n`
  const { type, body } = upload(Buffer.alloc(1000))
  const transcript = (text: string) =>
    `{"task":"transcribe","duration":12.5,"text":"${text}","segments":[{"id":0,"text":"a"}]}`
  const numbers = (size: number) => fill('0.0123456,', size)
  const said = (name: string, text: string): Answered => ({
    ...whole(`transcription: ${name}`, transcript(text)),
    ...{ path: '/api/groq/openai/v1/audio/transcriptions', type, body },
  })
  return [
    whole('one text', choice(fill('a', room))),
    whole('escaped quotes', choice(fill('\\"', room))),
    whole('outside ASCII', choice('ж'.repeat(room / 2))),
    whole(
      'numbers',
      `{"data":[{"embedding":[${numbers(room)}0]}],"usage":{"prompt_tokens":20,"total_tokens":20}}`,
      '/api/groq/openai/v1/embeddings',
      '{"model":"a/b","input":"a"}',
    ),
    whole('simple form: one text', choice(fill('a', room)), '/api/groq', '{"prompt":"a"}'),
    whole('simple form: escaped quotes', choice(fill('\\"', room)), '/api/groq', '{"prompt":"a"}'),
    said('one text', fill('a', room)),
    said('outside ASCII', 'ж'.repeat(room / 2)),
    stream('one event', delta(fill('a', room))),
    stream('one event of escaped quotes', delta(fill('\\"', room))),
    stream('one event outside ASCII', delta('ж'.repeat(room / 2))),
    stream('one event of all kinds', delta(fill('aж\\"', room * 0.8))),
    stream('one event of fields', delta(fill('\\"content\\":', room)).replaceAll('\\"', '"')),
    stream('one event of many lines', fill('data:a\n', room)),
    stream('one event of new lines', `data: {"delta":{"content":"\n${fill('data: \n', room)}\n`),
    stream('tiny events', fill(delta('a'), room)),
    stream('line breaks', fill('\n', room)),
    stream('no line', fill('a', room)),
    stream('comments', fill(':\n', room)),
    stream('carriage returns', fill('\r', room)),
  ]
}
