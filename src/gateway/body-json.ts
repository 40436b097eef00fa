/** Parses a request body as JSON, once its bytes have shown that parsing will not take long. */
import type { Config } from '../config/config.ts'
import { ApiError } from '../errors.ts'
import { FILLER } from '../metering/cut-text.ts'
import type { Bytes } from '../ports.ts'
import {
  KEPT,
  MAX_DEPTH,
  MAX_KEY,
  MAX_NUMBER,
  MAX_NUMBERS,
  MAX_STRUCTURE,
  NEW_KEY,
  outlineOf,
  STEP,
  type Flaw,
  type KeyText,
  type Outline,
} from './json-scan.ts'
import { atOnce, type Steps } from './steps.ts'

export type Json = Record<string, unknown>

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
  /** Of a long text in it, only the beginning is as it was sent. */
  value: Json
  /** Where the value of a top-level field begins, in bytes. */
  placeOf(field: string): number
}

/**
 * Parses a body, which must be a JSON object in UTF-8 with each top-level key once. Throws `invalid_json`,
 * `invalid_request`.
 */
export const parseBody = (bytes: Bytes): Json => atOnce(parsing(bytes))

/** The same in steps. */
export function* parsing(bytes: Bytes): Steps<Json> {
  const outline = yield* scanned(bytes, 1)
  if (bytes.length > STEP) yield
  const value = objectOf(UTF_8.decode(bytes))
  if (bytes.length > STEP) yield
  yield* checkKeys(outline, bytes)
  return value
}

/**
 * Parses a body for upstream, without its long texts, which the gateway does not need. In strict mode, inner keys that
 * matter must not be repeated either. A large body takes several steps. Throws `invalid_json`, `invalid_request`.
 */
export function* parseForUpstream(bytes: Bytes, { cap }: Pick<Config, 'cap'>): Steps<ParsedBody> {
  const outline = yield* scanned(bytes, cap === 'strict' ? STRICT_DEPTH : 1)
  if (bytes.length > STEP) yield
  const value = objectOf(outline.text)
  if (bytes.length > STEP) yield
  yield* checkKeys(outline, bytes)
  if (bytes.length > STEP) yield
  return { value, placeOf: (field) => placeOf(field, outline, bytes) }
}

/** Throws `invalid_json`, `invalid_request` for bytes that may not be parsed as JSON. */
export const checkJson = (bytes: Bytes): void => void atOnce(scanned(bytes, 0))

const UTF_8 = new TextDecoder('utf-8', { ignoreBOM: true })

function* scanned(bytes: Bytes, keyDepth: number): Steps<Outline> {
  const outline = yield* outlineOf(bytes, keyDepth)
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

/**
 * Keys are checked in steps of this many bytes. Each key counts as some more bytes, since a short one takes time too.
 */
const KEYS_STEP = 64 * 1024
const BYTES_OF_KEY = 48

function* checkKeys(outline: Outline, bytes: Bytes): Steps<void> {
  let field = ''
  let size = 0
  /** At each depth, the names in the object that is open. */
  const open: { within: number; names: Set<string> }[] = []
  for (const key of outline.keys) {
    const { start, end, depth, within } = key
    // A longer name is not one that we know, even if each of its characters is an escape.
    if (depth > 1 && (end - start > KEPT || !READ_THROUGH.has(field))) continue
    size += end - start + BYTES_OF_KEY
    if (size > KEYS_STEP) {
      size = 0
      yield
    }
    const name = nameOf(key, outline, bytes)
    const folded = fold(name)
    if (depth === 1) field = folded
    const known = (depth === 1 ? READ_FIELDS : READ_INSIDE).get(folded)
    if (depth > 1 && known === undefined) continue
    const param = name.slice(0, 64)
    if (open[depth]?.within !== within) open[depth] = { within, names: new Set() }
    const { names } = open[depth]
    if (names.has(folded)) {
      const message = 'A key appears twice in the body; send each key once.'
      throw new ApiError('invalid_request', message, { param })
    }
    names.add(folded)
    if (known !== undefined && known !== name) {
      const message = `A key is misspelt: write it as \`${known}\`.`
      throw new ApiError('invalid_request', message, { param })
    }
  }
}

function nameOf({ start, end, at }: KeyText, { text }: Outline, bytes: Bytes): string {
  const written = text.slice(at, at + end - start)
  const isPlain = !written.includes('\\') && !written.includes(FILLER)
  return isPlain
    ? written
    : (JSON.parse(UTF_8.decode(bytes.subarray(start - 1, end + 1))) as string)
}

function placeOf(field: string, outline: Outline, bytes: Bytes): number {
  const isField = (key: KeyText) => key.depth === 1 && nameOf(key, outline, bytes) === field
  const key = outline.keys.find(isField)
  if (!key) throw new Error(`The body has no ${field}.`)
  let at = bytes.indexOf(COLON, key.end) + 1
  while (bytes[at]! <= SPACE) at += 1
  return at
}

const COLON = 0x3a
const SPACE = 0x20
const QUOTE = 0x22
const BACKSLASH = 0x5c

/** The bytes of a top-level text, with its quotes. A long text takes several steps. */
export function* rawText({ placeOf }: ParsedBody, bytes: Bytes, field: string): Steps<Bytes> {
  const start = placeOf(field)
  let end = start + 1
  for (let pause = end + STEP; bytes[end] !== QUOTE; end += bytes[end] === BACKSLASH ? 2 : 1) {
    if (end < pause) continue
    pause += STEP
    yield
  }
  return bytes.subarray(start, end + 1)
}
