-- Reads documents and fits them to their shapes, like ledger/reading.ts, rows.ts and advance.ts.

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
  for _ in pairs(record) do
    count = count + 1
  end
  return count
end

-- An amount of money as it is stored. Lua adds texts of digits like numbers, and writes numbers
-- with 14 digits only.
local function digits_of(nano) return format('%d', nano) end

-- A value in its shape, with defaults for missing fields. It is changed in place: it was just
-- decoded, and nothing else uses it.
local function fit(shape, value)
  if value == cjson.null then value = nil end
  if shape == 'number' or shape == 'number?' then
    if value == nil then return shape == 'number' and 0 or nil end
    -- cjson reads numbers that it cannot write, such as 1e999.
    if type(value) ~= 'number' or not (value < MOST and value > -MOST) then
      error('not a number')
    end
    return value
  end
  if shape == 'money' or shape == 'money?' then
    if value == nil then return shape == 'money' and '0' or nil end
    local nano = tonumber(value)
    if not (nano and nano < HUGE and nano > -HUGE) then error('not money') end
    return digits_of(nano)
  end
  if shape == 'windows' then
    local windows = windows_of(value == nil and '' or value)
    if not windows then error('not windows') end
    return windows
  end
  if shape == 'text' or shape == 'text?' then
    if value == nil then return shape == 'text' and '' or nil end
    if type(value) ~= 'string' then error('not a text') end
    return value
  end
  if shape.packed then
    -- It is checked when it is decoded.
    return type(value) == 'string' and value or fit(shape.packed, value)
  end
  if shape.optional then return value ~= nil and fit(shape.optional, value) or nil end
  if value == nil then value = {} end
  if type(value) ~= 'table' or value[1] ~= nil then error('not an object') end
  if shape.each then
    for name, one in pairs(value) do
      value[name] = fit(shape.each, one)
    end
    return value
  end
  for name, field in pairs(shape.fields) do
    value[name] = fit(field, value[name])
  end
  return value
end

-- The conversion of one version to the next, by kind and by the older version.
local UPGRADES = {}

local function upgraded(kind, doc)
  for v = doc.v, VERSIONS[kind] - 1 do
    local upgrade = UPGRADES[kind] and UPGRADES[kind][v]
    if upgrade then doc = upgrade(doc) end
  end
  doc.v = VERSIONS[kind]
  return fit(shape_of(kind), doc)
end

-- Almost all documents have this version and all fields. This check costs a fraction of the full
-- one.
local function read_whole(kind, text)
  local doc = cjson.decode(text)
  return doc.v == VERSIONS[kind] and is_whole(kind, doc) and doc
end

local function read_other(kind, text)
  local ok, doc = pcall(cjson.decode, text)
  if not ok or type(doc) ~= 'table' or type(doc.v) ~= 'number' or doc.v < 0 then return nil end
  if doc.v > VERSIONS[kind] then error('NEWER', 0) end
  local fits, whole = pcall(upgraded, kind, doc)
  return fits and whole or nil
end

-- Reads a document of a kind from its text; nil if it is not one. Fails if a newer build wrote it.
local function read_document(kind, text)
  local ok, whole = pcall(read_whole, kind, text)
  local doc = ok and whole or read_other(kind, text)
  if not doc then return nil end
  if kind == 'usage' and doc.date == '' then
    doc.date = date_of(doc.at)
  elseif kind == 'row' then
    doc.v = nil
  end
  return doc
end

-- A new document of a kind, with some fields given.
local function new(kind, fields)
  fields.v = VERSIONS[kind]
  return fit(shape_of(kind), fields)
end

local function new_usage(id, at)
  return new('usage', { id = id, since = at, at = at, date = date_of(at) })
end

-- Within the script a row has no version.
local function new_day_row()
  local row = new('row', {})
  row.v = nil
  return row
end

-- Adds amounts to fields of a row. Fields that become zero are left out.
local function plus(row, amounts)
  local next = copy(row)
  for field, amount in pairs(amounts) do
    local value = (row[field] or 0) + amount
    if value == 0 then
      next[field] = nil
    else
      next[field] = MONEY[field] and digits_of(value) or value
    end
  end
  return next
end

local function past_row(past, date, model)
  local rows = past and past.days[date]
  return rows and rows[model]
end

local function with_past_row(past, date, model, row)
  return with(past, 'days', with(past.days, date, with(past.days[date] or {}, model, row)))
end

local function answers_of(row) return (row.exact or 0) + (row.estimated or 0) end

local function is_in_force(block, at) return block['until'] == nil or block['until'] > at end

-- Loading: the raw texts of the declared keys are read at once. Other keys are read when clocks
-- disagree or a day has ended.

local args = cjson.decode(ARGV[1])
local keep = args.keep or args

local function quota_key(scope)
  return PREFIX .. 'quota' .. (scope == ALL_MODELS and '' or ':' .. scope)
end
local function row_key(date, model) return PREFIX .. 'day:' .. date .. ':' .. model end

local raw, docs, damaged = {}, {}, {}
for i, value in ipairs(redis.call('MGET', unpack(KEYS))) do
  raw[KEYS[i]] = value
end

local function load(kind, key)
  if docs[key] == nil then
    local text = raw[key]
    if text == nil then text = redis.call('GET', key) end
    local doc = text and not damaged[key] and read_document(kind, text)
    if text and not doc then damaged[key] = text end
    docs[key] = doc or false
  end
  return docs[key] or nil
end

-- `kind` is usage, windows, past or profile.
local function user_key(kind, id) return PREFIX .. kind .. ':' .. id end

-- A user's document is kept for a shorter time than the longest window lasts, so the counters may
-- have a key of their own: bareWindows in ledger/advance.ts.
local IS_BRIEF = keep.userDays and keep.userDays < QUOTA_DAYS

local function load_user(kind, id)
  local key = user_key(kind, id)
  local doc = load(kind, key)
  if not doc and IS_BRIEF and kind == 'usage' then
    doc = load(kind, user_key('windows', id))
    docs[key] = doc or false
  end
  if doc then doc.id = id end
  return doc
end
local function load_quota(scope) return load('quota', quota_key(scope)) end
local function load_new_users() return load('newUsers', PREFIX .. 'new-users') end
local function load_day(date)
  local day = load('day', PREFIX .. 'day:' .. date)
  if day then day.date = date end
  return day
end

local function read_use(text)
  local use = cjson.decode(text)
  return is_whole('use', use) and use
end

-- A user's use of a model, decoded when it is first needed; nil if there is none. If it is damaged,
-- the whole document is, and the batch starts again without the document.
local function use_of(usage, model)
  local use = usage.models[model]
  if type(use) ~= 'string' then return use end
  local ok, whole = pcall(read_use, use)
  if not ok or not whole then
    ok, whole = pcall(cjson.decode, use)
    if ok then
      ok, whole = pcall(fit, shape_of('use'), whole)
    end
  end
  if not ok then
    local key = user_key('usage', usage.id)
    damaged[key] = raw[key] or redis.call('GET', key)

    error('DAMAGED', 0)
  end
  usage.models[model] = whole
  return whole
end

-- While a day lasts, its document has `open`, each row has a key of its own, and one document lists
-- the models. The totals of an open day have only what its rows do not tell: its users, and the
-- failed requests of models without a row. So almost no request writes them.
local function is_open(date)
  local day, quota = load_day(date), load_quota(ALL_MODELS)
  if day then return day.open ~= nil end
  return not quota or date_of(quota.at) <= date
end

-- Whether the text of a day says that it is open and of this version. Reading the whole day takes
-- twenty times as long.
local function is_surely_open(date)
  local text = raw[PREFIX .. 'day:' .. date] or ''
  local version = '"v":' .. VERSIONS.day
  return string.find(text, '"open":1', 1, true)
    and (string.find(text, version .. ',', 1, true) or string.find(text, version .. '}', 1, true))
end

local function load_models(date)
  local named = load('models', PREFIX .. 'models:' .. date)
  return named and named.models or {}
end

-- Adds a row to totals, or takes it out. One user may be in several rows, so users are not added.
local function add_row(total, row, sign)
  for field, value in pairs(row) do
    if field == 'at' then
      total.at = max(total.at, value)
    elseif field == 'hours' then
      for hour, tokens in pairs(value) do
        total.hours[hour] = (total.hours[hour] or 0) + sign * tokens
      end
    elseif MONEY[field] then
      total[field] = digits_of((total[field] or 0) + sign * value)
    elseif field ~= 'users' and type(value) == 'number' then
      total[field] = (total[field] or 0) + sign * value
    end
  end
end

-- An open day as one document with its rows and complete totals, and the keys that it replaces.
local function closed(day)
  local whole, keys = copy(day), { PREFIX .. 'models:' .. day.date }
  whole.open, whole.models, whole.total = nil, {}, copy(day.total)
  whole.total.hours = copy(day.total.hours)
  for model in pairs(load_models(day.date)) do
    local key = row_key(day.date, model)
    local row = load('row', key)
    keys[#keys + 1] = key
    whole.models[model] = row
    if row then add_row(whole.total, row, 1) end
  end
  local key = PREFIX .. 'tags:' .. day.date
  local tagged = load('tags', key)
  keys[#keys + 1] = key
  whole.tags = tagged and tagged.tags
  return whole, keys
end

-- The text of a key, or false. MGET and GET give false for a key that does not exist.
local function text_at(key)
  if raw[key] == nil then raw[key] = redis.call('GET', key) end
  return raw[key]
end

-- Events that must not be entered again.
local once
local function entered(id)
  return once and once[id] or text_at(PREFIX .. 'once:' .. id) and true or false
end

-- The moment up to which a user's requests were erased. `erased` has the users that this batch has
-- erased.
local erased
local function erased_at(id)
  return erased and erased[id] or tonumber(text_at(PREFIX .. 'erased:' .. id) or nil)
end

-- When a command runs: timeOf in ledger/rules.ts.
local function time_of(now, is_idle)
  local quota = load_quota(ALL_MODELS)
  local last = quota and quota.at or -math.huge
  if now - last > (keep.tolerance or math.huge) and not is_idle then
    local time = redis.call('TIME')
    now = time[1] * 1000 + floor(time[2] / 1000)
  end
  return max(last, now)
end

-- Writing.

local function user_seconds() return format('%d', keep.userDays * 86400) end
local function history_seconds() return format('%d', keep.historyDays * 86400) end

local function damaged_key(key) return PREFIX .. 'damaged:' .. string.sub(key, #PREFIX + 1) end

-- Values per call: Lua cannot pass more than about 8,000.
local SLICE = 1000

-- Calls a command with values, all of them or those of a range.
local function call_with(name, key, values, first, last)
  last = last or #values
  for from = first or 1, last, SLICE do
    local to = math.min(from + SLICE - 1, last)
    if key then
      redis.call(name, key, unpack(values, from, to))
    else
      redis.call(name, unpack(values, from, to))
    end
  end
end
