/** Reads the bodies of audio calls: an upload to transcribe or to translate, and a text to speak. */
import type { Config } from '../config/config.ts'
import { ApiError } from '../errors.ts'
import { reservationOfSpeech, reservationOfUpload } from '../metering/audio.ts'
import type { AudioRoute } from '../metering/reservation.ts'
import type { Bytes } from '../ports.ts'
import { checkModel, type ProxyRequest } from './body.ts'
import { rawText, type ParsedBody } from './body-json.ts'
import { ESCAPE, STEP } from './json-scan.ts'
import { boundaryOf, multipartOf, textOf, withField, type Part } from './multipart.ts'
import type { Steps } from './steps.ts'

type UploadRoute = Exclude<AudioRoute, 'audio/speech'>

/** How the client wants the answer. */
export type Form = 'json' | 'text'

/** `form`: the form that the client asked for, if we ask upstream for another one. */
export type Upload = { request: ProxyRequest; form?: Form }

/** The fields that the provider knows: https://console.groq.com/docs/api-reference#audio-transcription */
const KNOWN = [
  ...['file', 'url', 'model', 'response_format', 'stream', 'language', 'prompt', 'temperature'],
  ...['timestamp_granularities[]', 'timestamp_granularities', 'user'],
]

/** The fields that we read. */
const READ = ['file', 'url', 'model', 'response_format', 'stream']

/** Longer than any text that we read. */
const MOST_TEXT = 256

const wrong = (param: string, message: string) =>
  new ApiError('invalid_request', message, { param })

/**
 * Reads an upload with `room` behind its bytes, and asks upstream for the length of the audio if the form that the
 * client wants does not have it. Throws `unsupported_audio`, `invalid_request`, `cost_unbounded`, `model_not_allowed`.
 */
export function* readUpload(
  route: UploadRoute,
  contentType: string | undefined,
  { bytes, room }: { bytes: Bytes; room: number },
  config: Readonly<Config>,
): Steps<Upload> {
  const body = yield* multipartOf(boundaryOf(contentType), bytes)
  const fields = fieldsOf(body.parts, config)
  const textIn = (field: string) => {
    const part = fields.get(field)
    // A longer value is not one that we know.
    return part && textOf(bytes, { ...part, end: Math.min(part.end, part.start + MOST_TEXT) })
  }

  if (fields.has('url')) {
    throw new ApiError(
      'cost_unbounded',
      'Audio at an address is not accepted: how long it is, and so what it costs, is not known before the provider has fetched it. Send the audio itself as `file`.',
      { param: 'url' },
    )
  }
  const model = textIn('model')
  if (model === undefined) throw wrong('model', '`model` must be the name of a model.')
  checkModel(model, config)
  const file = fields.get('file')
  if (!file) throw wrong('file', 'There is no `file`: send the audio as a field of that name.')
  const { filename } = file
  if (filename === undefined || !/\.\w+$/.test(filename)) {
    throw wrong(
      'file',
      '`file` must have a file name with an extension, such as speech.wav: the provider tells the format by it.',
    )
  }
  if (file.start === file.end) throw wrong('file', '`file` is empty.')

  const reservation = reservationOfUpload(
    filename,
    bytes.subarray(file.start, file.end),
    config.cap,
  )
  const request = { route, bytes, sent: bytes, contentType: contentType ?? '', model, reservation }
  const asked = textIn('response_format') ?? 'json'
  const isStreamed = !['', 'false', '0'].includes((textIn('stream') ?? '').toLowerCase())
  if (config.audioMetering === 'estimate' || isStreamed) return { request }
  if (asked !== 'json' && asked !== 'text') return { request }
  const changed = withField(bytes, room, body, 'response_format', 'verbose_json')
  return { request: { ...request, bytes: changed, sent: changed }, form: asked }
}

/**
 * The fields that we read. Of two with one name, upstream may take either, and it may ignore case and spaces. So both
 * cases are refused.
 */
function fieldsOf(parts: Part[], { cap }: Readonly<Config>): Map<string, Part> {
  const fields = new Map<string, Part>()
  for (const part of parts) {
    const field = part.name.trim().toLowerCase()
    const param = part.name.slice(0, 64)
    if (!READ.includes(field)) {
      if (cap === 'balanced' || KNOWN.includes(field)) continue
      throw new ApiError(
        'cost_unbounded',
        `This gateway enforces a strict cap, and does not know what a field of this name does. It knows ${KNOWN.join(', ')}.`,
        { param },
      )
    }
    if (field !== part.name) throw wrong(param, `A field is misspelt: write it as \`${field}\`.`)
    if (fields.has(field)) throw wrong(param, `The field \`${field}\` appears twice; send it once.`)
    if (field !== 'file' && part.filename !== undefined) {
      throw wrong(param, `\`${field}\` must be a text, and no file.`)
    }
    fields.set(field, part)
  }
  return fields
}

/** Reads a text to speak; `parsed` is `bytes`. Throws `invalid_request`, `model_not_allowed`. */
export function* readSpeech(
  bytes: Bytes,
  parsed: ParsedBody,
  config: Readonly<Config>,
): Steps<ProxyRequest> {
  const { model, input } = parsed.value
  if (typeof model !== 'string') throw wrong('model', '`model` must be the name of a model.')
  checkModel(model, config)
  if (typeof input !== 'string' || input === '') {
    throw wrong('input', '`input` must be the text to speak.')
  }
  const text = yield* rawText(parsed, bytes, 'input')
  const reservation = reservationOfSpeech(yield* charactersOf(text.subarray(1, -1)))
  return { route: 'audio/speech', bytes, sent: bytes, model, reservation }
}

/** How many UTF-16 units a text of JSON in UTF-8 has. */
function* charactersOf(text: Bytes): Steps<number> {
  let count = 0
  for (let i = 0, pause = STEP; i < text.length; i += 1) {
    const byte = text[i]!
    if (byte === BACKSLASH) i += text[i + 1] === SMALL_U ? ESCAPE - 1 : 1
    // Four bytes are two units. The later bytes of a character do not count.
    count += byte >= 0xf0 ? 2 : (byte & 0xc0) === 0x80 ? 0 : 1
    if (i < pause) continue
    pause += STEP
    yield
  }
  return count
}

const [BACKSLASH, SMALL_U] = [0x5c, 0x75]
