/**
 * Deliberate mistakes. The tests must notice each of them. They are in the ledger's script, and in the code that keeps
 * attackers out.
 */
import { readFileSync } from 'node:fs'
import { SCRIPT_PARTS } from '../../src/store/redis/script.ts'

export type Mutant = {
  /** What goes wrong. */
  name: string
  file: string
  /** Text that the file contains exactly once. */
  find: string
  replace: string
  /** Test files, the fastest first; `only` selects tests in them. */
  tests: string[]
  only?: string
}

const LEDGER = 'src/store/redis/ledger'
const LEDGER_TESTS = [
  ...['admit', 'settle', 'report', 'newer', 'redis', 'days', 'plans', 'money'].map(
    (name) => `test/store/${name}.test.ts`,
  ),
  'test/ledger/model.test.ts',
  'test/ledger/invariants.test.ts',
]

const SCRIPT = SCRIPT_PARTS.map((part) => `${LEDGER}/${part}.lua`).map((file) => ({
  file,
  text: readFileSync(file, 'utf8'),
}))

/** The file of the script that has a text. */
const fileWith = (find: string) => SCRIPT.find(({ text }) => text.includes(find))?.file ?? LEDGER

const inLedger = (name: string, find: string, replace: string): Mutant => ({
  name,
  file: fileWith(find),
  find,
  replace,
  tests: LEDGER_TESTS,
})

/** A mistake that the books of the invariants notice. */
const inBooks = (name: string, find: string, replace: string, only = 'Redis over TCP'): Mutant => ({
  ...inLedger(name, find, replace),
  tests: ['test/ledger/invariants.test.ts'],
  only,
})

export const LEDGER_MUTANTS: Mutant[] = [
  inBooks('a month ends a day late', 'start_of(window, start + 32 * DAY_MS)', 'start_of(window, start + 32 * DAY_MS) + DAY_MS'),
  { ...inBooks('weeks begin on Sunday', 'const MONDAY = 4 * DAY_MS', 'const MONDAY = 3 * DAY_MS'), file: 'src/ledger/windows.ts' },
  inBooks('money is rounded up for each kind of token', 'nano, pico = nano + more, pico + rest', 'nano, pico = nano + more + math.ceil(pico / 1000), rest'),
  inBooks('money is written as a number', "local function digits_of(nano) return format('%d', nano) end", 'local function digits_of(nano) return nano end'),
  inBooks('a fit gives one token too many', 'fits = floor((left - prompt) / count)', 'fits = floor((left - prompt) / count) + 1'),
  inBooks('a fit of money gives one token too few', 'while fits(tokens + 1) do', 'while false do', 'nine million'),
  inBooks('a fit is that of one completion', 'fits = floor((left - prompt) / count)', 'fits = floor(left - prompt)'),
  inBooks('a short window cuts answers', "if unit and unit ~= 'requests' and wanted > 0 and (not WAITS[window] or limit < wanted) then", "if unit and unit ~= 'requests' and wanted > 0 then"),
  inBooks('a repeated admission forgets its fit', 'maximum = maximum,\n    unverified', 'unverified'),
  inBooks('a late end corrects the new month', 'if counted and counted.start == start_of(window, at) then\n      local', 'if counted then\n      local'),
  inBooks('a correction passes what is exact', 'counted.usd + (charged.usd - reserved.usd)', 'counted.usd + charged.usd - reserved.usd', 'nine million'),
  inBooks('more is admitted than can be counted', 'if not is_never and not is_far_from_most(at, reserved) then', 'if false then', 'nine million'),
  inBooks('the sender says what was reserved', 'event.reservedCost = lease.reserved.usd end', 'event.reservedCost = event.reservedCost or lease.reserved.usd end'),
  inBooks('a model without a price is free', "LIMIT_UNITS[name] == 'usd' then return true", "LIMIT_UNITS[name] == '' then return true"),
  inBooks('hours are counted only where a limit of the user names them', "  for i = 1, #groups do\n    for window in pairs(groups[i].windows) do\n      windows", "  for i = 1, #groups do\n    for window in pairs(groups[i].of == 'user' and groups[i].windows or {}) do\n      windows"),
  { ...inBooks('a part of a million dollars is short by a nano-dollar', 'Math.floor(limit / 100) * percent + Math.floor(((limit % 100) * percent) / 100)', 'Math.floor((limit * percent) / 100)', 'each request ends once'), file: 'src/ledger/plans.ts' },
  inBooks('a lost reservation keeps its money', '      reservedCost = -usd,\n      lostCost = usd,\n', ''),
  inBooks('a key is charged for another month', "  if start_of('month', at) ~= month then return end\n", ''),
  inLedger('a request that just fits is refused', 'used + asked > limit', 'used + asked >= limit'),
  inLedger('what is asked for is not looked at', 'used + asked > limit', 'used + 0 > limit'),
  inLedger('a block of all models is passed over', 'for _, scope in ipairs({ ALL_MODELS, model }) do\n    local block', 'for _, scope in ipairs({ model }) do\n    local block'),
  inLedger('the plan of a token comes before that of the profile', 'profile and profile.plan or claimed or by_default', 'claimed or profile and profile.plan or by_default'),
  inLedger('a plan that is gone has no limits', 'return by_default, load_plan(by_default), named', 'return by_default, { limits = {} }, named'),
  inLedger('a limit of one user removes the others of its row', 'local function overridden(row, own)\n  local result = copy(row)', 'local function overridden(row, own)\n  local result = {}'),
  inLedger('a boost outlives its end', "boost['until'] > at then", "boost['until'] > 0 then"),
  inLedger('a boost makes limits that were not there', 'for name, limit in pairs(row) do\n    result[name] = limit + max(0, boost[name] or 0)', 'for name, more in pairs(boost) do\n    result[name] = (row[name] or 0) + max(0, more)'),
  inLedger('an empty list of models is no list', 'if not list or list[model] then', 'if not list or not next(list) or list[model] then'),
  inLedger('a secret that was replaced works for ever', "and at < previous['until']", ''),
  inLedger('any secret of a key works', 'if hash ~= key.hash and not is_previous then', 'if false then'),
  inLedger('a key outlives its end', 'key.expires <= at', 'key.expires <= 0'),
  inLedger('a disabled key works', "if key.disabled then return 'disabled' end", ''),
  inLedger('a token that was revoked works', 'claims.issuedAt < (profile', 'claims.issuedAt < 0 * (profile'),
  inLedger('a reset forgets running requests', 'with(reserved_in(leases, model', 'with(reserved_in({}, model'),
  inLedger('who is not verified is not counted apart', 'if lease.unverified then', 'if false then'),
  inLedger('an admission that is repeated is charged twice', 'if held then return { answer = admitted(', 'if false then return { answer = admitted('),
  inLedger('an admission after its entry is charged again', 'if entered(id) then return { answer = admitted(', 'if false then return { answer = admitted('),
  inLedger('a lease outlives its settlement', 'usage.leases[event.id] = nil', ''),
  inLedger('a settlement leaves the reservation charged', 'told.charged = event.charged - event.reserved', 'told.charged = event.charged'),
  inLedger('a settlement leaves the reservation in its row', 'told.reserved = -event.reserved', 'told.reserved = 0'),
  inLedger("everyone's counters keep the reservation", '  correct_all(quotas, lease, charged)\n  if lease', '  if lease'),
  inLedger('everyone does not get back the requests that fail', "requests = event.outcome == 'failed' and 0 or 1", 'requests = 1'),
  inLedger('a user gets back the requests that fail', 'charged.requests = 1\n', '\n'),
  inLedger('minutes are not counted', 'pairs(groups[i].windows) do\n      windows[window] = 1', 'pairs({}) do\n      windows[window] = 1'),
  inLedger('a late end corrects the window of another day', 'if counted and counted.start == start_of(window, at) then', 'if counted then'),
  inLedger('a month that has ended counts on', 'if WINDOWS[name] and counted.start ~= start_of(name, at) then left', 'if counted.start == 0 then left'),
  inLedger('a request of today counts twice in its month', 'and not (is_long and is_today) then', 'then'),
  inLedger('a late end corrects only the day', 'elseif not is_today then\n      counted', 'elseif false then\n      counted'),
  inLedger('a reset of the week changes what the day has', 'counted.usd = max(-today.usd, usd)', 'counted.usd = max(0, usd)'),
  inLedger('a window that has ended counts on', 'if WINDOWS[name] and counted.start ~= start_of(name, at) then\n      left =', 'if counted.start == 0 then\n      left ='),
  inLedger('an end is told of the day on which it came', 'local date = date_of(at)\n  local row, is_unanswered', 'local date = date_of(usage.at)\n  local row, is_unanswered'),
  inLedger('a reservation that is lost stays reserved', '      reserved = -tokens,\n      lostTokens = tokens,\n', ''),
  inLedger('a lease is never lost', 'return lease.at <= oldest and is_past(lease, at)', 'return false'),
  inLedger('the oldest day that is to be kept is dropped', 'return day >= oldest', 'return day > oldest'),
  inLedger("a user's clock goes backwards", 'local at = max(usage.at, now)', 'local at = now'),
  inLedger("the ledger's clock goes backwards", 'return max(last, now)', 'return now'),
  inLedger('a late event of an erased user is entered', ' or event.at <= gone then', ' then'),
  inLedger('an event is entered twice', 'if entered(event.id) or now - event.at', 'if now - event.at'),
  inLedger('a smaller report lowers what was reported', 'max(old.tokens, said.tokens)', 'said.tokens'),
  inLedger('a report of another day counts', "if said.resetAt == end_of('day', at)", "if said.resetAt >= end_of('day', at)"),
  inLedger('any number of requests runs', 'running_at(usage.leases, at) >= most then', 'running_at(usage.leases, at) < 0 then'),
  inLedger('any number of leases is kept that are past', 'local oldest, excess = at - LATE_SETTLE_MS, #times - PAST_LEASES', 'local oldest, excess = at - LATE_SETTLE_MS, 0'),
  inLedger('any number of new users comes from a network', 'if count >= per_minute then', 'if count < 0 then'),
  inLedger('known users are new users', 'if not known and command.newUsers then', 'if command.newUsers then'),
  inLedger('a new user is not counted', 'with(networks, network, count + 1)', 'networks'),
  inLedger('usage is lost with its lease', 'if is_forgotten(event.at, usage, now) then return enter(command, now) end\n', '\n'),
  inLedger('a second settlement is entered', 'return now - at < LATE_SETTLE_MS and (not known or known.since > at or known.at < at)', 'return true'),
  inLedger('a browser reports as often as it likes', 'if syncs > SYNCS_PER_MINUTE then', 'if syncs < 0 then'),
  inLedger('a user has one model too many', "today >= MODELS_PER_USER and 'day'", "today > MODELS_PER_USER and 'day'"),
  inLedger('what is below the reservation counts against what is over', 'max(0, event.charged - event.reserved)', '(event.charged - event.reserved)'),
  inLedger('a user is counted with each model', 'return use and use.row.requests and use.row, usage.answered == 0', 'return use and use.row.requests and use.row, true'),
  inLedger('clearing does not tell how many it took', 'today.forgotten + today.total.exact + today.total.estimated', 'today.forgotten'),
  inLedger('a day that has ended stays apart from its rows', 'for _, date in ipairs(ended) do', 'for _, date in ipairs({}) do'),
  inLedger('a day is folded again, and loses its rows', 'if not day or not day.open then return nil end', 'if not day then return nil end'),
  inLedger('a day is folded with no rows', 'whole.models[model] = row', "whole.models[''] = row"),
  inLedger('a row of a day that was folded is kept apart', 'if row and day and not day.open then', 'if false then'),
  inLedger('what a newer version wrote is written over', "if doc.v > VERSIONS[kind] then error('NEWER', 0) end", ''),
  { ...inLedger('a command that fails in the midst leaves half of it', "if result ~= 'NEWER' then return false end", ''), tests: ['test/ledger/script.test.ts'], only: 'the others are kept' },
  inLedger("a user's other models are forgotten", "if type(use) ~= 'string' then return use end", "if type(use) ~= 'string' then return nil end"),
  inLedger('what was charged today is not told to the indexes', 'usage.charged = usage.charged + (row.charged or 0) - (use.row.charged or 0)', ''),
  inLedger('a model keeps the windows of yesterday', 'use.windows = current(use.windows, usage.at)', ''),
  inLedger('one command that fails takes the batch along', 'local ok, result = pcall(run, ARGV[i])', 'local ok, result = true, run(ARGV[i])'),
] // prettier-ignore

const HTTP = ['test/attack/http.test.ts']
const CROWD = ['test/attack/crowd.test.ts']
const ADMIN = ['test/attack/admin.test.ts']
const DATA = ['test/attack/data.test.ts']
const SIGNED = ['test/http/signed.test.ts']
const FUZZ = ['test/attack/fuzz.test.ts']
const ISOLATION = ['test/gateway/isolation.test.ts']
const KEYS = ['test/http/issued-key.test.ts']
const ACCESS = ['test/admin/access.test.ts']
const SESSIONS = ['test/admin/admin.test.ts']
const LOGIN = ['test/admin/login.test.ts']
const PROXY = ['test/gateway/proxy.test.ts']
const PAGES = ['test/admin/dashboard.test.ts']
const VIEWS = ['test/admin/views.test.tsx']
const BODIES = ['test/http/memory.test.ts']
const METER = ['test/metering/meter.test.ts']

export const DEFENCE_MUTANTS: Mutant[] = [
  { name: 'any name of a model goes up', file: 'src/routes/models.ts', find: "if (!MODEL_PATH.test(name) || name.includes('..')) {", replace: 'if (name === undefined) {', tests: HTTP, only: 'reaches no other host' },
  { name: 'the raw path is not held against the prefix', file: 'src/routes/models.ts', find: 'if (!pathname.startsWith(`${MODELS}/`)) {', replace: 'if (pathname === undefined) {', tests: ['test/gateway/proxy.test.ts'], only: 'escaped' },
  { name: 'a packed body is read', file: 'src/http/uncompressed.ts', find: '/^[\\s,]*(identity[\\s,]*)*$/i.test(encoding)', replace: "encoding !== ''", tests: HTTP, only: 'packed' },
  { name: 'the simple form reads without end', file: 'src/routes/simple-form.ts', find: 'if (text.length <= MAX_ANSWER_BYTES) continue', replace: 'if (text.length >= 0) continue', tests: HTTP, only: 'simple form' },
  { name: 'the meter reads an answer without end', file: 'src/metering/meter.ts', find: 'over = text.length > MAX_BUFFER', replace: 'over = false', tests: METER, only: 'it has given up' },
  { name: 'the meter reads an event without end', file: 'src/metering/meter.ts', find: 'over = rest.length + data.length > MAX_BUFFER', replace: 'over = false', tests: METER, only: 'it has given up' },
  { name: 'HTTP/1.0 is answered in chunks', file: 'src/platform/node/server.ts', find: "if (env.incoming.httpVersion === '1.0')", replace: "if (env.incoming.httpVersion === '0.9')", tests: HTTP, only: 'HTTP/1.0 has no chunks' },
  { name: 'the HTTP parser is lenient', file: 'src/platform/node/server.ts', find: '    TIMEOUTS,\n', replace: '    { ...TIMEOUTS, insecureHTTPParser: true },\n', tests: HTTP, only: 'hides behind it' },
  { name: 'a client has for ever', file: 'src/platform/node/server.ts', find: '    TIMEOUTS,\n', replace: '    { ...TIMEOUTS, requestTimeout: 0, headersTimeout: 0 },\n', tests: HTTP, only: 'minutes for its headers' },
  { name: 'broken answers fill the console', file: 'src/platform/node/server.ts', find: 'streamPipe(answer && ((taken) => breakOff(answer, taken)))', replace: 'streamPipe()', tests: HTTP, only: 'past the log' },
  { name: 'the pieces of a body are not counted', file: 'src/http/bodies.ts', find: 'if (size > maxSize) return', replace: 'if (size < 0) return', tests: BODIES, only: 'too large' },
  { name: 'a page elsewhere may act', file: 'src/http/same-origin.ts', find: 'if (!same &&', replace: 'if (same === null &&', tests: ADMIN, only: 'changes nothing' },
  { name: 'the first forwarded address is believed', file: 'src/platform/node/client-address.ts', find: 'entries[Math.max(0, entries.length - hops)]', replace: 'entries[0]', tests: ['test/http/client-address.test.ts', ...ADMIN], only: 'adds nothing|in front of the one' },
  { name: 'wrong keys are not counted', file: 'src/identity/admin-key.ts', find: 'const isWalled = count(address) >= WRONG_PER_MINUTE', replace: 'const isWalled = count(address) < 0', tests: ['test/admin/login.test.ts'], only: 'of a crowd|five wrong keys' },
  { name: 'admin answers may be kept', file: 'src/http/admin.ts', find: "c.header('cache-control', 'no-store')", replace: '', tests: ADMIN, only: 'kept by a cache' },
  { name: 'HEAD of an export runs it', file: 'src/routes/export.ts', find: "if (c.req.method === 'HEAD')", replace: "if (c.req.method === 'head')", tests: ADMIN, only: 'HEAD of an export' },
  { name: 'the answer to a token may be kept', file: 'src/routes/models.ts', find: "headers.set('cache-control', 'private, no-store')", replace: '', tests: DATA, only: 'shared cache' },
  { name: 'caches of the platform are told otherwise', file: 'src/gateway/headers.ts', find: "    '(^|-)cdn-cache-control$',\n", replace: '', tests: DATA, only: 'shared cache' },
  { name: 'the log obeys control codes', file: 'src/log.ts', find: '/[\\u007f-\\u009f\\u2028\\u2029]/g', replace: '/(?!)/g', tests: DATA, only: 'terminal obeys' },
  { name: 'any text is the name of a user', file: 'src/routes/user-query.ts', find: 'USER_ID = /^[\\w-]{22}$/', replace: 'USER_ID = /^[^]*$/', tests: DATA, only: 'part of a key' },
  { name: 'a token is part of a key', file: 'src/identity/ids.ts', find: 'user: hash,', replace: 'user: async (token) => token,', tests: DATA, only: 'part of a key' },
  { name: 'refusals are not remembered', file: 'src/gateway/gate.ts', find: 'if (known.until <= now())', replace: 'if (known.until)', tests: ISOLATION, only: 'from memory' },
  { name: 'the relay does not wait for its reader', file: 'src/gateway/relay.ts', find: 'if (!gone) await writer.write', replace: 'if (!gone) void writer.write', tests: ISOLATION, only: 'reads nothing' },
  { name: 'any number is a maximum', file: 'src/metering/reservation.ts', find: 'Number.isSafeInteger(value) && value > 0', replace: 'value', tests: FUZZ },
  { name: 'a cursor may be beyond what numbers tell apart', file: 'src/store/cursor.ts', find: '{1,15}', replace: '{1,40}', tests: FUZZ },
  { name: 'a cookie is believed without its signature', file: 'src/identity/sessions.ts', find: '(await getSignedCookie(c, secretOf(admin), SESSION_COOKIE))', replace: "decodeURIComponent(c.req.header('cookie') ?? '').replace(/^.*?=|\\.[^.]*$/g, '')", tests: SESSIONS, only: 'a cookie whose end was moved' },
  { name: 'cookies are signed under a key that everyone knows', file: 'src/identity/sessions.ts', find: '=> `weir admin session ${key}`', replace: '=> `weir admin session ${key && 1}`', tests: SESSIONS, only: 'from before a change of the key' },
  { name: 'a session has no end in its cookie', file: 'src/identity/sessions.ts', find: 'Number(until) > now()) return', replace: 'until !== undefined) return', tests: SESSIONS, only: 'an expired cookie' },
  { name: 'a session has no end in the database', file: 'src/store/redis/store.ts', find: 'return Number(until) > now', replace: 'return until !== null && now > 0', tests: ['test/store/admin.test.ts'], only: 'session' },
  { name: 'a session has no end in the files', file: 'src/store/local/store.ts', find: '(records.sessions.get(hash) ?? 0) > at', replace: 'records.sessions.has(hash) && at > 0', tests: ['test/store/admin.test.ts'], only: 'session' },
  { name: 'the database is not asked for a session', file: 'src/http/admin.ts', find: '(await storeAnswer(storeOf(deps).session(told.hash, now()))) ? told : undefined', replace: 'told', tests: SESSIONS, only: 'of a session that was logged out' },
  { name: 'logging out only removes the cookie', file: 'src/http/admin.ts', find: 'await storeAnswer(storeOf(deps).execute(logout))', replace: 'logout.op', tests: LOGIN, only: 'ends the session at once' },
  { name: 'all sessions are one', file: 'src/identity/sessions.ts', find: 'crypto.getRandomValues(new Uint8Array(32))', replace: 'new Uint8Array(32)', tests: LOGIN, only: 'another session' },
  { name: 'a session that is sent along is kept', file: 'src/http/admin.ts', find: 'const created = await sessions.create(admin)', replace: "const id = (c.req.header('cookie') ?? '').split('.')[1]\n      const created = { ...(await sessions.create(admin)), ...(id && { id }) }", tests: LOGIN, only: 'another session' },
  { name: 'the database has what makes a cookie', file: 'src/identity/sessions.ts', find: 'return { hash: base64url(digest), until, admin }', replace: 'return { hash: digest && id, until, admin }', tests: LOGIN, only: 'only the hash' },
  { name: 'scripts read the cookie', file: 'src/identity/sessions.ts', find: 'httpOnly: true', replace: 'httpOnly: false', tests: LOGIN, only: 'that no script can read' },
  { name: 'the cookie goes along from elsewhere', file: 'src/identity/sessions.ts', find: "sameSite: 'Strict'", replace: "sameSite: 'None'", tests: LOGIN, only: 'that no script can read' },
  { name: 'the cookie goes over plain HTTP', file: 'src/identity/sessions.ts', find: "? secure : undefined", replace: '? undefined : undefined', tests: LOGIN, only: 'bound to the host' },
  { name: 'a forwarded address is believed of anyone', file: 'src/platform/node/server.ts', find: "config.trustProxy && c.req.header('x-forwarded-for')\n      if (forwarded) return forwardedFor(forwarded, config.trustProxy)", replace: "c.req.header('x-forwarded-for')\n      if (forwarded) return forwardedFor(forwarded, 1)", tests: LOGIN, only: 'no proxy is trusted' },
  { name: 'each address of an IPv6 network has turns', file: 'src/identity/caller.ts', find: 'CUSTOMER_GROUPS = 4', replace: 'CUSTOMER_GROUPS = 8', tests: LOGIN, only: 'IPv6 network' },
  { name: 'instances do not tell each other of wrong keys', file: 'src/identity/admin-key.ts', find: 'if (!turn.taken) {', replace: 'if (turn === undefined) {', tests: LOGIN, only: 'count together' },
  { name: 'a crowd of guesses is counted late', file: 'src/identity/admin-key.ts', find: '    raise(address)\n', replace: '', tests: LOGIN, only: 'five are looked at|with the database away no more keys' },
  { name: 'any number of addresses is remembered', file: 'src/identity/admin-key.ts', find: 'by.size >= REMEMBERED', replace: 'by.size < 0', tests: LOGIN, only: 'of a thousand addresses' },
  { name: 'the start of a key is the key', file: 'src/identity/admin-key.ts', find: 'let difference = sent.length ^ key.length', replace: 'let difference = 0', tests: LOGIN, only: 'an empty key' },
  { name: 'a wrong key is repeated', file: 'src/identity/admin-key.ts', find: "'That is not an admin key.'", replace: '`That is not an admin key: ${key}`', tests: LOGIN, only: 'repeated nowhere' },
  { name: 'a page elsewhere posts our forms', file: 'src/routes/dashboard.ts', find: 'app.use(sameOrigin, async function', replace: 'app.use(async function', tests: SESSIONS, only: 'posts no form' },
  { name: 'a key needs no signature', file: 'src/identity/issued-key.ts', find: 'if (own !== check) return undefined', replace: 'if (own === undefined) return undefined', tests: KEYS, only: 'is no key' },
  { name: 'the keys of all deployments have one signature', file: 'src/identity/issued-key.ts', find: 'const ids = createIds(secret)', replace: "const ids = createIds(secret && 'one')", tests: KEYS, only: 'another deployment' },
  { name: 'a key says whose it is by its start alone', file: 'src/identity/issued-key.ts', find: "digest('SHA-256', new TextEncoder().encode(key))", replace: "digest('SHA-256', new TextEncoder().encode(key.slice(0, 20)))", tests: KEYS, only: 'says whose' },
  { name: 'anyone imports users and policies', file: 'src/routes/admin.ts', find: '[sameOrigin, admin.adminOnly, limitBody(bodies, bytes)]', replace: '[sameOrigin, limitBody(bodies, bytes)]', tests: ACCESS, only: 'opens none' },
  { name: 'a page elsewhere imports users and policies', file: 'src/routes/admin.ts', find: '[sameOrigin, admin.adminOnly, limitBody(bodies, bytes)]', replace: '[admin.adminOnly, limitBody(bodies, bytes)]', tests: ACCESS, only: 'changes nothing' },
  { name: 'a page elsewhere clears the history', file: 'src/routes/tokens.ts', find: 'app.use(sameOrigin, admin.adminOnly)', replace: 'app.use(admin.adminOnly)', tests: SESSIONS, only: 'changes nothing' },
  { name: 'the same site is the same origin', file: 'src/http/same-origin.ts', find: "site === 'same-origin' ||", replace: "site.startsWith('same-') ||", tests: ADMIN, only: 'fetch without cors' },
  { name: 'Origin is not looked at', file: 'src/http/same-origin.ts', find: ".includes(hostOf(origin) ?? 'null')", replace: '.length > 0', tests: SESSIONS, only: 'changes nothing' },
  { name: 'the pages need no session', file: 'src/routes/dashboard.ts', find: 'if (!session) return', replace: 'if (!c) return', tests: SESSIONS, only: 'no credentials' },
  { name: 'the admin API is open', file: 'src/routes/admin.ts', find: 'app.use(admin.adminOnly)', replace: '', tests: SESSIONS, only: 'no credentials' },
  { name: 'the admin API is read by any page', file: 'src/app.ts', find: "app.use('/api/tracking/*', crossOrigin", replace: "app.use('/api/*', crossOrigin", tests: SESSIONS, only: 'the key as bearer' },
  { name: 'any origin may be told that it may', file: 'src/http/cross-origin.ts', find: 'origin !== undefined && isListed(origin)', replace: 'origin !== undefined', tests: PROXY, only: 'a page of an origin that is not listed' },
  { name: 'a page of any origin is served', file: 'src/http/cross-origin.ts', find: 'allowed === undefined && !isOwnOrigin(c, origin)', replace: 'allowed === null', tests: PROXY, only: 'which needs no preflight' },
  { name: 'pages may be framed, by the policy', file: 'src/routes/answer-page.ts', find: "; frame-ancestors 'none'", replace: '', tests: PAGES, only: 'may be framed' },
  { name: 'pages may be framed, by the older header', file: 'src/routes/answer-page.ts', find: "'x-frame-options': 'DENY'", replace: "'x-frame-options': 'ALLOWALL'", tests: PAGES, only: 'may be framed' },
  { name: 'pages may be framed at all', file: 'src/routes/answer-page.ts', find: "base-uri 'none'; frame-ancestors 'none'\",\n  'x-content-type-options': 'nosniff',\n  'x-frame-options': 'DENY',", replace: "base-uri 'none'\",", tests: ADMIN, only: 'in a frame' },
  { name: 'pages may have scripts of their own', file: 'src/routes/answer-page.ts', find: "script-src 'self'", replace: "script-src 'self' 'unsafe-inline'", tests: PAGES, only: 'run nothing of elsewhere' },
  { name: 'types of pages are guessed', file: 'src/routes/answer-page.ts', find: "'x-content-type-options': 'nosniff',", replace: '', tests: PAGES, only: 'run nothing of elsewhere' },
  { name: 'pages are kept', file: 'src/routes/answer-page.ts', find: "'cache-control': 'no-store'", replace: "'cache-control': 'max-age=60'", tests: PAGES, only: 'run nothing of elsewhere' },
  { name: 'names are markup', file: 'src/views/parts.tsx', find: '<bdi title={text.slice(0, NAME_CHARS)}>{text.slice(0, NAME_CHARS)}</bdi>', replace: '<bdi dangerouslySetInnerHTML={{ __html: text }} />', tests: VIEWS, only: 'are text' },
  { name: 'what went wrong is markup', file: 'src/views/login.tsx', find: '<p>{why}</p>', replace: '<p dangerouslySetInnerHTML={{ __html: why }} />', tests: VIEWS, only: 'are text' },
  { name: 'names turn the text around them', file: 'src/views/parts.tsx', find: '<bdi title={text.slice(0, NAME_CHARS)}>{text.slice(0, NAME_CHARS)}</bdi>', replace: '<span>{text.slice(0, NAME_CHARS)}</span>', tests: VIEWS, only: 'writing direction' },
  { name: 'a cell is a formula', file: 'src/reports/csv.ts', find: "const text = formula ? `'${cell}` : cell", replace: "const text = formula ? cell : cell", tests: ['test/admin/export.test.ts'], only: 'is written as' },
  { name: 'a cell ends its line', file: 'src/reports/csv.ts', find: 'return /[",\\r\\n]|^\\s|\\s$/.test(text)', replace: 'return /["]/.test(text)', tests: ['test/admin/export.test.ts'], only: 'is written as' },
  { name: 'cookies of upstream are set for us', file: 'src/gateway/headers.ts', find: "'set-cookie', ", replace: '', tests: ['test/gateway/headers.test.ts'] },
  { name: 'any header goes up', file: 'src/gateway/headers.ts', find: 'if (HEADERS_UP.has(name) || PREFIXES_UP.some((prefix) => name.startsWith(prefix)))', replace: 'if (!Object.hasOwn(up, name))', tests: ['test/gateway/headers.test.ts'] },
  { name: "a client's key goes up in place of ours", file: 'src/providers/groq.ts', find: "new Set(['accept',", replace: "new Set(['authorization', 'accept',", tests: ['test/gateway/headers.test.ts'] },
  { name: 'idempotency keys are shared by all users', file: 'src/gateway/upstream.ts', find: '`${user} ${once}`', replace: 'once', tests: PROXY, only: 'idempotency' },
  { name: 'redirects are followed', file: 'src/gateway/upstream.ts', find: "redirect: 'manual',\n    })", replace: "redirect: 'follow' as 'manual',\n    })", tests: HTTP, only: 'led elsewhere' },
  { name: 'a body of a told length is not limited', file: 'src/http/bodies.ts', find: 'if (declared !== undefined && declared > maxSize)', replace: 'if (declared !== undefined && declared < 0)', tests: BODIES, only: 'too large' },
  { name: 'fields of the admin API are not limited', file: 'src/routes/admin.ts', find: 'app.use(sameOrigin, limitBody(bodies))', replace: 'app.use(sameOrigin)', tests: HTTP, only: 'for everything else' },
  { name: 'forms are not limited', file: 'src/routes/dashboard.ts', find: 'app.use(limitBody(bodies))', replace: '', tests: HTTP, only: 'for everything else' },
  { name: 'reports are not limited', file: 'src/routes/sync.ts', find: 'limitBody(bodies), pageJsonBody', replace: 'pageJsonBody', tests: HTTP, only: 'for everything else' },
  { name: 'inherited names are rows', file: 'src/ledger/records.ts', find: 'Object.hasOwn(record, key) ? record[key] : undefined', replace: 'record[key]', tests: ['test/gateway/gate.test.ts'], only: 'without a row' },
  { name: 'repeated keys of a body are taken', file: 'src/gateway/body-json.ts', find: 'if (names.has(folded)) {', replace: 'if (names.size < 0) {', tests: ['test/gateway/body.test.ts'] },
  { name: 'a page for everyone is that of any host', file: 'src/routes/home.tsx', find: 'version, demo, helpUrl }))', replace: "version, demo, helpUrl }), 200, { 'cache-control': 'public' })", tests: DATA, only: 'shared cache' },
  { name: 'a refused body keeps its connection from others', file: 'src/platform/edge.ts', find: 'await drainBody(request)', replace: '', tests: ['test/attack/http.test.ts'], only: 'leaves the connection' },
  { name: 'a broken stream looks whole', file: 'src/platform/workerd.ts', find: 'isEventStream && length === undefined && !waits', replace: 'false', tests: ['test/gateway/transparency.test.ts'], only: 'openai throws' },
  { name: 'a host of the client is ours', file: 'src/platform/node/server.ts', find: 'toOriginForm(request)\n', replace: '\n', tests: HTTP, only: 'no other host is ours' },
  { name: 'what a user has left may be kept', file: 'src/routes/sync.ts', find: "c.header('cache-control', 'no-store')", replace: '', tests: DATA, only: 'shared cache' },
  { name: 'a token that is not known is told apart', file: 'src/routes/models.ts', find: 'const { id: user } = caller\n', replace: "const { id: user } = caller\n    if (!(await deps.store?.user(user))) throw new ApiError('invalid_token', 'Who?')\n", tests: DATA, only: 'made-up token' },
  { name: 'ids are no keyed hashes', file: 'src/identity/ids.ts', find: 'if (secret === undefined)', replace: 'if (secret !== null)', tests: ['test/http/caller.test.ts'] },
  { name: 'the admin key is told apart from other tokens', file: 'src/identity/caller.ts', find: "    const user = await ids.user(ADMIN_KEY_AS_TOKEN)\n", replace: "    const user = ''\n", tests: ['test/http/caller.test.ts'], only: 'admin key' },
  { name: 'a hash of the admin key is stored', file: 'src/identity/caller.ts', find: 'ids.user(ADMIN_KEY_AS_TOKEN)', replace: "ids.user(config.adminKey ?? '')", tests: ['test/http/caller.test.ts'], only: 'admin key' },
  { name: 'made-up addresses turn off the limit of new users', file: 'src/platform/claimed-ip.ts', find: 'return proxySaid ? undefined :', replace: 'return', tests: CROWD, only: 'says that there is no proxy' },
  { name: 'all behind a proxy that is not configured are one network', file: 'src/identity/caller.ts', find: 'config.newUsersPerMinute > 0 && claimedIp(c) === undefined', replace: 'config.newUsersPerMinute > 0', tests: CROWD, only: 'share one address' },
  { name: 'one guesser locks out all who share a proxy', file: 'src/identity/admin-key.ts', find: '(isLongKey(found.key) || !isWalled || isClaimOpen)', replace: '(isLongKey(found.key) || !isWalled)', tests: CROWD, only: 'guesses of one address' },
  { name: 'made-up addresses give any number of guesses', file: 'src/identity/admin-key.ts', find: 'claimed !== undefined && count(all) < LOOKED_AT', replace: 'claimed !== undefined', tests: CROWD, only: 'at most 60' },
  { name: 'a long key is locked out', file: 'src/identity/admin-key.ts', find: '(isLongKey(found.key) || !isWalled || isClaimOpen)', replace: '(!isWalled || isClaimOpen)', tests: CROWD, only: 'a long key' },
  { name: 'syncs of strangers cost what they like', file: 'src/routes/sync.ts', find: 'if (taken >= perMinute) {', replace: 'if (taken < 0) {', tests: CROWD, only: 'does not exist' },
  { name: 'failed logins push out the audit trail', file: 'src/ledger/admin.ts', find: "command.action === 'failed login' ? view.lastAudit() : undefined", replace: 'undefined as Audit | undefined', tests: ['test/store/admin.test.ts'], only: 'failed logins' },
  { name: 'a token of the body is not held against that of the headers', file: 'src/identity/caller.ts', find: 'if (other !== undefined) {', replace: 'if (other === undefined && !tokens) {', tests: ['test/http/caller.test.ts'], only: 'two tokens' },
  { name: 'a JWT that fails is a token like any', file: 'src/identity/jwt.ts', find: 'return isObject(decodeHeader(text))', replace: 'return false', tests: SIGNED, only: 'no kind stands in' },
  { name: 'a signed token never ends', file: 'src/identity/jwt.ts', find: 'if (seconds >= exp + LEEWAY) {', replace: 'if (seconds < 0) {', tests: SIGNED, only: 'expired by' },
  { name: 'a signed token needs no end', file: 'src/identity/jwt.ts', find: 'if (!isTime(exp)) throw', replace: 'if (exp === null) throw', tests: SIGNED, only: 'no exp' },
  { name: 'a verified token is remembered beyond its end', file: 'src/identity/signed.ts', find: 'Math.min(exp * SECOND_MS, now() + REMEMBER_MS)', replace: 'now() + REMEMBER_MS', tests: SIGNED, only: 'or until it ends' },
  { name: 'issuers share their users', file: 'src/identity/ids.ts', find: '${issuer.length} ${issuer}', replace: '', tests: SIGNED, only: 'the same sub is another user' },
  { name: 'a token can give the id of a name', file: 'src/identity/ids.ts', find: "const USER = '\\x01'", replace: "const USER = ''", tests: SIGNED, only: 'the same sub is another user' },
  { name: 'made-up keys flood an issuer', file: 'src/identity/key-set.ts', find: 'nextAt = fetchedAt + UNKNOWN_MS', replace: 'nextAt = fetchedAt', tests: SIGNED, only: 'a thousand garbage tokens' },
  { name: 'an issuer may answer without end', file: 'src/identity/key-set.ts', find: 'if (size > MAX_BYTES) {', replace: 'if (size < 0) {', tests: SIGNED, only: 'answers too much' },
  { name: 'an issuer may take its time', file: 'src/identity/key-set.ts', find: '}, limitMs)', replace: '}, 60_000)', tests: SIGNED, only: 'an issuer that is slow' },
  { name: 'a key for encryption verifies', file: 'src/identity/key-set.ts', find: "if (use !== 'sig' || ", replace: "if (", tests: SIGNED, only: 'keys for encryption' },
  { name: 'whom a token names is a new user of its network', file: 'src/identity/caller.ts', find: 'if (isUnverified && config', replace: 'if (config', tests: SIGNED, only: 'only callers that are not verified' },
  { name: 'a refused token is repeated', file: 'src/identity/caller.ts', find: "'A user token has 8 to 512 printable ASCII characters.'", replace: '`${token} is not a user token.`', tests: ['test/http/caller.test.ts'], only: 'no part of a token' },
  { name: 'requests are logged with their headers', file: 'src/app.ts', find: 'const fields = { id: c.var.id,', replace: "const fields = { headers: c.req.header(), id: c.var.id,", tests: ADMIN, only: 'in nothing that comes out' },
  { name: 'errors of the database are logged with their commands', file: 'src/store/redis/call.ts', find: 'throw new StoreError(`the database', replace: 'throw new StoreError(`${String(error)} the database', tests: ['test/store/tcp.test.ts'], only: 'give nothing away|do not quote' },
  { name: 'errors of ours go to the client', file: 'src/errors.ts', find: "'Something went wrong here. It has been logged.'", replace: 'String(error)', tests: DATA, only: 'nobody expected' },
  { name: 'a batch waits for the one before', file: 'src/store/redis/gather.ts', find: 'await options.run(calls.map((call) => call.item))', replace: 'await (options.last = Promise.resolve(options.last).catch(() => 0).then(() => options.run(calls.map((call) => call.item))))', tests: ISOLATION, only: 'another is admitted' },
  { name: 'upstream is read on for a client that does not', file: 'src/platform/node/http.ts', find: 'if (size > MOST_UNREAD)', replace: 'if (size < 0)', tests: ISOLATION, only: 'reads nothing' },
  { name: 'any number of answers is read on for clients that have gone', file: 'src/gateway/relay.ts', find: 'drains.take(user)', replace: '(() => undefined)', tests: ['test/gateway/abort.test.ts'], only: 'lets further answers go' },
  { name: 'one user takes all places', file: 'src/gateway/places.ts', find: 'if (own >= perUser)', replace: 'if (own < 0)', tests: ['test/gateway/places.test.ts'] },
  { name: 'an answer is read on without end for a client that has gone', file: 'src/gateway/relay.ts', find: 'if (drained > limits.bytes) cut()', replace: 'if (drained < 0) cut()', tests: ['test/gateway/abort.test.ts'], only: 'cut at the limit' },
  { name: 'a request has no end', file: 'src/gateway/exchange.ts', find: 'setTimeout(() => controller.abort(), config.requestMs)', replace: 'setTimeout(() => controller.abort(), 2 ** 31 - 1)', tests: ['test/gateway/abort.test.ts'], only: 'until its time is up' },
] // prettier-ignore
