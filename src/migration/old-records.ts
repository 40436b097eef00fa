/** The records of the old system's usage file, and the requests that they describe. */
import * as z from 'zod/mini'
import { MODEL_NAME } from '../metering/models.ts'
import { MAX_TOKENS } from '../ledger/capacity.ts'
import { HOUR_MS } from '../ledger/windows.ts'

/** The most incomplete requests in memory. The old system wrote the records of one request close together. */
const OPEN_REQUESTS = 10_000

/** The most that a clock may be ahead. A record with a later time is invalid. */
export const AHEAD_MS = HOUR_MS

/** The fields of a record that count. Its `id`, `date` and `metadata` add no information. */
export type OldRecord = {
  /** Epoch ms. */
  timestamp: number
  /** The user's token in the old system. */
  userId?: string | undefined
  sessionId?: string | undefined
  model: string
  tokensUsed: number
  tokenType: 'prompt' | 'completion' | 'total'
}

/** One request. Its tokens are by kind, if the old system recorded the kinds. */
export type OldRequest = {
  at: number
  user: string | undefined
  session: string | undefined
  model: string
  tokens: { prompt: number; completion: number } | { total: number }
  /** The number of its records. */
  records: number
}

const name = z.optional(z.nullable(z.string()))
const schema = z.object({
  timestamp: z.union([z.int(), z.iso.datetime({ offset: true })]),
  userId: name,
  sessionId: name,
  model: z.string().check(z.regex(MODEL_NAME)),
  tokensUsed: z.int().check(z.nonnegative(), z.maximum(MAX_TOKENS)),
  tokenType: z.enum(['prompt', 'completion', 'total']),
})

/** The record in a value; undefined if the value is not a valid record. */
export function readOldRecord(value: unknown, now: number): OldRecord | undefined {
  const { success, data } = schema.safeParse(value)
  if (!success) return undefined
  const timestamp = new Date(data.timestamp).getTime()
  if (!(timestamp >= 0 && timestamp <= now + AHEAD_MS)) return undefined
  return {
    ...data,
    timestamp,
    userId: data.userId?.trim() || undefined,
    sessionId: data.sessionId || undefined,
  }
}

/**
 * Combines records into requests: records with the same time, session and model belong together. A request counts as
 * complete after `openRequests` others have begun.
 */
export function gatherRequests(openRequests = OPEN_REQUESTS) {
  const open = new Map<string, OldRecord[]>()

  return {
    /** Adds a record, and returns the requests that are complete now. */
    add(record: OldRecord): OldRequest[] {
      const key = JSON.stringify([record.timestamp, record.sessionId, record.model])
      const known = open.get(key)
      if (known) known.push(record)
      else open.set(key, [record])
      if (open.size <= openRequests) return []
      const [oldest = '', records = []] = open.entries().next().value ?? []
      open.delete(oldest)
      return requestsOf(records)
    },
    /** The remaining requests, after the last record. */
    end: (): OldRequest[] => [...open.values()].flatMap(requestsOf),
  }
}

/** Totals count only if there are no records by kind. Records of different users are different requests. */
function requestsOf(records: OldRecord[]): OldRequest[] {
  const apart = records.some(({ tokenType }) => tokenType !== 'total')
  const counted = records.filter(({ tokenType }) => !apart || tokenType !== 'total')
  return [...new Set(counted.map(({ userId }) => userId))].map((user, index) => {
    const mine = counted.filter(({ userId }) => userId === user)
    const sum = (type: OldRecord['tokenType']) =>
      mine.reduce((sum, record) => sum + (record.tokenType === type ? record.tokensUsed : 0), 0)
    const { timestamp, sessionId, model } = mine[0] as OldRecord
    return {
      at: timestamp,
      user,
      session: sessionId,
      model,
      tokens: apart
        ? { prompt: sum('prompt'), completion: sum('completion') }
        : { total: sum('total') },
      records: index === 0 ? records.length : 0,
    }
  })
}
