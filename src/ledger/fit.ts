/**
 * The fit: how many completion tokens a request gets if its client sent no maximum.
 *
 * It gets the default maximum, or what is left of a limit if that is less, down to `FIT_MIN_TOKENS`.
 */
import type { Admit } from './commands.ts'
import { FIT_MIN_TOKENS } from './capacity.ts'
import { costOf, mostTokens } from './money.ts'
import { LIMITS, type Standing } from './policy.ts'
import { audioOf, type Amounts, type Unit } from './units.ts'
import { WINDOWS, type Window } from './windows.ts'

/** The fields of an admission that say how much it asks for. */
export type Asked = Pick<
  Admit,
  'reserved' | 'completion' | 'completions' | 'price' | 'audioMs' | 'characters'
>

/** What a request reserves, with a maximum of its own or with `most` tokens of each completion. */
export function amountsOf(asked: Asked, most = asked.completions?.tokens): Amounts {
  const { reserved, completions, price, audioMs, characters } = asked
  const prompt = reserved - asked.completion
  const completion = completions && most !== undefined ? completions.count * most : asked.completion
  const usd = price ? costOf({ prompt, completion, audioMs, characters }, price) : 0
  return { requests: 1, tokens: prompt + completion, usd, ...audioOf(audioMs, characters) }
}

/**
 * The same request with at most `most` tokens for each completion. A request with a maximum of its own stays as it is.
 */
export function cutTo<T extends Asked>(asked: T, most = Infinity): T {
  const { completions } = asked
  if (!completions || completions.tokens <= most) return asked
  const completion = completions.count * most
  const reserved = asked.reserved - asked.completion + completion
  return { ...asked, reserved, completion, completions: { ...completions, tokens: most } }
}

/** The fewest tokens of each completion with which a request is granted; undefined if the client sent a maximum. */
export const leastOf = ({ completions }: Asked): number | undefined =>
  completions && Math.min(FIT_MIN_TOKENS, completions.tokens)

/**
 * The tokens of each completion that a request is granted: at most the default, at most what is left of each limit, and at
 * least the fewest, which a limit may refuse. Undefined if the client sent a maximum.
 */
export function fitted(asked: Asked, groups: readonly Standing[]): number | undefined {
  const least = leastOf(asked)
  if (least === undefined) return undefined
  const full = amountsOf(asked)
  let most = asked.completions?.tokens ?? least
  for (const { limits, used } of groups) {
    for (const { name, unit, window } of LIMITS) {
      const limit = limits[name]
      if (limit === undefined || !isFitted({ unit, window, limit }, full)) continue
      const left = limit - (used[window]?.[unit] ?? 0)
      if ((full[unit] ?? 0) > left) most = Math.min(most, mostOf(unit, asked, left))
    }
  }
  return Math.max(most, least)
}

/**
 * Whether a request is cut to what is left of a limit, in a unit that it asks for. A client can wait for the end of a
 * short window, which is better than a cut answer, unless the limit itself is below the default.
 */
export const isFitted = (
  { unit, window, limit }: { unit: Unit; window: Window; limit: number },
  full: Amounts,
): boolean => {
  const asked = full[unit] ?? 0
  return unit !== 'requests' && asked > 0 && (!WINDOWS[window].waits || limit < asked)
}

/** The tokens of each completion that fit into what is left of a unit. */
function mostOf(unit: Unit, asked: Asked, left: number): number {
  const { reserved, completion, completions, price } = asked
  const prompt = reserved - completion
  const count = completions?.count ?? 1
  if (unit === 'usd') return price ? mostTokens(prompt, count, price, left) : 0
  return Math.floor((left - prompt) / count)
}
