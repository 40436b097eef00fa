import { readFileSync } from 'node:fs'
import { parseEnv } from 'node:util'
import { expect, test } from 'vitest'
import { envExample } from '../../scripts/env-example.ts'
import { DOCS } from '../../src/config/variable-docs.ts'
import {
  ConfigError,
  readConfig,
  VARIABLES,
  type Config,
  type Platform,
  type Vars,
} from '../../src/config/config.ts'
import { TABLE, type Definition, type Variable } from '../../src/config/variables.ts'
import { LIMITS } from '../../src/ledger/policy.ts'
import { GROQ_PRICES } from '../../src/providers/groq-prices.ts'

const PLATFORMS = ['edge', 'node'] as const

/** The reported problems, one per line. */
function problems(vars: Vars, platform: Platform = 'node'): string[] {
  try {
    readConfig(vars, platform)
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    return error.message.split('\n').slice(1)
  }
  return []
}

const on = (vars: Vars) => readConfig(vars, 'node')

const KNOWN_PRICES: Config['prices'] = Object.assign({}, ...GROQ_PRICES.map(({ prices }) => prices))

const ALERT_KEY = new Uint8Array(24).fill(7)
const ALERT_SECRET = `whsec_${Buffer.from(ALERT_KEY).toString('base64')}`

const DEFAULTS: Config = {
  groqKey: undefined,
  groqUrl: 'https://api.groq.com',
  helpUrl: undefined,
  defaultModel: 'openai/gpt-oss-20b',
  admins: [],
  metricsKey: undefined,
  alerts: undefined,
  userHashSecret: undefined,
  userTokens: ['any'],
  unverifiedShare: 50,
  tokenSecrets: [],
  jwtIssuers: [],
  redis: undefined,
  usageFile: 'logs/token_usage.json',
  limits: {
    default: {
      tokensPerDay: 200_000,
      requestsPerDay: 1000,
      audioSecondsPerDay: 14_400_000,
      charactersPerDay: 20_000,
    },
    total: undefined,
    models: {},
  },
  globalLimits: {
    default: undefined,
    total: {
      tokensPerDay: 2_000_000,
      requestsPerDay: 10_000,
      audioSecondsPerDay: 144_000_000,
      charactersPerDay: 200_000,
    },
    models: {},
  },
  allowedModels: ['*'],
  cap: 'balanced',
  maxCompletionTokens: 2500,
  maxBodyBytes: 4 * 1024 * 1024,
  maxAudioBytes: 25 * 1024 * 1024,
  audioMetering: 'exact',
  upstreamTimeoutMs: 120_000,
  requestMs: 300_000,
  allowedOrigins: ['*'],
  ipStorage: 'full',
  trustProxy: 0,
  proxySaid: false,
  host: undefined,
  basePath: '',
  homePage: true,
  demo: false,
  newUsersPerMinute: 60,
  onClientAbort: 'drain',
  onStoreDown: 'open',
  storeTimeoutMs: 300,
  retention: { userDays: 35, historyDays: 90, eventsKept: 10_000 },
  statsDays: 2,
  prices: KNOWN_PRICES,
  port: 8787,
  logLevel: 'info',
}

test.each([
  ['node', {}],
  ['edge', { upstreamTimeoutMs: 25_000, requestMs: 280_000 }],
] as const)('needs nothing on %s', (platform, differences) => {
  expect(readConfig({}, platform)).toEqual({ ...DEFAULTS, ...differences })
})

test.each(['', ' ', '\t\r\n'])('treats %j as a variable that is not set', (blank) => {
  const vars = Object.fromEntries(VARIABLES.map((name) => [name, blank]))
  for (const platform of PLATFORMS) {
    expect(readConfig(vars, platform)).toEqual(readConfig({}, platform))
  }
})

test.each(['"', "'", '`'])(
  'refuses values in the quotes %s by name, and tells no value',
  (quote) => {
    for (const name of VARIABLES) {
      const value = `${quote}a-value-of-some-length${quote}`
      let message = ''
      try {
        on({ [name]: value })
      } catch (error) {
        message = String(error)
      }
      expect(message).toContain(`${name} is in quotes`)
      expect(message).not.toContain('a-value')
    }
  },
)

/** Of exactly as many bytes as are asked for. */
const SECRET = 'x'.repeat(32)
const ISSUER = {
  issuer: 'https://auth.test/',
  audience: 'weir',
  jwksUrl: 'https://auth.test/.well-known/jwks.json',
}
const CLAIMS = { userClaim: 'email', planClaim: 'tier', labelClaim: 'name' }

test('reads every variable', () => {
  const config = readConfig(
    {
      GROQ_API_KEY: ' gsk_key ',
      GROQ_BASE_URL: 'http://localhost:9000/base//',
      DEFAULT_MODEL: 'a/one',
      HELP_URL: 'https://example.com/help',
      ADMIN_KEY: '0123456789abcdef',
      ADMIN_KEYS: 'vera:viewer:fedcba9876543210',
      METRICS_KEY: 'key-of-prometheus',
      ALERT_WEBHOOK_URL: 'https://alerts.example/hook',
      ALERT_WEBHOOK_SECRET: ALERT_SECRET,
      USER_HASH_SECRET: 's',
      USER_TOKENS: ' signed, any,,any',
      USER_TOKEN_SECRETS: `${SECRET}, ${SECRET}2`,
      JWT_ISSUERS: JSON.stringify([ISSUER, { ...ISSUER, ...CLAIMS }]),
      KV_REST_API_URL: 'https://db.upstash.io/',
      KV_REST_API_TOKEN: 'tok',
      USAGE_FILE: '/data/usage.json',
      MODEL_LIMITS: JSON.stringify({
        '*': { tokensPerDay: 1, requestsPerDay: 2, tokensPerMinute: 3, requestsPerMinute: 4 },
        total: { tokensPerDay: 5, requestsPerDay: 6 },
        constructor: { tokensPerDay: 0, requestsPerDay: 0 },
      }),
      GLOBAL_LIMITS: '{"a/one":{"tokensPerDay":7,"requestsPerDay":8}}',
      ALLOWED_MODELS: ' openai/* , a/one,, ',
      NEW_USERS_PER_MINUTE: '17',
      CAP: 'strict',
      MAX_COMPLETION_TOKENS: '9',
      MAX_BODY_BYTES: '1024',
      MAX_AUDIO_BYTES: '2048',
      AUDIO_METERING: 'estimate',
      UPSTREAM_TIMEOUT_MS: '11',
      REQUEST_SECONDS: '12',
      ALLOWED_ORIGINS: 'https://a.test, https://b.test',
      IP_STORAGE: 'truncated',
      TRUST_PROXY: '3',
      HOST: '[::1]',
      BASE_PATH: '/a/weir/',
      HOME_PAGE: 'off',
      DEMO: '1',
      ON_CLIENT_ABORT: 'cancel',
      ON_STORE_DOWN: 'closed',
      STORE_TIMEOUT_MS: '13',
      USER_RETENTION_DAYS: '14',
      STATS_RETENTION_DAYS: '15',
      HISTORY_RETENTION_DAYS: '16',
      EVENTS_KEPT: '0',
      MODEL_PRICES:
        '{"a/one":{"input":0.075,"cached":0.0375,"output":0.3},"constructor":{"input":0,"output":1e5}}',
      PORT: '0',
      LOG_LEVEL: 'silent',
    },
    'edge',
  )
  expect(config).toEqual({
    groqKey: 'gsk_key',
    groqUrl: 'http://localhost:9000/base',
    helpUrl: 'https://example.com/help',
    defaultModel: 'a/one',
    admins: [
      { name: 'admin', role: 'admin', key: '0123456789abcdef' },
      { name: 'vera', role: 'viewer', key: 'fedcba9876543210' },
    ],
    metricsKey: 'key-of-prometheus',
    alerts: { url: 'https://alerts.example/hook', format: 'standard', keys: [ALERT_KEY] },
    userHashSecret: 's',
    userTokens: ['any', 'signed'],
    unverifiedShare: 50,
    tokenSecrets: [SECRET, `${SECRET}2`],
    jwtIssuers: [ISSUER, { ...ISSUER, ...CLAIMS }],
    redis: { kind: 'rest', url: 'https://db.upstash.io', token: 'tok' },
    usageFile: '/data/usage.json',
    limits: {
      default: { tokensPerDay: 1, requestsPerDay: 2, tokensPerMinute: 3, requestsPerMinute: 4 },
      total: { tokensPerDay: 5, requestsPerDay: 6 },
      models: { constructor: { tokensPerDay: 0, requestsPerDay: 0 } },
    },
    globalLimits: { models: { 'a/one': { tokensPerDay: 7, requestsPerDay: 8 } } },
    allowedModels: ['openai/*', 'a/one'],
    cap: 'strict',
    maxCompletionTokens: 9,
    maxBodyBytes: 1024,
    maxAudioBytes: 2048,
    audioMetering: 'estimate',
    upstreamTimeoutMs: 11,
    requestMs: 12_000,
    allowedOrigins: ['https://a.test', 'https://b.test'],
    ipStorage: 'truncated',
    trustProxy: 3,
    proxySaid: true,
    newUsersPerMinute: 17,
    onClientAbort: 'cancel',
    onStoreDown: 'closed',
    storeTimeoutMs: 13,
    retention: { userDays: 14, historyDays: 16, eventsKept: 0 },
    statsDays: 15,
    prices: {
      ...KNOWN_PRICES,
      'a/one': { input: 75_000, cached: 37_500, output: 300_000 },
      constructor: { input: 0, output: 100_000_000_000 },
    },
    host: '::1',
    basePath: '/a/weir',
    homePage: false,
    demo: true,
    port: 0,
    logLevel: 'silent',
  } satisfies Config)
})

test('cannot be changed', () => {
  const config = on({})
  expect(Object.isFrozen(config)).toBe(true)
  expect(() => Object.assign(config, { cap: 'strict' })).toThrow(TypeError)
})

const INTEGERS = [
  'NEW_USERS_PER_MINUTE',
  'MAX_COMPLETION_TOKENS',
  'MAX_BODY_BYTES',
  'MAX_AUDIO_BYTES',
  'UPSTREAM_TIMEOUT_MS',
  'REQUEST_SECONDS',
  'STORE_TIMEOUT_MS',
  'USER_RETENTION_DAYS',
  'STATS_RETENTION_DAYS',
  'HISTORY_RETENTION_DAYS',
  'EVENTS_KEPT',
  'PORT',
] as const

/** An invalid value for each variable that can be invalid. */
const WRONG: Vars = {
  ...Object.fromEntries(INTEGERS.map((name) => [name, 'many'])),
  GROQ_BASE_URL: 'api.groq.com',
  ADMIN_KEY: 'short',
  ADMIN_KEYS: 'short',
  METRICS_KEY: 'short',
  USER_TOKENS: 'all',
  USER_TOKEN_SECRETS: 'short',
  JWT_ISSUERS: '{}',
  KV_REST_API_URL: 'https://a.upstash.io',
  UPSTASH_REDIS_REST_URL: 'https://a.upstash.io',
  REDIS_URL: 'localhost:6379',
  DEMO: 'yes',
  HOME_PAGE: 'yes',
  MODEL_LIMITS: '{"*":{"tokens":1}}',
  GLOBAL_LIMITS: '[]',
  MODEL_PRICES: '0.1',
  HELP_URL: 'ask us',
  CAP: 'loose',
  IP_STORAGE: 'yes',
  TRUST_PROXY: 'true',
  HOST: 'http://a.test',
  BASE_PATH: 'weir',
  ON_CLIENT_ABORT: 'ignore',
  ON_STORE_DOWN: 'ajar',
  LOG_LEVEL: 'INFO',
}

test('reports every problem in one message, one per line', () => {
  const lines = problems(WRONG)
  for (const name of Object.keys(WRONG)) {
    expect(lines.filter((line) => line.startsWith(`  - ${name} `))).toHaveLength(1)
  }
  expect(lines).toHaveLength(Object.keys(WRONG).length)
})

test('tells no value in a message, least of all a secret', () => {
  const secret = 'a-hidden-VALUE'
  const wrong: Vars = Object.fromEntries(VARIABLES.map((name) => [name, secret]))
  const rows: Vars[] = [
    wrong,
    { ...wrong, ADMIN_KEY: secret, KV_REST_API_URL: undefined },
    { KV_REST_API_URL: `https://${secret}:${secret}@a.test`, UPSTASH_REDIS_REST_TOKEN: secret },
    { KV_REST_API_URL: secret, KV_REST_API_TOKEN: secret },
    { REDIS_URL: `redis://default:${secret}@localhost:6379/x` },
    { REDIS_URL: `rediss://default:${secret}%zz@a.upstash.io` },
    { REDIS_URL: `rediss://default:${secret}@a.upstash.io:1` },
    { GROQ_BASE_URL: `https://user:${secret}@api.groq.com/openai/v1` },
    { MODEL_LIMITS: `{"*":{"tokensPerDay":"${secret}"}}` },
    { MODEL_PRICES: `{"a":{"input":"${secret}"}}` },
    { USER_TOKEN_SECRETS: `${SECRET},${secret}` },
    { JWT_ISSUERS: JSON.stringify([{ ...ISSUER, [secret]: secret }]) },
    { JWT_ISSUERS: JSON.stringify([{ ...ISSUER, jwksUrl: `https://u:${secret}@a.test` }]) },
  ]
  for (const vars of rows) {
    for (const platform of PLATFORMS) {
      const lines = problems(vars, platform)
      expect(lines).not.toEqual([])
      expect(lines.join('\n')).not.toMatch(/hidden|a-secret-of/i)
    }
  }
})

test.each(
  INTEGERS.flatMap((name) =>
    ['1e3', '0x10', '-1', '5.5', '5.0', '+5', '5 000', '5_000', '5ms', '٥', 'NaN', 'Infinity'].map(
      (value) => ({ name, value }),
    ),
  ),
)('refuses $name=$value', ({ name, value }) => {
  expect(problems({ [name]: value })).toEqual([expect.stringContaining(`${name} must be a whole`)])
})

test.each([
  ['NEW_USERS_PER_MINUTE', 0, 1_000_000],
  ['MAX_COMPLETION_TOKENS', 1, 1_000_000],
  ['MAX_BODY_BYTES', 1024, 104_857_600],
  ['MAX_AUDIO_BYTES', 1024, 26_214_400],
  ['UPSTREAM_TIMEOUT_MS', 1, 300_000],
  ['REQUEST_SECONDS', 1, 300],
  ['STORE_TIMEOUT_MS', 1, 60_000],
  ['USER_RETENTION_DAYS', 1, 3650],
  ['STATS_RETENTION_DAYS', 1, 3650],
  ['HISTORY_RETENTION_DAYS', 2, 3650],
  ['EVENTS_KEPT', 0, 20_000],
  ['PORT', 0, 65_535],
] as const)('accepts %s from %i to %i, and reports the range', (name, least, most) => {
  expect(DOCS[name]).toContain(`from ${least} to ${most}`)
  for (const value of [least, most, ` ${least} `, `00${most}`]) {
    expect(problems({ [name]: String(value) })).toEqual([])
  }
  for (const value of [least - 1, most + 1, '99999999999999999999999']) {
    expect(problems({ [name]: String(value) })).toHaveLength(1)
  }
})

test.each([
  ['CAP', 'Strict'],
  ['CAP', 'constructor'],
  ['IP_STORAGE', 'none'],
  ['TRUST_PROXY', '0'],
  ['TRUST_PROXY', '10'],
  ['TRUST_PROXY', 'constructor'],
  ['ON_CLIENT_ABORT', 'drain,cancel'],
  ['ON_STORE_DOWN', 'half'],
  ['LOG_LEVEL', 'trace'],
] as const)('refuses %s=%s, and lists the options', (name, value) => {
  expect(problems({ [name]: value })).toEqual([expect.stringContaining(`${name} must be one of: `)])
})

test.each([
  ['off', 0],
  ['on', 1],
  ['1', 1],
  ['9', 9],
])('TRUST_PROXY=%s trusts %i proxies', (TRUST_PROXY, hops) => {
  expect(on({ TRUST_PROXY }).trustProxy).toBe(hops)
})

test.each(['127.0.0.1', '0.0.0.0', '::', 'fe80::1%eth0', 'localhost', 'weir.internal'])(
  'listens on %s',
  (HOST) => {
    expect(on({ HOST }).host).toBe(HOST)
  },
)

test.each(['127.0.0.1:80', 'http://a.test', 'a b', '[::1', ':::', '*'])(
  'refuses HOST=%s',
  (HOST) => {
    expect(problems({ HOST })).toEqual([expect.stringContaining('HOST must be an address')])
  },
)

test.each([
  ['/', ''],
  ['/weir', '/weir'],
  ['/a/b-c_d.e~f//', '/a/b-c_d.e~f'],
])('BASE_PATH=%s is %j', (BASE_PATH, basePath) => {
  expect(on({ BASE_PATH }).basePath).toBe(basePath)
})

test.each([
  'weir',
  'https://a.test/weir',
  '/a//b',
  '/..',
  '/a/../b',
  '/.',
  '/a b',
  '/a?b',
  '/%61',
  '/a#b',
])('refuses BASE_PATH=%s', (BASE_PATH) => {
  expect(problems({ BASE_PATH })).toEqual([expect.stringContaining('BASE_PATH must be a path')])
})

test.each(['x'.repeat(15), ` ${'x'.repeat(15)} `])('refuses the admin key %j', (ADMIN_KEY) => {
  expect(problems({ ADMIN_KEY })).toEqual([expect.stringContaining('16 characters')])
})

test.each([
  'https://api.groq.com/openai/v1',
  'https://api.groq.com/openai/v1/',
  'https://api.groq.com/openai/v1//',
  'http://localhost:1/x/openai/v1',
  'api.groq.com',
  'ftp://api.groq.com',
  '//api.groq.com',
  'https://',
])('refuses GROQ_BASE_URL=%s', (GROQ_BASE_URL) => {
  expect(problems({ GROQ_BASE_URL })).toEqual([expect.stringContaining('without /openai/v1')])
})

test.each([
  ['no JSON', '200000'],
  ['broken JSON', '{"*":{"tokensPerDay":1,"requestsPerDay":1}'],
  ['a list', '[]'],
  ['a number as row', '{"*":5}'],
  ['an unknown window', '{"*":{"tokensPerDay":1,"requestsPerDay":1,"tokensPerYear":1}}'],
  ['an unknown unit', '{"*":{"tokensPerDay":1,"requestsPerDay":1,"eurPerDay":1}}'],
  ['another case', '{"*":{"tokensPerDay":1,"requestsPerDay":1,"TokensPerMinute":1}}'],
  ['a text as amount', '{"*":{"tokensPerDay":"1","requestsPerDay":1}}'],
  ['a negative amount', '{"*":{"tokensPerDay":-1,"requestsPerDay":1}}'],
  ['half a token', '{"*":{"tokensPerDay":0.5,"requestsPerDay":1}}'],
  ['null', '{"*":{"tokensPerDay":1,"requestsPerDay":1,"tokensPerMinute":null}}'],
  ['too much', '{"*":{"tokensPerDay":1e14,"requestsPerDay":1}}'],
  ['infinity', '{"*":{"tokensPerDay":1e999,"requestsPerDay":1}}'],
  ['half a request an hour', '{"*":{"tokensPerDay":1,"requestsPerHour":0.5}}'],
  ['less than no money', '{"*":{"tokensPerDay":1,"usdPerMonth":-0.01}}'],
  ['more money than is counted exactly', '{"*":{"tokensPerDay":1,"usdPerMonth":1000000.01}}'],
  ['seven decimals of a dollar', '{"*":{"tokensPerDay":1,"usdPerDay":0.0000001}}'],
  ['seven decimals of many dollars', '{"*":{"tokensPerDay":1,"usdPerDay":999999.0000001}}'],
  ['money as a text', '{"*":{"tokensPerDay":1,"usdPerDay":"$5"}}'],
  ['a wrong row beside a right one', '{"*":{"tokensPerDay":1,"requestsPerDay":1},"a":{"usd":1}}'],
])('refuses limits with %s, and reports that once', (_, value) => {
  expect(problems({ MODEL_LIMITS: value })).toEqual([
    expect.stringContaining('MODEL_LIMITS must be JSON like {"*":{'),
  ])
  expect(problems({ GLOBAL_LIMITS: value.replaceAll('"*"', '"a"') })).toEqual([
    expect.stringContaining('GLOBAL_LIMITS must be JSON like {"total":{'),
  ])
})

test('reports the place of a mistake in the limits', () => {
  const rows = '{"*":{"tokensPerDay":1,"requestsPerDay":1},"a/one":{"tokensPerDay":-1}}'
  expect(problems({ MODEL_LIMITS: rows })).toEqual([
    expect.stringContaining('(at a/one.tokensPerDay)'),
  ])
})

test.each([
  ['[]', /[^)]\.$/],
  ['{"*":[]}', /\(at \*\)\.$/],
  ['{"*":null}', /\(at \*\)\.$/],
  ['{"__proto__":{"tokensPerDay":1,"requestsPerDay":1}}', /\(at __proto__\)\.$/],
  ['{"*":{"tokensPerDay":1,"requestsPerDay":null}}', /\(at \*\.requestsPerDay\)\.$/],
  ['{"*":{"tokensPerDay":1.5,"requestsPerDay":1}}', /\(at \*\.tokensPerDay\)\.$/],
  ['{"*":{"tokensPerDay":1,"requestsPerDay":1,"__proto__":1}}', /\(at \*\)\.$/],
  ['{"*":{"tokensPerDay":1,"requestsPerDay":1,"tokensPerYear":1}}', /\(at \*\)\.$/],
  ['{"*":{"usdPerDay":1},"a":{"usdPerWeek":0.0000001}}', /\(at a\.usdPerWeek\)\.$/],
])('refuses MODEL_LIMITS=%s and says where', (MODEL_LIMITS, told) => {
  expect(problems({ MODEL_LIMITS })).toEqual([expect.stringMatching(told)])
})

const ROW = '{"tokensPerDay":1,"requestsPerDay":1}'

test.each(['{}', `{"total":${ROW}}`, `{"a/one":${ROW}}`])(
  'refuses MODEL_LIMITS=%s, which has no row for all other models',
  (MODEL_LIMITS) => {
    expect(problems({ MODEL_LIMITS })).toEqual([expect.stringContaining('needs a "*" row')])
  },
)

test('accepts every limit of every window, and any subset of them', () => {
  const row = Object.fromEntries(LIMITS.map(({ name }, n) => [name, n]))
  const read = (one: object) => on({ MODEL_LIMITS: JSON.stringify({ '*': one }) }).limits.default
  const all = Object.fromEntries(
    LIMITS.map(({ name, unit }, n) => [
      name,
      unit === 'usd' ? n * 1e9 : unit === 'audioSeconds' ? n * 1000 : n,
    ]),
  )
  expect(read(row)).toEqual(all)
  for (const { name } of LIMITS) {
    const { [name]: amount, ...others } = row
    const { [name]: kept, ...rest } = all
    expect(read({ [name]: amount })).toEqual({ [name]: kept })
    expect(read(others)).toEqual(rest)
  }
  expect(read({})).toEqual({})
})

test.each([
  [0, 0],
  [0.000001, 1_000],
  [0.1, 100_000_000],
  [0.3, 300_000_000],
  [1.1, 1_100_000_000],
  [4.35, 4_350_000_000],
  [999_999.999999, 999_999_999_999_000],
  [1_000_000, 1_000_000_000_000_000],
])('counts a limit of $%d as %d nano-USD, exactly', (usd, nano) => {
  for (const window of ['Minute', 'Hour', 'Day', 'Week', 'Month']) {
    const name = `usdPer${window}`
    const text = JSON.stringify({ total: { [name]: usd }, 'a/one': { [name]: usd } })
    const { globalLimits } = on({ GLOBAL_LIMITS: text })
    expect(globalLimits?.total).toEqual({ [name]: nano })
    expect(globalLimits?.models['a/one']).toEqual({ [name]: nano })
  }
})

test('turns the limits of everyone off with {}', () => {
  expect(on({ GLOBAL_LIMITS: '{}' }).globalLimits).toBeUndefined()
  expect(on({ GLOBAL_LIMITS: ' { } ' }).globalLimits).toBeUndefined()
})

test('refuses a "*" row for everyone, with or without other rows', () => {
  for (const rows of [`{"*":${ROW}}`, `{"*":${ROW},"total":${ROW}}`]) {
    expect(problems({ GLOBAL_LIMITS: rows })).toEqual([expect.stringContaining('a "*" row')])
  }
})

test.each([
  ['no JSON', '0.1 per million'],
  ['broken JSON', '{"a":{"input":1,"output":1}'],
  ['null', 'null'],
  ['a list', '[]'],
  ['a list as row', '{"a":[1,2]}'],
  ['a number as row', '{"a":0.1}'],
  ['a missing price', '{"a":{"input":1}}'],
  ['an unknown key', '{"a":{"input":1,"output":1,"reasoning":1}}'],
  ['another case', '{"a":{"input":1,"output":1,"Cached":1}}'],
  ['a text as price', '{"a":{"input":"0.1","output":1}}'],
  ['a negative price', '{"a":{"input":1,"output":-0.1}}'],
  ['null as price', '{"a":{"input":1,"cached":null,"output":1}}'],
  ['more than any model', '{"a":{"input":1,"output":100000.1}}'],
  ['cached input that costs more', '{"a":{"input":1,"cached":1.000001,"output":9}}'],
  ['seven decimals', '{"a":{"input":1,"cached":0.0000001,"output":1}}'],
  ['infinity', '{"a":{"input":1e999,"output":1}}'],
  ['a wrong row beside a right one', '{"a":{"input":1,"output":1},"b":{}}'],
])('refuses prices with %s, and reports that once', (_, MODEL_PRICES) => {
  expect(problems({ MODEL_PRICES })).toEqual([
    expect.stringMatching(/MODEL_PRICES must be JSON like \{".*\}\}, .* in USD per million tokens/),
  ])
})

test('a price takes the place of the whole row of its model, and other models keep theirs', () => {
  const { prices } = on({ MODEL_PRICES: '{"openai/gpt-oss-20b":{"input":1,"output":2}}' })
  expect(prices).toEqual({
    ...KNOWN_PRICES,
    'openai/gpt-oss-20b': { input: 1_000_000, output: 2_000_000 },
  })
  expect(KNOWN_PRICES['openai/gpt-oss-20b']).toHaveProperty('cached')
})

test('reports the place of a mistake in the prices', () => {
  const MODEL_PRICES = '{"a":{"input":1,"output":1},"b/two":{"input":1,"output":-1}}'
  expect(problems({ MODEL_PRICES })).toEqual([expect.stringContaining('(at b/two.output)')])
})

test.each(['*', 'openai/*', 'a model', ''])(
  'refuses a price of "%s", which is not a model name',
  (name) => {
    const MODEL_PRICES = JSON.stringify({ [name]: { input: 1, output: 1 } })
    expect(problems({ MODEL_PRICES })).toEqual([
      expect.stringMatching(/MODEL_PRICES must be JSON .* by exact names of models/),
    ])
  },
)

test.each(['openai/*', 'a model', ''])(
  'refuses limits of "%s", which is not a model name',
  (name) => {
    const rows = `{"*":${ROW},${JSON.stringify(name)}:${ROW}}`
    const told = expect.stringMatching(/must be JSON .* by exact names of models.*\(at /) as string
    expect(problems({ MODEL_LIMITS: rows })).toEqual([told])
    expect(problems({ GLOBAL_LIMITS: rows.replace('"*"', '"total"') })).toEqual([told])
  },
)

test.each([
  ['a name that no model has', { DEFAULT_MODEL: 'a model' }],
  ['one that is not offered', { DEFAULT_MODEL: 'a/one', ALLOWED_MODELS: 'b/*' }],
])('refuses as default model %s', (_, vars) => {
  expect(problems(vars)).toEqual([expect.stringContaining('DEFAULT_MODEL must be')])
})

test.each([
  'https://app.example/',
  'app.example',
  'https://App.example',
  'https://a.test,null',
  'https://*',
  'https://app-*.example',
  'https://app.example:*',
])('refuses the origin %s, because no browser sends it', (ALLOWED_ORIGINS) => {
  expect(problems({ ALLOWED_ORIGINS })).toEqual([
    expect.stringContaining('ALLOWED_ORIGINS must be'),
  ])
})

test('accepts origins of programs that are not browsers', () => {
  const ALLOWED_ORIGINS =
    'http://localhost:3000,http://[::1]:3000,https://*.a.test:1,capacitor://localhost,chrome-extension://abc'
  expect(on({ ALLOWED_ORIGINS }).allowedOrigins).toHaveLength(5)
})

const KV: Vars = { KV_REST_API_URL: 'https://a.upstash.io', KV_REST_API_TOKEN: 'secret' }
const UPSTASH: Vars = {
  UPSTASH_REDIS_REST_URL: 'https://a.upstash.io',
  UPSTASH_REDIS_REST_TOKEN: 'secret',
}
const A = { kind: 'rest', url: 'https://a.upstash.io', token: 'secret' }

/** The variables as Vercel's Marketplace names them with a prefix. */
const prefixed = (prefix: string, vars: Vars = KV): Vars =>
  Object.fromEntries(Object.entries(vars).map(([name, value]) => [`${prefix}_${name}`, value]))
const blank = (vars: Vars): Vars => Object.fromEntries(Object.keys(vars).map((name) => [name, ' ']))

test.each<[string, Vars, object]>([
  ['KV_*', KV, A],
  ['UPSTASH_*', UPSTASH, A],
  ['both, equal', { ...KV, ...UPSTASH }, A],
  ['both, equal but for a slash', { ...KV, ...UPSTASH, KV_REST_API_URL: `${A.url}/` }, A],
  [
    'http, for a database of one’s own',
    { ...KV, KV_REST_API_URL: 'http://localhost:1/' },
    { kind: 'rest', url: 'http://localhost:1', token: 'secret' },
  ],
  ['KV_* beside any REDIS_URL', { ...KV, REDIS_URL: 'redis://localhost:6379' }, A],
  ['REDIS_URL', { REDIS_URL: 'rediss://default:secret@a.upstash.io:6379' }, A],
  ['REDIS_URL without a port', { REDIS_URL: 'rediss://default:secret@a.upstash.io' }, A],
  ['REDIS_URL without TLS', { REDIS_URL: 'redis://default:secret@a.upstash.io:6379/0' }, A],
  [
    'REDIS_URL, escaped',
    { REDIS_URL: 'rediss://default:p%40s%2Fs%25@a.upstash.io:6379' },
    { ...A, token: 'p@s/s%' },
  ],
  [
    'REDIS_URL in UTF-8',
    { REDIS_URL: 'rediss://:%C3%BC@eu1-a.upstash.io' },
    { kind: 'rest', url: 'https://eu1-a.upstash.io', token: 'ü' },
  ],
  ['a pair with a prefix', prefixed('STORAGE'), A],
  ['two equal pairs with prefixes', { ...prefixed('A'), ...prefixed('B', UPSTASH) }, A],
  [
    'KV_* beside a pair with a prefix',
    { ...KV, ...prefixed('OTHER', { ...KV, KV_REST_API_TOKEN: 'other' }) },
    A,
  ],
  [
    'REDIS_URL beside a pair with a prefix',
    {
      REDIS_URL: 'rediss://default:secret@a.upstash.io:6379',
      ...prefixed('OTHER', { ...KV, KV_REST_API_TOKEN: 'other' }),
    },
    A,
  ],
  [
    'a pair with a prefix beside empty variables and other ones of the same database',
    {
      ...prefixed('MY_APP', UPSTASH),
      ...blank(KV),
      ...{ MY_APP_KV_REST_API_READ_ONLY_TOKEN: 'read', MY_APP_KV_URL: 'rediss://x' },
    },
    A,
  ],
])('finds the database by %s', (_, vars, redis) => {
  for (const platform of PLATFORMS) expect(readConfig(vars, platform).redis).toEqual(redis)
})

const OVER_TCP = [
  'redis://localhost',
  'redis://localhost:6379/',
  'redis://:secret@10.0.0.1:6380/15',
  'rediss://default:p%40s@redis.test:6379',
  'rediss://user@redis.test/1?family=6',
  'redis://[::1]:6379',
  'rediss://default:secret@evil-upstash.io:6379',
  'rediss://default:secret@a.upstash.io.test',
]

test.each(OVER_TCP)('speaks TCP with REDIS_URL=%s on Node', (url) => {
  expect(on({ REDIS_URL: ` ${url} ` }).redis).toEqual({ kind: 'tcp', url })
})

test.each(OVER_TCP)('refuses REDIS_URL=%s on the edge, and reports where it works', (REDIS_URL) => {
  expect(problems({ REDIS_URL }, 'edge')).toEqual([
    expect.stringMatching(/REDIS_URL must be an Upstash address .* TCP works only on Node/),
  ])
})

const TWO = 'name two databases'
const TOGETHER = 'go together'
const ADDRESS = 'REDIS_URL must be an '

test.each<[string, Vars, string]>([
  ['two addresses', { ...KV, ...UPSTASH, KV_REST_API_URL: 'https://b.upstash.io' }, TWO],
  ['two tokens', { ...KV, ...UPSTASH, KV_REST_API_TOKEN: 'other' }, TWO],
  ['an address without a token', { KV_REST_API_URL: A.url }, TOGETHER],
  ['a token without an address', { KV_REST_API_TOKEN: 'secret' }, TOGETHER],
  [
    'two pairs with prefixes',
    { ...prefixed('A'), ...prefixed('B', { ...UPSTASH, UPSTASH_REDIS_REST_TOKEN: 'other' }) },
    'A_KV_REST_API_* and B_UPSTASH_REDIS_REST_* name two databases; set KV_REST_API_URL and',
  ],
  [
    'half a pair with a prefix',
    { STORAGE_KV_REST_API_URL: A.url } as Vars,
    'STORAGE_KV_REST_API_URL and STORAGE_KV_REST_API_TOKEN go together',
  ],
  [
    'a token with a line break behind a prefix',
    prefixed('STORAGE', { ...KV, KV_REST_API_TOKEN: 'a\nb' }),
    'STORAGE_KV_REST_API_TOKEN must be printable',
  ],
  ...[
    'redis+sentinel://a:26379,b:26379/mymaster/0',
    'rediss+sentinel://:secret@a:26379/mymaster',
    'redis-sentinel://a:26379/0',
    'sentinel://a:26379',
  ].map((REDIS_URL): [string, Vars, string] => [
    REDIS_URL,
    { REDIS_URL },
    'REDIS_URL cannot name Sentinels; set an address that always leads to the primary',
  ]),
  ['half a pair beside a whole one', { ...KV, UPSTASH_REDIS_REST_URL: A.url }, TOGETHER],
  ['the halves of two pairs', { KV_REST_API_URL: A.url, UPSTASH_REDIS_REST_TOKEN: 's' }, TOGETHER],
  ['an address that is none', { ...KV, KV_REST_API_URL: 'a.upstash.io' }, 'an https address'],
  [
    'a rediss address as REST',
    { ...UPSTASH, UPSTASH_REDIS_REST_URL: 'rediss://a.upstash.io' },
    'an https address',
  ],
  ['another port', { REDIS_URL: 'rediss://default:secret@a.upstash.io:6380' }, ADDRESS],
  ['no password', { REDIS_URL: 'rediss://default@a.upstash.io:6379' }, ADDRESS],
  ['an empty password', { REDIS_URL: 'rediss://default:@a.upstash.io:6379' }, ADDRESS],
  ['malformed escapes', { REDIS_URL: 'rediss://default:a%zz@a.upstash.io:6379' }, ADDRESS],
  ['escapes of no UTF-8', { REDIS_URL: 'rediss://default:a%ff@a.upstash.io:6379' }, ADDRESS],
  ['https', { REDIS_URL: 'https://default:secret@a.upstash.io' }, ADDRESS],
  ['no address', { REDIS_URL: 'localhost' }, ADDRESS],
  ['a host with a port and no scheme', { REDIS_URL: 'localhost:6379' }, ADDRESS],
  ['no host', { REDIS_URL: 'redis:///0' }, ADDRESS],
  ['a database that is no number', { REDIS_URL: 'redis://localhost:6379/zero' }, ADDRESS],
  ['a path', { REDIS_URL: 'redis://localhost:6379/0/' }, ADDRESS],
  ['malformed escapes in a user', { REDIS_URL: 'redis://a%zz:secret@localhost' }, ADDRESS],
  ['malformed escapes in a password', { REDIS_URL: 'redis://:a%zz@localhost' }, ADDRESS],
])('refuses a database by %s', (_, vars, problem) => {
  for (const platform of PLATFORMS) {
    const lines = problems(vars, platform)
    expect(lines.length).toBeGreaterThan(0)
    for (const line of lines) expect(line).toContain(problem)
  }
})

test.each<[string, string[]]>([
  ['any', ['any']],
  ['signed,any', ['any', 'signed']],
  ['signed,issued,any', ['any', 'issued', 'signed']],
  [' signed , signed', ['signed']],
])('reads USER_TOKENS=%s', (USER_TOKENS, kinds) => {
  const vars = { USER_TOKENS, USER_HASH_SECRET: 's', USER_TOKEN_SECRETS: SECRET }
  expect(on(vars).userTokens).toEqual(kinds)
})

test.each(['none', 'any,issue', 'Any', ',', 'any signed'])('refuses USER_TOKENS=%s', (text) => {
  expect(problems({ USER_TOKENS: text })).toEqual([
    '  - USER_TOKENS must be a list of one or more of: any, issued, signed.',
  ])
})

test.each([
  ['short', SECRET.slice(1)],
  ['a short one beside a long one', `${SECRET},short-secret`],
  ['three', `${SECRET},${SECRET},${SECRET}`],
  ['none', ', ,'],
])('refuses USER_TOKEN_SECRETS with %s, without quoting it', (_, text) => {
  const [problem, ...others] = problems({ USER_TOKEN_SECRETS: text })
  expect(others).toEqual([])
  expect(problem).toMatch(/USER_TOKEN_SECRETS must be one secret or two.* 32 bytes\.$/)
  for (const part of text.split(/[, ]+/).filter(Boolean)) {
    expect(problem).not.toContain(part)
  }
})

test('takes a secret whose characters are more bytes', () => {
  expect(on({ USER_TOKEN_SECRETS: 'ü'.repeat(16) }).tokenSecrets).toEqual(['ü'.repeat(16)])
})

test.each<[string, unknown]>([
  ['no JSON', undefined],
  ['an empty list', []],
  ['no list', ISSUER],
  ['no issuer', [{ ...ISSUER, issuer: undefined }]],
  ['no audience', [{ ...ISSUER, audience: undefined }]],
  ['an empty audience', [{ ...ISSUER, audience: '' }]],
  ['a blank audience', [{ ...ISSUER, audience: ' ' }]],
  ['a list of audiences', [{ ...ISSUER, audience: ['weir'] }]],
  ['no jwksUrl', [{ ...ISSUER, jwksUrl: undefined }]],
  ['an unknown field', [{ ...ISSUER, audiences: 'weir' }]],
  ['http', [{ ...ISSUER, jwksUrl: 'http://auth.test/jwks.json' }]],
  ['an issuer by http', [{ ...ISSUER, issuer: 'http://auth.test' }]],
  ['a host that only begins like this machine', [{ ...ISSUER, jwksUrl: 'http://127.0.0.1.test/' }]],
  ['a password in an address', [{ ...ISSUER, jwksUrl: 'https://user:secret@auth.test/' }]],
  ['a file', [{ ...ISSUER, jwksUrl: 'file:///etc/passwd' }]],
  ['an empty claim', [{ ...ISSUER, userClaim: '' }]],
  ['one that is wrong beside a right one', [ISSUER, { ...ISSUER, planClaim: 1 }]],
])('refuses JWT_ISSUERS with %s', (_, value) => {
  expect(problems({ JWT_ISSUERS: JSON.stringify(value) ?? 'auth.test' })).toEqual([
    expect.stringMatching(/^ {2}- JWT_ISSUERS must be JSON like \[\{"issuer":.*\.$/),
  ])
})

test.each(['localhost', '127.0.0.1', '[::1]'])(
  'takes an issuer on this machine by http: %s',
  (host) => {
    const issuer = { ...ISSUER, issuer: `http://${host}:9000`, jwksUrl: `http://${host}:9000/keys` }
    expect(on({ JWT_ISSUERS: JSON.stringify([issuer]) }).jwtIssuers).toEqual([issuer])
  },
)

test('signed tokens need a secret for ids, and somebody who signs', () => {
  const USER_TOKENS = 'signed'
  const [secret, signer] = ['needs USER_HASH_SECRET', 'needs USER_TOKEN_SECRETS or JWT_ISSUERS']
  const missing = (vars: Vars) => problems({ USER_TOKENS, ...vars })
  expect(missing({})).toEqual([expect.stringContaining(secret), expect.stringContaining(signer)])
  expect(missing({ USER_HASH_SECRET: 's' })).toEqual([expect.stringContaining(signer)])
  expect(missing({ USER_TOKEN_SECRETS: SECRET })).toEqual([expect.stringContaining(secret)])
  const issuers = { USER_HASH_SECRET: 's', JWT_ISSUERS: JSON.stringify([ISSUER]) }
  expect(missing(issuers)).toEqual([])
})

const example = readFileSync(new URL('../../.env.example', import.meta.url), 'utf8')

test('.env.example is the output of scripts/env-example.ts', () => {
  expect(example).toBe(envExample())
})

test.each<Definition>(TABLE)(
  '.env.example has $name with its default, or empty if platforms differ',
  (row) => {
    const { [row.name]: shown } = parseEnv(example)
    expect(shown).toBe(typeof row.default === 'string' ? row.default : '')
  },
)

test.each<Definition>(TABLE)(
  'the default of $name is no problem, and its doc is sentences',
  (row) => {
    const texts = typeof row.default === 'object' ? Object.values(row.default) : [row.default]
    for (const text of texts) {
      if (text !== undefined) expect(row.parse(text)).toHaveProperty('value')
    }
    expect(DOCS[row.name as Variable]).toMatch(/^[A-Z].*\.$/)
  },
)

test('.env.example names every variable in order', () => {
  const names = [...example.matchAll(/^([A-Z_]+)=/gm)].map(([, name]) => name)
  expect(names).toEqual(VARIABLES)
})

test('.env.example has only comments, variables and blank lines, and a comment before each variable', () => {
  const lines = example.trimEnd().split('\n')
  for (const [i, line] of lines.entries()) {
    expect(line).toMatch(/^(# .+|[A-Z_]+=.*|)$/)
    if (/^[A-Z]/.test(line)) expect(lines[i - 1]).toMatch(/^# /)
  }
})

test.each(PLATFORMS)('.env.example changes nothing on %s', (platform) => {
  expect(readConfig(parseEnv(example), platform)).toEqual(readConfig({}, platform))
})

test('.env.example shows a default that is the same on every platform', () => {
  const shown = parseEnv(example)
  const empty = VARIABLES.filter((name) => shown[name] === '')
  expect(empty).toEqual([
    'GROQ_API_KEY',
    'ADMIN_KEY',
    'ADMIN_KEYS',
    'METRICS_KEY',
    'ALERT_WEBHOOK_URL',
    'ALERT_WEBHOOK_SECRET',
    'USER_HASH_SECRET',
    'USER_TOKEN_SECRETS',
    'JWT_ISSUERS',
    'KV_REST_API_URL',
    'KV_REST_API_TOKEN',
    'UPSTASH_REDIS_REST_URL',
    'UPSTASH_REDIS_REST_TOKEN',
    'REDIS_URL',
    'UPSTREAM_TIMEOUT_MS',
    'REQUEST_SECONDS',
    'TRUST_PROXY',
    'HELP_URL',
    'HOST',
  ])
})

/** What is wrong with these variables together. */
const ofAlerts = (vars: Vars) => problems({ ALERT_WEBHOOK_SECRET: ALERT_SECRET, ...vars })

test.each([
  'https://alerts.example/hook?token=x',
  'http://localhost:9000',
  'http://127.0.0.1/hook',
  'http://10.1.2.3/',
  'http://192.168.0.9/',
  'http://172.16.0.1/',
  'http://[::1]:9/',
  'http://receiver:8080/hook',
  'http://alerts.svc.internal/',
])('alerts may go to %s', (url) => {
  expect(ofAlerts({ ALERT_WEBHOOK_URL: url })).toEqual([])
})

test.each([
  'http://alerts.example/hook',
  'http://172.32.0.1/',
  'http://11.0.0.1/',
  'https://name:secret-of-a-receiver@alerts.example/',
  'ftp://alerts.example/',
  'alerts.example',
  'http://10.0.0.1.evil.example/',
])('alerts may not go to %s, which is not quoted', (url) => {
  const found = ofAlerts({ ALERT_WEBHOOK_URL: url })
  expect(found).toEqual([expect.stringMatching(/ALERT_WEBHOOK_URL must be an https address/)])
  expect(found.join()).not.toContain('secret-of-a-receiver')
})

test('alerts need a secret of the right form, but for Slack', () => {
  const ALERT_WEBHOOK_URL = 'https://alerts.example/hook'
  const long = (bytes: number) => `whsec_${Buffer.alloc(bytes, 1).toString('base64')}`
  const wrong = (secret: string) => problems({ ALERT_WEBHOOK_URL, ALERT_WEBHOOK_SECRET: secret })
  for (const right of [long(24), long(64), `${long(24)}, ${long(32)}`, `${long(24)} ${long(32)}`]) {
    expect(wrong(right)).toEqual([])
  }
  const bare = Buffer.alloc(32, 1).toString('base64')
  for (const text of [long(23), long(65), bare, 'whsec_no-base64!', `${long(24)},x`]) {
    expect(wrong(text)).toEqual([expect.stringMatching(/ALERT_WEBHOOK_SECRET must be one secret/)])
  }
  expect(wrong([24, 25, 26].map(long).join())).toHaveLength(1)
  expect(problems({ ALERT_WEBHOOK_URL })).toEqual([
    expect.stringMatching(/ALERT_WEBHOOK_URL needs ALERT_WEBHOOK_SECRET/),
  ])
  expect(problems({ ALERT_WEBHOOK_URL, ALERT_FORMAT: 'slack' })).toEqual([])
  expect(problems({ ALERT_FORMAT: 'teams' })).toHaveLength(1)
  expect(on({ ALERT_WEBHOOK_SECRET: ALERT_SECRET }).alerts).toBeUndefined()
})
