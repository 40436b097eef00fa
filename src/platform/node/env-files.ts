/** Loads `.env.local` and `.env`, on Node. */
import { existsSync, readFileSync } from 'node:fs'
import { parseEnv } from 'node:util'
import { VARIABLES } from '../../config/config.ts'

/** Adds variables that are not set yet. An empty variable counts as not set. */
export function loadEnvFiles(): void {
  const { env } = process
  for (const file of ['.env.local', '.env']) {
    for (const name of VARIABLES) if (env[name]?.trim() === '') delete env[name]
    if (existsSync(file)) Object.assign(env, { ...parseEnv(textOf(readFileSync(file))), ...env })
  }
}

/** Editors on Windows write UTF-16, or a byte order mark, which would belong to the first name. A line begins in ASCII. */
function textOf(bytes: Buffer): string {
  const [first, second] = bytes
  const littleEndian = second === 0 || (first === 0xff && second === 0xfe)
  const bigEndian = first === 0 || (first === 0xfe && second === 0xff)
  const encoding = littleEndian ? 'utf-16le' : bigEndian ? 'utf-16be' : 'utf-8'
  return new TextDecoder(encoding).decode(bytes)
}
