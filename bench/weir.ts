/** The gateway as `npm start` runs it in production, a line of its log per request included. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { readConfig } from '../src/config.ts'
import { createLog } from '../src/log.ts'
import { openStore } from '../src/node-store.ts'
import { startServer } from '../src/server.ts'
import { answerUsage, optionsOfParent, urlOf } from './child.ts'
import { weirVars, type WeirOptions } from './weir-vars.ts'

const folder = mkdtempSync(join(tmpdir(), 'weir-bench-'))
process.on('exit', () => rmSync(folder, { recursive: true, force: true }))

const file = join(folder, 'usage.json')
const config = readConfig(weirVars({ ...optionsOfParent<WeirOptions>(), file }), 'node')
const log = createLog({
  level: config.logLevel,
  format: 'json',
  write: (line) => console.log(line),
})
const { store } = await openStore(config, log)

answerUsage(urlOf(await startServer({ config, store, log })))
