/** Whether a caller may call a model at all: keys, revoked tokens, blocks, and lists of models. */
import type { Admit } from './commands.ts'
import type { CredentialRefusal, Refusal } from './answers.ts'
import { blockOf } from './blocks.ts'
import { isListed } from './model-list.ts'
import type { UserPlan } from './plans.ts'
import { own } from './records.ts'
import type { Block, Key, ProfileDoc } from './documents.ts'

/** The refusal of a key that is not valid, or of a token that was revoked. */
export function credentialRefused(
  { key, claims }: Pick<Admit, 'key' | 'claims'>,
  profile: ProfileDoc | undefined,
  at: number,
): CredentialRefusal | undefined {
  const why = key && keyRefused(own(profile?.keys ?? {}, key.id), key.hash, at)
  if (why) return { ok: false, reason: 'key', why }
  const isRevoked = claims !== undefined && claims.issuedAt < (profile?.notBefore ?? 0)
  return isRevoked ? { ok: false, reason: 'revoked' } : undefined
}

/** The refusal of a caller for a reason other than a limit. */
export function accessRefused(
  command: Admit,
  profile: ProfileDoc | undefined,
  { plan }: { plan: UserPlan },
  at: number,
): Refusal | undefined {
  const { model, key, maximum } = command
  const refused = credentialRefused(command, profile, at)
  if (refused) return refused
  const known = key && own(profile?.keys ?? {}, key.id)
  const block = profile && blockOf(profile, model, at)
  if (block) return blocked(...block)
  const lists = [profile?.models, plan.doc?.models, known?.models]
  if (!lists.every((list) => list === undefined || isListed(model, Object.keys(list)))) {
    return { ok: false, reason: 'model' }
  }
  const limit = plan.doc?.maxCompletionTokens
  return limit !== undefined && maximum !== undefined && maximum > limit
    ? { ok: false, reason: 'maximum', limit }
    : undefined
}

/** Why a key is not valid. If it is disabled and has expired, it counts as disabled. */
function keyRefused(key: Key | undefined, hash: string, at: number) {
  if (!key) return 'unknown'
  const { previous } = key
  const isPrevious = previous !== undefined && hash === previous.hash && at < previous.until
  if (hash !== key.hash && !isPrevious) return 'unknown'
  if (key.disabled) return 'disabled'
  return key.expires !== undefined && key.expires <= at ? 'expired' : undefined
}

function blocked(model: string, block: Block): Refusal {
  const refusal: Refusal = { ok: false, reason: 'blocked', model }
  if (block.reason !== undefined) refusal.why = block.reason
  if (block.until !== undefined) refusal.until = block.until
  return refusal
}
