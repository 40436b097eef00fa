/**
 * `npm run lua`: checks the format of the Lua files and lints them; `-- --write` formats them first. Ends with 1 if it
 * finds anything.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { mapValues } from '../src/ledger/records.ts'
import { formatLua, IMPORT_FILE, lintImport, lintLua, LUA_FILES } from './lua-check.ts'

const { values } = parseArgs({ options: { write: { type: 'boolean', default: false } } })

const wrong: string[] = []
const read = (file: string): string => {
  const code = readFileSync(file, 'utf8')
  const formatted = formatLua(code)
  if (formatted === code) return code
  if (values.write) writeFileSync(file, formatted)
  else wrong.push(`${file}: is not formatted; npm run lua -- --write does it`)
  return values.write ? formatted : code
}

const parts = mapValues(LUA_FILES, read)
wrong.push(...lintLua(parts), ...lintImport(parts, read(IMPORT_FILE)))
for (const line of wrong) console.error(line)
if (wrong.length) process.exitCode = 1
else console.log('The Lua files are formatted, and luacheck finds nothing.')
