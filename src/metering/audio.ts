/** The reservation of audio: how long an upload may be, and how many characters are spoken. */
import { ApiError } from '../errors.ts'
import type { Cap, Reservation } from './reservation.ts'
import { pcmSeconds } from './wav.ts'

/** The provider charges at least this much: https://console.groq.com/docs/speech-to-text */
const MIN_AUDIO_MS = 10_000

/**
 * The bytes that a second of compressed audio is assumed to have: 16 kbit/s, and speech rarely has less. Silence may
 * have less, so this proves nothing.
 */
const BYTES_PER_SECOND = 2000

const NO_TOKENS = { tokens: 0, completion: 0, promptBytes: 0 }

/**
 * The time that an upload may be charged: that of PCM by its bytes, or else an estimate. It is in whole seconds, since
 * the charge may be rounded up. The provider goes by the extension of the name, so that must be of a WAV file too.
 * Throws `unsupported_audio` where the cap is strict and the bytes bound nothing.
 */
export function reservationOfUpload(name: string, bytes: Uint8Array, cap: Cap): Reservation {
  const exact = /\.wav$/i.test(name) ? pcmSeconds(bytes) : undefined
  if (exact === undefined && cap === 'strict') {
    throw new ApiError(
      'unsupported_audio',
      'This gateway enforces a strict cap, and only the bytes of a WAV file with PCM samples tell its length in advance. Send the audio as such a file, with a name that ends in .wav.',
      { param: 'file' },
    )
  }
  const seconds = Math.ceil(exact ?? bytes.length / BYTES_PER_SECOND)
  return { ...NO_TOKENS, audioMs: Math.max(seconds * 1000, MIN_AUDIO_MS) }
}

/** The characters that are spoken: UTF-16 units, of which a text has no fewer than code points. */
export const reservationOfSpeech = (characters: number): Reservation => ({
  ...NO_TOKENS,
  characters,
})

/** What is charged for audio of a length that the provider reported. */
export const chargedFor = (audioMs: number): number => Math.max(audioMs, MIN_AUDIO_MS)
