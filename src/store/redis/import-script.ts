/** The import script, for Node: the part of the ledger script that reads documents, and the import itself. */
import { readFileSync } from 'node:fs'
import { assembleScript } from './script.ts'
import { readParts } from './script-files.ts'

/** The script for `createImport`. */
export const IMPORT_SCRIPT = assembleScript({
  ...readParts(['windows', 'shapes']),
  batch: readFileSync(new URL('import.lua', import.meta.url), 'utf8'),
})
