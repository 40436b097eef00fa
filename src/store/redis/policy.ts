/** Reads the plans and the settings. */
import type { Policy } from '../../ledger/plans.ts'
import type { Kind } from '../../ledger/shapes.ts'
import type { DocumentOf, DocumentReader, Found } from './documents.ts'
import { planKey, settingsKey } from './keys.ts'

/** Builds the reader. Its keys can be read together with others; a second call reads plans that are new to it. */
export function policyReader({ read }: DocumentReader) {
  /** The plans at the last read. They usually save the second call. */
  let known: string[] = []

  const keys = (): [string, Kind][] => [
    [settingsKey, 'settings'],
    ...known.map((name): [string, Kind] => [planKey(name), 'plan']),
  ]

  /** The policy, from documents that were read by `keys`. */
  async function from(docs: Found): Promise<Policy> {
    const settings = docs.get(settingsKey) as DocumentOf<'settings'> | undefined
    const names = Object.keys(settings?.plans ?? {})
    const missing = names.filter((name) => !known.includes(name))
    const more = await read(new Map(missing.map((name) => [planKey(name), 'plan'] as const)))
    known = names
    const plans = names.flatMap((name) => {
      const plan = more.get(planKey(name)) ?? docs.get(planKey(name))
      return plan ? [[name, plan as DocumentOf<'plan'>] as const] : []
    })
    return { ...(settings && { settings }), plans: Object.fromEntries(plans) }
  }

  return { keys, from, read: async () => from(await read<Kind>(new Map(keys()))) }
}
