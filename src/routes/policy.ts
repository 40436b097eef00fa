/**
 * `/api/admin/policy`: all that admins have decided, as lines that can be sent back. Afterwards, everything that a line
 * names is as the line says. Everything else stays as it was.
 */
import type * as z from 'zod/mini'
import type { AppContext, Deps } from '../context.ts'
import { ApiError } from '../errors.ts'
import type { Admin } from '../http/admin.ts'
import { parsing } from '../gateway/body-json.ts'
import { inTurns, turn } from '../gateway/steps.ts'
import { fields, type Misfit } from '../http/json-body.ts'
import { methodNotAllowed } from '../http/methods.ts'
import { textBody } from '../http/text-body.ts'
import type {
  Command,
  ProfileFields,
  SetBlock,
  SetKey,
  SetPlan,
  SetProfile,
  SetSettings,
} from '../ledger/commands.ts'
import { KEYS_PER_USER, PLANS } from '../ledger/capacity.ts'
import { filter, own } from '../ledger/records.ts'
import { hasMoreThanBlocks, isInForce } from '../ledger/blocks.ts'
import { newProfile } from '../ledger/new-documents.ts'
import { labelWords } from '../ledger/labels.ts'
import type { Policy } from '../ledger/plans.ts'
import { VERSION } from '../ledger/shapes.ts'
import type { Key, ProfileDoc } from '../ledger/documents.ts'
import { planReport, rowsReport, settingsReport } from '../reports/people.ts'
import { storeAnswer, storeOf } from '../store/required.ts'
import type { Store } from '../store/store.ts'
import { forEach } from './at-once.ts'
import { answerFile } from './file-answer.ts'
import { changeOf, refusalOf, storedNames, storedRows } from './fields.ts'
import { RIGHT_PLAN, planFrom } from './plans.ts'
import {
  planLine,
  settingsLine,
  userLine,
  type PlanLine,
  type SettingsLine,
  type UserLine,
} from './policy-schemas.ts'
import { settingsOf } from './settings.ts'

export const POLICY_BYTES = 4 * 1024 * 1024

const PROFILES_AT_ONCE = 200
/** The most users with only a block: no list of them can be read in pages. */
const BLOCKED = 1000

/** `GET /api/admin/policy`. */
export const policyHandler =
  (deps: Deps, admin: Admin) =>
  async (c: AppContext): Promise<Response> => {
    // Hono would serve a HEAD as a GET and discard the body.
    if (c.req.method === 'HEAD') throw methodNotAllowed('HEAD', ['GET', 'POST'])
    const store = storeOf(deps)
    await storeAnswer(store.execute({ op: 'note', action: 'export', ...admin.stamp(c) }))
    return answerFile(c, deps, linesOf(store, deps), { kind: 'policy', format: 'ndjson' })
  }

async function* linesOf(
  store: Pick<Store, 'policy' | 'listProfiles' | 'blockedUsers'>,
  deps: Pick<Deps, 'config' | 'now'>,
): AsyncGenerator<string, void> {
  const textOf = (lines: object[]) => lines.map((line) => `${JSON.stringify(line)}\n`).join('')
  const { plans, settings } = await store.policy()
  const { globalLimits, defaultPlan } = settingsReport(settings, deps.config)
  yield textOf([
    ...Object.entries(plans).map(([name, plan]) => {
      const { stored: _, ...line } = planReport(name, plan)
      return { v: VERSION, kind: 'plan', ...line }
    }),
    { v: VERSION, kind: 'settings', globalLimits, defaultPlan },
  ])
  let from: string | undefined
  do {
    const { profiles, next } = await store.listProfiles(PROFILES_AT_ONCE, from)
    const lines = textOf(profiles.map((profile) => lineOf(profile, deps.now())))
    if (lines) yield lines
    from = next
  } while (from !== undefined)
  const blocked = await store.blockedUsers(BLOCKED)
  const others = blocked.filter((profile) => !hasMoreThanBlocks(profile))
  const lines = others.map((profile) => lineOf(profile, deps.now()))
  const text = textOf(lines.filter(({ blocks }) => blocks.length > 0))
  if (text) yield text
}

/** A profile as a line. */
function lineOf(profile: ProfileDoc, at: number): UserLine {
  const { id, label, note, plan, limits, boost, models, notBefore } = profile
  const blocks = filter(profile.blocks, (block) => isInForce(block, at))
  const line: UserLine = {
    v: VERSION,
    kind: 'user',
    userId: id,
    limits: rowsReport(limits),
    blocks: Object.entries(blocks).map(([model, block]) => ({ model, ...block })),
    keys: Object.entries(profile.keys).map(([key, doc]) => savedKey(key, doc)),
  }
  if (label !== undefined) line.label = label
  if (note !== undefined) line.note = note
  if (plan !== undefined) line.plan = plan
  if (boost) line.boost = boost
  if (models) line.models = Object.keys(models)
  if (notBefore !== undefined) line.notBefore = notBefore
  return line
}

type SavedKey = UserLine['keys'][number]

function savedKey(id: string, key: Key): SavedKey {
  const { hash, start, last4, name, created, expires, disabled, models, previous } = key
  const saved: SavedKey = { id, hash, start, last4, createdAt: created }
  if (name !== undefined) saved.name = name
  if (expires !== undefined) saved.expiresAt = expires
  if (disabled) saved.disabled = true
  if (models) saved.models = Object.keys(models)
  if (previous) saved.previous = previous
  return saved
}

/** A saved key as it is stored. */
function keyOf({ hash, start, last4, ...saved }: SavedKey): Key {
  const { name, createdAt, expiresAt, disabled, models, previous } = saved
  const key: Key = { hash, start, last4, created: createdAt }
  if (name !== undefined) key.name = name
  if (expiresAt !== undefined) key.expires = expiresAt
  if (disabled) key.disabled = 1
  if (models) key.models = storedNames(models)
  if (previous) key.previous = previous
  return key
}

/** `POST /api/admin/policy`: brings lines back. All are checked before the first is written; a second time changes nothing. */
export const restoreHandler =
  (deps: Deps, admin: Admin) =>
  async (c: AppContext): Promise<Response> => {
    const text = await textBody(c)
    const store = storeOf(deps)
    const counts = await checked(text)
    const policy = await storeAnswer(store.policy())
    // A line is parsed once more when it is written: the text takes less memory than all that it says.
    for await (const line of linesIn(text)) {
      const command = line.kind === 'user' ? undefined : policyCommand(line, policy)
      const answer =
        command && (await storeAnswer(store.execute({ ...command, ...admin.stamp(c) })))
      if (answer && !answer.ok) throw refused(`There may be at most ${PLANS} plans; delete some.`)
    }
    await storeAnswer(
      forEach(linesIn(text), async (line) => {
        if (line.kind !== 'user') return
        const profile = (await store.user(line.userId))?.profile ?? newProfile(line.userId)
        for (const command of userCommands(line, profile, deps.now())) {
          const answer = await store.execute({ ...command, ...admin.stamp(c) })
          if (!answer.ok) {
            throw refused(
              `The user ${line.userId} may have at most ${KEYS_PER_USER} keys; delete some.`,
            )
          }
        }
      }),
    )
    return c.json({ success: true, ...counts })
  }

type PolicyLine = PlanLine | SettingsLine | UserLine

const KINDS = {
  plan: [planLine, refusalOf(Object.keys(planLine.shape), RIGHT_PLAN)],
  settings: [settingsLine, refusalOf(Object.keys(settingsLine.shape))],
  user: [userLine, refusalOf(Object.keys(userLine.shape))],
} as const satisfies Record<PolicyLine['kind'], [z.ZodMiniType<PolicyLine>, Misfit]>

/** Checks all lines, and counts them. Throws `invalid_request`. */
async function checked(text: string) {
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
async function* linesIn(text: string): AsyncGenerator<PolicyLine> {
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

const refused = (message: string, param?: string) =>
  new ApiError('invalid_request', message, param === undefined ? {} : { param })

/** A command without the time, and without the address of its sender. */
type Bare<C extends Command> = C extends Command ? Omit<C, 'now' | 'ip'> : never

/** What a line changes of the plans and the settings, if anything. */
function policyCommand(
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
function userCommands(
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

/** Whether two values are the same. The order of their fields does not count. */
const isSame = (one: unknown, other: unknown): boolean => sorted(one) === sorted(other)

const sorted = (value: unknown): string | undefined =>
  JSON.stringify(value, (_, part: unknown) =>
    typeof part === 'object' && part !== null && !Array.isArray(part)
      ? Object.fromEntries(Object.entries(part).sort(([a], [b]) => (a < b ? -1 : 1)))
      : part,
  )
