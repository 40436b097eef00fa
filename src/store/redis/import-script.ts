/** The import script, for Node: the part of the ledger script that reads documents, and the import itself. */
import { readFileSync } from 'node:fs'
import { assembleScript } from './script.ts'

const read = (name: string) => readFileSync(new URL(`${name}.lua`, import.meta.url), 'utf8')

/** The script for `createImport`. */
export const IMPORT_SCRIPT = assembleScript({
  shapes: read('ledger/shapes'),
  policy: '',
  rules: '',
  alerts: '',
  batch: read('import'),
})
