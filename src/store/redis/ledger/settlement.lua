-- How a request ends, and the entry of one that was served without the database: the port of
-- ledger/settlement.ts.

-- What an ended request had reserved, and what everyone is charged for it.
local function reserved_by(event)
  return {
    requests = 1,
    tokens = event.reserved,
    usd = event.reservedCost or '0',
    audioSeconds = event.reservedAudioMs,
    characters = event.reservedCharacters,
  }
end

local function charged_by(event)
  return {
    requests = event.outcome == 'failed' and 0 or 1,
    tokens = event.charged,
    usd = event.cost or '0',
    audioSeconds = event.audioMs,
    characters = event.characters,
  }
end

-- Changes the windows.
local function correct(windows, lease, charged)
  local at, reserved, day = lease.at, lease.reserved, windows.day
  local is_today = lease.windows.day and day and day.start == start_of('day', at)
  local audio = (charged.audioSeconds or 0) - (reserved.audioSeconds or 0)
  local characters = (charged.characters or 0) - (reserved.characters or 0)
  for window in pairs(lease.windows) do
    local is_long = LONG[window]
    local counted = nil
    if not is_long then
      counted = windows[window]
    elseif not is_today then
      counted = before_of(windows)[window]
    end
    if counted and counted.start == start_of(window, at) then
      local today = is_long and of_day(windows, window, counted.start) or NOTHING
      -- The difference first, so that no sum on the way passes 2^53.
      local requests = counted.requests + (charged.requests - reserved.requests)
      local tokens = counted.tokens + (charged.tokens - reserved.tokens)
      local usd = counted.usd + (charged.usd - reserved.usd)
      counted.requests = max(-today.requests, requests)
      counted.tokens = max(-today.tokens, tokens)
      counted.usd = max(-today.usd, usd)
      if audio ~= 0 or characters ~= 0 then
        set_audio(
          counted,
          max(-(today.audioSeconds or 0), (counted.audioSeconds or 0) + audio),
          max(-(today.characters or 0), (counted.characters or 0) + characters)
        )
      end
    end
  end
  if not is_today then return end
  -- A long window that does not hold the reservation does not change with the day.
  for window in pairs(LONG) do
    if not lease.windows[window] then
      local before = before_of(windows)
      local counted = before[window] or copy(NOTHING)
      counted.start = counted.start or start_of(window, at)
      before[window] = counted
      counted.requests = counted.requests - (charged.requests - reserved.requests)
      counted.tokens = counted.tokens - (charged.tokens - reserved.tokens)
      counted.usd = counted.usd - (charged.usd - reserved.usd)
      if audio ~= 0 or characters ~= 0 then
        set_audio(
          counted,
          (counted.audioSeconds or 0) - audio,
          (counted.characters or 0) - characters
        )
      end
    end
  end
end

-- Changes the usage and its entry of the model.
local function correct_user(usage, lease, charged)
  local use = use_of(usage, lease.model)
  correct(usage.windows, lease, charged)
  if use then
    use.windows = current(use.windows, usage.at)
    correct(use.windows, lease, charged)
  end
end

local function correct_all(quotas, lease, charged)
  for _, quota in pairs(quotas) do
    correct(quota.windows, lease, charged)
  end
end

-- What an ended request adds to a row's outcomes and sums.
local function told_by(event)
  return {
    [event.outcome] = 1,
    prompt = event.prompt,
    cached = event.cached,
    completion = event.completion,
    overReservation = max(0, event.charged - event.reserved),
  }
end

local function end_row(row, event)
  local told = told_by(event)
  told.charged = event.charged - event.reserved
  told.reserved = -event.reserved
  told.cost = (event.cost or 0) - (event.reservedCost or 0)
  told.reservedCost = -(event.reservedCost or 0)
  local audio, characters = event.reservedAudioMs, event.reservedCharacters
  if event.audioMs or audio then
    told.audioMs = (event.audioMs or 0) - (audio or 0)
    told.reservedAudioMs = -(audio or 0)
  end
  if event.characters or characters then
    told.characters = (event.characters or 0) - (characters or 0)
    told.reservedCharacters = -(characters or 0)
  end
  return plus(row, told)
end

-- Changes the row.
local function end_day_row(row, event, first, at)
  local hour = format('%d', floor(event.at % DAY_MS / HOUR_MS))
  for field, amount in pairs(told_by(event)) do
    row[field] = row[field] + amount
  end
  row.requests = row.requests + 1
  row.charged = row.charged + event.charged
  row.cost = digits_of(row.cost + (event.cost or 0))
  if event.audioMs then row.audioMs = (row.audioMs or 0) + event.audioMs end
  if event.characters then row.characters = (row.characters or 0) + event.characters end
  if first then row.users = row.users + 1 end
  row.hours[hour] = (row.hours[hour] or 0) + event.charged
  row.at = max(row.at, at)
end

local function first_answer(is_first_of_day, row, event)
  if event.outcome == 'failed' then return { user = false, model = false, session = false } end
  return { user = is_first_of_day, model = answers_of(row) == 0, session = false }
end

-- What an ended request changes of its day: the day, nil if it does not change, and its row.
local function load_ended(date, model, first)
  local row = load('row', row_key(date, model))
  if row and not first.user and not first.session and is_surely_open(date) then return nil, row end
  local day = load_day(date) or new('day', { date = date })
  if not row and not is_open(date) then return day, day.models[model] end
  day.open, day.models = 1, {}
  -- A row of a new model will be added to the list.
  if not row then load_models(date) end
  return day, row
end

-- Changes the day and its row, and returns the row.
local function end_day(day, row, event, first, at)
  if not row and event.outcome ~= 'failed' then row = new_day_row() end
  if row then end_day_row(row, event, first.model, at) end
  if not day then return row end
  if first.session then day.sessions = day.sessions + 1 end
  if not row or not day.open then
    end_day_row(day.total, event, first.user, at)
  elseif first.user then
    day.total.users = day.total.users + 1
  end
  return row
end

-- A user's row of a day, and whether no request of that day was answered.
local function row_of(account, date, model)
  local usage = account.usage
  if date == usage.date then
    local use = use_of(usage, model)
    return use and use.row.requests and use.row, usage.answered == 0
  end
  local past = account.past or load_user('past', usage.id)
  local rows = past and past.days[date] or {}
  for _, one in pairs(rows) do
    if answers_of(one) > 0 then return rows[model], false end
  end
  return rows[model], true
end

-- Changes the account and the rows of its day.
local function set_row(account, date, model, row)
  local usage = account.usage
  if date == usage.date then
    set_today(usage, model, row)
  else
    local past = account.past or load_user('past', usage.id) or new('past', { id = usage.id })
    account.past = with_past_row(past, date, model, row)
  end
end

-- What each key was charged this month, with a request added. Changes the usage.
local function charge_key(usage, key, at, by)
  local month = start_of('month', usage.at)
  local kept = filter(usage.keysCharged or {}, function(one) return one.start == month end)
  usage.keysCharged = kept
  if start_of('month', at) ~= month then return end
  kept[key] = kept[key] or { start = month }
  add(kept[key], by)
end

-- Adds an ended request to the tags of its day.
local function tag_row(tags, event)
  local name, count = event.tag, 0
  if not tags[name] then
    for tag in pairs(tags) do
      if tag ~= OTHER_TAG then count = count + 1 end
    end
    if count >= TAGS_PER_DAY then name = OTHER_TAG end
  end
  local row = tags[name] or { requests = 0, charged = 0, cost = 0 }
  row.requests, row.charged = row.requests + 1, row.charged + event.charged
  row.cost = digits_of(row.cost + (event.cost or 0))
  tags[name] = row
end

local function close(account, lease, command, quotas)
  local event = command.event
  local usage, model, at = account.usage, lease.model, lease.at
  event.at, event.user, event.model, event.reserved = at, usage.id, model, lease.reserved.tokens
  if event.cost or lease.reserved.usd + 0 > 0 then event.reservedCost = lease.reserved.usd end
  event.reservedAudioMs = lease.reserved.audioSeconds
  event.reservedCharacters = lease.reserved.characters
  if usage.at > lease['until'] then event.late = true end

  local date = date_of(at)
  local row, is_unanswered = row_of(account, date, model)
  local first = { user = false, model = false, session = false }
  if row then first = first_answer(is_unanswered, row, event) end
  local sessions, session = usage.sessions, event.session
  if session and date == usage.date and event.outcome ~= 'failed' then
    first.session = not sessions[session] and size(sessions) < SESSIONS_PER_USER
  end
  local day, day_row = load_ended(date, model, first)
  local tagged
  if event.tag and (not day or day.open) then
    tagged = load('tags', PREFIX .. 'tags:' .. date) or new('tags', {})
  end
  if row then set_row(account, date, model, end_row(row, event)) end
  if first.session then sessions[session] = 1 end

  local charged = charged_by(event)
  correct_all(quotas, lease, charged)
  if lease.watched then alerts().release(quotas, lease) end
  -- Of a user's requests, the failed ones count too.
  charged.requests = 1
  correct_user(usage, lease, charged)
  usage.leases[event.id] = nil
  usage.seen = usage.at
  if event.key then charge_key(usage, event.key, at, charged) end
  day_row = end_day(day, day_row, event, first, usage.at)
  if tagged then
    tag_row(tagged.tags, event)
  elseif event.tag then
    day.tags = day.tags or {}
    tag_row(day.tags, event)
  end
  local step = {
    usage = indexed(usage),
    past = account.past,
    quotas = quotas,
    day = day,
    day_row = day_row,
    tagged = tagged,
    event = event,
    answer = { applied = true },
  }
  return command.watch and alerts().watch(step, command.watch) or step
end

local function enter(command, now)
  local user, event = command.user, command.event
  local gone = erased_at(user) or -math.huge
  if entered(event.id) or now - event.at >= ENTER_MS or event.at <= gone then
    return { answer = { applied = false } }
  end
  local at, model = math.min(event.at, now), event.model
  local account = advance(load_user('usage', user) or new_usage(user, at), at)
  local held = account.usage.leases[event.id]
  if held then
    return with(close(account, held, command, quotas_at(held, now)), 'entered', event.id)
  end
  if command.refused then return { answer = { applied = false }, entered = event.id } end

  local reserved = reserved_by(event)
  -- The event does not say which windows its limits have, so it counts in all of them.
  local windows = {}
  for window in pairs(WINDOWS) do
    windows[window] = 1
  end
  local lease =
    { model = model, at = at, ['until'] = account.usage.at, reserved = reserved, windows = windows }
  local quotas = quotas_at(lease, now)
  local date = date_of(at)
  local row = row_of(account, date, model)
  charge_all(quotas, lease)
  charge_user(account.usage, lease)
  set_row(account, date, model, open(row or {}, reserved))
  return with(close(account, lease, command, quotas), 'entered', event.id)
end

-- Whether the user's document is from after the admission, or from before it.
local function is_forgotten(at, known, now)
  return now - at < LATE_SETTLE_MS and (not known or known.since > at or known.at < at)
end

local function settle(command, now)
  local usage, event = load_user('usage', command.user), command.event
  if not usage or not usage.leases[event.id] then
    if is_forgotten(event.at, usage, now) then return enter(command, now) end
    return { answer = { applied = false } }
  end
  local account = advance(usage, now)
  local lease = account.usage.leases[event.id]
  if not lease then return { answer = { applied = false } } end
  return close(account, lease, command, quotas_at(lease, now))
end

REDUCE.settle, REDUCE.enter = settle, enter
