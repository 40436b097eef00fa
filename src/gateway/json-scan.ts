/**
 * Looks through the bytes of a JSON body in one pass, before it is parsed: parsing a few megabytes of brackets, new
 * keys, numbers or escapes takes up to a second, during which everyone waits. What is parsed afterwards is an outline
 * in which long texts are cut, since the gateway needs only their beginning and their size.
 */
import { cutMark, FILLER } from '../metering/cut-text.ts'
import type { Steps } from './steps.ts'
import { CLOSED, ESCAPED, NEXT, PLAIN } from './text-bytes.ts'

/** A body is looked through in steps of this many bytes. A step takes less than a millisecond. */
export const STEP = 128 * 1024

/** The most lists and objects within each other. */
export const MAX_DEPTH = 64

/** The most characters of structure: `{ } [ ] , :` outside texts, and what takes a parser as long as these. */
export const MAX_STRUCTURE = 100_000

/** For each new key, a parser makes a new shape of objects. That takes as long as this much structure. */
export const NEW_KEY = 50

/** The longest key, in bytes: a parser keeps each of them. */
export const MAX_KEY = 1024

/** The most characters of one number: one of 700 digits takes a parser as long as a thousand short ones. */
export const MAX_NUMBER = 64

/** The most characters of all numbers. */
export const MAX_NUMBERS = 500_000

/**
 * How many bytes of a text are in the outline: enough for names and types, even if each character is an escape, and for
 * the beginning of an image.
 */
export const KEPT = 96
/** The same for texts of the top level, one of which may be a user token. */
const KEPT_ON_TOP = 1024

/** The longest escape, in bytes. */
export const ESCAPE = 6

/** A mark saves time only if it takes the place of at least this many bytes. */
const WORTH_A_CUT = 128

const FILLED = FILLER.charCodeAt(0)

/** Why a body may not be parsed. `malformed` is only what the pass sees: the parser finds the rest. */
export type Flaw = 'malformed' | 'depth' | 'structure' | 'key' | 'numbers'

/** What a byte outside texts is. */
const WRONG = 0
const SPACE = 1
const WORD = 2
const TEXT = 3
const OPEN = 4
const CLOSE = 5
const COMMA = 6
const COLON = 7

const KINDS = new Uint8Array(256).fill(WRONG)
mark(' \t\r\n', SPACE)
mark('0123456789+-.eEtrufalsn', WORD)
mark('"', TEXT)
mark('{[', OPEN)
mark('}]', CLOSE)
mark(',', COMMA)
mark(':', COLON)

function mark(characters: string, kind: number): void {
  for (const character of characters) KINDS[character.charCodeAt(0)] = kind
}

/** A hash tells keys apart. Its factor is random, so that nobody can send many keys with the same hash. */
let factor = 0
const SLOTS = 1 << 15

/** By hash, the last pass that found such a key. */
const SEEN = new Uint32Array(SLOTS)
let pass = 0

/** A key, if the body is valid JSON. */
export type KeyText = {
  /** Where its bytes are in the body, without the quotes. */
  start: number
  end: number
  /** Where it begins in the outline. */
  at: number
  /** How many lists and objects it is in. */
  depth: number
  /** The innermost of these, by its number. */
  within: number
}

/** A body as the parser gets it. */
export type Outline = {
  /** JSON in ASCII: each byte outside ASCII is replaced by a filler, and the rest of a long text by a mark. */
  text: string
  /** In the order of the body. */
  keys: KeyText[]
}

/** How far a pass has come, and what it has found. */
type Scan = {
  bytes: Uint8Array
  outline: Uint8Array
  /** The outline, four bytes at a time. Bytes that the pass has not reached are still as they were sent. */
  words: Int32Array
  keyDepth: number
  keys: KeyText[]
  cuts: Cut[]
  /** The bytes of all cuts. */
  missing: number
  seen: Uint32Array
  pass: number
  at: number
  depth: number
  /** How many lists and objects have begun, and the one that is open at each depth. */
  begun: number
  open: number[]
  structure: number
  numbers: number
  number: number
  inText: boolean
  /** In a text: what the bytes up to here mean, see `NEXT`. */
  state: number
  /** This escape is not in the outline. */
  isFilled: boolean
  /** The text that is open, or ended last: its bytes, where it is in the outline, and up to where it is kept. */
  start: number
  end: number
  shift: number
  kept: number
}

/** Looks through a body. The keys are those that are in at most `keyDepth` lists and objects. */
export function* outlineOf(
  bytes: Uint8Array<ArrayBuffer>,
  keyDepth: number,
): Steps<Outline | Flaw> {
  const { length } = bytes
  const scan = begin(bytes, keyDepth)
  while (scan.at < length) {
    if (length > STEP) yield
    const flaw = readOn(scan, Math.min(scan.at + STEP, length))
    if (flaw) return flaw
  }
  if (scan.inText) return 'malformed'
  if (length > STEP) yield
  return { text: withoutCuts(scan), keys: scan.keys }
}

function begin(bytes: Uint8Array<ArrayBuffer>, keyDepth: number): Scan {
  factor ||= crypto.getRandomValues(new Uint32Array(1))[0]! | 1
  pass = (pass + 1) >>> 0
  const outline = new Uint8Array(bytes)
  return {
    bytes,
    outline,
    words: new Int32Array(outline.buffer, 0, bytes.length >> 2),
    keyDepth,
    keys: [],
    cuts: [],
    missing: 0,
    // Other passes may run between two steps.
    seen: bytes.length > STEP ? new Uint32Array(SLOTS) : SEEN,
    pass,
    at: 0,
    depth: 0,
    begun: 0,
    open: [],
    structure: 0,
    numbers: 0,
    number: 0,
    inText: false,
    state: PLAIN,
    isFilled: false,
    start: 0,
    end: 0,
    shift: 0,
    kept: 0,
  }
}

/** Reads from where the scan is up to an index, which is a multiple of 4 or the end. */
function readOn(scan: Scan, to: number): Flaw | undefined {
  const { bytes, outline } = scan
  // With fields of an object, the loops take twice as long.
  let { depth, structure, numbers, number, inText, state, isFilled, start, end, kept } = scan
  let i = scan.at

  for (; i < to; i += 1) {
    if (inText) {
      for (const near = Math.min(kept + WORTH_A_CUT, to); i < near; i += 1) {
        const before = state
        const byte = bytes[i]!
        state = NEXT[state + byte]!
        if ((before | state) === PLAIN) continue
        if (state >= CLOSED) break
        if (state === ESCAPED) {
          isFilled = i + ESCAPE > kept
          if (!isFilled) structure += 1
        }
        if (byte >= 0x80 || isFilled) outline[i] = FILLED
      }
      if (state < CLOSED) {
        scan.state = state
        i = skipText(scan, i, to)
        state = scan.state
      }
      if (i === to) break
      if (state !== CLOSED) return 'malformed'
      inText = false
      end = i
      if (end - kept > WORTH_A_CUT) cutOut(scan, kept, end)
      continue
    }

    const kind = KINDS[bytes[i]!]!
    if (kind === WRONG) return 'malformed'
    if (kind === WORD) {
      number += 1
      numbers += 1
      if (number > MAX_NUMBER || numbers > MAX_NUMBERS) return 'numbers'
      continue
    }
    number = 0
    if (kind === SPACE) continue
    if (kind === TEXT) {
      inText = true
      state = PLAIN
      isFilled = false
      start = i + 1
      kept = start + (depth > 1 ? KEPT : KEPT_ON_TOP)
      scan.shift = scan.missing
      continue
    }
    structure += 1
    if (kind === OPEN) {
      depth += 1
      if (depth > MAX_DEPTH) return 'depth'
      scan.begun += 1
      scan.open[depth] = scan.begun
    } else if (kind === CLOSE) depth -= 1
    else if (kind === COLON) {
      if (end - start > MAX_KEY) return 'key'
      if (isNew(scan, start, end)) structure += NEW_KEY
      if (depth <= scan.keyDepth) {
        scan.keys.push({ start, end, at: start - scan.shift, depth, within: scan.open[depth] ?? 0 })
      }
      start = end
    }
    if (structure > MAX_STRUCTURE) return 'structure'
  }

  scan.at = i
  Object.assign(scan, { depth, structure, numbers, number })
  Object.assign(scan, { inText, state, isFilled, start, end, kept })
  return undefined
}

/** After a character that is not plain, this many bytes are looked at one by one. */
const BLOCK = 64

/** Reads a text up to an index, and returns the index where it ends. */
function skipText(scan: Scan, from: number, to: number): number {
  const { bytes, words } = scan
  let { state } = scan
  let i = from
  while (i < to && state < CLOSED) {
    if (state === PLAIN && (i & 3) === 0) i = skipPlain(words, i, to)
    for (const end = Math.min((i + BLOCK) & ~3, to); i < end; i += 1) {
      state = NEXT[state + bytes[i]!]!
      if (state >= CLOSED) break
    }
  }
  scan.state = state
  return i
}

/** Whether this is the first key with its name in the body. It is false for a few other keys too. */
function isNew({ bytes, seen, pass }: Scan, start: number, end: number): boolean {
  let hash = end - start
  for (let k = start; k < end; k += 1) {
    hash = Math.imul(hash ^ bytes[k]!, factor)
    hash ^= hash >>> 15
  }
  const slot = hash & (SLOTS - 1)
  const isKnown = seen[slot] === pass
  seen[slot] = pass
  return !isKnown
}

/** In an outline, the bytes from one index to another are left out. */
type Cut = { from: number; to: number }

/** Writes a mark in place of the rest of a text. */
function cutOut(scan: Scan, from: number, to: number): void {
  const mark = cutMark(to - from)
  for (let k = 0; k < mark.length; k += 1) scan.outline[from + k] = mark.charCodeAt(k)
  scan.cuts.push({ from: from + mark.length, to })
  scan.missing += to - from - mark.length
}

function withoutCuts({ outline, cuts }: Scan): string {
  let length = cuts[0]?.from ?? outline.length
  for (const [index, { to }] of cuts.entries()) {
    const next = cuts[index + 1]?.from ?? outline.length
    outline.copyWithin(length, to, next)
    length += next - to
  }
  return ASCII.decode(outline.subarray(0, length))
}

/** Outlines are in ASCII, which is UTF-8 too. */
const ASCII = new TextDecoder()

/** Where the bytes end that can be skipped four at a time, from a multiple of 4. */
function skipPlain(words: Int32Array, from: number, to: number): number {
  const last = to >> 2
  let at = from >> 2
  for (; at < last; at += 1) {
    const word = words[at]!
    // A byte is below n if taking n from it borrows: https://graphics.stanford.edu/~seander/bithacks.html#HasLessInWord
    const quote = word ^ 0x22222222
    const backslash = word ^ 0x5c5c5c5c
    const stop =
      word |
      ((word - 0x20202020) & ~word) |
      ((quote - 0x01010101) & ~quote) |
      ((backslash - 0x01010101) & ~backslash)
    if ((stop & 0x80808080) !== 0) break
  }
  return at << 2
}
