/** The script of the ledger on the edge, which has no files: esbuild puts their text in the bundle. */
import batch from './ledger/batch.lua'
import rules from './ledger/rules.lua'
import shapes from './ledger/shapes.lua'
import { assembleScript } from './script.ts'

/** What `createRedisStore` needs in an isolate. */
export const LEDGER_SCRIPT = assembleScript({ shapes, rules, batch })
