/** What the import script writes for users: the imported users, merged with the stored ones. */
import {
  addOverlaps,
  mergeUser,
  overlapOf,
  type Overlap,
  type UserParts,
} from '../../../ledger/merge.ts'
import { hasMoreThanBlocks } from '../../../ledger/blocks.ts'
import type { Block, UsageDoc } from '../../../ledger/documents.ts'
import { NO_END } from '../../../ledger/windows.ts'
import { DAMAGED_SECONDS, PREFIX } from '../keys.ts'
import { USER_INDEX, placesOf } from '../user-index.ts'
import {
  dayEnd,
  profileEnd,
  lastOf,
  secondsOfDays,
  secondsLeft,
  usageEnd,
  type End,
  type ImportTerms,
} from './ends.ts'
import { erasedAt, type KnownUser, type Seen } from './known.ts'
import type { Index, Plan, Write } from './plan.ts'

/** The key to which an unreadable document is moved. */
export const asideOf = (key: string) => `${PREFIX}damaged:${key.slice(PREFIX.length)}`

/** By default, the age of a block is taken from the block itself. */
export function planUsers(
  known: KnownUser[],
  terms: ImportTerms,
  blockedAt = ({ at }: Block): number => at,
): Plan {
  const plans = known.map((user) => planUser(user, terms, blockedAt))
  const rewrites = plans.flatMap((plan) => plan.rewrites)
  const overlaps: Record<string, Overlap> = {}
  for (const [date, overlap] of plans.flatMap((plan) => Object.entries(plan.overlaps))) {
    const other = overlaps[date]
    if (dayEnd(date, terms) > terms.now) {
      overlaps[date] = other ? addOverlaps(other, overlap) : overlap
    }
  }
  const indexes: Index[] = [
    {
      key: USER_INDEX,
      entries: plans.flatMap(({ places }) => places),
      seconds: secondsOfDays(terms.retention.userDays),
    },
    { key: `${PREFIX}blocks`, entries: plans.flatMap(({ blocks }) => blocks) },
    { key: `${PREFIX}profiles`, entries: plans.flatMap(({ profiles }) => profiles) },
    { key: `${PREFIX}labels`, entries: plans.flatMap(({ words }) => words) },
  ]
  return {
    writes: rewrites.flatMap(({ writes }) => writes),
    damaged: rewrites.flatMap(({ damaged }) => damaged),
    same: [...known.map(({ mark }) => mark), ...plans.flatMap(({ same }) => same)],
    overlaps,
    indexes: indexes.filter(({ entries }) => entries.length),
  }
}

type UserPlan = {
  rewrites: Rewrite[]
  same: Seen[]
  overlaps: Record<string, Overlap>
  /** Scores and members of the indexes, alternating. */
  places: string[]
  blocks: string[]
  profiles: string[]
  words: string[]
}

function planUser(
  { comes: all, there, mark, ...seen }: KnownUser,
  terms: ImportTerms,
  blockedAt: (block: Block) => number,
): UserPlan {
  const comes = keptOf(all, erasedAt(mark), terms, blockedAt)
  const merged = mergeUser(there, comes, { ...terms.retention, now: terms.now })
  const { usage, past, profile } = merged
  const plan: UserPlan = {
    rewrites: [],
    same: [],
    overlaps: {},
    places: [],
    blocks: [],
    profiles: [],
    words: [],
  }
  if (comes.usage ?? comes.past) {
    const end = { seconds: secondsLeft(usageEnd(lastOf(usage, past), terms), terms) }
    if (usage) plan.rewrites.push(rewrite(seen.usage, there.usage, usage, end))
    if (usage) plan.places = placesOf(usage)
    if (past) plan.rewrites.push(rewrite(seen.past, there.past, past, end))
    else plan.same.push(seen.past)
    plan.overlaps = overlapOf(there, comes)
  }
  if (comes.profile && profile) {
    plan.rewrites.push(rewrite(seen.profile, there.profile, profile, profileEnd(profile)))
    plan.blocks = Object.entries(profile.blocks).flatMap(([model, { until = NO_END }]) => [
      String(until),
      `${comes.id} ${model}`,
    ])
    if (hasMoreThanBlocks(profile)) plan.profiles = ['0', comes.id]
    plan.words = Object.keys(profile.words ?? {}).flatMap((word) => [
      '0',
      `${word} profile ${comes.id}`,
    ])
  }
  return plan
}

/** A user's documents, without expired parts and without what was erased later. */
function keptOf(
  { id, usage, past, profile }: UserParts,
  erased: number,
  terms: ImportTerms,
  blockedAt: (block: Block) => number,
): UserParts {
  const at = lastOf(usage, past)
  const isUsed = usageEnd(at, terms) > terms.now && at > erased
  const blocks = Object.entries(profile?.blocks ?? {}).filter(
    ([, block]) => (block.until ?? NO_END) > terms.now && blockedAt(block) > erased,
  )
  const kept = profile && { ...profile, blocks: Object.fromEntries(blocks) }
  // Only blocks say when they were set. Everything else that admins wrote about an erased user stays erased.
  const isKept = kept && (hasMoreThanBlocks(kept) ? erased < 0 : blocks.length > 0)
  return {
    id,
    ...(isUsed && { usage: usage && withoutLabel(usage), past }),
    ...(isKept && { profile: kept }),
  }
}

/** The next request with a signed token brings the label, and puts its words into the index. */
const withoutLabel = ({ label: _, words: __, ...usage }: UsageDoc): UsageDoc => usage

/** The writes of a document, and its key if the stored one cannot be read. */
type Rewrite = { writes: Write[]; damaged: string[] }

/** Replaces a document and sets its expiry. A stored document that cannot be read is set aside, as in the ledger. */
function rewrite(seen: Seen, there: object | undefined, next: object, end: End): Rewrite {
  const { key, sha, text } = seen
  const write: Write = { key, text: JSON.stringify(next), sha, ...end }
  if (text === undefined || there) return { writes: [write], damaged: [] }
  const aside = { key: asideOf(key), text, seconds: String(DAMAGED_SECONDS) }
  return { writes: [write, aside], damaged: [key] }
}
