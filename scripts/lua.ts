/**
 * `npm run lua`: checks the format of the Lua files and lints them; `-- --write` formats them first. Ends with 1 if it
 * finds anything.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
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

const shapes = read(LUA_FILES.shapes)
const [policy, rules] = [read(LUA_FILES.policy), read(LUA_FILES.rules)]
const [alerts, batch] = [read(LUA_FILES.alerts), read(LUA_FILES.batch)]
wrong.push(
  ...lintLua({ shapes, policy, rules, alerts, batch }),
  ...lintImport(shapes, read(IMPORT_FILE)),
)
for (const line of wrong) console.error(line)
if (wrong.length) process.exitCode = 1
else console.log('The Lua files are formatted, and luacheck finds nothing.')
