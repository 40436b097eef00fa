/** Loads `.env.local` and `.env`, on Node. */
import { existsSync } from 'node:fs'
import { VARIABLES } from '../../config/config.ts'

/** Adds variables that are not set yet. An empty variable counts as not set. */
export function loadEnvFiles(): void {
  const { env } = process
  for (const file of ['.env.local', '.env']) {
    for (const name of VARIABLES) if (env[name]?.trim() === '') delete env[name]
    if (existsSync(file)) process.loadEnvFile(file)
  }
}
