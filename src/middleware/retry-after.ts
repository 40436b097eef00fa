/** When a client that was refused may ask again. */
import { SECOND_MS } from '../ledger/windows.ts'

/** Whole seconds until a moment (epoch ms), 1 to 60: the minute is that of the store's clock, which may be ahead of ours. */
export const secondsUntil = (moment: number, now: number): number =>
  Math.min(60, Math.max(1, Math.ceil((moment - now) / SECOND_MS)))
