/** The gateway as `npm start` runs it in production, with one log line per request. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { readConfig } from '../src/config/config.ts'
import { createLog } from '../src/log.ts'
import { openStore } from '../src/platform/node/store.ts'
import { createApp } from '../src/app.ts'
import { startServer } from '../src/platform/node/server.ts'
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

answerUsage(urlOf(await startServer({ createApp, config, store, log })))
