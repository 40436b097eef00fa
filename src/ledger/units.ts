/** The units that are counted and limited, and an amount in each of them. */

/** The units of limits, in the order in which they are checked. */
export const UNITS = ['requests', 'tokens', 'usd', 'audioSeconds', 'characters'] as const
export type Unit = (typeof UNITS)[number]

/** The units of audio: what is transcribed, and what is spoken. */
export type AudioUnit = Extract<Unit, 'audioSeconds' | 'characters'>

/**
 * An amount in each unit: requests, tokens, nano-USD, ms of audio and characters. Amounts of audio are there only if they are
 * not zero, since most requests have none.
 */
export type Amounts = Record<Exclude<Unit, AudioUnit>, number> & Partial<Record<AudioUnit, number>>

/** Amounts of audio, if there are any. */
export const audioOf = (audioMs = 0, characters = 0): Pick<Amounts, AudioUnit> => ({
  ...(audioMs !== 0 && { audioSeconds: audioMs }),
  ...(characters !== 0 && { characters }),
})

/** Requests and tokens, without what they cost. */
export type Counts = Pick<Amounts, 'requests' | 'tokens'>

/** An amount in each unit, without those of audio that are zero. It is built directly, since each request needs many. */
export function amountsFrom(amount: (unit: Unit) => number): Amounts {
  const amounts: Amounts = {
    requests: amount('requests'),
    tokens: amount('tokens'),
    usd: amount('usd'),
  }
  const [audioSeconds, characters] = [amount('audioSeconds'), amount('characters')]
  if (audioSeconds !== 0) amounts.audioSeconds = audioSeconds
  if (characters !== 0) amounts.characters = characters
  return amounts
}

export const NOTHING: Amounts = { requests: 0, tokens: 0, usd: 0 }
