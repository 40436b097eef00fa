-- Time, and the counters of windows: ledger/windows.ts.
--
-- The constants, which are generated from the TypeScript, stand before this file.

local floor, max, format = math.floor, math.max, string.format

local function copy(record)
  local result = {}
  for key, value in pairs(record) do
    result[key] = value
  end
  return result
end

-- Days since the epoch to a civil date:
-- http://howardhinnant.github.io/date_algorithms.html#civil_from_days
local function civil(days)
  local z = days + 719468
  local era = floor(z / 146097)
  local doe = z - era * 146097
  local yoe = floor((doe - floor(doe / 1460) + floor(doe / 36524) - floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + floor(yoe / 4) - floor(yoe / 100))
  local mp = floor((5 * doy + 2) / 153)
  local month = mp < 10 and mp + 3 or mp - 9
  local year = yoe + era * 400 + (month <= 2 and 1 or 0)
  return format('%04d-%02d-%02d', year, month, doy - floor((153 * mp + 2) / 5) + 1)
end

-- A step asks for few dates, and for each of them often.
local dates = {}
local function date_of(at)
  local day = floor(at / DAY_MS)
  local date = dates[day]
  if not date then
    date = civil(day)
    dates[day] = date
  end
  return date
end

local function minute_of(at) return floor(at / MINUTE_MS) end

-- The start of a window that contains a moment.
local months = {}
local function start_of(window, at)
  local length = WINDOWS[window]
  if length > 0 then return at - (at - (WINDOWS_FROM[window] or 0)) % length end
  local day = at - at % DAY_MS
  local start = months[day]
  if not start then
    start = day - (string.sub(date_of(at), 9) - 1) * DAY_MS
    months[day] = start
  end
  return start
end

local function end_of(window, at)
  local start, length = start_of(window, at), WINDOWS[window]
  return length > 0 and start + length or start_of(window, start + 32 * DAY_MS)
end

-- The counters of windows are numbers in the script, and one text in documents:
-- `NAME:START:REQUESTS:TOKENS:USD` for each window, with a space between them. Windows that are
-- longer than a day stand after a `;`, without what the window of the day has. So almost no step
-- reads or writes them: they change when the day does. Where there is audio, `:AUDIO:CHARACTERS`
-- follows.
local WINDOW = '^([^:]+):(%d+):(%-?%d+):(%-?%d+):(%-?%d+)([%d:%-]*) ?'

-- Amounts of audio are there only if they are not zero. So a request without audio costs only two
-- checks.
local function set_audio(counted, audio, characters)
  counted.audioSeconds = audio ~= 0 and audio or nil
  counted.characters = characters ~= 0 and characters or nil
end

local function has_audio(counted) return counted.audioSeconds or counted.characters end

-- Sets the audio of one to that of two others together, or to their difference.
local function join_audio(counted, one, other, sign)
  if not has_audio(one) and not has_audio(other) then return end
  set_audio(
    counted,
    (one.audioSeconds or 0) + sign * (other.audioSeconds or 0),
    (one.characters or 0) + sign * (other.characters or 0)
  )
end

-- The counters of a part of a stored text; nil if it has something else.
local function counters_of(text, from, last)
  local windows = {}
  while from <= last do
    local _, to, name, start, requests, tokens, usd, more = string.find(text, WINDOW, from)
    if not to then return nil end
    windows[name] =
      { start = start + 0, requests = requests + 0, tokens = tokens + 0, usd = usd + 0 }
    if more ~= '' then
      local audio, characters = string.match(more, '^:(%-?%d+):(%-?%d+)$')
      if not audio then return nil end
      set_audio(windows[name], audio + 0, characters + 0)
    end
    from = to + 1
  end
  return windows
end

local function text_of_counters(windows)
  local texts = {}
  for name, counted in pairs(windows) do
    if name ~= 'before' then
      texts[#texts + 1] =
        format('%s:%d:%d:%d:%d', name, counted.start, counted.requests, counted.tokens, counted.usd)
      if has_audio(counted) then
        texts[#texts] = texts[#texts]
          .. format(':%d:%d', counted.audioSeconds or 0, counted.characters or 0)
      end
    end
  end
  return table.concat(texts, ' ')
end

-- The long windows before the day, to be changed. Until then they stay a text.
local function before_of(windows)
  local before = windows.before
  if type(before) ~= 'table' then
    before = before and counters_of(before, 1, #before) or {}
    windows.before = before
  end
  return before
end

-- The same, to be read only.
local parsed = {}
local function known_before(windows)
  local before = windows.before or ''
  if type(before) == 'table' then return before end
  local known = parsed[before] or counters_of(before, 1, #before) or {}
  parsed[before] = known
  return known
end

-- What the day adds to a long window: nothing if it is not in that window.
local function of_day(windows, name, start)
  local day = windows.day
  return day and start_of(name, day.start) == start and day or NOTHING
end

-- The counters of one window, long ones with those of the day; nil if there are none.
local function in_window(windows, name)
  if not LONG[name] then return windows[name] end
  local before, day = windows.before and known_before(windows)[name], windows.day
  local start = day and start_of(name, day.start)
  local is_new = day and before and before.start == 0
  if not day or before and before.start > start and not is_new then return before end
  if not before or before.start < start and not is_new then before = NOTHING end
  local sums = {
    start = start,
    requests = before.requests + day.requests,
    tokens = before.tokens + day.tokens,
    usd = before.usd + day.usd,
  }
  join_audio(sums, before, day, 1)
  local is_empty = sums.requests == 0 and sums.tokens == 0 and sums.usd == 0
  if is_new and is_empty and not has_audio(sums) then return nil end
  return sums
end

-- All windows as they are counted, by name.
local function whole_windows(windows)
  local whole = {}
  for name, counted in pairs(windows) do
    if name ~= 'before' then whole[name] = counted end
  end
  for name, counted in pairs(known_before(windows)) do
    whole[name] = counted
  end
  for name in pairs(LONG) do
    whole[name] = in_window(windows, name)
  end
  return whole
end

-- The opposite: windows of which the long ones are without the day. A long window that was not
-- counted has nothing of the day either; its start is 0.
local function parted_windows(whole)
  local windows, before, day = {}, {}, whole.day
  for name, counted in pairs(whole) do
    if not LONG[name] then windows[name] = counted end
  end
  for name in pairs(LONG) do
    local counted = whole[name]
    if counted or day then
      local today = counted and of_day(whole, name, counted.start) or day
      counted = counted or { start = 0, requests = 0, tokens = 0, usd = 0 }
      before[name] = {
        start = counted.start,
        requests = counted.requests - today.requests,
        tokens = counted.tokens - today.tokens,
        usd = counted.usd - today.usd,
      }
      join_audio(before[name], counted, today, -1)
    end
  end
  if next(before) then windows.before = before end
  return windows
end

-- The windows that have not ended. A window that this build does not know stays as it is.
local function current(windows, at)
  local day, left = windows.day, nil
  if (day or windows.before) and not (day and day.start == start_of('day', at)) then
    left = whole_windows(windows)
    for name, counted in pairs(left) do
      if WINDOWS[name] and counted.start ~= start_of(name, at) then left[name] = nil end
    end
    return parted_windows(left)
  end
  for name, counted in pairs(windows) do
    if WINDOWS[name] and counted.start ~= start_of(name, at) then
      left = left or copy(windows)
      left[name] = nil
    end
  end
  return left or windows
end

-- The counters of an object as TypeScript writes it; nil for anything else.
local function counters_in(stored)
  local windows = {}
  for name, counted in pairs(stored) do
    if counted == cjson.null then counted = {} end
    if type(counted) ~= 'table' or counted[1] ~= nil then return nil end
    local fields = {}
    for field, value in pairs(counted) do
      if value ~= cjson.null then fields[field] = value end
    end
    for _, field in ipairs({ 'start', 'requests', 'tokens', 'usd' }) do
      local amount, most = counted[field], MOST
      if amount == nil or amount == cjson.null then amount = 0 end
      if field == 'usd' then
        amount, most = tonumber(amount), HUGE
      end
      if type(amount) ~= 'number' or not (amount < most and amount > -most) then return nil end
      fields[field] = amount
    end
    for _, field in ipairs({ 'audioSeconds', 'characters' }) do
      local amount = fields[field]
      if amount and not (type(amount) == 'number' and amount < MOST and amount > -MOST) then
        return nil
      end
    end
    windows[name] = fields
  end
  return windows
end

-- The windows of a document; nil if the value is not valid.
local function windows_of(stored)
  if type(stored) == 'string' then
    local parting = string.find(stored, ';', 1, true)
    local windows = counters_of(stored, 1, parting and parting - 1 or #stored)
    if windows and parting then windows.before = string.sub(stored, parting + 1) end
    return windows
  end
  local whole = type(stored) == 'table' and counters_in(stored)
  return whole and parted_windows(whole) or nil
end

local function stored_windows(windows)
  local before = windows.before
  if type(before) == 'table' then before = next(before) and text_of_counters(before) end
  return before and text_of_counters(windows) .. ';' .. before or text_of_counters(windows)
end
