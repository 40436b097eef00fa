/**
 * A store on the other side of a service binding: how workerd in development uses the local store of the script
 * that runs it. One POST per verb, `{verb, args}` → `{result}` or `{error}`.
 */
import { StoreError, type Store } from './store.ts'

/** The near end of a service binding. */
export type Fetcher = { fetch(input: string, init?: RequestInit): Promise<Response> }

const VERBS = [
  'execute',
  'replay',
  'takeTurn',
  'listUsers',
  'overview',
  'blockedUsers',
  'days',
  'session',
  'user',
  'audit',
  'events',
  'probe',
] as const satisfies (keyof Store)[]

type Verb = (typeof VERBS)[number]
type Call = { verb: Verb; args: unknown[] }
type Reply = { result?: unknown; error?: string }

/** A store whose verbs are calls through the binding. */
export function bindingStore(binding: Fetcher): Store {
  const call =
    (verb: Verb) =>
    async (...args: unknown[]): Promise<unknown> => {
      let reply: Reply
      try {
        const body = JSON.stringify({ verb, args } satisfies Call)
        const response = await binding.fetch('http://store/', { method: 'POST', body })
        reply = (await response.json()) as Reply
      } catch (cause) {
        throw new StoreError('the store behind the binding does not answer', { cause })
      }
      if (reply.error !== undefined) throw new StoreError(reply.error)
      return reply.result
    }
  // Each verb is the same call, so what it takes and gives is what the store at the far end does.
  return Object.fromEntries(VERBS.map((verb) => [verb, call(verb)])) as Record<Verb, never>
}

/** Answers the body of one call from a store, at the far end. */
export async function serveStore(store: Store, body: string): Promise<string> {
  try {
    const { verb, args } = JSON.parse(body) as Call
    if (!VERBS.includes(verb)) throw new StoreError('the store has no such verb')
    const run = store[verb] as (...args: unknown[]) => Promise<unknown>
    return JSON.stringify({ result: await run(...args) } satisfies Reply)
  } catch (error) {
    const message = error instanceof StoreError ? error.message : 'the store failed'
    return JSON.stringify({ error: message } satisfies Reply)
  }
}
