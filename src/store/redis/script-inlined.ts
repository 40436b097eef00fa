/** The ledger script on the edge, which has no files: esbuild puts their text into the bundle. */
import batch from './ledger/batch.lua'
import rules from './ledger/rules.lua'
import shapes from './ledger/shapes.lua'
import { assembleScript } from './script.ts'

/** The script for `createRedisStore` in an isolate. */
export const LEDGER_SCRIPT = assembleScript({ shapes, rules, batch })
