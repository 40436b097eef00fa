/** The ledger script on Node, read from the files on disk, because tsx cannot import Lua. */
import { readFileSync } from 'node:fs'
import { assembleScript } from './script.ts'

const read = (name: string) => readFileSync(new URL(`ledger/${name}.lua`, import.meta.url), 'utf8')

/** The script for `createRedisStore` in a Node process. */
export const LEDGER_SCRIPT = assembleScript({
  shapes: read('shapes'),
  rules: read('rules'),
  batch: read('batch'),
})
