/** Mistakes made on purpose, each of which the tests have to notice: in the script of the ledger, and in what keeps attackers out. */

export type Mutant = {
  /** What goes wrong. */
  name: string
  file: string
  /** Stands in the file exactly once. */
  find: string
  replace: string
  /** Files of tests, the quickest first, and which of their tests. */
  tests: string[]
  only?: string
}

const LEDGER = 'src/store/ledger.lua.ts'
const LEDGER_TESTS = ['test/store.test.ts', 'test/model.test.ts', 'test/invariants.test.ts']

const inLedger = (name: string, find: string, replace: string): Mutant => ({
  name,
  file: LEDGER,
  find,
  replace,
  tests: LEDGER_TESTS,
})

export const LEDGER_MUTANTS: Mutant[] = [
  inLedger('a request that just fits is refused', 'used + asked > limit', 'used + asked >= limit'),
  inLedger('what is asked for is not looked at', 'used + asked > limit', 'used > limit'),
  inLedger('a block of all models is passed over', "if doc.blocks['*'] then", 'if false then'),
  inLedger('an admission that is repeated is charged twice', 'if held then return { answer', 'if false then return { answer'),
  inLedger('a lease outlives its settlement', 'next.leases = with(doc.leases, event.id, nil)', 'next.leases = doc.leases'),
  inLedger('a settlement leaves the bound charged', 'next.charged = row.charged - event.bound + event.charged', 'next.charged = row.charged + event.charged'),
  inLedger('a settlement leaves the bound held', 'next.held = row.held - event.bound', 'next.held = row.held'),
  inLedger("everyone's requests are not counted", 'quota = add_count(quota, scope, bound, 1)', 'quota = add_count(quota, scope, bound, 0)'),
  inLedger("everyone's minute is not counted", 'rows = add_count(rows, scope, bound, 1)', 'rows = rows'),
  inLedger('the oldest day that is to be kept is dropped', 'return day >= oldest', 'return day > oldest'),
  inLedger('a day goes backwards with the clock', 'local at = math.max(doc.at, now)', 'local at = now'),
  inLedger('a late event of an erased user is entered', ' or event.at <= gone then', ' then'),
  inLedger('an event is entered twice', 'if entered(event.id) or command.now', 'if command.now'),
  inLedger('a smaller report lowers what was reported', 'math.max(known.tokens, said.tokens)', 'said.tokens'),
  inLedger('a report of another day counts', 'if said.resetAt == (', 'if said.resetAt >= ('),
  inLedger('a user has one model too many', 'if not row and size(doc.rows) >= MODELS_PER_USER', 'if not row and size(doc.rows) > MODELS_PER_USER'),
  inLedger('what is below the bound counts against overshoot', 'math.max(0, event.charged - event.bound)', '(event.charged - event.bound)'),
  inLedger('a user is counted with each model', 'if answered(one) then first.user = false end', 'if false then first.user = false end'),
  inLedger('clearing gives everyone a new quota', 'day.quota, day.minute = today.quota, today.minute', 'day.minute = today.minute'),
  inLedger('one command that fails takes the batch along', 'local ok, answer = pcall(run, ARGV[i])', 'local ok, answer = true, run(ARGV[i])'),
] // prettier-ignore

const HTTP = ['test/attack-http.test.ts']
const ADMIN = ['test/attack-admin.test.ts']
const DATA = ['test/attack-data.test.ts']
const FUZZ = ['test/fuzz.test.ts']
const ISOLATION = ['test/isolation.test.ts']
const SERVE =
  '{ fetch: (request, env) => fetchApp(request, env as HttpBindings), port: config.port }'
const served = (options: string) => SERVE.replace(' }', `, serverOptions: { ${options} } }`)

export const DEFENCE_MUTANTS: Mutant[] = [
  { name: 'any name of a model goes up', file: 'src/routes/proxy.ts', find: "if (!MODEL_PATH.test(name) || name.includes('..')) {", replace: 'if (name === undefined) {', tests: HTTP, only: 'reaches no other host' },
  { name: 'the raw path is not held against the prefix', file: 'src/routes/proxy.ts', find: 'if (!pathname.startsWith(`${MODELS}/`)) {', replace: 'if (pathname === undefined) {', tests: ['test/proxy.test.ts'], only: 'escaped' },
  { name: 'a packed body is read', file: 'src/routes/proxy.ts', find: "encoding.trim().toLowerCase() !== 'identity'", replace: 'encoding === null', tests: HTTP, only: 'packed' },
  { name: 'the simple form reads without end', file: 'src/routes/proxy.ts', find: 'if (text.length <= MAX_ANSWER_BYTES) continue', replace: 'if (text.length >= 0) continue', tests: HTTP, only: 'simple form' },
  { name: 'the meter reads without end', file: 'src/usage/meter.ts', find: 'over = text.length > MAX_BUFFER', replace: 'over = false', tests: HTTP, only: 'unpacks' },
  { name: 'HTTP/1.0 is answered in chunks', file: 'src/server.ts', find: "if (env.incoming.httpVersion === '1.0')", replace: "if (env.incoming.httpVersion === '0.9')", tests: HTTP, only: 'HTTP/1.0 has no chunks' },
  { name: 'the HTTP parser is lenient', file: 'src/server.ts', find: SERVE, replace: served('insecureHTTPParser: true'), tests: HTTP, only: 'hides behind it' },
  { name: 'a client has for ever', file: 'src/server.ts', find: SERVE, replace: served('requestTimeout: 0, headersTimeout: 0'), tests: HTTP, only: 'a minute for its headers' },
  { name: 'broken answers fill the console', file: 'src/proxy/pipe.ts', find: "'ERR_STREAM_PREMATURE_CLOSE'", replace: "'X'", tests: HTTP, only: 'past the log' },
  { name: 'chunks are not counted', file: 'src/middleware/limit-body.ts', find: 'return counted(c, next)', replace: 'return next()', tests: HTTP, only: 'never ends' },
  { name: 'a page elsewhere may act', file: 'src/middleware/same-origin.ts', find: 'if (!same &&', replace: 'if (same === null &&', tests: ADMIN, only: 'changes nothing' },
  { name: 'the first forwarded address is believed', file: 'src/server.ts', find: ".split(',').at(-1)", replace: ".split(',').at(0)", tests: ADMIN, only: 'in front of the one' },
  { name: 'wrong keys are not counted', file: 'src/middleware/admin-key.ts', find: 'if (before >= WRONG_PER_MINUTE)', replace: 'if (before < 0)', tests: ['test/login.test.ts'], only: 'of a crowd' },
  { name: 'admin answers may be kept', file: 'src/middleware/admin.ts', find: "c.header('cache-control', 'no-store')", replace: '', tests: ADMIN, only: 'kept by a cache' },
  { name: 'HEAD of an export runs it', file: 'src/routes/export.ts', find: "if (c.req.method === 'HEAD')", replace: "if (c.req.method === 'head')", tests: ADMIN, only: 'HEAD of an export' },
  { name: 'the answer to a token may be kept', file: 'src/routes/proxy.ts', find: "headers.set('cache-control', 'private, no-store')", replace: '', tests: DATA, only: 'shared cache' },
  { name: 'caches of the platform are told otherwise', file: 'src/proxy/headers.ts', find: "  'cdn-cache-control',", replace: '', tests: DATA, only: 'shared cache' },
  { name: 'the log obeys control codes', file: 'src/log.ts', find: '/[\\u007f-\\u009f\\u2028\\u2029]/g', replace: '/(?!)/g', tests: DATA, only: 'terminal obeys' },
  { name: 'any text is the name of a user', file: 'src/routes/user-query.ts', find: 'USER_ID = /^[\\w-]{22}$/', replace: 'USER_ID = /^[^]*$/', tests: DATA, only: 'part of a key' },
  { name: 'a token is part of a key', file: 'src/usage/user-id.ts', find: 'user: hash,', replace: 'user: async (token) => token,', tests: DATA, only: 'part of a key' },
  { name: 'refusals are not remembered', file: 'src/middleware/gate.ts', find: 'if (known.until <= now())', replace: 'if (known.until)', tests: ISOLATION, only: 'from memory' },
  { name: 'the relay does not wait for its reader', file: 'src/proxy/relay.ts', find: 'if (!gone) await writer.write', replace: 'if (!gone) void writer.write', tests: ISOLATION, only: 'reads nothing' },
  { name: 'any number is a maximum', file: 'src/usage/bound.ts', find: 'Number.isSafeInteger(value) && value > 0', replace: 'value', tests: FUZZ },
  { name: 'a cursor may be beyond what numbers tell apart', file: 'src/store/cursor.ts', find: '{1,15}', replace: '{1,40}', tests: FUZZ },
] // prettier-ignore
