/**
 * Leaves out of the edge bundle what it never calls of its packages. A client refers to each of some 220 commands, a limiter to
 * every algorithm, an app to what mounts other apps, so no bundler can tell; together they would be half of the bundle.
 *
 * What is left out is no member at all, or an empty variable, so a call of it would fail at once. A class or variable
 * that is not found fails the build: the package has another layout, and this table has to follow.
 */
import { parse, type Program } from 'acorn'
import type { Plugin } from 'esbuild'
import MagicString from 'magic-string'
import { readFile } from 'node:fs/promises'
import type { RedisCommands } from '../src/store/redis.ts'

type Table = {
  file: RegExp
  /** Members of classes that stay, by the name of the class. */
  keep?: Record<string, string[]>
  /** Members of classes that go. */
  drop?: Record<string, string[]>
  /** Fields of classes that get what stands here instead. */
  instead?: Record<string, string>
  /** Variables at the top level that become empty, or what stands here instead. */
  empty?: Record<string, string>
}

const COMMANDS: Record<keyof RedisCommands, true> = {
  evalsha: true,
  eval: true,
  mget: true,
  zrange: true,
  lrange: true,
  set: true,
  get: true,
  del: true,
}

/** The scripts by their digests, of which a limiter with fixed windows sends one. */
const FIXED_WINDOW = `{ singleRegion: { fixedWindow: { limit: {
  script: fixedWindowLimitScript, hash: "472e55443b62f60d0991028456c57815a387066d" } } } }`

const PRUNED: Table[] = [
  {
    file: /@upstash\/redis\/chunk-\w+\.mjs$/,
    keep: {
      Redis: [
        'constructor',
        'client',
        'opts',
        'enableTelemetry',
        'enableAutoPipelining',
        'addTelemetry',
        ...Object.keys(COMMANDS),
      ],
    },
  },
  { file: /@upstash\/redis\/cloudflare\.mjs$/, drop: { Redis2: ['fromEnv'] } },
  {
    file: /@upstash\/ratelimit\/dist\/index\.mjs$/,
    drop: {
      Ratelimit: [
        'blockUntilReady',
        'resetUsedTokens',
        'getRemaining',
        'setDynamicLimit',
        'getDynamicLimit',
      ],
      RegionRatelimit: ['slidingWindow', 'tokenBucket', 'cachedFixedWindow'],
    },
    instead: {
      'Ratelimit.submitAnalytics': '(response) => response',
      'Ratelimit.applyTimeout': '(response) => ({ responseArray: [response] })',
    },
    empty: {
      Analytics: 'undefined',
      MultiRegionRatelimit: 'undefined',
      SCRIPTS: FIXED_WINDOW,
      RESET_SCRIPT: 'undefined',
      tokenBucketRemainingTokensScript: 'undefined',
      checkDenyList: 'undefined',
      checkDenyListCache: '() => undefined',
      defaultDeniedResponse: 'undefined',
      resolveLimitPayload: '(redis, prefix, [response]) => response',
      updateIpDenyList: 'undefined',
      ip_deny_list_exports: 'undefined',
    },
  },
  { file: /hono\/dist\/hono-base\.js$/, drop: { Hono: ['mount'] } },
  {
    file: /hono\/dist\/request\.js$/,
    drop: { HonoRequest: ['parseBody', 'formData', 'blob', 'bytes'] },
  },
  {
    file: /hono\/dist\/context\.js$/,
    drop: { Context: ['render', 'setLayout', 'getLayout', 'setRenderer'] },
  },
  // What is rendered here: elements with plain attributes under their own names, and components that wait for nothing.
  {
    file: /hono\/dist\/jsx\/base\.js$/,
    empty: {
      // Nor does it move <title> and the like to the head, where ours are already.
      jsxFn: `(tag, props, children) =>
        new (typeof tag === "function" ? JSXFunctionNode : JSXNode)(tag, props, children)`,
      resolveFunctionComponentResult: 'undefined',
      toSVGAttributeName: '(key) => key',
    },
  },
  {
    file: /hono\/dist\/utils\/html\.js$/,
    empty: { stringBufferToString: 'undefined', resolveCallbackSync: 'undefined' },
  },
  {
    file: /hono\/dist\/jsx\/context\.js$/,
    empty: {
      runWithRenderContext: '(render) => render()',
      captureRenderContext: 'undefined',
      createContext: 'undefined',
      useContext: 'undefined',
    },
  },
  {
    file: /hono\/dist\/jsx\/utils\.js$/,
    empty: {
      isValidTagName: '() => true',
      isValidAttributeName: '() => true',
      normalizeIntrinsicElementKey: '(key) => key',
      styleObjectForEach: 'undefined',
    },
  },
]

/** The variables at the top level of a module. */
const variables = ({ body }: Program) =>
  body
    .flatMap((node) => (node.type === 'VariableDeclaration' ? node.declarations : []))
    .flatMap(({ id, init }) => (id.type === 'Identifier' ? [{ name: id.name, init }] : []))

/** A package's file without what the table leaves out. Throws where the file does not have what the table names. */
function prune(code: string, { keep = {}, drop = {}, instead = {}, empty = {} }: Table): string {
  const program = parse(code, { ecmaVersion: 'latest', sourceType: 'module' })
  const edited = new MagicString(code)
  const found = new Set<string>()

  for (const { name, init } of variables(program)) {
    const other = empty[name]
    if (other !== undefined && init) {
      edited.overwrite(init.start, init.end, other)
      found.add(name)
    } else if (init?.type === 'ClassExpression') {
      for (const member of init.body.body) {
        if (!('key' in member) || member.key.type !== 'Identifier') continue
        const key = member.key.name
        found.add(`${name}.${key}`)
        const goes = keep[name] ? !keep[name].includes(key) : drop[name]?.includes(key)
        const value = 'value' in member ? member.value : undefined
        const other = instead[`${name}.${key}`]
        if (goes) edited.remove(member.start, member.end)
        else if (other !== undefined && value) edited.overwrite(value.start, value.end, other)
      }
    }
  }
  // Namespaces hold on to all that is in them.
  for (const node of program.body) {
    if (node.type === 'ExpressionStatement' && code.startsWith('__export(', node.start)) {
      edited.remove(node.start, node.end)
    }
  }
  const named = [keep, drop].flatMap((table) =>
    Object.entries(table).flatMap(([name, keys]) => keys.map((key) => `${name}.${key}`)),
  )
  const missing = [...Object.keys(empty), ...Object.keys(instead), ...named].filter(
    (name) => !found.has(name),
  )
  if (missing.length) throw new Error(`nothing is called ${missing.join(', ')} there any more`)
  return edited.toString()
}

export const pruning: Plugin = {
  name: 'prune',
  setup(build) {
    const applied = new Set<Table>()
    for (const table of PRUNED) {
      build.onLoad({ filter: table.file }, async ({ path }) => {
        applied.add(table)
        return { contents: prune(await readFile(path, 'utf8'), table) }
      })
    }
    const { entryPoints, stdin } = build.initialOptions
    build.onEnd(({ errors }) => {
      const missed = PRUNED.filter((table) => !applied.has(table))
      // A test may bundle a part.
      if (errors.length || missed.length === 0 || stdin || !entryPoints) return undefined
      return { errors: missed.map(({ file }) => ({ text: `no file is called ${file} any more` })) }
    })
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
