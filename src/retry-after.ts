/** When a refused client may ask again. */
/**
 * Whole seconds until a moment (epoch ms), 1 to 60: the store's clock decides the minute, and it may be ahead of ours.
 */
export const secondsUntil = (moment: number, now: number): number =>
  Math.min(60, Math.max(1, Math.ceil((moment - now) / 1000)))
