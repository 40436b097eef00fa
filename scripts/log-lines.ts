/** The lines of a captured log, in the encodings that shells and tools write. */
import type { FileHandle } from 'node:fs/promises'

/** A file that is not text. */
export class NoText extends Error {}

/**
 * The lines, without their line breaks. UTF-16 is known by its first two bytes (`>` and `Out-File` of Windows
 * PowerShell write it like this). Anything else is UTF-8, where zero bytes are left out: they come from UTF-16 without
 * these two bytes, or appended to UTF-8 by `>>`, and log lines that count are ASCII. Throws `NoText`.
 */
export async function* logLines(file: FileHandle): AsyncGenerator<string> {
  let decoder: TextDecoder | undefined
  let rest = ''
  for await (const chunk of file.createReadStream() as AsyncIterable<Buffer>) {
    decoder ??= decoderFor(chunk)
    const lines = (rest + decoder.decode(chunk, { stream: true })).split('\n')
    rest = lines.pop() ?? ''
    for (const line of lines) yield clean(line)
  }
  if (decoder) rest += decoder.decode()
  if (rest) yield clean(rest)
}

function decoderFor(start: Buffer): TextDecoder {
  const mark = start.subarray(0, 2).toString('hex')
  if (mark === '1f8b') throw new NoText('it is compressed; unpack it first')
  if (mark === 'fffe') return new TextDecoder('utf-16le')
  if (mark === 'feff') return new TextDecoder('utf-16be')
  return new TextDecoder()
}

/**
 * Without what is left of another encoding, and without the mark at the start of a file that was appended to this one.
 */
const clean = (line: string): string =>
  line
    .replaceAll('\0', '')
    .replace(/^[\uFEFF\uFFFD]+/, '')
    .replace(/\r$/, '')
