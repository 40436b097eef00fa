-- The batch: decides all commands, then writes.
--
-- KEYS are the documents the commands are known to touch. ARGV[1] is `{prefix, keep, tolerance}` as
-- JSON, each further argument one command, so that one that cannot be read does not fail the
-- others. Everything is decoded and decided before the first write, since Redis does not roll back.
-- A text that is no document is moved to `…:damaged:…` and reported; a document of a newer version
-- fails its command and stays as it is.

-- What is written: texts without an end in one MSET, the others by themselves.
local usages, pasts, profiles, quotas, days, names, rows = {}, {}, {}, {}, {}, {}, {}
local events, blocks, audits, sessions, answers = {}, {}, {}, {}, {}
local index, models, ended, sweep_at, cleared, cleared_rows = {}, {}, {}, nil, nil, {}

-- Where a user stands in the two orders; both are in one index, in ranges of scores that do not
-- meet: `activityOf` in ledger/documents.ts below, and above it the day and that day's tokens in
-- one number, exact below 2^53.
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

local function keep_usage(user, before, doc)
  docs[usage_key(user)] = doc
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

local function keep_day(day, row, event)
  local date = day.date
  if not event then
    -- Cleared: its rows go too.
    day.open = 1
  elseif is_open(date) then
    day.open, day.models = 1, {}
    if row then
      local key, model = row_key(date, event.model), event.model
      -- What has a row is named already: to read all names with each request would cost more than
      -- the rest of it.
      if not load('row', key) then
        local names_key = models_key(date)
        local named = load('models', names_key) or { v = VERSIONS.models, models = {} }
        named = with(named, 'models', with(named.models, model, 1))
        docs[names_key], names[date] = named, named
      end
      docs[key], rows[key] = row, row
    end
  else
    day.models = with(day.models or {}, event.model, row)
  end
  docs[day_key(date)] = day
  days[date] = day
end

-- The keys of rows and names of the day that is going on, which by the clock may be an earlier one
-- still than that of the moment.
local function open_keys(moment)
  local keys, quota = {}, load_quota(ALL_MODELS)
  for _, at in ipairs({ moment, quota and quota.at }) do
    local date = date_of(at)
    for model in pairs(load_models(date)) do
      keys[#keys + 1] = row_key(date, model)
    end
    keys[#keys + 1] = models_key(date)
  end
  return keys
end

-- The names of a day, where a row of a model comes to it.
local function read_names(date, model)
  if is_open(date) and not load('row', row_key(date, model)) then load_models(date) end
end

local function run(text)
  local command = cjson.decode(text)
  local user = command.user
  local at = time_of(command.now)
  local step = REDUCE[command.op](command, at)
  local gone = step.cleared and open_keys(step.cleared)
  if step.event then read_names(step.day.date, step.event.model) end
  -- All is read, and nothing fails from here on, so that a command is kept whole or not at all.
  if step.event then events[#events + 1] = cjson.encode(step.event) end
  if step.audit then audits[#audits + 1] = cjson.encode(step.audit) end
  if step.cleared then
    cleared, cleared_rows = step.cleared, gone
    for _, key in ipairs(gone) do
      docs[key] = false
    end
  end
  -- The clock first: by it a day is open or folded.
  if step.quotas then keep_quotas(step.quotas) end
  if step.day then keep_day(step.day, step.day_row, step.event) end
  if step.usage then keep_usage(user, load_usage(user), step.usage) end
  if step.past then
    docs[past_key(user)], pasts[user] = step.past, step.past
  end
  if step.profile then
    docs[profile_key(user)] = step.profile
    profiles[user] = { doc = step.profile, at = at }
  end
  if step.event and step.day.total.requests % SWEEP_EVERY == 1 then
    sweep_at = step.quotas[ALL_MODELS].at
  end
  if step.entered then once[step.entered] = true end
  if step.block then blocks[#blocks + 1] = step.block end
  if step.erased then
    for _, key in ipairs({ usage_key(user), past_key(user), profile_key(user) }) do
      docs[key] = false
    end
    usages[user], pasts[user], profiles[user] = nil, nil, nil
    index['a:' .. user], index['t:' .. user] = nil, nil
    erased[user] = step.erased
  end
  if step.session then sessions[#sessions + 1] = step.session end
  return step.answer
end

for i = 2, #ARGV do
  local ok, answer = pcall(run, ARGV[i])
  answers[i - 1] = ok and answer or { error = answer == 'NEWER' and 'newer' or 'failed' }
end

-- From here on everything is written.

local function seconds_of(days_kept) return format('%d', days_kept * 86400) end
local USER_SECONDS, HISTORY_SECONDS = seconds_of(keep.userDays), seconds_of(keep.historyDays)
local ENTER_SECONDS = format('%d', ENTER_MS / 1000)

local function damaged_key(key) return prefix .. 'damaged:' .. string.sub(key, #prefix + 1) end

-- So many at once, since Lua cannot pass more than some 8,000.
local SLICE = 1000

local function each_slice(values, call)
  for from = 1, #values, SLICE do
    call(unpack(values, from, math.min(from + SLICE - 1, #values)))
  end
end

local function delete(keys)
  each_slice(keys, function(...) redis.call('DEL', ...) end)
end

local function write_day(date, day)
  redis.call('SET', day_key(date), cjson.encode(day), 'EX', HISTORY_SECONDS)
end

-- A day and its rows as one document, and the keys of the rows; nothing where it is one already.
local function folded(date)
  local day = load_day(date)
  if not day or not day.open then return nil end
  local keys, whole_day = { models_key(date) }, copy(day)
  whole_day.open, whole_day.models = nil, {}
  for model in pairs(load_models(date)) do
    local key = row_key(date, model)
    keys[#keys + 1] = key
    whole_day.models[model] = load('row', key)
  end
  return whole_day, keys
end

-- A day that has ended becomes one document. What a newer version wrote stays as it is.
local function fold(date)
  local ok, day, keys = pcall(folded, date)
  if not ok or not day then return end
  days[date], names[date] = nil, nil
  for _, key in ipairs(keys) do
    rows[key] = nil
  end
  write_day(date, day)
  delete(keys)
end

for _, date in ipairs(ended) do
  if date then fold(date) end
  -- And those before, if one could not be folded at its end, or the database has lost its clock.
  for ago = 1, 7 do
    fold(date_of(sweep_at - ago * DAY_MS))
  end
end

-- What folding has met is among these.
local reported = {}
for key, text in pairs(damaged) do
  redis.call('SET', damaged_key(key), text, 'EX', DAMAGED_SECONDS)
  redis.call('DEL', key)
  reported[#reported + 1] = key
end

if cleared then
  local keys = { prefix .. 'events' }
  for ago = 1, keep.historyDays do
    keys[#keys + 1] = day_key(date_of(cleared - ago * DAY_MS))
  end
  for _, key in ipairs(cleared_rows) do
    keys[#keys + 1] = key
  end
  delete(keys)
end

local function forget(id)
  for _, key in ipairs({ usage_key(id), past_key(id), profile_key(id) }) do
    redis.call('DEL', key, damaged_key(key))
  end
  redis.call('SET', erased_key(id), format('%.0f', erased[id]), 'EX', ENTER_SECONDS)
  redis.call('ZREM', prefix .. 'users', 'a:' .. id, 't:' .. id)
  for _, member in ipairs(redis.call('ZRANGE', prefix .. 'blocks', 0, -1)) do
    if string.sub(member, 1, #id + 1) == id .. ' ' then
      redis.call('ZREM', prefix .. 'blocks', member)
    end
  end
  local mine, others = '"user":' .. cjson.encode(id), {}
  for _, text in ipairs(redis.call('LRANGE', prefix .. 'events', 0, -1)) do
    if not string.find(text, mine, 1, true) then others[#others + 1] = text end
  end
  redis.call('DEL', prefix .. 'events')
  each_slice(others, function(...) redis.call('RPUSH', prefix .. 'events', ...) end)
  redis.call('EXPIRE', prefix .. 'events', HISTORY_SECONDS)
end
for id in pairs(erased) do
  forget(id)
end

for _, command in ipairs(sessions) do
  local key = prefix .. 'session:' .. command.session
  local left = command['until'] and math.ceil((command['until'] - command.now) / 1000) or 0
  if left > 0 then
    redis.call('SET', key, format('%.0f', command['until']), 'EX', format('%d', left))
  else
    redis.call('DEL', key)
  end
end

if #audits > 0 then
  redis.call('LPUSH', prefix .. 'audit', unpack(audits))
  redis.call('LTRIM', prefix .. 'audit', 0, AUDIT_KEPT - 1)
end

-- What is personal leaves by itself, even where no request ever comes again.
for id, doc in pairs(usages) do
  redis.call('SET', usage_key(id), cjson.encode(doc), 'EX', USER_SECONDS)
end
for id, doc in pairs(pasts) do
  redis.call('SET', past_key(id), cjson.encode(doc), 'EX', USER_SECONDS)
end
-- When the last of a profile's blocks ends; never where there is more in it than blocks.
local function end_of_profile(doc)
  local ends = 0
  for name in pairs(doc) do
    if not SHAPES.profile().fields[name] then return NO_END end
  end
  for _, block in pairs(doc.blocks) do
    ends = max(ends, block['until'] or NO_END)
  end
  return ends
end

for id, profile in pairs(profiles) do
  local key, text, ends = profile_key(id), cjson.encode(profile.doc), end_of_profile(profile.doc)
  if ends == NO_END then
    redis.call('SET', key, text)
  elseif ends > 0 then
    local left = max(1, math.ceil((ends - profile.at) / 1000))
    redis.call('SET', key, text, 'EX', format('%.0f', left))
  else
    redis.call('DEL', key)
  end
end

local texts = {}
local function text_of(key, doc)
  texts[#texts + 1] = key
  texts[#texts + 1] = cjson.encode(doc)
end
for scope, quota in pairs(quotas) do
  text_of(quota_key(scope), quota)
end
for key, row in pairs(rows) do
  text_of(key, with(row, 'v', VERSIONS.row))
end
for date, named in pairs(names) do
  text_of(models_key(date), named)
end
for date, day in pairs(days) do
  if day.open then
    text_of(day_key(date), day)
  else
    write_day(date, day)
  end
end
each_slice(texts, function(...) redis.call('MSET', ...) end)

for id in pairs(once) do
  redis.call('SET', once_key(id), '1', 'EX', ENTER_SECONDS)
end
if #events > 0 and keep.eventsKept > 0 then
  local length = redis.call('LPUSH', prefix .. 'events', unpack(events))
  if length > keep.eventsKept * 1.1 + 64 then
    redis.call('LTRIM', prefix .. 'events', 0, keep.eventsKept - 1)
  end
end

local function add_all(key, scores)
  local entries = {}
  for member, score in pairs(scores) do
    entries[#entries + 1] = score
    entries[#entries + 1] = member
  end
  each_slice(entries, function(...) redis.call('ZADD', key, ...) end)
end
add_all(prefix .. 'users', index)
add_all(prefix .. 'models', models)

for _, command in ipairs(blocks) do
  local member = command.user .. ' ' .. command.model
  if command.block then
    redis.call('ZADD', prefix .. 'blocks', format('%.0f', command.block['until'] or NO_END), member)
  else
    redis.call('ZREM', prefix .. 'blocks', member)
  end
end

-- What has aged leaves the indexes, a bounded part of it with a bounded part of the requests.

local function sweep(key, from, to)
  local old = redis.call('ZRANGE', key, from, to, 'BYSCORE', 'LIMIT', 0, SWEPT)
  if #old > 0 then redis.call('ZREM', key, unpack(old)) end
  return old
end

if sweep_at then
  local today = floor(sweep_at / DAY_MS)
  sweep(prefix .. 'users', '-inf', format('%d', minute_of(sweep_at) - keep.userDays * 1440))
  sweep(prefix .. 'users', format('%.0f', TOP_DAY), format('%.0f', (today - 1) * TOP_DAY))
  sweep(prefix .. 'blocks', '-inf', format('%.0f', sweep_at))
  local unused = {}
  for i, model in ipairs(sweep(prefix .. 'models', '-inf', format('%d', today - QUOTA_DAYS))) do
    unused[i] = quota_key(model)
  end
  delete(unused)
  redis.call('EXPIRE', prefix .. 'users', USER_SECONDS)
  redis.call('EXPIRE', prefix .. 'events', HISTORY_SECONDS)
end

return cjson.encode({ answers = answers, damaged = #reported > 0 and reported or nil })
