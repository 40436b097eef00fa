/** The ledger script, assembled from its files. In the edge bundle, scripts/bundle.ts puts its text in place of this file. */
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { assembleScript } from './script.ts'

/** The files of the script, in order of their layout. */
export const SCRIPT_FILES = ['shapes', 'policy', 'rules', 'alerts', 'batch'].map((name) =>
  fileURLToPath(new URL(`ledger/${name}.lua`, import.meta.url)),
)

/** A comment that has its line to itself. */
const COMMENTS = /^ *--.*\n/gm

/** Reads the files, without their comments, and assembles the script. */
export function readScript(): string {
  const [shapes = '', policy = '', rules = '', alerts = '', batch = ''] = SCRIPT_FILES.map((path) =>
    readFileSync(path, 'utf8').replace(COMMENTS, ''),
  )
  return assembleScript({ shapes, policy, rules, alerts, batch })
}

/** The script for `createRedisStore`. */
export const LEDGER_SCRIPT = readScript()
