-- The import. It first compares the documents that must not have changed, then decides
-- everything, then writes everything, because Redis does not roll back.
--
-- shapes.lua comes before this file. KEYS are the documents that are written and those that must
-- not have changed. ARGV[1] is `{keep}` and the plan as JSON. The other arguments are texts:
-- first of the writes, then of the list. Returns the number of imported items, and the keys of
-- unreadable documents that were set aside.

local CHANGED, NEWER = -1, -2

-- A hash is read as a list of names and values, in the order of the database.
local function text_of(key)
  local kind = redis.call('TYPE', key).ok
  if kind == 'string' then return redis.call('GET', key) end
  if kind == 'hash' then return cjson.encode(redis.call('HGETALL', key)) end
  return kind ~= 'none' and ''
end

if args.read then
  local found = {}
  for i, key in ipairs(KEYS) do
    found[i] = text_of(key)
  end
  return found
end

local marker = args.marker
if marker then
  local done = tonumber(raw[marker.key] or nil) or 0
  if done ~= marker.from then return { done } end
end
for _, old in ipairs(args.old) do
  if redis.sha1hex(text_of(old.key) or '') ~= old.sha then return { CHANGED } end
end
for _, list in ipairs({ args.writes, args.same }) do
  for _, was in ipairs(list) do
    if was.sha and redis.sha1hex(raw[was.key] or '') ~= was.sha then return { CHANGED } end
  end
end

local days, rows, names, tags, quotas, models, gone = {}, {}, {}, {}, {}, {}, {}

-- Adds up numbers by name, at any depth. Of two times (`at`), the later one counts. Money is
-- written as a text of digits: what the plan brings is a number.
local function sum_up(one, other)
  for name, value in pairs(other) do
    if type(value) == 'table' then
      one[name] = sum_up(one[name] or {}, value)
    elseif name == 'at' then
      one[name] = math.max(one[name] or 0, value)
    elseif MONEY[name] then
      one[name] = digits_of((one[name] or 0) + value)
    else
      one[name] = (one[name] or 0) + value
    end
  end
  return one
end

-- A stored day. Its date is taken from its key, not from its text.
local function known_day(date)
  local day = load_day(date)
  if day then day.date = date end
  return day
end

-- A new day has rows under separate keys only if the ledger will fold them later: if it is the
-- current day by the ledger's clock.
local function new_day_of(date)
  local day, quota = new('day', { date = date }), load_quota(ALL_MODELS)
  local clock = quota and date_of(quota.at) or args.today
  if date == clock and date >= args.today then
    day.open = 1
  else
    day.models = {}
  end
  return day
end

local function keep_day(date, day)
  if day.open then day.models = {} end
  docs[PREFIX .. 'day:' .. date] = day
  days[date] = day
end

local function keep_row(day, model, row)
  if not day.open then
    day.models[model] = row
    return
  end
  local key, known = row_key(day.date, model), load_models(day.date)
  docs[key], rows[key] = row, row
  if not known[model] then
    local named = { v = VERSIONS.models, models = with(known, model, 1) }
    docs[PREFIX .. 'models:' .. day.date], names[day.date] = named, named
  end
end

local function row_of(day, model)
  if day.open then return load('row', row_key(day.date, model)) end
  return day.models[model]
end

-- Takes tags in the order of their names, so that the same tags are always counted as others if
-- there are too many.
local function add_tags(day, comes)
  local key, known = PREFIX .. 'tags:' .. day.date, {}
  local tagged = day.open and (load('tags', key) or new('tags', {}))
  local count, sorted = 0, {}
  for tag, row in pairs(tagged and tagged.tags or day.tags or {}) do
    known[tag] = row
    if tag ~= OTHER_TAG then count = count + 1 end
  end
  for tag in pairs(comes) do
    sorted[#sorted + 1] = tag
  end
  table.sort(sorted)
  for _, tag in ipairs(sorted) do
    local name = tag
    if not known[tag] and tag ~= OTHER_TAG then
      if count < TAGS_PER_DAY then
        count = count + 1
      else
        name = OTHER_TAG
      end
    end
    known[name] = sum_up(known[name] or {}, comes[tag])
  end
  if not tagged then
    day.tags = known
    return
  end
  tagged = with(tagged, 'tags', known)
  docs[key], tags[key] = tagged, tagged
end

local function add_day(comes)
  local date = comes.date
  local day = known_day(date) or new_day_of(date)
  sum_up(day.total, comes.total)
  if day.open then
    for _, row in pairs(comes.models) do
      add_row(day.total, row, -1)
    end
  end
  day.sessions = day.sessions + comes.sessions
  day.forgotten = day.forgotten + comes.forgotten
  if comes.tags then add_tags(day, comes.tags) end
  for model, row in pairs(comes.models) do
    keep_row(day, model, sum_up(row_of(day, model) or new_day_row(), row))
  end
  keep_day(date, day)
end

-- Subtracts users that were counted twice. If the history was cleared in the meantime, they are
-- not in the day.
local function take_overlap(date, overlap)
  local day = known_day(date)
  if not day then return end
  day.total.users = math.max(0, day.total.users - overlap.users)
  day.sessions = math.max(0, day.sessions - overlap.sessions)
  for model, users in pairs(overlap.models) do
    local row = row_of(day, model)
    if row then
      row.users = math.max(0, row.users - users)
      keep_row(day, model, row)
    end
  end
  keep_day(date, day)
end

-- A day that has ended becomes one document, as in batch.lua.
local function fold(date)
  local day = known_day(date)
  if not day or not day.open then return end
  local whole, keys = closed(day)
  for _, key in ipairs(keys) do
    gone[#gone + 1] = key
  end
  keep_day(date, whole)
end

-- Counters of the same span are added. Of different spans, the later one counts.
local function merge_windows(one, other)
  one, other = whole_windows(one), whole_windows(other)
  local merged = copy(one)
  for window, counted in pairs(other) do
    local known = one[window]
    if not known or known.start < counted.start then
      merged[window] = counted
    elseif known.start == counted.start then
      local added = copy(known)
      for unit, amount in pairs(counted) do
        if unit ~= 'start' then added[unit] = (known[unit] or 0) + amount end
      end
      merged[window] = added
    end
  end
  return parted_windows(merged)
end

local function add_quota(scope, comes)
  local before = load_quota(scope)
  local quota = before and copy(before) or new('quota', { at = comes.at })
  quota.at = math.max(quota.at, comes.at)
  quota.windows = merge_windows(quota.windows, windows_of(comes.windows))
  -- What was told is not told again.
  quota.told = quota.told or comes.told
  if not quota.alerted and comes.alerted then
    quota.alerted = {}
    for name, claim in pairs(comes.alerted) do
      quota.alerted[name] = with(claim, 'limit', digits_of(claim.limit))
    end
  end
  quota.alertsDue = math.min(quota.alertsDue or math.huge, comes.alertsDue or math.huge)
  if quota.alertsDue == math.huge then quota.alertsDue = nil end
  docs[quota_key(scope)], quotas[scope] = quota, quota
  if scope ~= ALL_MODELS then
    models[scope] = math.floor(quota.at / DAY_MS)
  elseif not before then
    -- The last day is unknown, so the last seven are folded.
    for ago = 1, 7 do
      fold(date_of(quota.at - ago * DAY_MS))
    end
  elseif date_of(before.at) ~= date_of(quota.at) then
    fold(date_of(before.at))
  end
end

local function decide()
  for _, day in ipairs(args.days) do
    add_day(day)
  end
  for date, overlap in pairs(args.overlaps) do
    take_overlap(date, overlap)
  end
  for scope, quota in pairs(args.quotas) do
    add_quota(scope, quota)
  end
end

local ok, failure = pcall(decide)
if not ok and failure == 'NEWER' then return { NEWER } end
if not ok then error(failure, 0) end

local indexes, list = args.indexes, args.list
indexes[#indexes + 1] = { key = PREFIX .. 'models', entries = {} }
for model, day in pairs(models) do
  local entries = indexes[#indexes].entries
  entries[#entries + 1] = string.format('%d', day)
  entries[#entries + 1] = model
end
for _, index in ipairs(indexes) do
  redis.call('ZCARD', index.key)
end
local room = list and list.most - redis.call('LLEN', list.key) or 0

-- The writes begin here.

local function set(key, text, seconds)
  if seconds then
    redis.call('SET', key, text, 'EX', seconds)
  else
    redis.call('SET', key, text)
  end
end

local reply = { marker and marker.next or 0 }
for key, text in pairs(damaged) do
  set(damaged_key(key), text, DAMAGED_SECONDS)
  redis.call('DEL', key)
  reply[#reply + 1] = key
end
for i, write in ipairs(args.writes) do
  if write['until'] then
    redis.call('SET', write.key, ARGV[i + 1], 'EXAT', write['until'])
  else
    set(write.key, ARGV[i + 1], write.seconds)
  end
end
local HISTORY_SECONDS = string.format('%d', keep.historyDays * 86400)
for date, day in pairs(days) do
  local seconds = args.seconds[date] or HISTORY_SECONDS
  if day.open then seconds = nil end
  set(PREFIX .. 'day:' .. date, cjson.encode(day), seconds)
end
for key, row in pairs(rows) do
  set(key, cjson.encode(with(row, 'v', VERSIONS.row)))
end
for date, named in pairs(names) do
  set(PREFIX .. 'models:' .. date, cjson.encode(named))
end
for key, tagged in pairs(tags) do
  set(key, cjson.encode(tagged))
end
for _, key in ipairs(gone) do
  redis.call('DEL', key)
end
for scope, quota in pairs(quotas) do
  quota.windows = stored_windows(quota.windows)
  set(quota_key(scope), cjson.encode(quota))
end
for _, index in ipairs(indexes) do
  call_with('ZADD', index.key, index.entries, 1, #index.entries)
  if index.seconds then redis.call('EXPIRE', index.key, index.seconds) end
end
if room > 0 then
  local first = #args.writes + 2
  call_with('RPUSH', list.key, ARGV, first, math.min(#ARGV, first + room - 1))
  if list.seconds then redis.call('EXPIRE', list.key, list.seconds) end
end
for _, old in ipairs(args.old) do
  redis.call('DEL', old.key)
end
if marker then redis.call('SET', marker.key, marker.next, 'EX', marker.seconds) end
return reply
