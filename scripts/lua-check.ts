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
import { assembleScript, type ScriptParts } from '../src/store/redis/script.ts'

/** Where each part of the script is kept. */
export const LUA_FILES: Record<keyof ScriptParts, string> = {
  shapes: 'src/store/redis/ledger/shapes.lua',
  rules: 'src/store/redis/ledger/rules.lua',
  batch: 'src/store/redis/ledger/batch.lua',
}

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
export function lintLua(parts: ScriptParts): string[] {
  const script = assembleScript(parts)
  const args = ['-', '--config', OPTIONS, '--formatter', 'plain', '--codes']
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
  return found.map((line) => placed(line, parts, script))
}

/** `stdin:LINE:…` with the file that the line of the script is from, and its number there. */
function placed(message: string, parts: ScriptParts, script: string): string {
  const [, number, column, said] = /^stdin:(\d+):(\d+): (.*)$/.exec(message) ?? []
  if (number === undefined) return message
  let place = HEADER
  for (const [part, file] of Object.entries(LUA_FILES) as [keyof ScriptParts, string][]) {
    const before = script.slice(0, script.indexOf(parts[part])).split('\n').length - 1
    if (Number(number) > before) place = `${file}:${Number(number) - before}:${column}`
  }
  return `${place}: ${said}`
}
