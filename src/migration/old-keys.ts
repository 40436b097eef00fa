/** Reads the predecessor's database keys, `user:TOKEN` and `blocked:TOKEN:MODEL`, as documents of Weir. */
import * as z from 'zod/mini'
import { MAX_TOKENS } from '../ledger/capacity.ts'
import { newProfile, newRow, newUsage } from '../ledger/new-documents.ts'
import { thin } from '../ledger/rows.ts'
import type { Amounts } from '../ledger/units.ts'
import type { ModelUse, UsageDoc, Windows } from '../ledger/documents.ts'
import { sum } from '../ledger/tally.ts'
import { WINDOWS, WINDOW_NAMES, startOf } from '../ledger/windows.ts'
import type { UserParts } from '../ledger/merge.ts'
import { MODEL_NAME } from '../metering/models.ts'
import { AHEAD_MS } from './old-records.ts'

const amount = z.int().check(z.nonnegative(), z.maximum(MAX_TOKENS))
const oldUser = z.object({
  ipAddress: z.optional(z.nullable(z.string())),
  lastActive: z.int().check(z.nonnegative()),
  modelUsage: z.record(
    z.string().check(z.regex(MODEL_NAME)),
    z.object({ tokensUsedDay: amount, requestsDay: amount }),
  ),
})

/**
 * A user's usage, from the value of the key. The counts belong to the day on which the user was last active. The
 * address is unchanged. Undefined if the value cannot be read.
 */
export function readOldUser(id: string, text: string, now: number): UsageDoc | undefined {
  const { success, data } = oldUser.safeParse(valueOf(text))
  if (!success || data.lastActive > now + AHEAD_MS) return undefined
  const { lastActive: at, modelUsage } = data
  const used = Object.entries(modelUsage).map(
    ([model, { tokensUsedDay: tokens, requestsDay: requests }]): [string, Amounts] => [
      model,
      { requests, tokens, usd: 0 },
    ],
  )
  const windowsOf = (amounts: Amounts): Windows =>
    Object.fromEntries(
      WINDOW_NAMES.filter((window) => WINDOWS[window].always).map((window) => [
        window,
        { start: startOf(window, at), ...amounts },
      ]),
    )
  const models = used.map(([model, amounts]): [string, ModelUse] => {
    const { requests, tokens } = amounts
    const row = thin({ ...newRow(), requests, exact: requests, charged: tokens })
    return [model, { row, windows: windowsOf(amounts) }]
  })
  const all = sum(used.map(([, amounts]) => amounts))
  const user: UsageDoc = {
    ...newUsage(id, at),
    seen: at,
    indexed: { at, tokens: all.tokens },
    charged: all.tokens,
    answered: all.requests,
    windows: windowsOf(all),
    models: Object.fromEntries(models),
  }
  if (data.ipAddress) user.ip = data.ipAddress
  return user
}

/** Whether a `blocked:` key contains a block; undefined if it cannot be read. */
export function readOldBlock(text: string): boolean | undefined {
  const value = valueOf(text)
  return typeof value === 'boolean' ? value : undefined
}

/** A user with a block and no other data. */
export const blockedUser = (id: string, model: string, now: number): UserParts => ({
  id,
  profile: { ...newProfile(id), blocks: { [model]: { at: now } } },
})

/**
 * Splits the rest of a `blocked:` key into token and model; both may contain a colon. The longest known token is the
 * token. If none is known, the last colon separates them, or the one before `ft:`, because no other names of models have
 * colons. Undefined if the model name is invalid.
 */
export function splitBlocked(
  rest: string,
  isKnown: (token: string) => boolean,
): { token: string; model: string } | undefined {
  const last = rest.lastIndexOf(':')
  let border = last
  while (border > 0 && !isKnown(rest.slice(0, border))) border = rest.lastIndexOf(':', border - 1)
  if (border <= 0) border = rest.includes(':ft:') ? rest.indexOf(':ft:') : last
  const [token, model] = [rest.slice(0, border), rest.slice(border + 1)]
  const named = MODEL_NAME.test(model) && (model.startsWith('ft:') || !model.includes(':'))
  return border > 0 && named ? { token, model } : undefined
}

/** The value of a key. A hash arrives as a list of names and values; each value may be JSON text. */
function valueOf(text: string): unknown {
  const value = parse(text)
  if (!Array.isArray(value)) return value
  const fields = (value as string[]).flatMap((name, index) =>
    index % 2 ? [] : [[name, parse(String(value[index + 1]))] as const],
  )
  return Object.fromEntries(fields)
}

/** The value of JSON text, or the text itself. */
function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return text
  }
}
