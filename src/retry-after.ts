/** When a refused client may ask again. */
/**
 * Whole seconds until a moment (epoch ms), at least 1 and at most `longest`: the store's clock decides when a window ends,
 * and it may be ahead of ours.
 */
export const secondsUntil = (moment: number, now: number, longest = 60): number =>
  Math.min(longest, Math.max(1, Math.ceil((moment - now) / 1000)))
