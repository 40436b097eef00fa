-- What the documents are: helpers, what can be read, and new ones.
--
-- This file, rules.lua and batch.lua are one chunk, for Redis 7 and Upstash. In front of it stand
-- the constants of src/store/redis/script.ts.
--
-- KEYS are the documents that the commands are known to touch. ARGV[1] is `{prefix, keep}` as JSON,
-- each further argument one command, so that one that cannot be read does not fail the others.

local args = cjson.decode(ARGV[1])
local prefix, keep = args.prefix, args.keep

local function user_key(id) return prefix .. 'user:' .. id end
local function day_key(date) return prefix .. 'day:' .. date end
local function once_key(id) return prefix .. 'once:' .. id end
local function erased_key(id) return prefix .. 'erased:' .. id end

-- Days since the epoch to a civil date:
-- http://howardhinnant.github.io/date_algorithms.html#civil_from_days
local function date_of(at)
  local z = math.floor(at / DAY) + 719468
  local era = math.floor(z / 146097)
  local doe = z - era * 146097
  local yoe = math.floor(
    (doe - math.floor(doe / 1460) + math.floor(doe / 36524) - math.floor(doe / 146096)) / 365
  )
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  local mp = math.floor((5 * doy + 2) / 153)
  local month = mp < 10 and mp + 3 or mp - 9
  local year = yoe + era * 400 + (month <= 2 and 1 or 0)
  return string.format('%04d-%02d-%02d', year, month, doy - math.floor((153 * mp + 2) / 5) + 1)
end

local function minute_of(at) return math.floor(at / MINUTE) end

local function copy(record)
  local result = {}
  for key, value in pairs(record) do
    result[key] = value
  end
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
  for _ in pairs(record) do
    count = count + 1
  end
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
local ROW = {
  'requests',
  'settled',
  'partial',
  'failed',
  'charged',
  'held',
  'prompt',
  'cached',
  'completion',
  'overshoot',
}
local DAY_ROW = {
  'requests',
  'settled',
  'partial',
  'failed',
  'charged',
  'prompt',
  'cached',
  'completion',
  'overshoot',
  'users',
  'at',
}

local function is_count(value) return numbers(value, COUNT) end
local function is_row(value) return numbers(value, ROW) end
local function is_past_row(value)
  return is_row(value) or numbers(value, SHORT) and value.held == nil
end
local function is_scopes(value) return each(value, is_text) end
local function is_lease(value)
  return numbers(value, { 'at', 'bound', 'until' })
    and is_text(value.model)
    and optional(value.scopes, is_scopes)
end
local function is_block(value)
  return numbers(value, { 'at' }) and optional(value['until'], is_number)
end
local function is_minute(value) return numbers(value, { 'n' }) and each(value.rows, is_count) end
local function is_day_row(value) return numbers(value, DAY_ROW) and each(value.hours, is_number) end

local function is_user(doc)
  return numbers(doc, { 'v', 'at' })
    and doc.v == 1
    and is_text(doc.id)
    and is_text(doc.date)
    and optional(doc.seen, is_number)
    and each(doc.rows, is_row)
    and each(doc.past, function(rows) return each(rows, is_past_row) end)
    and each(doc.sessions, is_number)
    and is_minute(doc.minute)
    and each(doc.leases, is_lease)
    and each(doc.blocks, is_block)
    and optional(doc.reported, function(rows) return each(rows, is_count) end)
end

local function is_day(doc)
  return numbers(doc, { 'v', 'sessions' })
    and doc.v == 1
    and is_text(doc.date)
    and is_day_row(doc.total)
    and each(doc.models, is_day_row)
    and each(doc.quota, is_count)
    and is_minute(doc.minute)
end

local function new_user(id, now)
  return {
    v = 1,
    id = id,
    at = now,
    date = date_of(now),
    rows = {},
    past = {},
    sessions = {},
    minute = { n = minute_of(now), rows = {} },
    leases = {},
    blocks = {},
  }
end

local function new_row()
  return {
    requests = 0,
    settled = 0,
    partial = 0,
    failed = 0,
    charged = 0,
    held = 0,
    prompt = 0,
    cached = 0,
    completion = 0,
    overshoot = 0,
  }
end

local function new_day_row()
  return {
    requests = 0,
    settled = 0,
    partial = 0,
    failed = 0,
    charged = 0,
    prompt = 0,
    cached = 0,
    completion = 0,
    overshoot = 0,
    users = 0,
    hours = {},
    at = 0,
  }
end

local function new_day(date)
  return {
    v = 1,
    date = date,
    total = new_day_row(),
    sessions = 0,
    models = {},
    quota = {},
    minute = { n = 0, rows = {} },
  }
end
