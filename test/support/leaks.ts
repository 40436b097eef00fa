/**
 * Searches what a test file leaves behind for the secrets that it used. `searched.ts` collects both, and lets a file
 * with a leak fail.
 *
 * A text shorter than 12 characters does not count as a secret, since it may be part of anything. Any 23 characters in
 * a row of a longer secret are found.
 */

/** The shortest text that is searched for, in characters. */
const LENGTH = 12
/** Wherever such a text stands, one of the blocks that begin at each multiple of this lies within it. */
const BLOCK = LENGTH / 2

type Place = 'a log line' | 'the output of a process' | 'an error' | 'a document'

/** The texts that must not contain a secret. A process may go on printing after its output was added. */
export type Text = { place: Place; text: string }

const texts: Text[] = []
/** What is searched for, with its kind. */
const kinds = new Map<string, string>()
/** Where some of these may be. */
const allowed = new Map<string, Place[]>()

/** The pieces of a secret that are searched for. */
function piecesOf(secret: string): string[] {
  if (secret.length < 2 * LENGTH) return secret.length < LENGTH ? [] : [secret]
  const pieces = [secret.slice(-LENGTH)]
  for (let at = 0; at + LENGTH < secret.length; at += LENGTH) {
    pieces.push(secret.slice(at, at + LENGTH))
  }
  return pieces
}

/** From the start of this test file to its end, no text may contain the secret. `kind` says what it is. */
export function addSecret(kind: string, secret: string): void {
  for (const piece of piecesOf(secret)) {
    // A text that repeats a few characters is a part of other such texts.
    if (new Set(piece).size > 3) kinds.set(piece, kind)
  }
}

/** Lets these places have a secret in this test file. */
export function allowSecret(places: Place[], secret: string): void {
  for (const piece of piecesOf(secret)) allowed.set(piece, places)
}

export function addText(text: Text): void {
  texts.push(text)
}

type Found = { secret: string; at: number }

/** The first secret in a text that must not be there. */
function firstIn({ place, text }: Text, blocks: Map<string, Found[]>): Found | undefined {
  for (let start = 0; start + BLOCK <= text.length; start += BLOCK) {
    for (const { secret, at } of blocks.get(text.slice(start, start + BLOCK)) ?? []) {
      if (!text.startsWith(secret, start - at) || allowed.get(secret)?.includes(place)) continue
      return { secret, at: start - at }
    }
  }
  return undefined
}

/** The blocks that firstIn() may come upon, each with its secret and its index in it. */
function blocksOf(secrets: Iterable<string>): Map<string, Found[]> {
  const blocks = new Map<string, Found[]>()
  for (const secret of secrets) {
    for (let at = 0; at < BLOCK; at++) {
      const block = secret.slice(at, at + BLOCK)
      const known = blocks.get(block) ?? []
      blocks.set(block, known)
      known.push({ secret, at })
    }
  }
  return blocks
}

/**
 * One sentence for each kind of secret in each kind of place, without the secret. Forgets all secrets and texts.
 */
export function takeLeaks(): string[] {
  const leaks = new Map<string, string>()
  const blocks = blocksOf(kinds.keys())
  for (const text of texts) {
    const found = firstIn(text, blocks)
    if (!found) continue
    const before = text.text.slice(0, found.at).split('\n').at(-1)?.slice(-100)
    const leak = `${kinds.get(found.secret)} is in ${text.place}`
    if (!leaks.has(leak)) leaks.set(leak, `${leak}, after: ${before}`)
  }
  texts.length = 0
  kinds.clear()
  allowed.clear()
  return [...leaks.values()]
}
