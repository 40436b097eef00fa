/** WAV files for tests. */
export type WavOptions = {
  tag?: number
  channels?: number
  rate?: number
  bits?: number
  /** The length in the header, if it is not the true one. */
  said?: number
  bytesPerSecond?: number
  /** Chunks before and after the samples, whole. */
  before?: Uint8Array[]
  after?: Uint8Array[]
}

/** A chunk of a RIFF file. */
export function chunk(id: string, content: Uint8Array, size = content.length): Uint8Array {
  const bytes = Buffer.alloc(8 + content.length + (content.length % 2))
  bytes.write(id, 'latin1')
  bytes.writeUInt32LE(size, 4)
  bytes.set(content, 8)
  return bytes
}

export function formatChunk({
  tag = 1,
  channels = 1,
  rate = 16_000,
  bits = 16,
  ...given
}: WavOptions) {
  const block = (channels * bits) / 8
  const bytes = Buffer.alloc(16)
  bytes.writeUInt16LE(tag, 0)
  bytes.writeUInt16LE(channels, 2)
  bytes.writeUInt32LE(rate, 4)
  bytes.writeUInt32LE(given.bytesPerSecond ?? rate * block, 8)
  bytes.writeUInt16LE(block, 12)
  bytes.writeUInt16LE(bits, 14)
  return chunk('fmt ', bytes)
}

export function wavOf(samples: Uint8Array, options: WavOptions = {}): Uint8Array<ArrayBuffer> {
  const { before = [], after = [] } = options
  const data = chunk('data', samples, options.said)
  const content = Buffer.concat([
    Buffer.from('WAVE'),
    formatChunk(options),
    ...before,
    data,
    ...after,
  ])
  return new Uint8Array(chunk('RIFF', content))
}

/** Samples of a sound that grows, of 16 bits. */
export function samples(bytes: number): Uint8Array {
  const view = Buffer.alloc(bytes)
  for (let at = 0; at + 1 < bytes; at += 2)
    view.writeInt16LE(Math.round(9000 * Math.sin(at / 25)), at)
  return view
}
