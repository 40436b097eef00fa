/**
 * `/api/admin/policy`: all that admins have decided, as lines that can be sent back. Afterwards, everything that a line
 * names is as the line says. Everything else stays as it was.
 */
import type { AppContext, Deps } from '../context.ts'
import type { Admin } from '../http/admin.ts'
import { methodNotAllowed } from '../http/methods.ts'
import { textBody } from '../http/text-body.ts'
import { KEYS_PER_USER, PLANS } from '../ledger/capacity.ts'
import { filter } from '../ledger/records.ts'
import { hasMoreThanBlocks, isInForce } from '../ledger/blocks.ts'
import { newProfile } from '../ledger/new-documents.ts'
import { VERSION } from '../ledger/shapes.ts'
import type { Key, ProfileDoc } from '../ledger/documents.ts'
import { planReport, rowsReport, settingsReport } from '../reports/people.ts'
import { storeAnswer, storeOf } from '../store/required.ts'
import type { Store } from '../store/store.ts'
import { forEach } from './at-once.ts'
import { answerFile } from './file-answer.ts'
import { policyCommand, userCommands } from './policy-changes.ts'
import { checked, linesIn, refused } from './policy-lines.ts'
import type { UserLine } from './policy-schemas.ts'

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

function savedKey(id: string, key: Key): UserLine['keys'][number] {
  const { hash, start, last4, name, created, expires, disabled, models, previous } = key
  const saved: UserLine['keys'][number] = { id, hash, start, last4, createdAt: created }
  if (name !== undefined) saved.name = name
  if (expires !== undefined) saved.expiresAt = expires
  if (disabled) saved.disabled = true
  if (models) saved.models = Object.keys(models)
  if (previous) saved.previous = previous
  return saved
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
