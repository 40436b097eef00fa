/** `.env.local` and `.env`, for what runs on Node. */
import { existsSync } from 'node:fs'
import { VARIABLES } from './config.ts'

/** Adds what the process does not have yet; an empty variable counts as not set, wherever it stands. */
export function loadEnvFiles(): void {
  const { env } = process
  for (const file of ['.env.local', '.env']) {
    for (const name of VARIABLES) if (env[name]?.trim() === '') delete env[name]
    if (existsSync(file)) process.loadEnvFile(file)
  }
}
