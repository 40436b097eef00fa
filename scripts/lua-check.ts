/** The checks of `npm run lua` on the ledger's Lua: the format of StyLua, and luacheck. */
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
import { SCRIPT_PARTS, layOut, type ScriptParts } from '../src/store/redis/script.ts'

/** The file of each part of the script. */
export const LUA_FILES = Object.fromEntries(
  SCRIPT_PARTS.map((part) => [part, `src/store/redis/ledger/${part}.lua`]),
) as Record<(typeof SCRIPT_PARTS)[number], string>

/** The import has its own file. It runs after the part of the ledger's script that reads documents. */
export const IMPORT_FILE = 'src/store/redis/import.lua'

/** The file that makes the lines before the parts. */
const HEADER = 'src/store/redis/script.ts'
const OPTIONS = resolve(import.meta.dirname, '../.luacheckrc')

/**
 * Formats Lua with StyLua, with the width and quotes that prettier uses for TypeScript. Throws if it is not Lua 5.1.
 */
export function formatLua(code: string): string {
  const config = Config.new()
  config.syntax = LuaVersion.Lua51
  config.column_width = 100
  config.indent_type = IndentType.Spaces
  config.indent_width = 2
  config.quote_style = QuoteStyle.AutoPreferSingle
  // Guards and small functions stay on one line.
  config.collapse_simple_statement = CollapseSimpleStatement.Always
  return formatCode(code, config, undefined, OutputVerification.Full)
}

/**
 * What luacheck finds in the parts: one line each, with its file and line number. The parts are checked as the one
 * chunk that Redis runs, since one file uses what another defines. Throws if luacheck cannot be run.
 */
export const lintLua = (parts: ScriptParts): string[] =>
  lint(
    layOut(parts),
    SCRIPT_PARTS.map((part) => [LUA_FILES[part], parts[part] ?? '']),
  )

/**
 * What luacheck finds in the import's file. Findings in the code before it are ignored: the import does not use all of
 * that code.
 */
export const lintImport = ({ windows, shapes }: ScriptParts, code: string): string[] =>
  lint(
    layOut({ windows, shapes, batch: code }),
    [
      [LUA_FILES.windows, windows ?? ''],
      [LUA_FILES.shapes, shapes ?? ''],
      [IMPORT_FILE, code],
    ],
    ['--read-globals', 'redis.sha1hex'],
  ).filter((line) => line.startsWith(`${IMPORT_FILE}:`))

/** What luacheck finds in a script made of these files. */
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
  // With a code of 3 or more, luacheck did not get as far as checking:
  // https://luacheck.readthedocs.io/en/stable/cli.html
  if (status === null || status > 2 || (found.length === 0) !== (status === 0)) {
    throw new Error(`luacheck ended with ${status}: ${stdout}${stderr}`)
  }
  return found.map((line) => placed(line, files, script))
}

/** Replaces `stdin:LINE:…` by the file and its own line number. */
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
