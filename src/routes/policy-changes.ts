/** What the lines of a saved policy change: pure functions from lines and documents to commands. */
import type {
  Command,
  ProfileFields,
  SetBlock,
  SetKey,
  SetPlan,
  SetProfile,
  SetSettings,
} from '../ledger/commands.ts'
import { isInForce } from '../ledger/blocks.ts'
import type { Key, ProfileDoc } from '../ledger/documents.ts'
import { labelWords } from '../ledger/labels.ts'
import type { Policy } from '../ledger/plans.ts'
import { own } from '../ledger/records.ts'
import { changeOf, storedNames, storedRows } from './fields.ts'
import { planFrom } from './plans.ts'
import type { PlanLine, SettingsLine, UserLine } from './policy-schemas.ts'
import { settingsOf } from './settings.ts'

/** A command without the time, and without the address of its sender. */
type Bare<C extends Command> = C extends Command ? Omit<C, 'now' | 'ip'> : never

/** What a line changes of the plans and the settings, if anything. */
export function policyCommand(
  line: PlanLine | SettingsLine,
  { plans, settings }: Policy,
): Bare<SetPlan | SetSettings> | undefined {
  if (line.kind === 'plan') {
    const { name } = line
    const { v: _, ...known } = own(plans, name) ?? { v: 0 }
    const plan = planFrom(line)
    return isSame(known, plan) ? undefined : { op: 'plan', name, plan }
  }
  const { globalLimits = null, defaultPlan = null } = line
  const change = settingsOf({ globalLimits, defaultPlan })
  const known = { globalLimits: settings?.globalLimits, defaultPlan: settings?.defaultPlan }
  return isSame(known, change.set) ? undefined : { op: 'settings', ...change }
}

const PROFILE_FIELDS = [
  'label',
  'words',
  'note',
  'plan',
  'limits',
  'boost',
  'models',
  'notBefore',
] as const satisfies (keyof ProfileFields)[]

/** What a line changes of a user. */
export function userCommands(
  line: UserLine,
  profile: ProfileDoc,
  at: number,
): Bare<SetProfile | SetKey | SetBlock>[] {
  const { userId: user, label, limits, boost, models, blocks, keys, note, plan, notBefore } = line
  const commands: Bare<SetProfile | SetKey | SetBlock>[] = []
  const wanted = changeOf<ProfileFields>({
    label,
    words: label === undefined ? undefined : labelWords(label),
    note,
    plan,
    limits: storedRows(limits),
    boost: boost && { limits: storedRows(boost.limits), until: boost.until },
    models: models && storedNames(models),
    notBefore,
  }).set
  const known = Object.fromEntries(PROFILE_FIELDS.map((name) => [name, profile[name]]))
  if (!isSame(known, wanted)) {
    const clear = PROFILE_FIELDS.filter((name) => wanted[name] === undefined)
    const cleared = Object.fromEntries(clear.map((name) => [name, 1 as const]))
    commands.push({ op: 'profile', user, set: wanted, clear: cleared })
  }
  for (const saved of keys) {
    const { id } = saved
    const [before, key] = [own(profile.keys, id), keyOf(saved)]
    if (isSame(before, key)) continue
    if (before) commands.push({ op: 'key', action: 'delete', user, id })
    commands.push({ op: 'key', action: 'create', user, id, key })
  }
  for (const { model, ...block } of blocks) {
    if (isInForce(block, at) && !isSame(own(profile.blocks, model), block)) {
      commands.push({ op: 'block', user, model, block })
    }
  }
  return commands
}

/** A saved key as it is stored. */
function keyOf({ hash, start, last4, ...saved }: UserLine['keys'][number]): Key {
  const { name, createdAt, expiresAt, disabled, models, previous } = saved
  const key: Key = { hash, start, last4, created: createdAt }
  if (name !== undefined) key.name = name
  if (expiresAt !== undefined) key.expires = expiresAt
  if (disabled) key.disabled = 1
  if (models) key.models = storedNames(models)
  if (previous) key.previous = previous
  return key
}

/** Whether two values are the same. The order of their fields does not count. */
const isSame = (one: unknown, other: unknown): boolean => sorted(one) === sorted(other)

const sorted = (value: unknown): string | undefined =>
  JSON.stringify(value, (_, part: unknown) =>
    typeof part === 'object' && part !== null && !Array.isArray(part)
      ? Object.fromEntries(Object.entries(part).sort(([a], [b]) => (a < b ? -1 : 1)))
      : part,
  )
