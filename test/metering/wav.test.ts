import { expect, test, vi } from 'vitest'
import { pcmSeconds } from '../../src/metering/wav.ts'
import { chunk, formatChunk, samples, wavOf, type WavOptions } from '../support/wav.ts'

const text = (value: string) => new TextEncoder().encode(value)
const second = samples(32_000)

test.each<[string, WavOptions, number]>([
  ['16 bits', {}, 1],
  ['8 bits', { bits: 8 }, 2],
  ['24 bits', { bits: 24, rate: 8000 }, 32_000 / 24_000],
  ['32 bits of float in two channels', { tag: 3, bits: 32, channels: 2, rate: 4000 }, 1],
  [
    'other chunks before the samples',
    { before: [chunk('LIST', text('INFOxyz')), chunk('bext', text('a'))] },
    1,
  ],
  ['a header that says that there are no samples', { said: 0 }, 1],
  ['a header that says that there are few samples', { said: 64 }, 1],
  ['a header that says that the samples have no end', { said: 0xffffffff }, 1],
])('the length of PCM is that of its bytes: %s', (_, options, seconds) => {
  expect(pcmSeconds(wavOf(second, options))).toBeCloseTo(seconds, 9)
})

test('what follows the samples counts as samples', () => {
  const bytes = wavOf(second, { after: [chunk('LIST', new Uint8Array(31_992))] })
  expect(pcmSeconds(bytes)).toBe(2)
})

const extensible = (subformat: number, tail = '\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71') => {
  const format = Buffer.alloc(40)
  format.set(formatChunk({ tag: 0xfffe }).subarray(8), 0)
  format.writeUInt16LE(22, 16)
  format.writeUInt16LE(subformat, 24)
  format.write(tail, 26, 'latin1')
  const content = [Buffer.from('WAVE'), chunk('fmt ', format), chunk('data', second)]
  return new Uint8Array(chunk('RIFF', Buffer.concat(content)))
}

test('an extensible format is what its subformat says', () => {
  expect(pcmSeconds(extensible(1))).toBe(1)
  expect(pcmSeconds(extensible(0x55))).toBeUndefined()
  expect(pcmSeconds(extensible(1, 'something else'))).toBeUndefined()
})

/** Frames of MPEG 2 layer III with 8 kbit/s at 16 kHz: 36 bytes for 36 ms. */
const mp3 = Buffer.concat(
  Array.from({ length: 300 }, () =>
    Buffer.concat([Buffer.from([0xff, 0xf3, 0x18, 0xc0]), Buffer.alloc(32)]),
  ),
)
const adts = Buffer.concat(
  Array.from({ length: 300 }, () =>
    Buffer.concat([Buffer.from([0xff, 0xf1, 0x60, 0x40, 6, 0x1f, 0xfc]), Buffer.alloc(41)]),
  ),
)

test.each<[string, Uint8Array]>([
  ['nothing', new Uint8Array()],
  ['text', text('RIFF....WAVE')],
  ['another kind of RIFF', text('RIFF....AVI LIST')],
  [
    'big-endian RIFF',
    new Uint8Array(Buffer.concat([Buffer.from('RIFX'), wavOf(second).subarray(4)])),
  ],
  ['MP3 by its format', wavOf(mp3, { tag: 0x55 })],
  ['ADPCM', wavOf(second, { tag: 2, bits: 8 })],
  ['A-law', wavOf(second, { tag: 6, bits: 8 })],
  ['PCM of 12 bits', wavOf(second, { bits: 12 })],
  ['no channels', wavOf(second, { channels: 0 })],
  ['no samples a second', wavOf(second, { rate: 0 })],
  ['a billion samples a second', wavOf(second, { rate: 1e9 })],
  ['a hundred channels', wavOf(second, { channels: 100 })],
  ['a rate of bytes that contradicts the rest', wavOf(second, { bytesPerSecond: 320_000 })],
  ['a second format before the samples', wavOf(second, { before: [formatChunk({ rate: 8 })] })],
  ['a second format after the samples', wavOf(second, { after: [formatChunk({ rate: 8 })] })],
  ['samples twice', wavOf(second, { after: [chunk('data', second)] })],
  ['an unknown chunk before the samples', wavOf(second, { before: [chunk('XMA2', text('abcd'))] })],
  ['MP3 in place of samples', wavOf(mp3)],
  ['MP3 behind some samples', wavOf(Buffer.concat([samples(3001), mp3]))],
  ['AAC in place of samples', wavOf(adts)],
  [
    'the beginning of TrueHD',
    wavOf(Buffer.concat([samples(64), Buffer.from([0xf8, 0x72, 0x6f, 0xba]), second])),
  ],
])('the length of %s is not told by its bytes', (_, bytes) => {
  expect(pcmSeconds(bytes)).toBeUndefined()
})

test('silence and full scale are samples, and no compressed audio', () => {
  for (const value of [0, 0x0b, 0x56, 0x7f, 0x80, 0xfe, 0xff]) {
    expect(pcmSeconds(wavOf(Buffer.alloc(32_000, value)))).toBe(1)
  }
})

test('of a file of tiny chunks, a thousand are read', () => {
  const chunk = Buffer.from('LIST\0\0\0\0', 'latin1')
  const bytes = new Uint8Array(
    Buffer.concat([Buffer.from('RIFF\0\0\0\0WAVE', 'latin1'), Buffer.alloc(800_000, chunk)]),
  )
  const reads = vi.spyOn(DataView.prototype, 'getUint32')
  try {
    expect(pcmSeconds(bytes)).toBeUndefined()
    expect(reads.mock.calls.length).toBe(1000)
  } finally {
    reads.mockRestore()
  }
})
