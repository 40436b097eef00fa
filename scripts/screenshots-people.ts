/** Who calls the invented gateway: the users, their plans, and what they use. Numbers are in the order of their use. */
import type { Key } from '../src/ledger/documents.ts'
import { DAY_MS, HOUR_MS } from '../src/ledger/windows.ts'

/** A Wednesday afternoon. */
export const NOW = Date.UTC(2026, 2, 18, 14, 42, 7)

export const SMALL = 'openai/gpt-oss-20b'
export const LARGE = 'openai/gpt-oss-120b'
export const SPEECH = 'whisper-large-v3-turbo'

export type Person = {
  label: string
  plan?: 'free' | 'pro'
  /** The only model that they use. */
  model?: string
  /** The tag of their requests, if they are not those of the chat. */
  tag?: string
}

/** Users who never call, or not any more. */
export const [UNUSED, ERASED] = ['ruth.adler', 'user-118']

/** Users of whom something is known, by number. The others are ids. */
export const PEOPLE: Record<number, Person> = {
  0: { label: 'Jonas Weber' },
  1: { label: 'Amara Okafor' },
  2: { label: 'Marta Lindqvist', plan: 'pro' },
  3: { label: 'Li Wei' },
  4: { label: 'Support desk, second floor', plan: 'free', model: SMALL },
  5: { label: 'Noah Smith' },
  6: { label: 'Sofia Rossi', plan: 'pro' },
  7: { label: 'Haruto Sato', plan: 'free', model: SMALL },
  8: { label: 'Help centre', tag: 'help-centre' },
  9: { label: 'Emma Dubois' },
  10: { label: 'Search box', model: SMALL, tag: 'search' },
  11: { label: 'Nightly import', model: SMALL, tag: 'import' },
  12: { label: 'Mateo García', plan: 'pro' },
  13: { label: 'Zofia Nowak' },
  14: { label: 'Otto' },
  15: { label: 'Call recordings', model: SPEECH, tag: 'recordings' },
  16: { label: 'Priya Nair' },
  17: { label: 'crawler-7', plan: 'free', model: SMALL },
  18: { label: 'Tom Becker' },
  20: { label: 'Inês Costa' },
}

/** Some users by what their pages show. */
export const BUSY = 0
export const NAMED = 2
export const EAGER = 3
export const BLOCKED = 5
export const FREE = 7
export const SEARCH = 10
export const IMPORT = 11
export const AUDIO = 15
export const CRAWLER = 17
/** The user whose names and reasons are those of an attacker, in a store of its own. */
export const HOSTILE = 33

/** A key as it was made, and what was done with it later. */
type Made = Key & {
  id: string
  user: number
  /** It was rotated so long ago. */
  rotated?: number
}

const key = (
  user: number,
  id: string,
  name: string,
  days: number,
  more: Partial<Made> = {},
): Made => ({
  ...{ user, id, name, hash: id.padEnd(43, '0'), start: `weir_1${id.slice(0, 3)}` },
  ...{ last4: id.slice(-4), created: NOW - days * DAY_MS },
  ...more,
})

const LAPTOP = key(NAMED, 'qT4vLx2b', 'Laptop', 40)
/** It is about to end, of which an alert tells. */
const SERVER = key(NAMED, 'Zk8mWr3d', 'Report server', 25, {
  expires: NOW + 5 * DAY_MS,
  models: { [SMALL]: 1 },
  rotated: 4 * HOUR_MS,
})
const JOB = key(IMPORT, 'h7NcPd5s', 'Import job', 31)

export const KEYS: Made[] = [
  LAPTOP,
  SERVER,
  key(NAMED, 'Bf6yTs9k', 'Office desktop', 60, { expires: NOW - 12 * DAY_MS }),
  key(NAMED, 'Jw1gHn7c', 'Old phone', 55, { disabled: 1 }),
  JOB,
]

/** The key with which a user calls a model. The others have tokens that their application signs. */
export function keyOf(user: number, model: string): Made | undefined {
  if (user === IMPORT) return JOB
  if (user !== NAMED) return undefined
  return model === SMALL ? SERVER : LAPTOP
}
