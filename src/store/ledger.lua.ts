/**
 * `usage/ledger.ts` in Lua, function by function, for Redis 7 and Upstash: a batch of commands in one atomic step.
 *
 * KEYS are the documents the commands are known to touch. ARGV[1] is `{prefix, keep}` as JSON, each
 * further argument one command, so that one that cannot be read does not fail the others.
 * Everything is decoded and reckoned before the first write, since Redis does not roll back; tables are copied, never changed
 * in place, so that a refused or failed command leaves nothing behind. A document that cannot be read is
 * moved to `…:damaged:…` and reported.
 */
export const LEDGER_SCRIPT = String.raw`
local SECONDS_PER_DAY = 86400
local MINUTE, HOUR, DAY = 60000, 3600000, 86400000
local LATE_SETTLE, ENTER_SECONDS, MODELS_PER_USER, SESSIONS_PER_USER = DAY, 7 * SECONDS_PER_DAY, 64, 64
local DAMAGED_SECONDS = 30 * SECONDS_PER_DAY
local TOP_DAY = 1e10
local NO_END = 8640000000000000
local AUDIT_KEPT, AUDIT_ID_CHARS = 1000, 6

local args = cjson.decode(ARGV[1])
local prefix, keep = args.prefix, args.keep

local function user_key(id) return prefix .. 'user:' .. id end
local function day_key(date) return prefix .. 'day:' .. date end
local function once_key(id) return prefix .. 'once:' .. id end
local function erased_key(id) return prefix .. 'erased:' .. id end

-- Days since the epoch to a civil date: http://howardhinnant.github.io/date_algorithms.html#civil_from_days
local function date_of(at)
  local z = math.floor(at / DAY) + 719468
  local era = math.floor(z / 146097)
  local doe = z - era * 146097
  local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524) - math.floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  local mp = math.floor((5 * doy + 2) / 153)
  local month = mp < 10 and mp + 3 or mp - 9
  local year = yoe + era * 400 + (month <= 2 and 1 or 0)
  return string.format('%04d-%02d-%02d', year, month, doy - math.floor((153 * mp + 2) / 5) + 1)
end

local function minute_of(at) return math.floor(at / MINUTE) end

local function copy(record)
  local result = {}
  for key, value in pairs(record) do result[key] = value end
  return result
end

local function with(record, key, value)
  local result = copy(record)
  result[key] = value
  return result
end

local function filter(record, wanted)
  local result = {}
  for key, value in pairs(record) do
    if wanted(value, key) then result[key] = value end
  end
  return result
end

local function size(record)
  local count = 0
  for _ in pairs(record) do count = count + 1 end
  return count
end

local function each(record, holds)
  if type(record) ~= 'table' then return false end
  for _, value in pairs(record) do
    if not holds(value) then return false end
  end
  return true
end

-- cjson reads numbers that it cannot write, such as 1e999.
local function is_number(value) return type(value) == 'number' and value > -1e16 and value < 1e16 end
local function is_text(value) return type(value) == 'string' end
local function optional(value, holds) return value == nil or holds(value) end

local function numbers(record, fields)
  if type(record) ~= 'table' then return false end
  for _, field in ipairs(fields) do
    if not is_number(record[field]) then return false end
  end
  return true
end

local COUNT = { 'tokens', 'requests' }
local SHORT = { 'requests', 'charged' }
local ROW = { 'requests', 'settled', 'partial', 'failed', 'charged', 'held', 'prompt', 'cached', 'completion', 'overshoot' }
local DAY_ROW = { 'requests', 'settled', 'partial', 'failed', 'charged', 'prompt', 'cached', 'completion', 'overshoot', 'users', 'at' }

local function is_count(value) return numbers(value, COUNT) end
local function is_row(value) return numbers(value, ROW) end
local function is_past_row(value) return is_row(value) or numbers(value, SHORT) and value.held == nil end
local function is_scopes(value) return each(value, is_text) end
local function is_lease(value)
  return numbers(value, { 'at', 'bound', 'until' }) and is_text(value.model) and optional(value.scopes, is_scopes)
end
local function is_block(value) return numbers(value, { 'at' }) and optional(value['until'], is_number) end
local function is_minute(value) return numbers(value, { 'n' }) and each(value.rows, is_count) end
local function is_day_row(value)
  return numbers(value, DAY_ROW) and each(value.hours, is_number)
end

local function is_user(doc)
  return numbers(doc, { 'v', 'at' }) and doc.v == 1
    and is_text(doc.id) and is_text(doc.date) and optional(doc.seen, is_number)
    and each(doc.rows, is_row)
    and each(doc.past, function(rows) return each(rows, is_past_row) end)
    and each(doc.sessions, is_number)
    and is_minute(doc.minute) and each(doc.leases, is_lease) and each(doc.blocks, is_block)
    and optional(doc.reported, function(rows) return each(rows, is_count) end)
end

local function is_day(doc)
  return numbers(doc, { 'v', 'sessions' }) and doc.v == 1 and is_text(doc.date)
    and is_day_row(doc.total) and each(doc.models, is_day_row)
    and each(doc.quota, is_count) and is_minute(doc.minute)
end

-- Documents: the raw ones of the declared keys, and those of undeclared keys where clocks disagree.

local raw, docs, damaged = {}, {}, {}
for i, value in ipairs(redis.call('MGET', unpack(KEYS))) do raw[KEYS[i]] = value end

local function load(key, readable)
  if docs[key] == nil then
    local text = raw[key]
    if text == nil then text = redis.call('GET', key) end
    docs[key] = false
    if text then
      local ok, doc = pcall(cjson.decode, text)
      if ok and readable(doc) then docs[key] = doc else damaged[key] = text end
    end
  end
  return docs[key] or nil
end

local function load_user(id) return load(user_key(id), is_user) end
local function load_day(date) return load(day_key(date), is_day) end

-- Events that must not be entered again. MGET gives false for a key that is not there.
local once = {}
local function entered(id) return once[id] or raw[once_key(id)] and true or false end

-- Until when a user's requests were erased. Erased users of this batch are here too.
local erased = {}
local function erased_at(id) return erased[id] or tonumber(raw[erased_key(id)] or nil) end

-- The rules.

local function new_user(id, now)
  return {
    v = 1, id = id, at = now, date = date_of(now), rows = {}, past = {}, sessions = {},
    minute = { n = minute_of(now), rows = {} }, leases = {}, blocks = {}
  }
end

local function new_row()
  return {
    requests = 0, settled = 0, partial = 0, failed = 0, charged = 0, held = 0,
    prompt = 0, cached = 0, completion = 0, overshoot = 0
  }
end

local function new_day_row()
  return {
    requests = 0, settled = 0, partial = 0, failed = 0, charged = 0,
    prompt = 0, cached = 0, completion = 0, overshoot = 0, users = 0, hours = {}, at = 0
  }
end

local function new_day(date)
  return { v = 1, date = date, total = new_day_row(), sessions = 0, models = {}, quota = {}, minute = { n = 0, rows = {} } }
end

local function unsettled(row) return row.requests - row.settled - row.partial - row.failed end

local function answered(row)
  if row.held then return row.settled + row.partial > 0 end
  return row.charged > 0
end

local function shorten(row)
  if row.held and (unsettled(row) > 0 or row.charged == 0 and answered(row)) then return row end
  return { requests = row.requests, charged = row.charged }
end

local function advance(doc, now)
  local at = math.max(doc.at, now)
  local date = date_of(at)
  local next = copy(doc)
  next.at = at
  next.leases = filter(doc.leases, function(lease) return at - lease.at < LATE_SETTLE end)
  next.blocks = filter(doc.blocks, function(block) return block['until'] == nil or block['until'] > at end)
  if minute_of(at) ~= doc.minute.n then next.minute = { n = minute_of(at), rows = {} } end
  if date ~= doc.date then
    local past = doc.past
    if size(doc.rows) > 0 then
      local short = {}
      for model, row in pairs(doc.rows) do short[model] = shorten(row) end
      past = with(past, doc.date, short)
    end
    local oldest = date_of(at - keep.userDays * DAY)
    next.past = filter(past, function(_, day) return day >= oldest end)
    next.date = date
    next.rows = {}
    next.sessions = {}
    next.reported = nil
  end
  return next
end

local function advance_day(doc, at)
  local day = doc or new_day(date_of(at))
  if minute_of(at) > day.minute.n then return with(day, 'minute', { n = minute_of(at), rows = {} }) end
  return day
end

local function blocked(model, block)
  return { ok = false, reason = 'blocked', model = model, why = block.reason, ['until'] = block['until'] }
end

local function count(tokens, requests) return { tokens = tokens, requests = requests } end

local function day_count(row)
  if not row then return count(0, 0) end
  return count(row.charged, row.requests)
end

local function admitted(doc, lease)
  return {
    ok = true, at = lease.at, day = day_count(doc.rows[lease.model]),
    minute = doc.minute.rows[lease.model] or count(0, 0)
  }
end

local function sum(counts)
  local total = count(0, 0)
  for _, one in pairs(counts) do
    total.tokens = total.tokens + one.tokens
    total.requests = total.requests + one.requests
  end
  return total
end

local function checks(doc, day, command)
  local model, rows, days = command.model, doc.minute.rows, {}
  for name, row in pairs(doc.rows) do days[name] = day_count(row) end
  local all = {
    { of = 'user', model = model, limits = command.limits.model,
      day = day_count(doc.rows[model]), minute = rows[model] or count(0, 0) },
    { of = 'user', model = '*', limits = command.limits.total, day = sum(days), minute = sum(rows) }
  }
  if not day then return all end
  local shared = { { '*', command.global.total }, { model, command.global.model } }
  for _, pair in ipairs(shared) do
    local scope = pair[1]
    all[#all + 1] = {
      of = 'everyone', model = scope, limits = pair[2],
      day = day.quota[scope] or count(0, 0), minute = day.minute.rows[scope] or count(0, 0)
    }
  end
  return all
end

local function refuse(check, bound, at)
  local limits = check.limits
  if not limits then return nil end
  local tries = {
    { 'day', 'requests', limits.requestsPerDay, check.day.requests, 1 },
    { 'day', 'tokens', limits.tokensPerDay, check.day.tokens, bound },
    { 'minute', 'requests', limits.requestsPerMinute, check.minute.requests, 1 },
    { 'minute', 'tokens', limits.tokensPerMinute, check.minute.tokens, bound }
  }
  for _, try in ipairs(tries) do
    local per, unit, limit, used, asked = unpack(try, 1, 5)
    if limit and used + asked > limit then
      local span = per == 'day' and DAY or MINUTE
      return {
        ok = false, reason = 'limit', of = check.of, model = check.model, per = per, unit = unit,
        limit = limit, used = used, asked = asked, resetAt = (math.floor(at / span) + 1) * span
      }
    end
  end
  return nil
end

local function add_count(counts, key, tokens, requests)
  local old = counts[key] or count(0, 0)
  return with(counts, key, count(old.tokens + tokens, old.requests + requests))
end

local function hold(day, scopes, bound)
  local quota, rows = day.quota, day.minute.rows
  for _, scope in ipairs(scopes) do
    quota = add_count(quota, scope, bound, 1)
    rows = add_count(rows, scope, bound, 1)
  end
  local next = copy(day)
  next.quota = quota
  next.minute = { n = day.minute.n, rows = rows }
  return next
end

local function rows_of(doc, date) return date == doc.date and doc.rows or doc.past[date] or {} end

local function with_row(doc, date, model, row)
  if date == doc.date then return with(doc, 'rows', with(doc.rows, model, row)) end
  return with(doc, 'past', with(doc.past, date, with(rows_of(doc, date), model, shorten(row))))
end

local function open(row, bound)
  local next = copy(row or new_row())
  if row and not row.held and row.charged == 0 then
    next = new_row()
    next.requests, next.failed = row.requests, row.requests
  end
  next.requests = next.requests + 1
  next.charged = next.charged + bound
  if next.held then next.held = next.held + bound end
  return next
end

local function admit(user, command)
  local doc = advance(user or new_user(command.user, command.now), command.now)
  local model, bound = command.model, command.bound
  local held = doc.leases[command.id]
  if held then return { answer = admitted(doc, held) } end
  if entered(command.id) then return { answer = admitted(doc, { model = model, at = doc.at }) } end

  if doc.blocks['*'] then return { answer = blocked('*', doc.blocks['*']) } end
  if doc.blocks[model] then return { answer = blocked(model, doc.blocks[model]) } end
  local row = doc.rows[model]
  if not row and size(doc.rows) >= MODELS_PER_USER then
    return { answer = { ok = false, reason = 'models' } }
  end

  local day = command.global and advance_day(load_day(date_of(doc.at)), doc.at)
  for _, check in ipairs(checks(doc, day, command)) do
    local refusal = refuse(check, bound, doc.at)
    if refusal then return { answer = refusal } end
  end

  local scopes = command.global and command.global.model and { '*', model } or { '*' }
  local lease = { model = model, at = doc.at, bound = bound, ['until'] = doc.at + command.lasts }
  if day then lease.scopes = scopes end
  doc = with_row(doc, doc.date, model, open(row, bound))
  doc.minute = { n = doc.minute.n, rows = add_count(doc.minute.rows, model, bound, 1) }
  doc.leases = with(doc.leases, command.id, lease)
  if command.ip then doc.ip = command.ip end
  return { user = doc, day = day and hold(day, scopes, bound), answer = admitted(doc, lease) }
end

local function tally(row, event)
  local next = copy(row)
  next[event.outcome] = row[event.outcome] + 1
  next.prompt = row.prompt + (event.prompt or 0)
  next.cached = row.cached + (event.cached or 0)
  next.completion = row.completion + (event.completion or 0)
  next.overshoot = row.overshoot + math.max(0, event.charged - event.bound)
  return next
end

local function end_row(row, event)
  local next = row.held and tally(row, event) or copy(row)
  next.charged = row.charged - event.bound + event.charged
  if row.held then next.held = row.held - event.bound end
  return next
end

local function end_day_row(row, event, first, at)
  local hour = string.format('%d', math.floor(event.at % DAY / HOUR))
  local next = tally(row, event)
  next.requests = row.requests + 1
  next.charged = row.charged + event.charged
  next.users = row.users + (first and 1 or 0)
  next.hours = with(row.hours, hour, (row.hours[hour] or 0) + event.charged)
  next.at = math.max(row.at, at)
  return next
end

local function first_answer(rows, row, event)
  if event.outcome == 'failed' then return { user = false, model = false, session = false } end
  local first = { user = true, model = not answered(row), session = false }
  for _, one in pairs(rows) do
    if answered(one) then first.user = false end
  end
  return first
end

local function end_day(day, lease, event, first, at)
  local model, change = lease.model, event.charged - lease.bound
  local next, rows = copy(day), day.minute.rows
  for _, scope in ipairs(lease.scopes or {}) do
    if next.quota[scope] then next.quota = add_count(next.quota, scope, change, 0) end
    if minute_of(lease.at) == day.minute.n and rows[scope] then
      rows = add_count(rows, scope, change, 0)
    end
  end
  local known = day.models[model]
  if known or event.outcome ~= 'failed' then
    next.models = with(day.models, model, end_day_row(known or new_day_row(), event, first.model, at))
  end
  next.total = end_day_row(day.total, event, first.user, at)
  next.sessions = day.sessions + (first.session and 1 or 0)
  next.minute = { n = day.minute.n, rows = rows }
  return next
end

local function close(doc, lease, ended, load)
  local event = copy(ended)
  event.at, event.user, event.model, event.bound = lease.at, doc.id, lease.model, lease.bound
  if doc.at > lease['until'] then event.late = true end

  local date, first, next = date_of(lease.at), { user = false, model = false, session = false }, copy(doc)
  local rows = rows_of(doc, date)
  local row = rows[lease.model]
  if row then
    first = first_answer(rows, row, event)
    next = with_row(doc, date, lease.model, end_row(row, event))
  end
  next.leases = with(doc.leases, event.id, nil)
  next.seen = doc.at
  if minute_of(lease.at) == doc.minute.n then
    next.minute = {
      n = doc.minute.n, rows = add_count(doc.minute.rows, lease.model, event.charged - lease.bound, 0)
    }
  end
  local session = event.session
  if session and date == doc.date and event.outcome ~= 'failed' then
    if not doc.sessions[session] and size(doc.sessions) < SESSIONS_PER_USER then
      first.session = true
      next.sessions = with(doc.sessions, session, 1)
    end
  end
  local day = end_day(load(date) or new_day(date), lease, event, first, doc.at)
  return { user = next, day = day, event = event, answer = { applied = true } }
end

local function settle(user, command)
  local nothing = { answer = { applied = false } }
  if not user or not user.leases[command.event.id] then return nothing end
  local doc = advance(user, command.now)
  local lease = doc.leases[command.event.id]
  if not lease then return nothing end
  return close(doc, lease, command.event, load_day)
end

local function enter(user, command)
  local event, scopes = command.event, command.scopes
  local gone = erased_at(command.user) or -math.huge
  if entered(event.id) or command.now - event.at >= ENTER_SECONDS * 1000 or event.at <= gone then
    return { answer = { applied = false } }
  end
  local doc = advance(user or new_user(command.user, event.at), event.at)
  local held = doc.leases[event.id]
  if held then return with(close(doc, held, event, load_day), 'entered', event.id) end

  local model, at, bound = event.model, event.at, event.bound
  local date = date_of(at)
  local lease = { model = model, at = at, bound = bound, ['until'] = doc.at, scopes = scopes }
  doc = with_row(doc, date, model, open(rows_of(doc, date)[model], bound))
  if minute_of(at) == doc.minute.n then
    doc.minute = { n = doc.minute.n, rows = add_count(doc.minute.rows, model, bound, 1) }
  end
  local load = load_day
  if scopes then
    local day = advance_day(load_day(date), at)
    local charged = hold(day, scopes, bound)
    if minute_of(at) ~= day.minute.n then charged.minute = day.minute end
    load = function() return charged end
  end
  return with(close(doc, lease, event, load), 'entered', event.id)
end

local function audit_of(command, action, user)
  return { at = command.now, action = action, user = user and string.sub(user, 1, AUDIT_ID_CHARS), ip = command.ip }
end

local function set_block(user, command)
  local doc = copy(user or new_user(command.user, command.now))
  doc.blocks = with(doc.blocks, command.model, command.block)
  local block, audit = command.block, audit_of(command, command.block and 'block' or 'unblock', command.user)
  audit.model = command.model
  if block then audit.reason, audit['until'] = block.reason, block['until'] end
  return { user = doc, block = command, audit = audit, answer = { ok = true } }
end

local function report(user, command)
  local doc = advance(user or new_user(command.user, command.now), command.now)
  local reported = copy(doc.reported or {})
  for model, said in pairs(command.models) do
    local known = reported[model]
    local full = not known and size(reported) >= MODELS_PER_USER
    if said.resetAt == (math.floor(doc.at / DAY) + 1) * DAY and not full then
      known = known or count(0, 0)
      reported[model] = count(math.max(known.tokens, said.tokens), math.max(known.requests, said.requests))
    end
  end
  local rows = {}
  for model, row in pairs(doc.rows) do rows[model] = day_count(row) end
  local answer = { ok = true, at = doc.at, rows = rows, blocks = doc.blocks }
  return { user = user and with(doc, 'reported', reported), answer = answer }
end

local function erase(_, command)
  return { erased = command, audit = audit_of(command, 'erase', command.user), answer = { ok = true } }
end

local function session(_, command)
  return { session = command, audit = audit_of(command, command.op), answer = { ok = true } }
end

local function note(_, command)
  return { audit = audit_of(command, command.action), answer = { ok = true } }
end

local function clear(_, command)
  local date = date_of(command.now)
  local today, day = load_day(date), nil
  if today then
    day = new_day(date)
    day.quota, day.minute = today.quota, today.minute
    day.forgotten = today.total.requests + (today.forgotten or 0)
  end
  return { day = day, cleared = command.now, audit = audit_of(command, 'clear'), answer = { ok = true } }
end

local REDUCE = {
  admit = admit, settle = settle, enter = enter, block = set_block, report = report, erase = erase,
  clear = clear, login = session, logout = session, note = note
}

-- The batch: reckon all, then write.

local users, days, events, blocks, answers = {}, {}, {}, {}, {}
local audits, sessions = {}, {}
local last_seen, spent, chores_at, cleared = {}, {}, nil, nil

local function settled_tokens(doc)
  local tokens = 0
  for _, row in pairs(doc.rows) do tokens = tokens + row.charged - row.held end
  return tokens
end

-- Last active goes by the minute, so that a busy user is not indexed anew with each request, and below it by a
-- fraction from the id, so that hardly two users are alike: activityOf in usage/record.ts.
local function activity(doc)
  local hash = 0
  for i = 1, 4 do hash = hash * 64 + (string.byte(doc.id, i) or 0) % 64 end
  return minute_of(doc.seen) + hash / 16777216
end

-- A score of top is the day and the day's tokens in one number, exact below 2^53.
local function index(before, doc)
  local minute = minute_of(doc.seen)
  if not before or not before.seen or minute_of(before.seen) ~= minute then
    last_seen[#last_seen + 1] = string.format('%.17g', activity(doc))
    last_seen[#last_seen + 1] = doc.id
  end
  local tokens = settled_tokens(doc)
  if tokens > 0 then spent[doc.id] = math.floor(doc.at / DAY) * TOP_DAY + math.min(tokens, TOP_DAY - 1) end
end

local function run(text)
  local command = cjson.decode(text)
  local before = command.user and load_user(command.user)
  local step = REDUCE[command.op](before, command)
  if step.user then
    docs[user_key(command.user)] = step.user
    users[command.user] = step.user
  end
  if step.day then
    docs[day_key(step.day.date)] = step.day
    days[step.day.date] = step.day
  end
  if step.entered then once[step.entered] = true end
  if step.event then
    events[#events + 1] = cjson.encode(step.event)
    index(before, step.user)
    if step.day.total.requests % 64 == 1 then chores_at = command.now end
  end
  if step.block then blocks[#blocks + 1] = step.block end
  if step.erased then
    docs[user_key(command.user)], users[command.user] = false, nil
    erased[command.user] = command.now
  end
  if step.session then sessions[#sessions + 1] = step.session end
  if step.audit then audits[#audits + 1] = cjson.encode(step.audit) end
  cleared = step.cleared or cleared
  return step.answer
end

for i = 2, #ARGV do
  local ok, answer = pcall(run, ARGV[i])
  answers[i - 1] = ok and answer or { error = true }
end

local function user_seconds(doc)
  local seconds = keep.userDays * SECONDS_PER_DAY
  for _, block in pairs(doc.blocks) do
    if not block['until'] then return nil end
    seconds = math.max(seconds, math.ceil((block['until'] - doc.at) / 1000))
  end
  return seconds
end

local reported = {}
for key, text in pairs(damaged) do
  redis.call('SET', prefix .. 'damaged:' .. string.sub(key, #prefix + 1), text, 'EX', DAMAGED_SECONDS)
  redis.call('DEL', key)
  reported[#reported + 1] = key
end
if cleared then
  local keys = { prefix .. 'events' }
  for ago = 1, keep.historyDays do keys[#keys + 1] = day_key(date_of(cleared - ago * DAY)) end
  redis.call('DEL', unpack(keys))
end
local function forget(id)
  redis.call('DEL', user_key(id), prefix .. 'damaged:user:' .. id)
  redis.call('SET', erased_key(id), string.format('%.0f', erased[id]), 'EX', string.format('%d', ENTER_SECONDS))
  redis.call('ZREM', prefix .. 'users', id)
  redis.call('ZREM', prefix .. 'top', id)
  for _, member in ipairs(redis.call('ZRANGE', prefix .. 'blocks', 0, -1)) do
    if string.sub(member, 1, #id + 1) == id .. ' ' then redis.call('ZREM', prefix .. 'blocks', member) end
  end
  local mine, others = '"user":' .. cjson.encode(id), {}
  for _, text in ipairs(redis.call('LRANGE', prefix .. 'events', 0, -1)) do
    if not string.find(text, mine, 1, true) then others[#others + 1] = text end
  end
  redis.call('DEL', prefix .. 'events')
  for i = 1, #others, 1000 do
    redis.call('RPUSH', prefix .. 'events', unpack(others, i, math.min(i + 999, #others)))
  end
  redis.call('EXPIRE', prefix .. 'events', string.format('%d', keep.historyDays * SECONDS_PER_DAY))
end
for id in pairs(erased) do forget(id) end
for _, command in ipairs(sessions) do
  local key = prefix .. 'session:' .. command.session
  local left = command['until'] and math.ceil((command['until'] - command.now) / 1000) or 0
  if left > 0 then
    redis.call('SET', key, string.format('%.0f', command['until']), 'EX', string.format('%d', left))
  else
    redis.call('DEL', key)
  end
end
if #audits > 0 then
  redis.call('LPUSH', prefix .. 'audit', unpack(audits))
  redis.call('LTRIM', prefix .. 'audit', 0, AUDIT_KEPT - 1)
end
for id, doc in pairs(users) do
  local seconds = user_seconds(doc)
  if seconds then
    redis.call('SET', user_key(id), cjson.encode(doc), 'EX', string.format('%d', seconds))
  else
    redis.call('SET', user_key(id), cjson.encode(doc))
  end
end
for date, doc in pairs(days) do
  redis.call('SET', day_key(date), cjson.encode(doc), 'EX', string.format('%d', keep.historyDays * SECONDS_PER_DAY))
end
for id in pairs(once) do redis.call('SET', once_key(id), '1', 'EX', string.format('%d', ENTER_SECONDS)) end
if #events > 0 and keep.eventsKept > 0 then
  local length = redis.call('LPUSH', prefix .. 'events', unpack(events))
  if length > keep.eventsKept * 1.1 + 64 then
    redis.call('LTRIM', prefix .. 'events', 0, keep.eventsKept - 1)
  end
end
if #last_seen > 0 then redis.call('ZADD', prefix .. 'users', unpack(last_seen)) end
local top = {}
for id, score in pairs(spent) do
  top[#top + 1] = string.format('%.0f', score)
  top[#top + 1] = id
end
if #top > 0 then redis.call('ZADD', prefix .. 'top', unpack(top)) end
for _, command in ipairs(blocks) do
  local member = command.user .. ' ' .. command.model
  if command.block then
    redis.call('ZADD', prefix .. 'blocks', string.format('%.0f', command.block['until'] or NO_END), member)
  else
    redis.call('ZREM', prefix .. 'blocks', member)
  end
end

-- With the first request of a day and every 64th after it, which is next to nothing for each: what has aged leaves the indexes.
if chores_at then
  local seconds = string.format('%d', keep.userDays * SECONDS_PER_DAY)
  redis.call('ZREMRANGEBYSCORE', prefix .. 'users', '-inf', string.format('%d', minute_of(chores_at) - keep.userDays * 1440))
  redis.call('ZREMRANGEBYSCORE', prefix .. 'top', '-inf', string.format('%.0f', (math.floor(chores_at / DAY) - 1) * TOP_DAY))
  redis.call('ZREMRANGEBYSCORE', prefix .. 'blocks', '-inf', string.format('%.0f', chores_at))
  redis.call('EXPIRE', prefix .. 'users', seconds)
  redis.call('EXPIRE', prefix .. 'top', seconds)
  redis.call('EXPIRE', prefix .. 'events', string.format('%d', keep.historyDays * SECONDS_PER_DAY))
end

return cjson.encode({ answers = answers, damaged = #reported > 0 and reported or nil })
`
