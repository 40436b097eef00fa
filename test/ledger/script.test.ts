/** The ledger's script as text: its constants, the two ways to load it, and what `npm run lua` finds in it. */
import { build } from 'esbuild'
import fc from 'fast-check'
import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { RETENTION } from '../support/stores.ts'
import { settleOf, admitOf } from '../support/commands.ts'
import { mapValues } from '../../src/ledger/records.ts'
import { edgeBundle } from '../../scripts/bundle.ts'
import { formatLua, lintLua, LUA_FILES } from '../../scripts/lua-check.ts'
import { NewerVersion, readDocument } from '../../src/ledger/reading.ts'
import { MONEY_FIELDS, type Kind } from '../../src/ledger/shapes.ts'
import { LEDGER_SCRIPT } from '../../src/store/redis/script-files.ts'
import { assembleScript, layOut, luaOf } from '../../src/store/redis/script.ts'
import { useDatabase } from '../support/database.ts'

const { redis } = useDatabase()

const read = (file: string) => readFileSync(file, 'utf8')
const PARTS = mapValues(LUA_FILES, read)

test('the edge has the same script inlined', async () => {
  const { entryPoints: _, ...options } = edgeBundle('', 'script.js')
  const contents = `export { LEDGER_SCRIPT } from './src/store/redis/script-files.ts'`
  const stdin = { contents, resolveDir: process.cwd() }
  const { outputFiles } = await build({ ...options, stdin, write: false })
  const url = `data:text/javascript,${encodeURIComponent(outputFiles?.[0]?.text ?? '')}`
  const inlined = (await import(/* @vite-ignore */ url)) as { LEDGER_SCRIPT: string }
  expect(inlined.LEDGER_SCRIPT).toBe(LEDGER_SCRIPT)
})

test('constants stand before the files that use them, and a constant of one value replaces its name', () => {
  const parts = {
    windows: 'w(WINDOWS)\n',
    shapes: 'a(DAY_MS)\n',
    accounts: 'b(TOTAL)\n',
    alerts: 'e(NO_END)\n',
    settlement: 's(ALL_MODELS)\n',
    policy: 'p()\n',
    admission: 'd(MOST_LIMITS)\n',
    administration: 'm()\n',
    changes: 'c()\n',
    rule: 'r()\n',
    batch: 'x()\n',
  }
  const [before, after] = assembleScript(parts).split('w(WINDOWS)\n') as [string, string]
  expect(layOut(parts)).toContain('local DAY_MS = 86400000\n')
  expect(before).toContain('local WINDOWS = {')
  expect(before).not.toMatch(/DAY_MS|MOST_LIMITS/)
  expect(after.replace(/^(local function [^]+?end\n){2}(?=local function with)/, '')).toMatch(
    new RegExp(
      [
        'local function with_shapes()',
        'a(86400000)',
        'local function with_accounts()',
        "b('total')",
        'local function with_alerts()',
        'e(8640000000000000)',
        'end',
        'local made_alerts',
        'local function alerts()',
        'made_alerts = made_alerts or with_alerts()',
        'return made_alerts',
        'end',
        'local function with_administration()',
        'm()',
        'end',
        'local made_administration',
        'local function administration()',
        'made_administration = made_administration or with_administration()',
        'return made_administration',
        'end',
        'local function with_settlement()',
        "s('*')",
        'end',
        'local function with_policy()',
        'local MOST_LIMITS = {.*}',
        'p()',
        'local function with_admission()',
        'd(MOST_LIMITS)',
        'end',
        'local function with_changes()',
        'c()',
        'end',
        'return with_admission, with_changes',
        'end',
        'r()',
        'local function run_batch()',
        'x()',
        'end',
        'return run_batch()',
        'end',
        'return with_accounts()',
        'end',
        'return with_shapes()',
      ]
        .map(
          (line) =>
            `${line.replace(/[()*]/g, (char) => (line.includes('.*') ? char : `\\${char}`))}\n`,
        )
        .join(''),
    ),
  )
})

const name = fc.oneof(fc.string(), fc.constantFrom('a', 'until', 'end', '1a', '__proto__'))
const values = fc.letrec((tie) => ({
  value: fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.integer(),
    fc.constantFrom(0.5, 1e10, 8_640_000_000_000_000),
    fc.boolean(),
    fc.array(tie('value'), { minLength: 1, maxLength: 3 }),
    fc.dictionary(name, tie('value'), { minKeys: 1, maxKeys: 3 }),
  ),
}))

test('Redis reads a value unchanged', async () => {
  const script = (value: unknown) => `
    local function same(one, other)
      if type(one) ~= 'table' or type(other) ~= 'table' then return one == other end
      for key, value in pairs(one) do if not same(value, other[key]) then return false end end
      for key in pairs(other) do if one[key] == nil then return false end end
      return true
    end
    return same(${luaOf(value)}, cjson.decode(ARGV[1])) and 'same'`
  await fc.assert(
    fc.asyncProperty(values.value, async (value) => {
      const args = ['EVAL', script(value), 0, JSON.stringify(value)]
      expect(await redis.command(args)).toBe('same')
    }),
    { numRuns: 300 },
  )
})

const LEDGER_DOCUMENTS = assembleScript({
  windows: PARTS.windows,
  shapes: PARTS.shapes,
  batch: `
    local ok, doc = pcall(read_document, ARGV[2], ARGV[3])
    if not ok or not doc then return doc or 'none' end
    for model in pairs(ARGV[2] == 'usage' and doc.models or {}) do
      if not pcall(use_of, doc, model) then return 'none' end
      doc.models[model].windows = whole_windows(doc.models[model].windows)
    end
    if doc.windows then doc.windows = whole_windows(doc.windows) end
    return cjson.encode(doc)\n`,
})

/** A document of each kind, from the fixtures. */
const stored = readFileSync('test/support/fixtures/v2/redis.txt', 'utf8')
const DOCUMENTS = (
  [
    ['usage', 'usage:alice'],
    ['past', 'past:alice'],
    ['profile', 'profile:dave'],
    ['quota', 'quota'],
    ['models', 'models:2026-11-22'],
    ['row', 'day:2026-11-22:a/one'],
    ['day', 'day:2026-11-21'],
  ] as const
).map(([kind, key]) => {
  const line = stored.split('\n').find((one) => one.startsWith(`SET weir:{2}:${key} `))
  return [kind, JSON.parse(String(line?.split(' ').slice(2).join(' '))) as Json] as const
})

type Json = Record<string, unknown>

/** A usage document whose models are not packed, so that the changes below can reach into them. */
const unpacked = (doc: Json): Json =>
  mapValues(doc, (value, name) =>
    name === 'models'
      ? mapValues(
          value as Json,
          (use) => (typeof use === 'string' ? JSON.parse(use) : use) as unknown,
        )
      : value,
  )

/** The same, packed as the script keeps it. */
const packed = (kind: string, doc: Json): Json =>
  mapValues(doc, (value, name) =>
    kind === 'usage' &&
    name === 'models' &&
    typeof value === 'object' &&
    value !== null &&
    !Array.isArray(value)
      ? mapValues(value as Json, (use) => JSON.stringify(use))
      : value,
  )

const pathsOf = (doc: Json, path: string[] = []): string[][] =>
  Object.entries(doc).flatMap(([key, value]) => {
    const here = [...path, key]
    return [here, ...(typeof value === 'object' ? pathsOf(value as Json, here) : [])]
  })

/** A copy with another value at a path, or without a value there. */
function changed(doc: Json, [key = '', ...rest]: string[], value: unknown): Json {
  const { [key]: old, ...others } = doc
  if (rest.length) {
    // Another change may have removed it.
    return typeof old === 'object' && old !== null && !Array.isArray(old)
      ? { ...doc, [key]: changed(old as Json, rest, value) }
      : doc
  }
  return value === undefined ? others : { ...doc, [key]: value }
}

/** Money as numbers, as TypeScript has it. */
const inNumbers = (name: string, value: unknown): unknown =>
  ['usd', ...MONEY_FIELDS].includes(name) && typeof value === 'string' ? Number(value) : value

const ODD = [
  ...[undefined, null, 0, 1, 3, -1, 1.5, -1e9, 1e16, -1e17, true, false, '', 'x', '1'],
  ...[[], [1], ['x'], {}, { a: 1 }, { a: 'x' }, { a: {} }],
]

test.each(DOCUMENTS)(
  'both ledgers read the same %s in the same way, or not at all',
  async (kind, doc) => {
    const paths = pathsOf(unpacked(doc))
    const change = fc.tuple(fc.constantFrom(...paths), fc.constantFrom(...ODD))
    const changes = fc.array(change, { minLength: 1, maxLength: 3 })
    await fc.assert(
      fc.asyncProperty(changes, async (all) => {
        const spoilt = all.reduce((one, [path, value]) => changed(one, path, value), unpacked(doc))
        const text = JSON.stringify(packed(kind, spoilt))
        const args = ['EVAL', LEDGER_DOCUMENTS, 1, 'key', '{"userDays":35}', kind, text]
        const answer = String(await redis.command(args))
        const read: unknown = answer.startsWith('{') ? JSON.parse(answer, inNumbers) : answer
        expect(read, text).toEqual(readInTypeScript(kind, text))
      }),
      { numRuns: 400 },
    )
  },
)

function readInTypeScript(kind: Kind, text: string): unknown {
  try {
    const doc = readDocument(kind, JSON.parse(text)) as Json | undefined
    if (!doc) return 'none'
    // Within the script a row has no version.
    const { v, ...row } = doc
    return kind === 'row' ? row : { v, ...row }
  } catch (error) {
    if (error instanceof NewerVersion) return 'NEWER'
    throw error
  }
}

test.each([undefined, null, NaN, Infinity, () => 1, new Date(0), [1, undefined], { a: null }])(
  'Lua has no literal for %s',
  (value) => {
    expect(() => luaOf(value)).toThrow(TypeError)
  },
)

test('luacheck finds nothing', () => {
  expect(lintLua(PARTS)).toEqual([])
})

test.each([
  ['an undefined global', 'shapes', 'local function f() return nowhere end\nf()\n', 'nowhere'],
  ['an unused local', 'accounts', 'local idle = 1\n', 'idle'],
  ['an unused value', 'accounts', 'local twice = 1\ntwice = 2\nredis.call(twice)\n', 'twice'],
  [
    'a local that hides another',
    'batch',
    'do local DAY_MS = 1\nredis.call(DAY_MS) end\n',
    'DAY_MS',
  ],
  ['what the sandbox of Redis does not have', 'batch', 'redis.call(os.time())\n', 'os'],
  ['what is no Lua', 'batch', 'local = 1\n', '='],
] as const)('luacheck finds %s, and says where', (_, part, code, named) => {
  // At the front, since nothing may follow the `return` of batch.lua.
  const [found = '', ...others] = lintLua({ ...PARTS, [part]: code + PARTS[part] })
  expect(others).toEqual([])
  expect(found).toMatch(new RegExp(`^${LUA_FILES[part]}:[123]:\\d+: \\([EW]\\d+\\) .*'${named}'`))
})

test('a constant that nothing uses is found', () => {
  const parts = mapValues(PARTS, (text) => text.replace(/\bNO_END\b/g, '1'))
  expect(lintLua(parts)).toEqual(["src/store/redis/script.ts: (W211) unused variable 'NO_END'"])
})

test('Lua has one format', () => {
  for (const text of Object.values(PARTS)) expect(formatLua(text)).toBe(text)
  expect(formatLua('local   a = "b"\n')).toBe("local a = 'b'\n")
  expect(() => formatLua('local = 1')).toThrow()
})

test('a command that fails in the middle of its changes changes nothing, and the others are kept', async () => {
  const admit = admitOf({ id: '1' })
  const later = { ...settleOf(admitOf({ id: '2' })), op: 'enter' }
  const broken = { ...later, event: { ...later.event, id: '3', prompt: 'x' } }
  const run = async (...commands: object[]) => {
    await redis.flush()
    const args = [RETENTION, ...commands].map((arg) =>
      JSON.stringify(arg),
    )
    const reply = await redis.command(['EVAL', LEDGER_SCRIPT, 1, 'weir:{2}:quota', ...args])
    const keys = ((await redis.command(['KEYS', '*'])) as string[]).sort()
    const texts = keys.filter((key) => /usage|quota|day|models:/.test(key))
    return {
      answers: (JSON.parse(String(reply)) as { answers: unknown[] }).answers,
      keys,
      documents: await Promise.all(
        texts.map(async (key) => JSON.parse(String(await redis.command(['GET', key]))) as unknown),
      ),
      events: await redis.command(['LRANGE', 'weir:{2}:events', 0, -1]),
    }
  }
  const good = await run(admit, later)
  const all = await run(admit, broken, later, broken)
  expect(all.answers).toEqual([
    good.answers[0],
    { error: 'failed' },
    good.answers[1],
    { error: 'failed' },
  ])
  expect({ ...all, answers: [] }).toEqual({ ...good, answers: [] })
})
