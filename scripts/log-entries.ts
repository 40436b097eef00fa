/** Reads the log lines of usage that could not be counted when it happened. */
import * as z from 'zod/mini'
import { OLDEST, VERSION } from '../src/ledger/shapes.ts'
import { UNRECORDED } from '../src/store/fallback/queue.ts'
import type { Entry } from '../src/store/store.ts'

const amount = z.int().check(z.nonnegative())
const optional = z.optional(amount)
const event = z.object({
  v: z.int().check(z.minimum(OLDEST)),
  id: z.string().check(z.minLength(1)),
  at: amount,
  user: z.string().check(z.minLength(1)),
  session: z.optional(z.string()),
  route: z.string(),
  model: z.string().check(z.minLength(1)),
  outcome: z.enum(['exact', 'estimated', 'failed']),
  status: amount,
  prompt: optional,
  completion: optional,
  total: optional,
  cached: optional,
  reasoning: optional,
  mismatch: z.optional(z.literal(true)),
  error: z.optional(z.string()),
  reserved: amount,
  charged: amount,
  ttfbMs: optional,
  totalMs: amount,
})
const line = z.object({
  op: z.enum(['settle', 'enter']),
  usage: event,
})
/** The part that every version writes. It identifies a line that only a newer version can read. */
const versioned = z.object({ usage: z.object({ v: z.int() }) })

/**
 * The entry in a line of a log: undefined if the line is about something else, `unreadable` if such a line is damaged,
 * and `newer` if a newer version of Weir wrote it. Lines may be JSON, plain or wrapped by a collector under `message`
 * or `msg`, or in the format for people. A settlement has its own time, since its lease is kept for a day from then; an
 * entry is dated by `now`.
 */
export function readUnrecorded(
  text: string,
  now: number,
): Entry | 'unreadable' | 'newer' | undefined {
  if (!text.includes(UNRECORDED)) return undefined
  const fields = fieldsOf(text)
  if (fields?.msg === undefined) return 'unreadable'
  if (fields.msg !== UNRECORDED) return undefined
  const { data } = versioned.safeParse(fields)
  if (data && data.usage.v > VERSION) return 'newer'
  const read = line.safeParse(fields)
  if (!read.success) return 'unreadable'
  const { op, usage } = read.data
  const entry = { user: usage.user, event: usage as Entry['event'] }
  if (op === 'settle') return { op, now: usage.at + usage.totalMs, ...entry }
  return { op, now, ...entry }
}

/** A line for people: time, level, name, and fields as name=JSON. */
const TEXT = new RegExp(`^[\\d:]+ \\w+ +(${UNRECORDED}) op=(".*?") usage=({.*?})$`)

function fieldsOf(text: string): Record<string, unknown> | undefined {
  const [, msg, op, usage] = TEXT.exec(text.trim()) ?? []
  if (msg !== undefined) {
    return fieldsOf(`{"msg":"${msg}","op":${op},"usage":${usage}}`)
  }
  let value: unknown
  try {
    value = JSON.parse(text.slice(text.indexOf('{')))
  } catch {
    return undefined
  }
  if (typeof value !== 'object' || value === null) return undefined
  const fields = value as Record<string, unknown>
  const wrapped = [fields.message, fields.msg].find(
    (inner) => typeof inner === 'string' && inner.includes('{'),
  )
  return typeof wrapped === 'string' ? fieldsOf(wrapped) : fields
}
