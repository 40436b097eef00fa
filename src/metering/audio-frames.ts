/**
 * Whether bytes that should be samples are compressed audio. Decoders based on FFmpeg probe the beginning of 16-bit samples for
 * the formats here, and decode what they find, whatever the header of the WAV file says.
 */

/** How many bytes are searched. Decoders decide by the first packet of samples, of 4 KB. */
const LOOKED_AT = 32 * 1024

/**
 * What begins a frame of DTS, in its four orders of bits, and of TrueHD and MLP: six bytes, and which bits of them are fixed.
 * It begins with a sample.
 */
const BEGINNINGS = [
  ['7ffe80010000', 'ffffffff0000'],
  ['fe7f01800000', 'ffffffff0000'],
  ['1fffe80007f0', 'fffffffffff0'],
  ['ff1f00e8f007', 'fffffffff0ff'],
  ['f8726fba0000', 'fffffffe0000'],
].map((pair) =>
  pair.map((hex) => (hex.match(/../g) ?? []).map((byte) => Number.parseInt(byte, 16))),
)

const isBeginning = (bytes: Uint8Array, at: number): boolean =>
  BEGINNINGS.some(([fixed = [], bits = []]) =>
    fixed.every((byte, i) => (bytes[at + i]! & bits[i]!) === byte),
  )

/** Whether the beginning of `bytes` holds compressed audio. */
export function holdsFrames(bytes: Uint8Array): boolean {
  const end = Math.min(LOOKED_AT, bytes.length - 8)
  for (let at = 0; at < end; at += 1) {
    if (!isStart[bytes[at]!]) continue
    if (at % 2 === 0 && isBeginning(bytes, at)) return true
    for (const format of FORMATS) if (isRun(bytes, at, format)) return true
  }
  return false
}

/** The length of the frame that begins somewhere; 0 if none does. */
type LengthAt = (bytes: Uint8Array, at: number) => number

/**
 * `frames`: this many frames, each of which ends where the next one begins, are no coincidence. Fewer do not convince
 * decoders.
 */
type Format = { lengthAt: LengthAt; frames: number }

function isRun(bytes: Uint8Array, from: number, { lengthAt, frames }: Format): boolean {
  let at = from
  for (let found = 0; found < frames; found += 1) {
    const length = lengthAt(bytes, at)
    if (length === 0) return false
    at += length
  }
  return true
}

/** In kbit/s, by index: MPEG 1 layers I, II and III, then MPEG 2 and 2.5 layer I, layers II and III. */
const BIT_RATES = [
  [32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448],
  [32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384],
  [32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320],
  [32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256],
  [8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160],
]
const SAMPLE_RATES = [44_100, 48_000, 32_000]

/** MPEG audio: http://mpgedit.org/mpgedit/mpeg_format/mpeghdr.htm */
const mpeg: LengthAt = (bytes, at) => {
  const [first = 0, second = 0, third = 0] = bytes.subarray(at, at + 3)
  if (first !== 0xff || (second & 0xe0) !== 0xe0) return 0
  const version = (second >> 3) & 3
  const layer = 4 - ((second >> 1) & 3)
  const index = third >> 4
  const rateIndex = (third >> 2) & 3
  if (version === 1 || layer === 4 || rateIndex === 3 || index === 0 || index === 15) return 0
  const isFirst = version === 3
  const table = isFirst ? layer - 1 : layer === 1 ? 3 : 4
  const bitRate = (BIT_RATES[table]?.[index - 1] ?? 0) * 1000
  const sampleRate = (SAMPLE_RATES[rateIndex] ?? 0) / (isFirst ? 1 : version === 2 ? 2 : 4)
  const padding = (third >> 1) & 1
  if (layer === 1) return 4 * (Math.floor((12 * bitRate) / sampleRate) + padding)
  return Math.floor(((layer === 3 && !isFirst ? 72 : 144) * bitRate) / sampleRate) + padding
}

/** AAC in ADTS: https://wiki.multimedia.cx/index.php/ADTS */
const adts: LengthAt = (bytes, at) => {
  if (bytes[at] !== 0xff || (bytes[at + 1]! & 0xf6) !== 0xf0) return 0
  // The index of the sample rate.
  if (((bytes[at + 2]! >> 2) & 15) > 12) return 0
  const length = ((bytes[at + 3]! & 3) << 11) | (bytes[at + 4]! << 3) | (bytes[at + 5]! >> 5)
  return length >= 7 ? length : 0
}

/** AAC in LOAS (ISO/IEC 14496-3, section 1.7.2). */
const loas: LengthAt = (bytes, at) => {
  if (bytes[at] !== 0x56 || (bytes[at + 1]! & 0xe0) !== 0xe0) return 0
  const length = 3 + (((bytes[at + 1]! & 0x1f) << 8) | bytes[at + 2]!)
  return length >= 7 ? length : 0
}

/** In kbit/s, by index: https://www.atsc.org/atsc-documents/a522012-digital-audio-compression-ac-3-e-ac-3-standard-12172012/ */
const AC3_RATES = [
  32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640,
]

/** AC-3 and E-AC-3. */
const ac3: LengthAt = (bytes, at) => {
  if (bytes[at] !== 0x0b || bytes[at + 1] !== 0x77) return 0
  const isEnhanced = bytes[at + 5]! >> 3 > 10
  if (isEnhanced) return 2 * (((bytes[at + 2]! & 7) << 8) + bytes[at + 3]! + 1)
  const [rateIndex, index] = [bytes[at + 4]! >> 6, bytes[at + 4]! & 0x3f]
  const bitRate = AC3_RATES[index >> 1]
  if (rateIndex === 3 || bitRate === undefined) return 0
  // 1,536 samples, in words of 16 bits.
  const words = Math.floor((bitRate * 1000 * 1536) / [48_000, 44_100, 32_000][rateIndex]! / 16)
  return 2 * (words + (rateIndex === 1 ? index & 1 : 0))
}

const FORMATS: Format[] = [
  { lengthAt: mpeg, frames: 6 },
  { lengthAt: adts, frames: 3 },
  { lengthAt: loas, frames: 3 },
  { lengthAt: ac3, frames: 6 },
]

/** The bytes with which a frame can begin: a look at the others would take most of the time. */
const isStart = new Uint8Array(256)
for (const byte of [0xff, 0x56, 0x0b, 0x7f, 0xfe, 0x1f, 0xf8]) isStart[byte] = 1
