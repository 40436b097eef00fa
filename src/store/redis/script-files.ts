/** The script of the ledger on Node, from the files as they are on disk; tsx cannot import Lua. */
import { readFileSync } from 'node:fs'
import { assembleScript } from './script.ts'

const read = (name: string) => readFileSync(new URL(`ledger/${name}.lua`, import.meta.url), 'utf8')

/** What `createRedisStore` needs of a Node process. */
export const LEDGER_SCRIPT = assembleScript({
  shapes: read('shapes'),
  rules: read('rules'),
  batch: read('batch'),
})
