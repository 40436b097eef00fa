/** Reads a request body once, to learn what it asks for; the same bytes go upstream. */
import type { Config } from '../config/config.ts'
import { ApiError } from '../errors.ts'
import type { Bytes } from '../ports.ts'
import {
  reservationOf,
  type MeteredRoute,
  type Reservation,
  type Route,
} from '../metering/reservation.ts'
import { closingQuote } from '../metering/json-text.ts'
import { isListed } from '../ledger/model-list.ts'
import { MODEL_NAME } from '../metering/models.ts'
import { FILLER } from '../metering/cut-text.ts'
import {
  MAX_DEPTH,
  MAX_KEY,
  MAX_NUMBER,
  MAX_NUMBERS,
  MAX_STRUCTURE,
  NEW_KEY,
  outlineOf,
  type Flaw,
  type Outline,
} from './json-scan.ts'

export type Json = Record<string, unknown>

export type ProxyRequest = {
  route: Route
  /** What goes upstream: the client's bytes, unless strict mode had to splice a maximum in. */
  bytes: Uint8Array<ArrayBuffer>
  /** The client's bytes. */
  sent: Bytes
  /** What kind of body it is; JSON without it. */
  contentType?: string
  model: string
  reservation: Reservation
}

export const MAX_MESSAGES = 5000

/** The fields that we read. Upstream's parser may ignore case, so another spelling of these fields is refused. */
const READ_FIELDS = fieldsByFold([
  'model',
  'stream',
  'n',
  'messages',
  'input',
  'prompt',
  'max_tokens',
  'max_completion_tokens',
  'max_output_tokens',
  'tools',
  'functions',
  'tool_choice',
  'function_call',
  'response_format',
  'text',
  'previous_response_id',
  'conversation',
  'documents',
  'search_settings',
  'compound_custom',
  'background',
  'userToken',
])

/** The top-level fields whose contents strict mode reads: messages, their parts, and tools. */
const READ_THROUGH = new Set(['messages', 'input', 'tools'])

/** The fields that strict mode reads there. */
const READ_INSIDE = fieldsByFold([
  'type',
  'role',
  'id',
  'content',
  'output',
  'tool_calls',
  'function_call',
  'arguments',
  'image_url',
  'file_id',
  'file_url',
])

/** The depth to which strict mode reads objects: body, list, message, list, part. */
const STRICT_DEPTH = 5

/** Folds case as Go's parser does, the long s and the Kelvin sign included. */
const fold = (key: string) => key.toUpperCase().toLowerCase()

function fieldsByFold(fields: string[]): Map<string, string> {
  return new Map(fields.map((field) => [field.toLowerCase(), field]))
}

/** A parsed body for upstream. */
export type ParsedBody = {
  /** Texts in it are those of the outline: only their beginning is as it was sent. */
  value: Json
  outline: Outline
}

/**
 * Parses a body, which must be a JSON object in UTF-8 with each top-level key once. Throws `invalid_json`,
 * `invalid_request`.
 */
export function parseBody(bytes: Bytes): Json {
  const outline = scanned(bytes)
  const value = objectOf(UTF_8.decode(bytes))
  checkKeys(outline, bytes, 1)
  return value
}

/**
 * Parses a body for upstream, of which the gateway needs no long text. In strict mode, inner keys that matter must be there
 * once too. Throws `invalid_json`, `invalid_request`.
 */
export function parseForUpstream(bytes: Bytes, { cap }: Pick<Config, 'cap'>): ParsedBody {
  const outline = scanned(bytes)
  const value = objectOf(outline.text)
  checkKeys(outline, bytes, cap === 'strict' ? STRICT_DEPTH : 1)
  return { value, outline }
}

/** Throws `invalid_json`, `invalid_request` for bytes that may not be parsed as JSON. */
export const checkJson = (bytes: Bytes): void => void scanned(bytes)

const UTF_8 = new TextDecoder('utf-8', { ignoreBOM: true })

function scanned(bytes: Bytes): Outline {
  const outline = outlineOf(bytes)
  if (typeof outline === 'string') throw FLAWS[outline]()
  return outline
}

const many = (count: number) => count.toLocaleString('en-US')

const FLAWS: Record<Flaw, () => ApiError> = {
  malformed: () => new ApiError('invalid_json', 'The body must be a JSON object in UTF-8.'),
  depth: () =>
    new ApiError(
      'invalid_request',
      `The body has more than ${MAX_DEPTH} lists and objects within each other; at most ${MAX_DEPTH} are allowed.`,
    ),
  structure: () =>
    new ApiError(
      'invalid_request',
      `The body has too much structure: at most ${many(MAX_STRUCTURE)} of the characters { } [ ] , : outside texts are allowed, and each new key counts as ${NEW_KEY} of them.`,
    ),
  key: () =>
    new ApiError('invalid_request', `A key in the body has more than ${many(MAX_KEY)} bytes.`),
  numbers: () =>
    new ApiError(
      'invalid_request',
      `The numbers in the body are too long: at most ${MAX_NUMBER} characters each, and ${many(MAX_NUMBERS)} in all.`,
    ),
}

function objectOf(text: string): Json {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    throw FLAWS.malformed()
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Json
  throw new ApiError('invalid_json', 'The body must be a JSON object.')
}

function checkKeys(outline: Outline, bytes: Bytes, maxDepth: number): void {
  let within = ''
  for (const { key, depth, seen } of keysOf(outline, maxDepth, bytes)) {
    const folded = fold(key)
    if (depth === 1) within = folded
    const field = (depth === 1 ? READ_FIELDS : READ_INSIDE).get(folded)
    if (depth > 1 && (field === undefined || !READ_THROUGH.has(within))) continue
    const param = key.slice(0, 64)
    if (seen.has(folded)) {
      const message = 'A key appears twice in the body; send each key once.'
      throw new ApiError('invalid_request', message, { param })
    }
    seen.add(folded)
    if (field !== undefined && field !== key) {
      const message = `A key is misspelt: write it as \`${field}\`.`
      throw new ApiError('invalid_request', message, { param })
    }
  }
}

type Key = {
  key: string
  /** The index behind its closing quote. */ end: number
  depth: number
  /** One set per object. */ seen: Set<string>
}

/** The keys of all objects down to a depth, repeated keys too. The outline is valid JSON. */
function* keysOf(outline: Outline, maxDepth: number, bytes: Bytes): Generator<Key> {
  const { text } = outline
  /** The open containers, with a set for each object whose keys are wanted. */
  const open: (Set<string> | undefined)[] = []
  let expectKey = false
  for (let i = 0; i < text.length; i += 1) {
    switch (text.charCodeAt(i)) {
      case 0x22: {
        const end = closingQuote(text, i + 1)
        const seen = open.at(-1)
        if (seen && expectKey) {
          yield { key: keyAt(outline, i, end + 1, bytes), end: end + 1, depth: open.length, seen }
          expectKey = false
        }
        i = end
        break
      }
      case 0x7b: // {
        open.push(open.length < maxDepth ? new Set() : undefined)
        expectKey = true
        break
      case 0x5b: // [
        open.push(undefined)
        break
      case 0x7d: // }
      case 0x5d: // ]
        open.pop()
        break
      case 0x2c: // ,
        expectKey = true
        break
    }
  }
}

function keyAt({ text, byteAt }: Outline, start: number, end: number, bytes: Bytes): string {
  const written = text.slice(start, end)
  const isPlain = !written.includes(FILLER)
  if (isPlain) return JSON.parse(written) as string
  return JSON.parse(UTF_8.decode(bytes.subarray(byteAt(start), byteAt(end)))) as string
}

/** The bytes of a top-level text, with its quotes. */
export function rawText({ outline }: ParsedBody, bytes: Bytes, field: string): Bytes {
  const { text, byteAt } = outline
  for (const { key, end } of keysOf(outline, 1, bytes)) {
    if (key !== field) continue
    const start = text.indexOf('"', end)
    return bytes.subarray(byteAt(start), byteAt(closingQuote(text, start + 1) + 1))
  }
  throw new Error(`The body has no ${field}.`)
}

/**
 * Checks the fields that the gate needs, and computes the reservation. `body` is given if the bytes are parsed
 * already. Throws `ApiError`.
 */
export function readProxyRequest(
  route: MeteredRoute,
  bytes: Bytes,
  config: Readonly<Config>,
  body = parseForUpstream(bytes, config).value,
): ProxyRequest {
  const wrong = (param: string, message: string) =>
    new ApiError('invalid_request', message, { param })

  const { model, stream, messages, input } = body
  if (typeof model !== 'string') throw wrong('model', '`model` must be the name of a model.')
  checkModel(model, config)
  if (stream !== undefined && stream !== null && typeof stream !== 'boolean') {
    throw wrong('stream', '`stream` must be true or false.')
  }
  if (route === 'chat/completions' && !Array.isArray(messages)) {
    throw wrong('messages', '`messages` must be a list of messages.')
  }
  if (route === 'embeddings' && typeof input !== 'string' && !Array.isArray(input)) {
    throw wrong('input', '`input` must be a text or a list.')
  }
  for (const [param, list] of Object.entries({ messages, input })) {
    if (Array.isArray(list) && list.length > MAX_MESSAGES && route !== 'embeddings') {
      throw wrong(
        param,
        `\`${param}\` has ${list.length} entries; at most ${MAX_MESSAGES} are allowed.`,
      )
    }
  }

  const reservation = reservationOf(route, body, bytes, config)
  return {
    route,
    bytes: reservation.splice ? withMaximum(bytes, reservation, reservation.splice.tokens) : bytes,
    sent: bytes,
    model,
    reservation,
  }
}

/** Throws unless the name is a valid model name and `ALLOWED_MODELS` contains it. */
export function checkModel(model: string, { allowedModels }: Readonly<Config>): void {
  if (!MODEL_NAME.test(model)) {
    throw new ApiError(
      'invalid_request',
      '`model` must have 1 to 128 of the characters A-Z a-z 0-9 . _ : / - and begin with a letter or digit.',
      { param: 'model' },
    )
  }
  if (!isListed(model, allowedModels)) throw notOffered(model)
}

/** The error for a model that `ALLOWED_MODELS` does not contain. */
export const notOffered = (model: string): ApiError =>
  new ApiError('model_not_allowed', `The model ${model} is not offered here.`, { param: 'model' })

/** The request with the maximum of completion tokens that was granted, in place of the larger one that was asked for. */
export function underMaximum(request: ProxyRequest, maximum: number | undefined): ProxyRequest {
  const { sent, reservation } = request
  const { room } = reservation
  if (maximum === undefined || !room) return request
  const completion = room.completions * maximum
  const tokens = reservation.tokens - reservation.completion + completion
  const splice = { field: room.field, tokens: maximum }
  const bytes = withMaximum(sent, reservation, maximum)
  return { ...request, bytes, reservation: { ...reservation, tokens, completion, splice } }
}

/** The body with a maximum of completion tokens, in front of its first key or in place of a null. It must have room for one. */
function withMaximum(bytes: Bytes, { room }: Reservation, tokens: number): Uint8Array<ArrayBuffer> {
  if (!room) return new Uint8Array(bytes)
  const { field, isNull } = room
  const at = isNull ? nullOf(bytes, field) : bytes.indexOf(0x7b) + 1
  const insert = new TextEncoder().encode(isNull ? String(tokens) : `"${field}":${tokens},`)
  const rest = bytes.subarray(isNull ? at + 'null'.length : at)
  const result = new Uint8Array(at + insert.length + rest.length)
  result.set(bytes.subarray(0, at))
  result.set(insert, at)
  result.set(rest, at + insert.length)
  return result
}

/** Where the null of a top-level field begins, in bytes. */
function nullOf(bytes: Bytes, field: string): number {
  const outline = scanned(bytes)
  for (const { key, end } of keysOf(outline, 1, bytes)) {
    if (key === field) return outline.byteAt(outline.text.indexOf('null', end))
  }
  throw new Error('The field is not there.')
}
