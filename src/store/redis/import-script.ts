/** The script of the import, for Node: what reads documents in the ledger's script, and what brings others in. */
import { readFileSync } from 'node:fs'
import { assembleScript } from './script.ts'

const read = (name: string) => readFileSync(new URL(`${name}.lua`, import.meta.url), 'utf8')

/** What `createImport` needs. */
export const IMPORT_SCRIPT = assembleScript({
  shapes: read('ledger/shapes'),
  rules: '',
  batch: read('import'),
})
