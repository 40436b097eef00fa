/** The text of the import script: `npm run lua` checks it by the same rules as the ledger script. */
import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { mapValues } from '../../src/ledger/records.ts'
import { assembleScript } from '../../src/store/redis/script.ts'
import { formatLua, IMPORT_FILE, LUA_FILES, lintImport } from '../../scripts/lua-check.ts'
import { IMPORT_SCRIPT } from '../../src/store/redis/import-script.ts'

const read = (file: string) => readFileSync(file, 'utf8')
const parts = { windows: read(LUA_FILES.windows), shapes: read(LUA_FILES.shapes) }
const code = read(IMPORT_FILE)

test('it reads documents with the code of the ledger', () => {
  const bare = mapValues(parts, (text) => text.replace(/^ *((--.*)?\n)?/gm, ''))
  expect(IMPORT_SCRIPT).toBe(assembleScript({ ...bare, batch: code }))
})

test('it is laid out like the others, and luacheck finds nothing', () => {
  expect(formatLua(code)).toBe(code)
  expect(lintImport(parts, code)).toEqual([])
})

test('luacheck finds a mistake in it, and its line', () => {
  expect(lintImport(parts, `local idle = 1\n${code}`)).toEqual([
    `${IMPORT_FILE}:1:7: (W211) unused variable 'idle'`,
  ])
  expect(lintImport(parts, `nowhere()\n${code}`)).toEqual([
    expect.stringMatching(/import.lua:1:1: .*'nowhere'/),
  ])
})
