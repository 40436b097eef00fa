/** The records of the old system's usage file, and the requests they tell of. */
import * as z from 'zod/mini'
import { MODEL_NAME } from '../usage/models.ts'
import { MAX_TOKENS } from '../ledger/commands.ts'
import { HOUR_MS } from '../ledger/windows.ts'

/** Requests whose further records may still come: the old system wrote them one after the other. */
const OPEN_REQUESTS = 10_000

/** Clocks differ; what lies further ahead than this is no time of a request. */
export const AHEAD_MS = HOUR_MS

/** What is counted of a record; its `id`, `date` and `metadata` say nothing more. */
export type OldRecord = {
  /** Epoch ms. */
  timestamp: number
  /** The user's token, as the old system knew it. */
  userId?: string | undefined
  sessionId?: string | undefined
  model: string
  tokensUsed: number
  tokenType: 'prompt' | 'completion' | 'total'
}

/** One request: its tokens by kind where the old system told them apart. */
export type OldRequest = {
  at: number
  user: string | undefined
  session: string | undefined
  model: string
  tokens: { prompt: number; completion: number } | { total: number }
  /** How many records told of it. */
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

/** The record, or undefined for anything that cannot be one. */
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
 * Gathers records into requests: those of one moment, session and model belong together. A request is complete
 * when so many others have begun since that no record of it is to be expected.
 */
export function gatherRequests(openRequests = OPEN_REQUESTS) {
  const open = new Map<string, OldRecord[]>()

  return {
    /** Takes a record and gives what is complete now. */
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
    /** What is still open, after the last record. */
    end: (): OldRequest[] => [...open.values()].flatMap(requestsOf),
  }
}

/** Totals count only where nothing tells prompt and completion apart. Different users never share a request. */
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
