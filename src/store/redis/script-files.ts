/** The ledger script, assembled from its files. In the edge bundle, scripts/bundle.ts puts its text in place of this file. */
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { assembleScript } from './script.ts'

/** The files of the script, in order of their layout. */
export const SCRIPT_FILES = ['shapes', 'rules', 'batch'].map((name) =>
  fileURLToPath(new URL(`ledger/${name}.lua`, import.meta.url)),
)

/** Reads the files and assembles the script. */
export function readScript(): string {
  const [shapes = '', rules = '', batch = ''] = SCRIPT_FILES.map((path) =>
    readFileSync(path, 'utf8'),
  )
  return assembleScript({ shapes, rules, batch })
}

/** The script for `createRedisStore`. */
export const LEDGER_SCRIPT = readScript()
