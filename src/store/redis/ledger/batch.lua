-- The batch: decides all commands, then writes.
--
-- KEYS are the documents that the commands are known to touch. ARGV[1] is JSON: how much is kept,
-- and the tolerance of the clock in ms. Each further argument is one command, so that a command
-- that cannot be read does not fail the others. Everything is decoded and decided before the first
-- write, because Redis does not roll back. A text that is not a document is moved to
-- `…:damaged:…` and reported. A document of a newer version fails its command and stays as it is.

-- What will be written: texts without an expiry in one MSET, the others one by one. What almost no
-- batch has is made when it is first needed.
local usages, quotas, rows, events, index
local pasts, days, names, tags, models, ended, sweep_at, new_users, turned_down, refusals, outbox
local NONE = {}

local function start_over()
  docs, usages, quotas, rows, events, index = {}, {}, {}, {}, {}, {}
  once, erased, made_administration = nil, nil, nil
  pasts, days, names, tags, models, ended, sweep_at = nil, nil, nil, nil, nil, nil, nil
  new_users, turned_down, refusals, outbox = nil, nil, nil, nil
end

-- Sets a value of a table, which may not exist yet.
local function put(record, key, value)
  record = record or {}
  record[key] = value
  return record
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

local function keep_usage(user, before, doc)
  local words = before and before.words
  if words ~= doc.words then administration().relabel('usage', user, words, doc.words) end
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
      ended = put(ended, ended and #ended + 1 or 1, before and date_of(before.at) or false)
      sweep_at = quota.at
    elseif is_new_day then
      models = put(models, scope, floor(quota.at / DAY_MS))
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
    docs[names_key], names = named, put(names, date, named)
  end
  docs[key], rows[key] = row, row
end

local function run(text)
  local command = cjson.decode(text)
  local user = command.user
  -- The report of a user without a document writes nothing, so the time is not asked for.
  local is_idle = command.op == 'report' and not load_user('usage', user)
  local at = time_of(command.now, is_idle)
  local step = reduce(command, at)
  local op = command.op
  if op ~= 'admit' and op ~= 'settle' and op ~= 'enter' then
    administration().keep(step, user, at)
  end
  -- Everything has been read and nothing fails from here on, so a command is kept whole or not at
  -- all.
  if step.event then events[#events + 1] = cjson.encode(step.event) end
  -- The clock comes first, because it decides whether a day is open or folded.
  if step.quotas then keep_quotas(step.quotas) end
  local day, row, event = step.day, step.day_row, step.event
  if row and day and not day.open then
    day.models[event.model] = row
  elseif row then
    keep_day_row(date_of(event.at), event.model, row)
  end
  if day then
    docs[PREFIX .. 'day:' .. day.date], days = day, put(days, day.date, day)
  end
  if step.tagged then
    local key = PREFIX .. 'tags:' .. date_of(event.at)
    docs[key], tags = step.tagged, put(tags, key, step.tagged)
  end
  if step.usage then keep_usage(user, load_user('usage', user), step.usage) end
  if step.past then
    docs[user_key('past', user)], pasts = step.past, put(pasts, user, step.past)
  end
  if step.outbox then
    outbox = step.outbox
    docs[PREFIX .. 'alerts'] = outbox
  end
  local everyone = step.quotas and step.quotas[ALL_MODELS]
  local today = event and everyone.windows.day
  if today and today.requests % SWEEP_EVERY == 1 then sweep_at = everyone.at end
  if step.entered then once = put(once, step.entered, true) end
  if step.new_users then
    new_users = step.new_users
    docs[PREFIX .. 'new-users'] = new_users
  end
  if step.refused then
    turned_down = turned_down or {}
    turned_down[#turned_down + 1] = step.refused
  end
  for date, counts in pairs(step.refusals or NONE) do
    refusals = put(refusals, date, refusals and refusals[date] or {})
    for name, count in pairs(counts) do
      refusals[date][name] = (refusals[date][name] or 0) + count
    end
  end
  if step.erased then
    usages[user], index['a:' .. user], index['t:' .. user] = nil, nil, nil
    if pasts then pasts[user] = nil end
  end
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

-- From here on everything is written. Functions for rare cases are made only when they are needed.

local USER_SECONDS = user_seconds()

local function write_day(date, day)
  redis.call('SET', PREFIX .. 'day:' .. date, cjson.encode(day), 'EX', history_seconds())
end

if ended then
  local function folded(date)
    local day = load_day(date)
    if not day or not day.open then return nil end
    return closed(day)
  end

  -- Makes one document of a day that has ended. A document of a newer version stays as it is.
  local function fold(date)
    local ok, day, keys = pcall(folded, date)
    if not ok or not day then return end
    if days then days[date] = nil end
    if names then names[date] = nil end
    for _, key in ipairs(keys) do
      rows[key] = nil
      if tags then tags[key] = nil end
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

if made_administration then made_administration.write() end

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
for id, doc in pairs(pasts or NONE) do
  redis.call('SET', user_key('past', id), cjson.encode(doc), 'EX', USER_SECONDS)
end

if outbox then redis.call('SET', PREFIX .. 'alerts', cjson.encode(outbox), 'EX', USER_SECONDS) end

local texts = {}
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
for key, tagged in pairs(tags or NONE) do
  texts[#texts + 1] = key
  texts[#texts + 1] = cjson.encode(tagged)
end
for date, named in pairs(names or NONE) do
  texts[#texts + 1] = PREFIX .. 'models:' .. date
  texts[#texts + 1] = cjson.encode(named)
end
for date, day in pairs(days or NONE) do
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

for id in pairs(once or NONE) do
  redis.call('SET', PREFIX .. 'once:' .. id, '1', 'EX', ENTER_SECONDS)
end
if #events > 0 and keep.eventsKept > 0 then
  local length = redis.call('LPUSH', PREFIX .. 'events', unpack(events))
  if length > keep.eventsKept * 1.1 + 64 then
    redis.call('LTRIM', PREFIX .. 'events', 0, keep.eventsKept - 1)
  end
end

for date, counts in pairs(refusals or NONE) do
  for name, count in pairs(counts) do
    redis.call('HINCRBY', PREFIX .. 'refusals:' .. date, name, format('%d', count))
  end
end
-- One of a user and code in a minute.
for _, entry in ipairs(turned_down or NONE) do
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
if models then
  scores = {}
  for member, score in pairs(models) do
    scores[#scores + 1] = score
    scores[#scores + 1] = member
  end
  call_with('ZADD', PREFIX .. 'models', scores)
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
  redis.call('EXPIRE', PREFIX .. 'events', history_seconds())
  redis.call('LTRIM', PREFIX .. 'refused', 0, REFUSED_KEPT - 1)
  redis.call('EXPIRE', PREFIX .. 'refused', USER_SECONDS)
  for ago = 0, 1 do
    local date = date_of(sweep_at - ago * DAY_MS)
    redis.call('EXPIRE', PREFIX .. 'refusals:' .. date, history_seconds())
  end
end

return cjson.encode({ answers = answers, damaged = reported })
