-- The batch: decides all commands, then writes.
--
-- KEYS are the documents that the commands are known to touch. ARGV[1] is `{keep, tolerance}` as
-- JSON. Each further argument is one command, so that a command that cannot be read does not fail
-- the others. Everything is decoded and decided before the first write, because Redis does not roll
-- back. A text that is not a document is moved to `…:damaged:…` and reported. A document of a newer
-- version fails its command and stays as it is.

-- What will be written: texts without an expiry in one MSET, the others one by one.
local usages, pasts, profiles, quotas, days, names, rows
local plans, settings, labels
local events, blocks, sessions
local index, models, ended, sweep_at, cleared, cleared_rows, new_users
local turned_down, refusals, outbox, tags

local function start_over()
  docs, once, erased = {}, {}, {}
  usages, pasts, profiles, quotas, days, names, rows = {}, {}, {}, {}, {}, {}, {}
  events, blocks, audits, sessions = {}, {}, {}, {}
  plans, settings, labels = {}, nil, {}
  changed_audit, new_users = nil, nil
  index, models, ended, sweep_at, cleared, cleared_rows = {}, {}, {}, nil, nil, {}
  turned_down, refusals, outbox, tags = {}, {}, nil, {}
end

-- A user's place in the two orders. Both are in one index, in separate ranges of scores: the lower
-- scores are `activityOf` in ledger/activity.ts, the higher ones hold the day and the tokens of
-- that day in one number, which is exact below 2^53.
local function index_user(doc)
  local hash, id = 0, doc.id
  for i = 1, 4 do
    hash = hash * 64 + (string.byte(id, i) or 0) % 64
  end
  local at, tokens = doc.indexed.at, doc.indexed.tokens
  index['a:' .. id] = format('%.17g', minute_of(at) + hash / 16777216)
  if tokens > 0 then
    index['t:' .. id] = format('%.0f', floor(at / DAY_MS) * TOP_DAY + math.min(tokens, TOP_DAY - 1))
  end
end

-- The words of a label in a document of any version.
local function words_at(key)
  local doc = docs[key]
  if not doc then
    local ok, decoded = pcall(cjson.decode, text_at(key) or '')
    doc = ok and type(decoded) == 'table' and decoded or {}
  end
  return type(doc.words) == 'table' and doc.words or nil
end

-- Notes that the words of a label have changed. `kind` is usage or profile.
local function relabel(kind, user, before, after)
  if before == after then return end
  local key = kind .. ' ' .. user
  labels[key] = labels[key] or { kind = kind, user = user, before = before or {} }
  labels[key].after = after or {}
end

local function keep_usage(user, before, doc)
  relabel('usage', user, before and before.words, doc.words)
  docs[user_key('usage', user)] = doc
  usages[user] = doc
  if
    not before
    or before.indexed.at ~= doc.indexed.at
    or before.indexed.tokens ~= doc.indexed.tokens
  then
    index_user(doc)
  end
end

local function keep_quotas(changed)
  for scope, quota in pairs(changed) do
    local before = load_quota(scope)
    local is_new_day = not before or date_of(before.at) ~= date_of(quota.at)
    if scope == ALL_MODELS and is_new_day then
      ended[#ended + 1] = before and date_of(before.at) or false
      sweep_at = quota.at
    elseif is_new_day then
      models[scope] = floor(quota.at / DAY_MS)
    end
    docs[quota_key(scope)] = quota
    quotas[scope] = quota
  end
end

local function keep_day_row(date, model, row)
  local key = row_key(date, model)
  -- A model with a row is listed already. Reading the whole list with each request would cost more
  -- than the rest of the request.
  if not load('row', key) then
    local names_key = PREFIX .. 'models:' .. date
    local named = load('models', names_key) or { v = VERSIONS.models, models = {} }
    named = with(named, 'models', with(named.models, model, 1))
    docs[names_key], names[date] = named, named
  end
  docs[key], rows[key] = row, row
end

-- The keys of the rows and of the list of models of the current day. By the ledger's clock, that
-- may still be an earlier day than the day of `moment`.
local function open_keys(moment)
  local keys, quota = {}, load_quota(ALL_MODELS)
  for _, at in ipairs({ moment, quota and quota.at }) do
    local date = date_of(at)
    for model in pairs(load_models(date)) do
      keys[#keys + 1] = row_key(date, model)
    end
    keys[#keys + 1] = PREFIX .. 'models:' .. date
    keys[#keys + 1] = PREFIX .. 'tags:' .. date
  end
  return keys
end

local function run(text)
  local command = cjson.decode(text)
  local user = command.user
  -- The report of a user without a document writes nothing, so the time is not asked for.
  local is_idle = command.op == 'report' and not load_user('usage', user)
  local at = time_of(command.now, is_idle)
  local step = reduce(command, at)
  local gone = step.cleared and open_keys(step.cleared)
  -- Everything has been read and nothing fails from here on, so a command is kept whole or not at
  -- all.
  if step.event then events[#events + 1] = cjson.encode(step.event) end
  if step.audit then
    local entry = cjson.encode(step.audit)
    if not step.again then
      audits[#audits + 1] = entry
    elseif audits[1] then
      audits[#audits] = entry
    else
      changed_audit = entry
    end
  end
  if step.cleared then
    cleared, cleared_rows = step.cleared, gone
    for _, key in ipairs(gone) do
      docs[key] = false
    end
  end
  -- The clock comes first, because it decides whether a day is open or folded.
  if step.quotas then keep_quotas(step.quotas) end
  local day, row, event = step.day, step.day_row, step.event
  if row and day and not day.open then
    day.models[event.model] = row
  elseif row then
    keep_day_row(date_of(event.at), event.model, row)
  end
  if day then
    docs[PREFIX .. 'day:' .. day.date], days[day.date] = day, day
  end
  if step.tagged then
    local key = PREFIX .. 'tags:' .. date_of(event.at)
    docs[key], tags[key] = step.tagged, step.tagged
  end
  if step.usage then keep_usage(user, load_user('usage', user), step.usage) end
  if step.past then
    docs[user_key('past', user)], pasts[user] = step.past, step.past
  end
  if step.profile then
    local before = load_user('profile', user)
    relabel('profile', user, before and before.words, step.profile.words)
    docs[user_key('profile', user)] = step.profile
    profiles[user] = { doc = step.profile, at = at }
  end
  if step.outbox then
    outbox = step.outbox
    docs[PREFIX .. 'alerts'] = outbox
  end
  if step.settings then
    settings = step.settings
    docs[PREFIX .. 'settings'] = settings
  end
  if step.plan then
    local key = PREFIX .. 'plan:' .. step.plan.name
    docs[key] = step.plan.doc or false
    plans[key] = step.plan.doc or false
  end
  local everyone = step.quotas and step.quotas[ALL_MODELS]
  local today = event and everyone.windows.day
  if today and today.requests % SWEEP_EVERY == 1 then sweep_at = everyone.at end
  if step.entered then once[step.entered] = true end
  if step.new_users then
    new_users = step.new_users
    docs[PREFIX .. 'new-users'] = new_users
  end
  if step.block then blocks[#blocks + 1] = step.block end
  if step.refused then turned_down[#turned_down + 1] = step.refused end
  for date, counts in pairs(step.refusals or {}) do
    refusals[date] = refusals[date] or {}
    for name, count in pairs(counts) do
      refusals[date][name] = (refusals[date][name] or 0) + count
    end
  end
  if step.erased then
    for _, kind in ipairs({ 'usage', 'profile' }) do
      relabel(kind, user, words_at(user_key(kind, user)), nil)
    end
    for _, key in ipairs({
      user_key('usage', user),
      user_key('windows', user),
      user_key('past', user),
      user_key('profile', user),
    }) do
      docs[key] = false
    end
    usages[user], pasts[user], profiles[user] = nil, nil, nil
    index['a:' .. user], index['t:' .. user] = nil, nil
    erased[user] = step.erased
  end
  if step.session then sessions[#sessions + 1] = step.session end
  return step.answer
end

local answers, failed = {}, {}

-- Decides all commands except those that have failed. False if it must start again: another command
-- has failed in the middle of its changes, or a document is damaged.
local function decide()
  start_over()
  for i = 2, #ARGV do
    local answer = failed[i]
    if not answer then
      local ok, result = pcall(run, ARGV[i])
      if not ok and result == 'DAMAGED' then return false end
      if not ok then
        -- A document of a newer version is found before anything has changed.
        answer = { error = result == 'NEWER' and 'newer' or 'failed' }
        failed[i] = answer
        if result ~= 'NEWER' then return false end
      else
        answer = result
      end
    end
    answers[i - 1] = answer
  end
  return true
end

while not decide() do
end

local function damaged_key(key) return PREFIX .. 'damaged:' .. string.sub(key, #PREFIX + 1) end

-- From here on everything is written. Functions for rare cases are made only when they are needed.

local USER_SECONDS = format('%d', keep.userDays * 86400)
local HISTORY_SECONDS = format('%d', keep.historyDays * 86400)
local ENTER_SECONDS = format('%d', ENTER_MS / 1000)

-- Values per call: Lua cannot pass more than about 8,000.
local SLICE = 1000

local function call_with(name, key, values)
  for from = 1, #values, SLICE do
    local to = math.min(from + SLICE - 1, #values)
    if key then
      redis.call(name, key, unpack(values, from, to))
    else
      redis.call(name, unpack(values, from, to))
    end
  end
end

local function write_day(date, day)
  redis.call('SET', PREFIX .. 'day:' .. date, cjson.encode(day), 'EX', HISTORY_SECONDS)
end

if ended[1] ~= nil then
  local function folded(date)
    local day = load_day(date)
    if not day or not day.open then return nil end
    return closed(day)
  end

  -- Makes one document of a day that has ended. A document of a newer version stays as it is.
  local function fold(date)
    local ok, day, keys = pcall(folded, date)
    if not ok or not day then return end
    days[date], names[date] = nil, nil
    for _, key in ipairs(keys) do
      rows[key], tags[key] = nil, nil
    end
    write_day(date, day)
    call_with('DEL', nil, keys)
  end

  for _, date in ipairs(ended) do
    if date then fold(date) end
    -- Also earlier days: folding may have failed at their end, or the database may have lost its
    -- clock.
    for ago = 1, 7 do
      fold(date_of(sweep_at - ago * DAY_MS))
    end
  end
end

-- This includes damaged documents that folding has found.
local reported
for key, text in pairs(damaged) do
  redis.call('SET', damaged_key(key), text, 'EX', DAMAGED_SECONDS)
  redis.call('DEL', key)
  reported = reported or {}
  reported[#reported + 1] = key
end

if cleared then
  local keys = { PREFIX .. 'events', PREFIX .. 'refused' }
  for ago = 0, keep.historyDays do
    local date = date_of(cleared - ago * DAY_MS)
    if ago > 0 then keys[#keys + 1] = PREFIX .. 'day:' .. date end
    keys[#keys + 1] = PREFIX .. 'refusals:' .. date
  end
  for _, key in ipairs(cleared_rows) do
    keys[#keys + 1] = key
  end
  call_with('DEL', nil, keys)
end

for id, gone_at in pairs(erased) do
  for _, kind in ipairs({ 'usage', 'windows', 'past', 'profile' }) do
    local key = user_key(kind, id)
    redis.call('DEL', key, damaged_key(key))
  end
  redis.call('SET', PREFIX .. 'erased:' .. id, format('%.0f', gone_at), 'EX', ENTER_SECONDS)
  redis.call('ZREM', PREFIX .. 'users', 'a:' .. id, 't:' .. id)
  redis.call('ZREM', PREFIX .. 'profiles', id)
  for _, member in ipairs(redis.call('ZRANGE', PREFIX .. 'blocks', 0, -1)) do
    if string.sub(member, 1, #id + 1) == id .. ' ' then
      redis.call('ZREM', PREFIX .. 'blocks', member)
    end
  end
  local mine = '"user":' .. cjson.encode(id)
  for list, seconds in pairs({ events = HISTORY_SECONDS, refused = USER_SECONDS }) do
    local others = {}
    for _, text in ipairs(redis.call('LRANGE', PREFIX .. list, 0, -1)) do
      if not string.find(text, mine, 1, true) then others[#others + 1] = text end
    end
    redis.call('DEL', PREFIX .. list)
    call_with('RPUSH', PREFIX .. list, others)
    redis.call('EXPIRE', PREFIX .. list, seconds)
  end
end

for _, command in ipairs(sessions) do
  local key = PREFIX .. 'session:' .. command.session
  local left = command['until'] and math.ceil((command['until'] - command.now) / 1000) or 0
  if left > 0 then
    redis.call('SET', key, format('%.0f', command['until']), 'EX', format('%d', left))
  else
    redis.call('DEL', key)
  end
end

if changed_audit then redis.call('LSET', PREFIX .. 'audit', 0, changed_audit) end
if audits[1] then
  redis.call('LPUSH', PREFIX .. 'audit', unpack(audits))
  redis.call('LTRIM', PREFIX .. 'audit', 0, AUDIT_KEPT - 1)
end

-- Personal data expires by itself, even if no request ever comes again.
for id, doc in pairs(usages) do
  for model, use in pairs(doc.models) do
    if type(use) == 'table' then
      use.windows = stored_windows(use.windows)
      doc.models[model] = cjson.encode(use)
    end
  end
  doc.windows = stored_windows(doc.windows)
  doc.keysCharged = doc.keysCharged and stored_windows(doc.keysCharged)
  redis.call('SET', user_key('usage', id), cjson.encode(doc), 'EX', USER_SECONDS)
  local left = doc.limitedUntil and math.ceil((doc.limitedUntil - doc.at) / 1000) or 0
  if left > keep.userDays * 86400 then
    local bare = { windows = doc.windows, limitedUntil = doc.limitedUntil, models = {} }
    for model, text in pairs(doc.models) do
      bare.models[model] = cjson.encode({ row = {}, windows = cjson.decode(text).windows })
    end
    local doc_of_it = new_usage(id, doc.at)
    for field, value in pairs(bare) do
      doc_of_it[field] = value
    end
    redis.call('SET', user_key('windows', id), cjson.encode(doc_of_it), 'EX', format('%d', left))
  end
end
for id, doc in pairs(pasts) do
  redis.call('SET', user_key('past', id), cjson.encode(doc), 'EX', USER_SECONDS)
end

if outbox then redis.call('SET', PREFIX .. 'alerts', cjson.encode(outbox), 'EX', USER_SECONDS) end

if next(profiles) then
  local BASE = { v = 1, id = 1, blocks = 1 }
  local function has_more_than_blocks(doc)
    if next(doc.limits) or next(doc.keys) then return true end
    for name in pairs(doc) do
      if not BASE[name] and name ~= 'limits' and name ~= 'keys' then return true end
    end
    return false
  end

  -- When a profile is no longer needed: with its last block, or never if it has more than blocks.
  local function end_of_profile(doc)
    if has_more_than_blocks(doc) then return NO_END end
    local ends = 0
    for _, block in pairs(doc.blocks) do
      ends = max(ends, block['until'] or NO_END)
    end
    return ends
  end

  for id, profile in pairs(profiles) do
    local key, text, ends =
      user_key('profile', id), cjson.encode(profile.doc), end_of_profile(profile.doc)
    if has_more_than_blocks(profile.doc) then
      redis.call('ZADD', PREFIX .. 'profiles', 0, id)
    else
      redis.call('ZREM', PREFIX .. 'profiles', id)
    end
    if ends == NO_END then
      redis.call('SET', key, text)
    elseif ends > 0 then
      local left = max(1, math.ceil((ends - profile.at) / 1000))
      redis.call('SET', key, text, 'EX', format('%.0f', left))
    else
      redis.call('DEL', key)
    end
  end
end

if next(labels) then
  local function members_of(label, list)
    local members = {}
    for word in pairs(list) do
      members[#members + 1] = word .. ' ' .. label.kind .. ' ' .. label.user
    end
    return members
  end

  for _, label in pairs(labels) do
    local before, after = members_of(label, label.before), members_of(label, label.after)
    if before[1] then redis.call('ZREM', PREFIX .. 'labels', unpack(before)) end
    for _, member in ipairs(after) do
      redis.call('ZADD', PREFIX .. 'labels', 0, member)
    end
    if label.kind == 'usage' then
      -- A usage document leaves by itself, and with it what it says of its words.
      local named = PREFIX .. 'labelled'
      if after[1] then
        redis.call('HSET', named, label.user, cjson.encode(after))
      else
        redis.call('HDEL', named, label.user)
      end
    end
  end
end

for key, doc in pairs(plans) do
  if not doc then redis.call('DEL', key) end
end

local texts = {}
for key, doc in pairs(plans) do
  if doc then
    texts[#texts + 1] = key
    texts[#texts + 1] = cjson.encode(doc)
  end
end
if settings then
  texts[#texts + 1] = PREFIX .. 'settings'
  texts[#texts + 1] = cjson.encode(settings)
end
for scope, quota in pairs(quotas) do
  quota.windows = stored_windows(quota.windows)
  texts[#texts + 1] = quota_key(scope)
  texts[#texts + 1] = cjson.encode(quota)
end
for key, row in pairs(rows) do
  row.v = VERSIONS.row
  texts[#texts + 1] = key
  texts[#texts + 1] = cjson.encode(row)
end
for key, tagged in pairs(tags) do
  texts[#texts + 1] = key
  texts[#texts + 1] = cjson.encode(tagged)
end
for date, named in pairs(names) do
  texts[#texts + 1] = PREFIX .. 'models:' .. date
  texts[#texts + 1] = cjson.encode(named)
end
for date, day in pairs(days) do
  if day.open then
    texts[#texts + 1] = PREFIX .. 'day:' .. date
    texts[#texts + 1] = cjson.encode(day)
  else
    write_day(date, day)
  end
end
if new_users then
  texts[#texts + 1] = PREFIX .. 'new-users'
  texts[#texts + 1] = cjson.encode(new_users)
end
call_with('MSET', nil, texts)

for id in pairs(once) do
  redis.call('SET', PREFIX .. 'once:' .. id, '1', 'EX', ENTER_SECONDS)
end
if #events > 0 and keep.eventsKept > 0 then
  local length = redis.call('LPUSH', PREFIX .. 'events', unpack(events))
  if length > keep.eventsKept * 1.1 + 64 then
    redis.call('LTRIM', PREFIX .. 'events', 0, keep.eventsKept - 1)
  end
end

for date, counts in pairs(refusals) do
  for name, count in pairs(counts) do
    redis.call('HINCRBY', PREFIX .. 'refusals:' .. date, name, format('%d', count))
  end
end
-- One of a user and code in a minute.
for _, entry in ipairs(turned_down) do
  local mark = PREFIX .. 'refused:' .. entry.user .. ':' .. entry.code .. ':' .. minute_of(entry.at)
  if redis.call('SET', mark, '1', 'NX', 'EX', '60') then
    redis.call('LPUSH', PREFIX .. 'refused', cjson.encode(entry))
  end
end

local scores = {}
for member, score in pairs(index) do
  scores[#scores + 1] = score
  scores[#scores + 1] = member
end
call_with('ZADD', PREFIX .. 'users', scores)
scores = {}
for member, score in pairs(models) do
  scores[#scores + 1] = score
  scores[#scores + 1] = member
end
call_with('ZADD', PREFIX .. 'models', scores)

for _, command in ipairs(blocks) do
  local member = command.user .. ' ' .. command.model
  if command.block then
    redis.call('ZADD', PREFIX .. 'blocks', format('%.0f', command.block['until'] or NO_END), member)
  else
    redis.call('ZREM', PREFIX .. 'blocks', member)
  end
end

-- Removes old entries from the indexes: a limited number at a time, with a part of the requests.
if sweep_at then
  local function sweep(key, from, to)
    local old = redis.call('ZRANGE', key, from, to, 'BYSCORE', 'LIMIT', 0, SWEPT)
    if #old > 0 then redis.call('ZREM', key, unpack(old)) end
    return old
  end

  local today = floor(sweep_at / DAY_MS)
  local gone =
    sweep(PREFIX .. 'users', '-inf', format('%d', minute_of(sweep_at) - keep.userDays * 1440))
  if gone[1] then
    -- Also the words of their labels.
    local ids = {}
    for _, member in ipairs(gone) do
      ids[#ids + 1] = string.match(member, '^a:(.*)$')
    end
    for from = 1, #ids, SLICE do
      local some = { unpack(ids, from, math.min(from + SLICE - 1, #ids)) }
      for i, text in ipairs(redis.call('HMGET', PREFIX .. 'labelled', unpack(some))) do
        if text then
          redis.call('ZREM', PREFIX .. 'labels', unpack(cjson.decode(text)))
          redis.call('HDEL', PREFIX .. 'labelled', some[i])
        end
      end
    end
  end
  sweep(PREFIX .. 'users', format('%.0f', TOP_DAY), format('%.0f', (today - 1) * TOP_DAY))
  sweep(PREFIX .. 'blocks', '-inf', format('%.0f', sweep_at))
  local unused = {}
  for i, model in ipairs(sweep(PREFIX .. 'models', '-inf', format('%d', today - QUOTA_DAYS))) do
    unused[i] = quota_key(model)
  end
  call_with('DEL', nil, unused)
  redis.call('EXPIRE', PREFIX .. 'users', USER_SECONDS)
  redis.call('EXPIRE', PREFIX .. 'events', HISTORY_SECONDS)
  redis.call('LTRIM', PREFIX .. 'refused', 0, REFUSED_KEPT - 1)
  redis.call('EXPIRE', PREFIX .. 'refused', USER_SECONDS)
  for ago = 0, 1 do
    local date = date_of(sweep_at - ago * DAY_MS)
    redis.call('EXPIRE', PREFIX .. 'refusals:' .. date, HISTORY_SECONDS)
  end
end

return cjson.encode({ answers = answers, damaged = reported })
