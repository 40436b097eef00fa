/** Random choices, the same for the same seed. */

export type Random = {
  /** At least 0 and below 1. */
  next(): number
  int(from: number, to: number): number
  pick<T>(list: readonly T[]): T
  chance(of: number): boolean
}

/** https://gist.github.com/tommyettinger/46a874533244883189143505d203312c (mulberry32, public domain) */
export function randomOf(seed: number): Random {
  let state = seed | 0
  const next = () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), state | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
  const int = (from: number, to: number) => from + Math.floor(next() * (to - from + 1))
  return {
    next,
    int,
    pick: (list) => list[int(0, list.length - 1)] as (typeof list)[number],
    chance: (of) => next() < of,
  }
}
