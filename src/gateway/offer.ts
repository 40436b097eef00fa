/** Which models a caller may call: by the configuration, the plan, the user and the key. */
import type { Deps } from '../context.ts'
import type { Caller } from '../identity/caller.ts'
import { credentialRefused } from '../ledger/access.ts'
import { newProfile } from '../ledger/new-documents.ts'
import { isListed } from '../ledger/model-list.ts'
import { planOfUser, type Policy } from '../ledger/plans.ts'
import { own } from '../ledger/records.ts'
import { StoreError } from '../store/store.ts'
import { refusalError } from './refusal.ts'

/** The lists of a caller. Each of them must have the model. */
export type Offer = { lists: string[][] }

/** How long the isolate keeps what it knows about a caller, and about plans and settings. */
const KEPT_MS = 30_000
const CALLERS = 1000

/**
 * Builds the lookup of a caller's models. It throws for a key or a token that is not valid. While the store is away,
 * only the list of the configuration counts: a call is checked again when it is admitted.
 */
export function createOffers({ config, now, store }: Pick<Deps, 'config' | 'now' | 'store'>) {
  const kept = new Map<string, { offer: Offer; until: number }>()
  let policy: { value: Policy; until: number } | undefined
  const everyone: Offer = { lists: [config.allowedModels] }

  async function readPolicy(): Promise<Policy> {
    if (policy && policy.until > now()) return policy.value
    const value = (await store?.policy()) ?? { plans: {} }
    policy = { value, until: now() + KEPT_MS }
    return value
  }

  async function read(caller: Caller): Promise<Offer> {
    const [known, all] = await Promise.all([store?.user(caller.id), readPolicy()])
    const profile = known?.profile ?? newProfile(caller.id)
    const at = now()
    const refused = credentialRefused(caller, profile, at)
    if (refused) throw refusalError(refused, '', at)
    const { doc } = planOfUser(profile, caller.claims?.plan, all)
    const key = caller.key && own(profile.keys, caller.key.id)
    const lists = [profile.models, doc?.models, key?.models].flatMap((list) =>
      list ? [Object.keys(list)] : [],
    )
    return { lists: [config.allowedModels, ...lists] }
  }

  return async function offerOf(caller: Caller): Promise<Offer> {
    const name = `${caller.id} ${caller.key?.hash ?? ''} ${caller.claims?.plan ?? ''} ${caller.claims?.issuedAt ?? ''}`
    const found = kept.get(name)
    if (found && found.until > now()) return found.offer
    try {
      const offer = await read(caller)
      const [oldest] = kept.keys()
      if (kept.size >= CALLERS && oldest !== undefined) kept.delete(oldest)
      kept.set(name, { offer, until: now() + KEPT_MS })
      return offer
    } catch (error) {
      if (error instanceof StoreError) return everyone
      throw error
    }
  }
}

/** Whether all lists have a model. */
export const isOffered = (model: string, { lists }: Offer): boolean =>
  lists.every((list) => isListed(model, list))
