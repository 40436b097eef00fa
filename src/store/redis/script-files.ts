/** The ledger script, assembled from its files. In the edge bundle, scripts/bundle.ts puts its text in place of this file. */
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { SCRIPT_PARTS, assembleScript, type ScriptParts } from './script.ts'

/** The file of each part of the script. */
const fileOf = (part: string) => fileURLToPath(new URL(`ledger/${part}.lua`, import.meta.url))

export const SCRIPT_FILES = SCRIPT_PARTS.map(fileOf)

/** What Redis does not need: indents, empty lines, and comments that have a line to themselves. */
const LAYOUT = /^ *((--.*)?\n)?/gm

/** The text of each part, without its layout. */
export const readParts = (parts: readonly (keyof ScriptParts)[]): ScriptParts =>
  Object.fromEntries(
    parts.map((part) => [part, readFileSync(fileOf(part), 'utf8').replace(LAYOUT, '')]),
  )

/** Reads the files and assembles the script. */
export const readScript = (): string => assembleScript(readParts(SCRIPT_PARTS))

/** The script for `createRedisStore`. */
export const LEDGER_SCRIPT = readScript()
