/**
 * Leaves out of the edge bundle what it never calls of @upstash/redis and @upstash/ratelimit. A client refers to each
 * of some 220 commands, and a limiter to every algorithm, so no bundler can tell; they would be half of the bundle.
 *
 * What is left out becomes an empty variable or no member at all, so a call of it would fail at once. Where a package is
 * laid out differently nothing is left out, and the build says that the bundle is too large.
 */
import type { Plugin } from 'esbuild'
import { readFile } from 'node:fs/promises'
import type { RedisCommands } from '../src/store/redis.ts'

/** The classes behind `RedisCommands`. */
const CLASSES: Record<keyof RedisCommands, string> = {
  evalsha: 'EvalshaCommand',
  eval: 'EvalCommand',
  mget: 'MGetCommand',
  zrange: 'ZRangeCommand',
  lrange: 'LRangeCommand',
  set: 'SetCommand',
  get: 'GetCommand',
  del: 'DelCommand',
}
const classes = new Set(Object.values(CLASSES))

/** A class at the top level that is a command, or something that only unused commands lead to. */
const COMMAND_CLASS = /^var (\w+Command|Pipeline|SearchIndex|VectorIndex) = class [^]*?^\};$/gm

/** A member of the client that makes a command. */
const COMMAND_MEMBER =
  /^ {2}\/\*\*\n {3}\* @see https:\/\/redis\.io\/commands\/[^]*?\*\/\n {2}(\w+) = [^]*?;\n(?= {2}\/\*\*|\};)/gm

/** Other members of the client: namespaces, pipelines, scripts, and the commands on arrays. */
const OTHER_MEMBER =
  /^ {2}(?:get (?:json|functions|search|vector)\(\)|createScript\([^)]*\)) \{\n[^]*?^ {2}\}\n|^ {2}(?:use|pipeline|autoPipeline|multi|ar\w+|exec|bitfield) = [^]*?;\n(?=\n? {2}\/\*\*| {2}\w|\};)/gm

/** Classes of a limiter that nothing here makes, its members beside `limit`, and every algorithm but fixed windows. */
const LIMITER_CLASS = /^var (MultiRegionRatelimit|Analytics) = class [^]*?^\};$/gm
const LIMITER_ALGORITHM = /^ {2}static (?!fixedWindow)\w+\([^]*?^ {2}\}$/gm
const LIMITER_SCRIPT = /^var (?!fixedWindowLimitScript )(\w+Script\w*) = `[^`]*`;/gm
const LIMITER_MEMBER =
  /^ {2}(?:blockUntilReady|resetUsedTokens|getRemaining|setDynamicLimit|getDynamicLimit) = [^]*?^ {2}\};\n/gm

const pruneRedis = (code: string) =>
  code
    .replace(COMMAND_CLASS, (text, name: string) => (classes.has(name) ? text : `var ${name};`))
    .replace(COMMAND_MEMBER, (text, name: string) => (name in CLASSES ? text : ''))
    .replace(OTHER_MEMBER, '')

const pruneRatelimit = (code: string) =>
  code
    .replace(LIMITER_CLASS, 'var $1;')
    .replace(LIMITER_ALGORITHM, '')
    .replace(LIMITER_SCRIPT, 'var $1;')
    .replace(LIMITER_MEMBER, '')

export const pruneUpstash: Plugin = {
  name: 'prune-upstash',
  setup(build) {
    const prune = (filter: RegExp, how: (code: string) => string) =>
      build.onLoad({ filter }, async ({ path }) => ({
        contents: how(await readFile(path, 'utf8')),
      }))
    prune(/@upstash\/redis\/chunk-\w+\.mjs$/, pruneRedis)
    prune(/@upstash\/ratelimit\/dist\/index\.mjs$/, pruneRatelimit)
    // Its package.json names the CommonJS build only, of which nothing can be left out.
    build.onResolve({ filter: /^@upstash\/ratelimit$/ }, ({ resolveDir, kind }) =>
      build.resolve('@upstash/ratelimit/dist/index.mjs', { resolveDir, kind }),
    )
    build.onResolve({ filter: /^@upstash\/core-analytics$/ }, () => ({
      path: 'core-analytics',
      namespace: 'unused',
    }))
    build.onLoad({ filter: /^/, namespace: 'unused' }, () => ({
      contents: 'export const Analytics = undefined',
    }))
  },
}
