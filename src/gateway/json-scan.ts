/**
 * Looks through the bytes of a JSON body before it is parsed, in one pass that builds no strings: to parse a few megabytes
 * of brackets, new keys, numbers or escapes takes up to a second, and everyone waits.
 */

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

/** This much of a text keeps its escapes, in bytes: enough for names, types, and the beginning of an image. */
const KEPT = 64
/** The same for the texts on top, one of which is a user token. */
const KEPT_ON_TOP = 1024

/** Takes the place of a byte. No valid name, type or token contains it. */
export const FILLER = '\x7f'
const FILLED = FILLER.charCodeAt(0)

const QUOTE = 0x22
const BACKSLASH = 0x5c

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
mark(KINDS, ' \t\r\n', SPACE)
mark(KINDS, '0123456789+-.eEtrufalsn', WORD)
mark(KINDS, '"', TEXT)
mark(KINDS, '{[', OPEN)
mark(KINDS, '}]', CLOSE)
mark(KINDS, ',', COMMA)
mark(KINDS, ':', COLON)

/** The bytes of a text at which the pass stops: the quote, the backslash, and all that is not ASCII. */
const STOPS = new Uint8Array(256).fill(1, 0x80)
mark(STOPS, '"\\', 1)

const ESCAPED = new Uint8Array(256)
mark(ESCAPED, '"\\/bfnrtu', 1)

const HEX = new Uint8Array(256)
mark(HEX, '0123456789abcdefABCDEF', 1)

function mark(table: Uint8Array, characters: string, value: number): void {
  for (const character of characters) table[character.charCodeAt(0)] = value
}

/** A hash tells keys apart. Its factor is random, so that nobody can send many keys with the same hash. */
let factor = 0
const SLOTS = 1 << 15

/** By hash, the last pass that found such a key. */
const SEEN = new Uint32Array(SLOTS)
let pass = 0

/**
 * Looks through a body. Gives it in ASCII with each byte at its place, for the parser: DEL takes the place of other
 * characters, and of escapes that are far inside a text. So a parser is fast, and lengths of texts are those in the body.
 */
export function scanJson(bytes: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> | Flaw {
  factor ||= crypto.getRandomValues(new Uint32Array(1))[0]! | 1
  pass = (pass + 1) >>> 0
  const { length } = bytes
  const words = wordsOf(bytes)
  let plain = bytes
  let depth = 0
  let structure = 0
  let numbers = 0
  let number = 0
  /** The text that ended last. */
  let start = 0
  let end = 0

  for (let i = 0; i < length; i += 1) {
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
    if (kind !== TEXT) {
      structure += 1
      if (kind === OPEN) {
        depth += 1
        if (depth > MAX_DEPTH) return 'depth'
      } else if (kind === CLOSE) depth -= 1
      else if (kind === COLON) {
        if (end - start > MAX_KEY) return 'key'
        let hash = end - start
        for (let k = start; k < end; k += 1) {
          hash = Math.imul(hash ^ bytes[k]!, factor)
          hash ^= hash >>> 15
        }
        const slot = hash & (SLOTS - 1)
        if (SEEN[slot] !== pass) {
          SEEN[slot] = pass
          structure += NEW_KEY
        }
        start = end
      }
      if (structure > MAX_STRUCTURE) return 'structure'
      continue
    }

    start = i + 1
    const kept = start + (depth > 1 ? KEPT : KEPT_ON_TOP)
    for (i = start; i < length; i += 1) {
      const byte = bytes[i]!
      if (STOPS[byte] === 0) {
        if ((i & 3) === 0) i = skipPlain(words, i)
        continue
      }
      if (byte === QUOTE) break
      if (byte === BACKSLASH) {
        if (i < kept) structure += 1
        else {
          if (plain === bytes) plain = new Uint8Array(bytes)
          // Escapes often come one after the other.
          for (; bytes[i] === BACKSLASH && isEscape(bytes, i); i += 2) {
            plain[i] = plain[i + 1] = FILLED
          }
          if (bytes[i] !== BACKSLASH) {
            i -= 1
            continue
          }
        }
        i += 1
        continue
      }
      const more = continuation(bytes, i)
      if (more === 0) return 'malformed'
      if (plain === bytes) plain = new Uint8Array(bytes)
      plain[i] = plain[i + 1] = FILLED
      if (more > 1) plain[i + 2] = FILLED
      if (more > 2) plain[i + 3] = FILLED
      i += more
    }
    end = i
  }
  return plain
}

/** The bytes four at a time, without the last few. */
function wordsOf(bytes: Uint8Array<ArrayBuffer>): Int32Array {
  const { buffer, byteOffset, length } = byteOffsetIsWhole(bytes) ? bytes : new Uint8Array(bytes)
  return new Int32Array(buffer, byteOffset, length >> 2)
}

const byteOffsetIsWhole = ({ byteOffset }: Uint8Array): boolean => byteOffset % 4 === 0

/** The last of the bytes that can be skipped four at a time, from a multiple of 4; `from` itself is known to be plain. */
function skipPlain(words: Int32Array, from: number): number {
  let at = from >> 2
  for (; at < words.length; at += 1) {
    const word = words[at]!
    // A byte is zero if taking one from it borrows: https://graphics.stanford.edu/~seander/bithacks.html#ZeroInWord
    const quote = word ^ 0x22222222
    const backslash = word ^ 0x5c5c5c5c
    const stop = word | ((quote - 0x01010101) & ~quote) | ((backslash - 0x01010101) & ~backslash)
    if ((stop & 0x80808080) !== 0) break
  }
  return Math.max(from, (at << 2) - 1)
}

// Both are plain functions, since a closure in the loop takes longer than all else there.

function isEscape(bytes: Uint8Array, at: number): boolean {
  const escaped = bytes[at + 1]!
  if (escaped !== 0x75) return ESCAPED[escaped] === 1
  for (let i = at + 2; i < at + 6; i += 1) if (HEX[bytes[i]!] !== 1) return false
  return true
}

/** How many bytes follow the first one of a character; 0 if it is none. https://www.rfc-editor.org/rfc/rfc3629#section-4 */
function continuation(bytes: Uint8Array, at: number): number {
  const first = bytes[at]!
  const second = bytes[at + 1]!
  if ((second & 0xc0) !== 0x80) return 0
  if (first < 0xe0) return first >= 0xc2 ? 1 : 0
  if ((bytes[at + 2]! & 0xc0) !== 0x80) return 0
  if (first < 0xf0) {
    if (first === 0xe0) return second >= 0xa0 ? 2 : 0
    return first === 0xed && second >= 0xa0 ? 0 : 2
  }
  if (first > 0xf4 || (bytes[at + 3]! & 0xc0) !== 0x80) return 0
  if (first === 0xf0) return second >= 0x90 ? 3 : 0
  return first === 0xf4 && second >= 0x90 ? 0 : 3
}
