/**
 * The reservation: the most tokens a request can cost, computed from its body before it is sent.
 *
 * Byte-level BPE never makes more tokens than bytes, and JSON never has fewer bytes than the text in it. Tokenizers that
 * normalise text first (NFC) make up to 2 tokens of a byte that is not ASCII, and templates that print JSON with
 * indentation up to 3 of a byte. strict reserves for both. Two bytes per token (balanced) are enough for ordinary text.
 */
import { ApiError } from '../errors.ts'
import { MAX_RESERVATION } from '../ledger/money.ts'
import { missingBytes } from './cut-text.ts'

/** The metered routes: the path after `/openai/v1/`. */
export type MeteredRoute = 'chat/completions' | 'responses' | 'embeddings'

/** The metered routes of audio, which have other units. */
export type AudioRoute = 'audio/transcriptions' | 'audio/translations' | 'audio/speech'

export type Route = MeteredRoute | AudioRoute

export type Cap = 'balanced' | 'strict'

export type ReservationRules = {
  cap: Cap
  /** Completion tokens that are assumed if a client sends no maximum. */
  maxCompletionTokens: number
}

export type Reservation = {
  /** Tokens, prompt and completion together. */
  tokens: number
  /** The part of `tokens` for the completions. */
  completion: number
  /** Body bytes without image data, for estimates. */
  promptBytes: number
  /** Ms of audio, or characters to be spoken. Then there are no tokens. */
  audioMs?: number
  characters?: number
  /** The maximum that the client sent; absent if it sent none. */
  sent?: number
  /** If the client sent no maximum: the field for one, and the tokens that are reserved for each completion. */
  room?: Room
  /** The maximum that has to be written into the body (strict only). */
  splice?: { field: string; tokens: number }
}

type Room = {
  field: string
  /** The field is there, with the value null. */
  isNull: boolean
  completions: number
  tokens: number
}

/** Chat templates add tokens to a prompt (gpt-oss about 70), and a few to each message. */
const TOKENS_PER_REQUEST = 128
const TOKENS_PER_MESSAGE = 16

/** Image data is not text; vision models charge by tiles, a few thousand tokens at most. */
const TOKENS_PER_IMAGE = 6_400

/**
 * strict adds these to the token of each byte, which makes 4 tokens for a byte of the JSON that templates print. The
 * densest JSON is a list of digits, each of which fills a line.
 */
const MORE_PER_PRINTED_BYTE = 3

/** The fields whose JSON templates print: of a body, and of a message or an item. */
const PRINTED = ['tools', 'functions', 'tool_choice', 'function_call', 'response_format', 'text']
const PRINTED_OF_ITEM = ['tool_calls', 'function_call', 'arguments']

/** The fields that hold the completion maximum. The first one is spliced in. */
const MAXIMUM_FIELDS: Record<MeteredRoute, readonly string[]> = {
  'chat/completions': ['max_completion_tokens', 'max_tokens'],
  responses: ['max_output_tokens'],
  embeddings: [],
}

/** A body of this many bytes is large. */
const LARGE = 128 * 1024

type Json = Record<string, unknown>

/**
 * Computes the reservation of a parsed body and its bytes. A maximum that is not a positive integer goes up, and
 * upstream judges it. Throws `invalid_request` for such an `n`, and in strict mode `cost_unbounded` for such a maximum
 * and for everything whose cost the body does not bound. A large body takes several steps.
 */
export function* reservationOf(
  route: MeteredRoute,
  body: Json,
  bytes: Uint8Array,
  rules: ReservationRules,
): Generator<void, Reservation, void> {
  const strict = rules.cap === 'strict'
  const fields = MAXIMUM_FIELDS[route]
  const all = listOf(body.messages).concat(listOf(body.input))
  const items = all.filter(isJson)
  const parts = partsOf(items)
  if (strict) refuseUnbounded(body, items, parts, fields)
  const images = imagesOf(parts)
  // The numbers in an embeddings input are tokens.
  const messages = Math.max(1, all.filter((item) => typeof item !== 'number').length)
  const promptBytes = bytes.length - images.bytes
  const isLarge = strict && bytes.length > LARGE
  if (isLarge) yield
  const json = strict ? printedIn(body, items) : ''
  if (isLarge) yield
  const text = strict
    ? promptBytes + notAscii(bytes) + MORE_PER_PRINTED_BYTE * sizeOf(json)
    : Math.ceil(promptBytes / 2)
  const prompt =
    text + images.count * TOKENS_PER_IMAGE + TOKENS_PER_REQUEST + messages * TOKENS_PER_MESSAGE

  const given = fields.map((field) => body[field]).filter((value) => value != null)
  // Upstream may ignore a maximum that is not valid, or read a text as a number.
  const assumed = given.length > 0 && given.every(isAmount) ? 0 : rules.maxCompletionTokens
  const maximum = fields.length === 0 ? 0 : Math.max(assumed, ...given.map(amountOf))
  const most = MAX_RESERVATION - prompt
  const completions = Math.min(numberOf(body), Math.max(1, Math.floor(most / Math.max(1, maximum))))
  const completion = Math.min(completions * maximum, most)
  const bounds = { tokens: prompt + completion, completion, promptBytes }

  const [field] = fields
  if (field === undefined) return bounds
  if (given.length > 0) return { ...bounds, sent: maximum }
  const room = { field, isNull: Object.hasOwn(body, field), completions, tokens: maximum }
  const reservation = { ...bounds, room }
  return strict ? { ...reservation, splice: { field, tokens: maximum } } : reservation
}

const isAmount = (value: unknown): value is number =>
  typeof value === 'number' && Number.isSafeInteger(value) && value > 0

/** How many completions are asked for. */
function numberOf({ n }: Json): number {
  if (n == null) return 1
  if (isAmount(n)) return n
  throw new ApiError('invalid_request', '`n` must be a positive integer.', { param: 'n' })
}

/** The number that upstream may read in a value; 0 if it is neither a number nor the text of one. */
function amountOf(value: unknown): number {
  if (typeof value !== 'number' && typeof value !== 'string') return 0
  const amount = Math.ceil(Number(value))
  return amount > 0 ? Math.min(amount, MAX_RESERVATION) : 0
}

function notAscii(bytes: Uint8Array): number {
  const { buffer, byteOffset, length } = bytes
  const first = Math.min(-byteOffset & 3, length)
  const words = new Int32Array(buffer, byteOffset + first, (length - first) >> 2)
  let count = 0
  // Four at a time: the product has the sum of the four bits in its upper byte.
  for (let i = 0; i < words.length; i += 1) {
    count += Math.imul((words[i]! >>> 7) & 0x01010101, 0x01010101) >>> 24
  }
  for (let i = 0; i < first; i += 1) count += bytes[i]! >> 7
  for (let i = first + words.length * 4; i < length; i += 1) count += bytes[i]! >> 7
  return count
}

/** What templates print, as compact JSON, because templates do not see the spaces and escapes of the body. */
function printedIn(body: Json, items: Json[]): string {
  const printed = [
    ...PRINTED.map((field) => body[field]),
    ...items.flatMap((item) => PRINTED_OF_ITEM.map((field) => item[field])),
  ].filter((value) => value != null)
  return printed.length === 0 ? '' : JSON.stringify(printed)
}

const sizeOf = (json: string): number => new TextEncoder().encode(json).length + missingBytes(json)

const listOf = (value: unknown): unknown[] => (Array.isArray(value) ? value : [])

/** The parts of messages (chat) and of items of the input (responses), where the output of a tool can have parts too. */
const partsOf = (items: Json[]): Json[] =>
  items.flatMap(({ content, output }) => listOf(content).concat(listOf(output)).filter(isJson))

function imagesOf(parts: Json[]): { count: number; bytes: number } {
  const images = { count: 0, bytes: 0 }
  for (const part of parts) {
    if (part.type !== 'image_url' && part.type !== 'input_image') continue
    const image = part.image_url
    const url = isJson(image) ? image.url : image
    images.count += 1
    if (typeof url === 'string' && url.startsWith('data:image/'))
      images.bytes += url.length + missingBytes(url)
  }
  return images
}

/** The type of an item that only names an id. An item without a type is one too. */
const REFERENCE = 'item_reference'

/** Refuses requests that can make upstream read or write more than the body shows. */
function refuseUnbounded(
  body: Json,
  items: Json[],
  parts: Json[],
  maxima: readonly string[],
): void {
  const refuse = (what: string, param: string) => {
    throw new ApiError(
      'cost_unbounded',
      `This gateway enforces a strict cap, and the cost of ${what} cannot be bounded in advance.`,
      { param },
    )
  }
  if (typeof body.model === 'string' && /^(groq\/)?compound/i.test(body.model)) {
    refuse('compound models, which call tools and models of their own,', 'model')
  }
  for (const field of ['previous_response_id', 'conversation', 'prompt']) {
    if (body[field] != null) refuse(`\`${field}\`, which refers to text kept upstream,`, field)
  }
  for (const field of ['documents', 'search_settings', 'compound_custom', 'background']) {
    if (body[field] != null && body[field] !== false) refuse(`\`${field}\``, field)
  }
  for (const field of maxima) {
    if (body[field] != null && !isAmount(body[field])) {
      refuse(`a request whose \`${field}\` is not a positive integer`, field)
    }
  }
  if (body.tools != null && !Array.isArray(body.tools)) refuse('tools that are not a list', 'tools')
  if (isJson(body.input)) refuse('an input that is neither a text nor a list', 'input')
  if (items.some(({ content, output }) => isJson(content) || isJson(output))) {
    refuse('content that is neither text nor list', 'messages')
  }
  for (const tool of listOf(body.tools)) {
    const type = isJson(tool) ? tool.type : undefined
    if (type !== 'function' && type !== 'custom') refuse('built-in and remote tools', 'tools')
  }
  for (const { type, id, role } of items) {
    if ((type ?? REFERENCE) === REFERENCE && id != null && role == null) {
      refuse('items kept upstream', 'input')
    }
  }
  for (const { type, file_id, file_url } of parts) {
    if (type === 'file' || type === 'input_file' || file_id != null || file_url != null) {
      refuse('files, which may be packed or kept elsewhere,', 'messages')
    }
  }
}

const isJson = (value: unknown): value is Json =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
