/**
 * The length of a WAV file with PCM samples, by its own bytes, because the client may have made up the length in its
 * header.
 *
 * The layout: https://www.mmsp.ece.mcgill.ca/Documents/AudioFormats/WAVE/WAVE.html
 */
import { holdsFrames } from './audio-frames.ts'

/** Chunks that may stand before the samples, because they do not change how the samples are read. */
const HARMLESS = new Set([
  ...['LIST', 'JUNK', 'junk', 'FLLR', 'PAD ', 'bext', 'fact', 'PEAK'],
  ...['iXML', 'cue ', 'id3 ', 'ID3 ', 'minf', 'elm1', 'regn', 'umid', 'smpl', 'inst'],
])

const [PCM, FLOAT, EXTENSIBLE] = [1, 3, 0xfffe]
const BITS: Record<number, number[]> = { [PCM]: [8, 16, 24, 32], [FLOAT]: [32, 64] }
/** What follows the format in the id of an extensible one. */
const SUBFORMAT = '\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71'

/** More chunks than any recorder writes: a file of megabytes could have a million empty ones. */
const MOST_CHUNKS = 1000

/**
 * The seconds of a WAV file of PCM samples; undefined for everything else. A WAV file may also hold compressed audio, whose
 * length its bytes do not tell. Decoders also look at the samples themselves for it, whatever the header says.
 */
export function pcmSeconds(bytes: Uint8Array): number | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  const idAt = (at: number) => textAt(bytes, at, 4)
  if (bytes.length < 12 || idAt(0) !== 'RIFF' || idAt(8) !== 'WAVE') return undefined

  let bytesPerSecond: number | undefined
  let samples: number | undefined
  for (let at = 12, chunks = 0; at + 8 <= bytes.length; chunks += 1) {
    if (chunks === MOST_CHUNKS) return undefined
    const id = idAt(at)
    const size = view.getUint32(at + 4, true)
    const from = at + 8
    if (id === 'fmt ') {
      if (bytesPerSecond !== undefined || from + size > bytes.length) return undefined
      bytesPerSecond = rateOf(new DataView(bytes.buffer, bytes.byteOffset + from, size))
      if (bytesPerSecond === undefined) return undefined
    } else if (id === 'data') {
      if (samples !== undefined) return undefined
      samples = from
    } else if (samples === undefined && !HARMLESS.has(id)) return undefined
    at = from + size + (size % 2)
  }
  if (bytesPerSecond === undefined || samples === undefined) return undefined
  if (holdsFrames(bytes.subarray(samples))) return undefined
  return (bytes.length - samples) / bytesPerSecond
}

/** Decoders disagree about files with more channels. */
const MOST_CHANNELS = 32
const HIGHEST_RATE = 384_000

/** The bytes of a second; undefined where the samples are not PCM, or where the format contradicts itself. */
function rateOf(format: DataView): number | undefined {
  if (format.byteLength < 16) return undefined
  const [tag, channels] = [format.getUint16(0, true), format.getUint16(2, true)]
  const [rate, bytesPerSecond] = [format.getUint32(4, true), format.getUint32(8, true)]
  const [block, bits] = [format.getUint16(12, true), format.getUint16(14, true)]
  const kind = tag === EXTENSIBLE ? subformatOf(format) : tag
  const isPcm = kind !== undefined && BITS[kind]?.includes(bits)
  const isWhole = block > 0 && block === (channels * bits) / 8
  const isUsual = channels <= MOST_CHANNELS && rate > 0 && rate <= HIGHEST_RATE
  const isRight = isPcm && isWhole && isUsual && bytesPerSecond === rate * block
  return isRight ? bytesPerSecond : undefined
}

function subformatOf(format: DataView): number | undefined {
  if (format.byteLength < 40) return undefined
  const bytes = new Uint8Array(format.buffer, format.byteOffset, format.byteLength)
  return textAt(bytes, 26, 14) === SUBFORMAT ? format.getUint16(24, true) : undefined
}

const textAt = (bytes: Uint8Array, at: number, length: number): string =>
  String.fromCharCode(...bytes.subarray(at, at + length))
