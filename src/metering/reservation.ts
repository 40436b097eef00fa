/**
 * The reservation: the most tokens a request can cost, computed from its body before it is sent.
 *
 * Byte-level BPE never makes more tokens than bytes, and JSON never has fewer bytes than the text in it, so one byte
 * per token (strict) is a proven bound. Two bytes per token (balanced) are enough for ordinary text.
 */
import { ApiError } from '../errors.ts'

/** The metered routes: the path after `/openai/v1/`. */
export type MeteredRoute = 'chat/completions' | 'responses' | 'embeddings'

export type Cap = 'balanced' | 'strict'

export type ReservationRules = {
  cap: Cap
  /** Completion tokens that are assumed if a client sends no maximum. */
  maxCompletionTokens: number
}

export type Reservation = {
  /** Tokens, prompt and completion together. */
  tokens: number
  /** Body bytes without image data, for estimates. */
  promptBytes: number
  /** The maximum that has to be put into the body for the reservation to hold (strict only). */
  splice?: { field: string; tokens: number }
}

/** Chat templates add tokens to a prompt (gpt-oss about 70), and a few to each message. */
const TOKENS_PER_REQUEST = 128
const TOKENS_PER_MESSAGE = 16

/** Image data is not text; vision models charge by tiles, a few thousand tokens at most. */
const TOKENS_PER_IMAGE = 6_400

/** The largest reservation: far above any limit, and still exact in a sum. */
const MAX_RESERVATION = 1_000_000_000_000

const BYTES_PER_TOKEN: Record<Cap, number> = { balanced: 2, strict: 1 }

/** The fields that hold the completion maximum. The first one is spliced in. */
const MAXIMUM_FIELDS: Record<MeteredRoute, readonly string[]> = {
  'chat/completions': ['max_completion_tokens', 'max_tokens'],
  responses: ['max_output_tokens'],
  embeddings: [],
}

type Json = Record<string, unknown>

/**
 * Computes the reservation of a parsed body of `bytes` bytes.
 * Throws `invalid_request` for an `n` or a maximum that is not a positive integer, and in strict mode `cost_unbounded`
 * for a request whose cost the body does not bound.
 */
export function reservationOf(
  route: MeteredRoute,
  body: Json,
  bytes: number,
  rules: ReservationRules,
): Reservation {
  if (rules.cap === 'strict') refuseUnbounded(body)
  const images = imagesOf(body)
  // The numbers in an embeddings input are tokens.
  const items = [...listOf(body.messages), ...listOf(body.input)]
  const messages = Math.max(1, items.filter((item) => typeof item !== 'number').length)
  const promptBytes = bytes - images.bytes
  const prompt =
    Math.ceil(promptBytes / BYTES_PER_TOKEN[rules.cap]) +
    images.count * TOKENS_PER_IMAGE +
    TOKENS_PER_REQUEST +
    messages * TOKENS_PER_MESSAGE

  const fields = MAXIMUM_FIELDS[route]
  const given = fields.map((field) => positive(body, field)).filter((value) => value !== undefined)
  const maximum =
    fields.length === 0 ? 0 : Math.max(...given, given.length ? 0 : rules.maxCompletionTokens)
  const tokens = Math.min(prompt + (positive(body, 'n') ?? 1) * maximum, MAX_RESERVATION)

  const field = fields[0]
  if (rules.cap === 'balanced' || !field || given.length > 0) return { tokens, promptBytes }
  if (Object.hasOwn(body, field)) {
    throw new ApiError('invalid_request', `\`${field}\` must be a positive integer, or left out.`, {
      param: field,
    })
  }
  return { tokens, promptBytes, splice: { field, tokens: maximum } }
}

/** A field that must be a positive safe integer where it is given; null counts as not given. */
function positive(body: Json, field: string): number | undefined {
  const value = body[field]
  if (value === undefined || value === null) return undefined
  if (typeof value === 'number' && Number.isSafeInteger(value) && value > 0) return value
  throw new ApiError('invalid_request', `\`${field}\` must be a positive integer.`, {
    param: field,
  })
}

const listOf = (value: unknown): unknown[] => (Array.isArray(value) ? value : [])

/** The messages (chat) and the items of the input (responses). */
const itemsOf = (body: Json): Json[] =>
  [...listOf(body.messages), ...listOf(body.input)].filter(isJson)

/** The parts of these. In the Responses API the output of a tool can have parts too. */
const partsOf = (body: Json): Json[] =>
  itemsOf(body).flatMap(({ content, output }) =>
    [...listOf(content), ...listOf(output)].filter(isJson),
  )

function imagesOf(body: Json): { count: number; bytes: number } {
  const images = { count: 0, bytes: 0 }
  for (const part of partsOf(body)) {
    if (part.type !== 'image_url' && part.type !== 'input_image') continue
    const image = part.image_url
    const url = isJson(image) ? image.url : image
    images.count += 1
    if (typeof url === 'string' && url.startsWith('data:image/')) images.bytes += url.length
  }
  return images
}

/** The type of an item that only names an id. An item without a type is one too. */
const REFERENCE = 'item_reference'

/** Refuses requests that can make upstream read or write more than the body says. */
function refuseUnbounded(body: Json): void {
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
  if (body.tools != null && !Array.isArray(body.tools)) refuse('tools that are not a list', 'tools')
  if (isJson(body.input)) refuse('an input that is neither a text nor a list', 'input')
  if (itemsOf(body).some(({ content, output }) => isJson(content) || isJson(output))) {
    refuse('content that is neither text nor list', 'messages')
  }
  for (const tool of listOf(body.tools)) {
    const type = isJson(tool) ? tool.type : undefined
    if (type !== 'function' && type !== 'custom') refuse('built-in and remote tools', 'tools')
  }
  for (const { type, id, role } of itemsOf(body)) {
    if ((type ?? REFERENCE) === REFERENCE && id != null && role == null) {
      refuse('items kept upstream', 'input')
    }
  }
  for (const { type, file_id, file_url } of partsOf(body)) {
    if (type === 'file' || type === 'input_file' || file_id != null || file_url != null) {
      refuse('files, which may be packed or kept elsewhere,', 'messages')
    }
  }
}

const isJson = (value: unknown): value is Json =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
