/** The text of the import script: `npm run lua` checks it by the same rules as the ledger script. */
import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { assembleScript } from '../../src/store/redis/script.ts'
import { formatLua, IMPORT_FILE, LUA_FILES, lintImport } from '../../scripts/lua-check.ts'
import { IMPORT_SCRIPT } from '../../src/store/redis/import-script.ts'

const [shapes, code] = [LUA_FILES.shapes, IMPORT_FILE].map((file) =>
  readFileSync(file, 'utf8'),
) as [string, string]

test('it reads documents with the code of the ledger', () => {
  expect(IMPORT_SCRIPT).toBe(
    assembleScript({ shapes, policy: '', rules: '', alerts: '', batch: code }),
  )
})

test('it is laid out like the others, and luacheck finds nothing', () => {
  expect(formatLua(code)).toBe(code)
  expect(lintImport(shapes, code)).toEqual([])
})

test('luacheck finds a mistake in it, and its line', () => {
  expect(lintImport(shapes, `local idle = 1\n${code}`)).toEqual([
    `${IMPORT_FILE}:1:7: (W211) unused variable 'idle'`,
  ])
  expect(lintImport(shapes, `nowhere()\n${code}`)).toEqual([
    expect.stringMatching(/import.lua:1:1: .*'nowhere'/),
  ])
})
