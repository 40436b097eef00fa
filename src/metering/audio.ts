/** The reservation of audio: how long an upload may be, and how many characters are spoken. */
import { ApiError } from '../errors.ts'
import type { Cap, Reservation } from './reservation.ts'
import { pcmSeconds } from './wav.ts'

/** The provider charges at least so much: https://console.groq.com/docs/speech-to-text */
const MIN_AUDIO_MS = 10_000

/**
 * The bytes of a second that compressed audio is taken to have: 16 kbit/s, which speech seldom goes below. Silence may go
 * below it, so this proves nothing.
 */
const BYTES_PER_SECOND = 2000

const NO_TOKENS = { tokens: 0, completion: 0, promptBytes: 0 }

/**
 * The seconds that an upload may be charged: those of PCM by its bytes, else an estimate. Whole seconds, since what is
 * charged may be rounded up. The provider goes by the extension of the name, so that must be of a WAV file too. Throws
 * `unsupported_audio` where the cap is strict and the bytes bound nothing.
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
