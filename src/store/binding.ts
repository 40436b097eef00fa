/**
 * A store behind a service binding. In development, workerd uses the local store of the script that runs it. Each
 * call is one POST: `{verb, args}` → `{result}` or `{error}`.
 */
import { StoreError, type Store } from './store.ts'

/** A service binding, as the caller sees it. */
export type Fetcher = { fetch(input: string, init?: RequestInit): Promise<Response> }

const VERBS = [
  'execute',
  'replay',
  'takeTurn',
  'policy',
  'searchLabels',
  'searchIds',
  'listProfiles',
  'listUsers',
  'overview',
  'blockedUsers',
  'days',
  'pasts',
  'refusals',
  'session',
  'user',
  'users',
  'audit',
  'alerts',
  'events',
  'eventPage',
  'probe',
] as const satisfies (keyof Store)[]

type Verb = (typeof VERBS)[number]
type Call = { verb: Verb; args: unknown[] }
type Reply = { result?: unknown; error?: string }

/** Builds a store whose methods are calls through the binding. */
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
  // Each method passes its call on, so it has the parameters and the result of the real store.
  return Object.fromEntries(VERBS.map((verb) => [verb, call(verb)])) as Record<Verb, never>
}

/** Runs one call on the real store; `body` and the result are JSON. */
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
