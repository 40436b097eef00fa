/**
 * Leaves out of the edge bundle what it never calls of @upstash/redis: its client refers to each of some 220 commands, so
 * no bundler can tell, and they are a third of the bundle.
 *
 * The class of such a command becomes an empty variable, so a call of it would fail at once. Where the package is laid
 * out differently nothing is left out, and the build says that the bundle is too large.
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
const kept = new Set(Object.values(CLASSES))

/** A class at the top level that is a command, or something that only unused commands lead to. */
const UNUSED = /^var (\w+Command|Pipeline|SearchIndex|VectorIndex) = class [^]*?^\};$/gm

export const pruneRedis: Plugin = {
  name: 'prune-redis',
  setup(build) {
    build.onLoad({ filter: /@upstash\/redis\/chunk-\w+\.mjs$/ }, async ({ path }) => ({
      contents: (await readFile(path, 'utf8')).replace(UNUSED, (text, name: string) =>
        kept.has(name) ? text : `var ${name};`,
      ),
    }))
  },
}
