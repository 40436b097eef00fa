/**
 * A store on the other side of a service binding: how workerd in development uses the local store of the script
 * that runs it. One POST per verb, `{verb, args}` → `{result}` or `{error}`.
 */
import { StoreError, type Store } from './store.ts'

/** The far end of a service binding. */
export type Fetcher = { fetch(input: string, init?: RequestInit): Promise<Response> }

const VERBS = [
  'admit',
  'settle',
  'setBlock',
  'listUsers',
  'days',
  'events',
] as const satisfies (keyof Store)[]

type Verb = (typeof VERBS)[number]
type Call = { verb: Verb; args: unknown[] }
type Reply = { result: unknown } | { error: string }

/** The near end: a store whose verbs are calls through the binding. */
export function bindingStore(binding: Fetcher): Store {
  const call =
    (verb: Verb) =>
    async (...args: unknown[]) => {
      const body = JSON.stringify({ verb, args })
      const response = await binding.fetch('http://store/', { method: 'POST', body })
      const reply = (await response.json()) as Reply
      if ('error' in reply) throw new StoreError(reply.error)
      return reply.result
    }
  // Each verb is a call of the same shape, so the types are those of the far end's store.
  return Object.fromEntries(VERBS.map((verb) => [verb, call(verb)])) as unknown as Store
}

/** The far end: answers the calls of a binding from a store. */
export async function serveStore(store: Store, body: string): Promise<string> {
  const { verb, args } = JSON.parse(body) as Call
  const run = store[verb] as (...args: unknown[]) => Promise<unknown>
  const reply: Reply = await run(...args).then(
    (result) => ({ result }),
    (error: unknown) => ({ error: error instanceof Error ? error.message : 'unknown error' }),
  )
  return JSON.stringify(reply)
}
