/** Reads the lines of a saved policy. */
import type * as z from 'zod/mini'
import { ApiError } from '../errors.ts'
import { parsing } from '../gateway/body-json.ts'
import { inTurns, turn } from '../gateway/steps.ts'
import { fields, type Misfit } from '../http/json-body.ts'
import { own } from '../ledger/records.ts'
import { VERSION } from '../ledger/shapes.ts'
import { refusalOf } from './fields.ts'
import { RIGHT_PLAN } from './plans.ts'
import {
  planLine,
  settingsLine,
  userLine,
  type PlanLine,
  type SettingsLine,
  type UserLine,
} from './policy-schemas.ts'

/** A line of a saved policy. */
export type PolicyLine = PlanLine | SettingsLine | UserLine

const KINDS = {
  plan: [planLine, refusalOf(Object.keys(planLine.shape), RIGHT_PLAN)],
  settings: [settingsLine, refusalOf(Object.keys(settingsLine.shape))],
  user: [userLine, refusalOf(Object.keys(userLine.shape))],
} as const satisfies Record<PolicyLine['kind'], [z.ZodMiniType<PolicyLine>, Misfit]>

/** Checks all lines, and counts them. Throws `invalid_request`. */
export async function checked(text: string) {
  const seen = new Set<string>()
  const counts = { plans: 0, users: 0 }
  for await (const line of linesIn(text)) {
    const name =
      line.kind === 'plan'
        ? `the plan ${line.name}`
        : line.kind === 'user'
          ? line.userId
          : line.kind
    if (seen.has(name)) throw refused(`There are two lines for ${name}; send one.`)
    seen.add(name)
    if (line.kind === 'plan') counts.plans += 1
    if (line.kind === 'user') counts.users += 1
  }
  return counts
}

/**
 * After this many characters, others get their turn. A short line counts as some more characters, since it takes time
 * too.
 */
const CHARACTERS_AT_ONCE = 16 * 1024
const CHARACTERS_OF_LINE = 64

/** The lines of a text, one at a time. Throws `invalid_request` that names the line. */
export async function* linesIn(text: string): AsyncGenerator<PolicyLine> {
  let size = 0
  for (let from = 0, row = 1; from < text.length; row += 1) {
    const end = text.indexOf('\n', from)
    const line = text.slice(from, end < 0 ? text.length : end).trim()
    from = end < 0 ? text.length : end + 1
    size += line.length + CHARACTERS_OF_LINE
    if (size > CHARACTERS_AT_ONCE) {
      size = 0
      await turn()
    }
    if (line !== '') yield await lineIn(line, row)
  }
}

async function lineIn(text: string, row: number): Promise<PolicyLine> {
  try {
    const value = await inTurns(parsing(new TextEncoder().encode(text)))
    const { v, kind } = value
    if (typeof v === 'number' && v > VERSION) {
      throw refused('a newer version of Weir has written it; update this instance.')
    }
    const known =
      typeof kind === 'string' ? own<(typeof KINDS)[PolicyLine['kind']]>(KINDS, kind) : undefined
    if (!known) throw refused('`kind` must be plan, settings or user.', 'kind')
    const [schema, refusal] = known
    return fields<PolicyLine>(value, schema, refusal)
  } catch (error) {
    if (!(error instanceof ApiError)) throw error
    const { code, message, param } = error
    throw new ApiError(code, `Line ${row}: ${message}`, param === undefined ? {} : { param })
  }
}

/** The `invalid_request` for lines that cannot be brought back. */
export const refused = (message: string, param?: string) =>
  new ApiError('invalid_request', message, param === undefined ? {} : { param })
