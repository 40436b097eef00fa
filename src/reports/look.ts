/** What needs attention: users and models for which an admin may have to do something. */
import type { Event, Refused } from '../ledger/events.ts'
import { dateOf } from '../ledger/windows.ts'
import { partUsed, type BlockLine, type UserLine, type Use } from './dashboard.ts'

/** The share of a limit from which on the limit counts as near. */
export const NEAR = 0.8
/** The fewest requests by which a model is judged, and the share of failed ones that counts as failing. */
const LEAST = 20
const FAILING = 0.1

export type Look =
  | { kind: 'limit'; use: Use; share: number }
  | { kind: 'near'; user: UserLine; share: number }
  | { kind: 'failing'; model: string; failed: number; requests: number; status: number }
  | {
      kind: 'refused'
      user: string
      label?: string | undefined
      code: string
      times: number
      at: number
    }
  | { kind: 'blocked'; user: string; label?: string | undefined; block: BlockLine }

/** Limits of everyone and users near a limit, the nearest first, and models that fail. */
export function looksOf(uses: Use[], users: UserLine[], events: Event[]): Look[] {
  const limits = uses
    .map((use) => ({ kind: 'limit', use, share: partUsed(use.used, use.limit) }) as const)
    .filter(({ share }) => share >= NEAR)
  const near = users
    .map((user) => ({ kind: 'near', user, share: user.nearest?.share ?? 0 }) as const)
    .filter(({ share }) => share >= NEAR)
    .sort((a, b) => b.share - a.share)
  return [...limits, ...near, ...failingOf(events)]
}

/** Models of which many recent requests failed, with the status of most failures. */
function failingOf(events: Event[]): Look[] {
  return [...new Set(events.map(({ model }) => model))].flatMap((model) => {
    const of = events.filter((event) => event.model === model)
    const failures = of.filter(({ outcome }) => outcome === 'failed')
    if (of.length < LEAST || failures.length / of.length <= FAILING) return []
    const counts = new Map<number, number>()
    for (const { status } of failures) counts.set(status, (counts.get(status) ?? 0) + 1)
    const [most] = [...counts].sort((a, b) => b[1] - a[1])
    const status = most?.[0] ?? 0
    return [
      { kind: 'failing', model, failed: failures.length, requests: of.length, status } as const,
    ]
  })
}

/** Users who were refused today, among the latest refusals. */
export function refusedToday(latest: Refused[], now: number): Extract<Look, { kind: 'refused' }>[] {
  const users = new Map<string, Extract<Look, { kind: 'refused' }>>()
  for (const { user, code, at } of latest) {
    if (dateOf(at) !== dateOf(now)) continue
    const known = users.get(user)
    users.set(user, { kind: 'refused', user, code, at, ...known, times: (known?.times ?? 0) + 1 })
  }
  return [...users.values()]
}
