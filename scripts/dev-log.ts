/** The log of `npm run dev`: what the workers log as JSON, as short lines for the person who watches. */
import { inWords } from '../src/log.ts'
import type { Event } from '../src/ledger/events.ts'

type Entry = { time: string; level: string; msg: string; usage?: Event }

/** A line of the log for people. Other lines stay as they are. */
export function readable(line: string): string {
  const entry = parsed(line)
  if (!entry) return line
  const { time, level, msg, ...fields } = entry
  if (level !== 'info' || !fields.usage) return inWords(time, level, msg, fields)
  const { status, model, charged, outcome, totalMs, user, id } = fields.usage
  return (
    `${time.slice(11, 19)} ${status} ${model}: ${charged} tokens (${outcome}), ${totalMs} ms, ` +
    `user ${user.slice(0, 8)}…, id ${id}`
  )
}

function parsed(line: string): Entry | undefined {
  try {
    const entry = JSON.parse(line) as Partial<Entry>
    return entry.time && entry.level && entry.msg ? (entry as Entry) : undefined
  } catch {
    return undefined
  }
}
