/** What the admins of the invented gateway did, as commands of the ledger. */
import type { Command } from '../src/ledger/commands.ts'
import { ALL_MODELS } from '../src/ledger/documents.ts'
import { labelWords } from '../src/ledger/labels.ts'
import { nanoFrom } from '../src/ledger/money.ts'
import { DAY_MS, HOUR_MS, MINUTE_MS } from '../src/ledger/windows.ts'
import {
  BLOCKED,
  CRAWLER,
  HOSTILE,
  KEYS,
  LARGE,
  NAMED,
  NOW,
  PEOPLE,
  SMALL,
} from './screenshots-people.ts'

const ADA = { by: 'ada', ip: '198.51.100.7' }
const BEN = { by: 'ben', ip: '203.0.113.24' }

/** The names and the reasons of an attacker. */
const HOSTILE_TEXT = `<script>alert(1)</script>"'&amp;\u202Eexe.fdp\u202C ${'so long a reason '.repeat(26)}`
const HOSTILE_NAME = HOSTILE_TEXT.slice(0, 100)

/** What is not the same in all stores. */
export type Kind = {
  /** Somebody with the texts of an attacker calls. */
  hostile?: boolean
  /** Limits are too low, and alerts are sent. */
  trouble?: boolean
}

type Ids = { user(number: number): string; unused: string; erased: string }

/** All of it, in any order. */
export function deeds({ user, unused, erased }: Ids, { hostile, trouble }: Kind): Command[] {
  const all: Command[] = []
  const ago = (ms: number, command: (at: { now: number }) => Command) =>
    all.push(command({ now: NOW - ms }))

  ago(62 * DAY_MS, (at) => ({
    ...{ ...at, ...ADA, op: 'plan', name: 'free' },
    plan: {
      limits: { '*': { tokensPerDay: 20_000, requestsPerDay: 100 } },
      models: { [SMALL]: 1 },
    },
  }))
  ago(62 * DAY_MS, (at) => ({
    ...{ ...at, ...ADA, op: 'plan', name: 'pro' },
    plan: {
      limits: {
        '*': { tokensPerDay: 500_000, requestsPerDay: 5000 },
        [LARGE]: { tokensPerDay: 100_000 },
        total: { tokensPerDay: 1_000_000, usdPerMonth: nanoFrom(25) },
      },
      maxCompletionTokens: 8192,
      concurrentRequests: 8,
    },
  }))
  for (const [n, [number, { label, plan }]] of Object.entries(PEOPLE).entries()) {
    ago((55 - 2 * n) * DAY_MS + n * 11 * MINUTE_MS, (at) => ({
      ...{ ...at, ...(n % 3 ? ADA : BEN), op: 'profile', user: user(Number(number)) },
      set: { label, words: labelWords(label), ...(plan && { plan }) },
    }))
  }
  ago(20 * HOUR_MS, (at) => ({
    ...{ ...at, ...BEN, op: 'profile', user: unused },
    set: { label: 'Ruth Adler', words: labelWords('Ruth Adler') },
  }))
  ago(20 * MINUTE_MS, (at) => ({
    ...{ ...at, ...ADA, op: 'profile', user: user(NAMED) },
    set: {
      note: 'Writes the monthly report on the 18th.\nMay have more on that day.',
      limits: { [SMALL]: { requestsPerDay: 2000, tokensPerMinute: -1 } },
      boost: { limits: { '*': { tokensPerDay: 250_000 } }, until: NOW + 9 * HOUR_MS },
    },
  }))

  for (const { id, user: number, rotated, ...key } of KEYS) {
    const of = { op: 'key', user: user(number), id } as const
    all.push({ ...of, ...ADA, now: key.created, action: 'create', key })
    if (rotated === undefined) continue
    const { start, last4, hash } = key
    ago(rotated, (at) => ({
      ...{ ...of, ...at, ...BEN, action: 'rotate' },
      ...{ secret: { start, last4, hash }, graceUntil: at.now + DAY_MS },
    }))
  }

  const session = 'a'.repeat(43)
  ago(3 * DAY_MS, (at) => ({ ...at, ...ADA, op: 'login', session, until: at.now + DAY_MS }))
  ago(3 * DAY_MS - MINUTE_MS, (at) => ({ ...at, ...ADA, op: 'note', action: 'export' }))
  for (const minutes of [2, 1, 0]) {
    ago(27 * HOUR_MS + minutes * MINUTE_MS, (at) => ({
      ...{ ...at, op: 'note', action: 'failed login', ip: BEN.ip },
    }))
  }
  ago(27 * HOUR_MS - MINUTE_MS, (at) => ({
    ...{ ...at, ...BEN, op: 'login', session: 'b'.repeat(43), until: at.now + DAY_MS },
  }))
  ago(5 * HOUR_MS, (at) => ({ ...at, ...ADA, op: 'erase', user: erased }))

  const alert = (id: string) => (trouble ? { alert: `block-${id}` } : {})
  ago(9 * HOUR_MS, (at) => ({
    ...{ ...at, ...ADA, op: 'block', user: user(21), model: ALL_MODELS, ...alert('21') },
    block: { at: at.now, reason: 'Load test' },
  }))
  ago(8 * HOUR_MS, (at) => ({ ...at, ...ADA, op: 'block', user: user(21), model: ALL_MODELS }))
  type Block = [number, string, number, string?, number?]
  const blocks: Block[] = [
    [CRAWLER, ALL_MODELS, 26 * HOUR_MS, 'Scraped the help centre through the chat'],
    [BLOCKED, LARGE, 3 * HOUR_MS, 'Reports three times what is metered; asked them why', 21],
    [9, 'qwen/qwen3-32b', 50 * MINUTE_MS, undefined, 1],
    ...(hostile ? [[HOSTILE, ALL_MODELS, 12 * MINUTE_MS, HOSTILE_TEXT, 164] as Block] : []),
  ]
  for (const [number, model, ms, reason, hours] of blocks) {
    const until = hours === undefined ? undefined : NOW + hours * HOUR_MS
    ago(ms, (at) => ({
      ...{ ...at, ...(hours ? ADA : BEN), op: 'block', user: user(number), model },
      ...{ block: { at: at.now, reason, until }, ...alert(`${number}`) },
    }))
  }

  if (hostile) {
    ago(25 * MINUTE_MS, (at) => ({
      ...{ ...at, ...ADA, op: 'profile', user: user(HOSTILE) },
      set: { label: HOSTILE_NAME, words: {}, plan: 'free' },
    }))
    ago(24 * MINUTE_MS, (at) => ({
      ...{ ...at, ...ADA, op: 'key', action: 'create', user: user(HOSTILE), id: 'mV5dKq9x' },
      key: {
        hash: 'm'.repeat(43),
        start: 'weir_1mV5',
        last4: 'Kq9x',
        created: at.now,
        name: HOSTILE_NAME,
      },
    }))
  }
  if (trouble) {
    for (const [n, hours] of [30, 29].entries()) {
      ago(hours * HOUR_MS, (at) => ({
        ...{ ...at, ...ADA, op: 'raise' },
        alert: { id: `test-${n}`, type: 'test', by: ADA.by },
      }))
    }
    ago(2 * DAY_MS, (at) => ({
      ...{ ...at, ...ADA, op: 'settings' },
      set: {
        globalLimits: {
          total: { tokensPerDay: 660_000, requestsPerDay: 10_000 },
          [LARGE]: { tokensPerDay: 90_000 },
        },
      },
    }))
    ago(2 * DAY_MS, (at) => ({
      ...{ ...at, ...ADA, op: 'plan', name: 'default' },
      plan: { limits: { '*': { tokensPerDay: 25_000, requestsPerDay: 400 } } },
    }))
  }
  return all
}
