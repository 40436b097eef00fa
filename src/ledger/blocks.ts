/** Which block holds, and how long a profile is needed. */
import { ALL_MODELS, type ProfileDoc, type Block } from './documents.ts'
import { own } from './records.ts'
import { NO_END } from './windows.ts'

/** The block that refuses a user a model at a moment, with its scope. A block from all models comes first. */
export function blockOf(
  { blocks }: ProfileDoc,
  model: string,
  at: number,
): [scope: string, block: Block] | undefined {
  for (const scope of [ALL_MODELS, model]) {
    const block = own(blocks, scope)
    if (block && isInForce(block, at)) return [scope, block]
  }
  return undefined
}

export const isInForce = ({ until }: Block, at: number): boolean =>
  until === undefined || until > at

/** When the last block of a profile ends, in epoch ms; 0 without blocks. */
export const endOfBlocks = ({ blocks }: ProfileDoc): number =>
  Math.max(0, ...Object.values(blocks).map(({ until = NO_END }) => until))

export function hasMoreThanBlocks(profile: ProfileDoc): boolean {
  const { v: _, id: __, blocks: ___, limits, keys, ...others } = profile
  return [limits, keys, others].some((part) => Object.keys(part).length > 0)
}

/** When a profile is no longer needed: with its last block, or never if it has more than blocks. */
export const endOfProfile = (profile: ProfileDoc): number =>
  hasMoreThanBlocks(profile) ? NO_END : endOfBlocks(profile)
