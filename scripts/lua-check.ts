/** What `npm run lua` holds the Lua of the ledger to: the format of StyLua, and what luacheck finds. */
import {
  CollapseSimpleStatement,
  Config,
  formatCode,
  IndentType,
  LuaVersion,
  OutputVerification,
  QuoteStyle,
} from '@johnnymorganz/stylua'
import { spawnSync } from 'node:child_process'
import { resolve } from 'node:path'
import { layOut, type ScriptParts } from '../src/store/redis/script.ts'

/** Where each part of the script is kept. */
export const LUA_FILES: Record<keyof ScriptParts, string> = {
  shapes: 'src/store/redis/ledger/shapes.lua',
  rules: 'src/store/redis/ledger/rules.lua',
  batch: 'src/store/redis/ledger/batch.lua',
}

/** The import has a file of its own, behind what the ledger's script reads documents by. */
export const IMPORT_FILE = 'src/store/redis/import.lua'

/** Where the lines in front of the files are made. */
const HEADER = 'src/store/redis/script.ts'
const OPTIONS = resolve(import.meta.dirname, '../.luacheckrc')

/** Lua as StyLua lays it out, with the widths and quotes that prettier has for TypeScript. Throws if it is not Lua 5.1. */
export function formatLua(code: string): string {
  const config = Config.new()
  config.syntax = LuaVersion.Lua51
  config.column_width = 100
  config.indent_type = IndentType.Spaces
  config.indent_width = 2
  config.quote_style = QuoteStyle.AutoPreferSingle
  // Guards and small functions stay on their line.
  config.collapse_simple_statement = CollapseSimpleStatement.Always
  return formatCode(code, config, undefined, OutputVerification.Full)
}

/**
 * What luacheck finds in the parts, a line each, by the file and the line it is in. They are looked at as the one
 * chunk that Redis runs: what one file defines, another uses. Throws if luacheck cannot be run.
 */
export const lintLua = (parts: ScriptParts): string[] =>
  lint(
    layOut(parts),
    Object.entries(LUA_FILES).map(([part, file]) => [file, parts[part as keyof ScriptParts]]),
  )

/** What luacheck finds in the import's file. What is in front of it is for the ledger too, and not all of it is used. */
export const lintImport = (shapes: string, code: string): string[] =>
  lint(
    layOut({ shapes, rules: '', batch: code }),
    [
      [LUA_FILES.shapes, shapes],
      [IMPORT_FILE, code],
    ],
    ['--read-globals', 'redis.sha1hex'],
  ).filter((line) => line.startsWith(`${IMPORT_FILE}:`))

/** What luacheck finds in a script that is made of these files. */
function lint(script: string, files: [file: string, code: string][], more: string[] = []) {
  const args = ['-', '--config', OPTIONS, '--formatter', 'plain', '--codes', ...more]
  const { error, status, stdout, stderr } = spawnSync('luacheck', args, {
    input: script,
    encoding: 'utf8',
  })
  if (error) {
    const help = 'apt-get install lua-check, or brew install luacheck'
    throw new Error(`luacheck cannot be run (${error.message}): ${help}`)
  }
  const found = stdout.split('\n').filter(Boolean)
  // From 3 on it has not come so far as to look: https://luacheck.readthedocs.io/en/stable/cli.html
  if (status === null || status > 2 || (found.length === 0) !== (status === 0)) {
    throw new Error(`luacheck ended with ${status}: ${stdout}${stderr}`)
  }
  return found.map((line) => placed(line, files, script))
}

/** `stdin:LINE:…` with the file that the line of the script is from, and its number there. */
function placed(message: string, files: [file: string, code: string][], script: string): string {
  const [, number, column, said] = /^stdin:(\d+):(\d+): (.*)$/.exec(message) ?? []
  if (number === undefined) return message
  let place = HEADER
  for (const [file, code] of files) {
    const before = script.slice(0, script.indexOf(code)).split('\n').length - 1
    if (Number(number) > before) place = `${file}:${Number(number) - before}:${column}`
  }
  return `${place}: ${said}`
}
