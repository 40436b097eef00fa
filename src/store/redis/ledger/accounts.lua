-- What the commands of requests share: the counters that they charge, and the user's documents at a
-- moment.
--
-- Until a command is granted, what it loads is copied before it is changed, so that a refusal
-- changes nothing. After that, windows and rows are changed in place, which costs a third of
-- copying. If a command fails after that, the batch is decided again without it.

-- Adds amounts in place.
local function add(counted, amounts)
  counted.requests = (counted.requests or 0) + amounts.requests
  counted.tokens = (counted.tokens or 0) + amounts.tokens
  counted.usd = (counted.usd or 0) + amounts.usd
  local is_audio = amounts.audioSeconds or amounts.characters
  if is_audio then join_audio(counted, counted, amounts, 1) end
end

-- Changes the windows.
local function charge(windows, lease, now)
  local at, reserved = lease.at, lease.reserved
  local is_today = lease.windows.day and start_of('day', at) == start_of('day', now)
  for window in pairs(lease.windows) do
    local start, is_long = start_of(window, at), LONG[window]
    -- The day has it for the long windows too.
    local is_current = at == now or start == start_of(window, now)
    if is_current and not (is_long and is_today) then
      local counts = is_long and before_of(windows) or windows
      local counted = counts[window]
      if counted and counted.start == 0 then
        counted.start = start
      elseif not counted or counted.start ~= start then
        counted = { start = start }
        counts[window] = counted
      end
      add(counted, reserved)
    end
  end
end

local function open(row, reserved)
  return plus(row, {
    requests = 1,
    charged = reserved.tokens,
    reserved = reserved.tokens,
    cost = reserved.usd,
    reservedCost = reserved.usd,
    audioMs = reserved.audioSeconds,
    reservedAudioMs = reserved.audioSeconds,
    characters = reserved.characters,
    reservedCharacters = reserved.characters,
  })
end

local function turn(account)
  local usage = account.usage
  local at = usage.at
  local rows, models = {}, {}
  for model in pairs(usage.models) do
    local use = use_of(usage, model)
    if use.row.requests then rows[model] = use.row end
    local windows = current(use.windows, at)
    if next(windows) then models[model] = { row = {}, windows = windows } end
  end
  if next(rows) then
    local past = load_user('past', usage.id) or new('past', { id = usage.id })
    local oldest = date_of(at - keep.userDays * DAY_MS)
    local days = with(past.days, usage.date, rows)
    account.past = with(past, 'days', filter(days, function(_, day) return day >= oldest end))
  end
  local turned = copy(usage)
  turned.date = date_of(at)
  turned.charged, turned.answered, turned.models = 0, 0, models
  turned.sessions, turned.reported = {}, {}
  account.usage = turned
end

local function is_past(lease, at) return at > lease['until'] end

local function drop(account)
  local usage, past = account.usage, account.past
  local at = usage.at
  local times = {}
  for _, lease in pairs(usage.leases) do
    if is_past(lease, at) then times[#times + 1] = lease.at end
  end
  -- The time of admission up to which past leases are lost. Those of one moment are lost together.
  local oldest, excess = at - LATE_SETTLE_MS, #times - PAST_LEASES
  if excess > 0 then
    table.sort(times)
    oldest = max(oldest, times[excess])
  end
  local function is_lost(lease) return lease.at <= oldest and is_past(lease, at) end
  local lost = filter(usage.leases, is_lost)
  if not next(lost) then return account end
  usage = with(usage, 'leases', filter(usage.leases, function(lease) return not is_lost(lease) end))
  for _, lease in pairs(lost) do
    local date, model = date_of(lease.at), lease.model
    local tokens, usd = lease.reserved.tokens, lease.reserved.usd
    local audio, characters = lease.reserved.audioSeconds, lease.reserved.characters
    local lose = {
      lost = 1,
      reserved = -tokens,
      lostTokens = tokens,
      reservedCost = -usd,
      lostCost = usd,
      reservedAudioMs = audio and -audio,
      lostAudioMs = audio,
      reservedCharacters = characters and -characters,
      lostCharacters = characters,
    }
    if date == usage.date then
      local use = use_of(usage, model) or { row = {}, windows = {} }
      usage.models = with(usage.models, model, with(use, 'row', plus(use.row, lose)))
    else
      local kept = past or load_user('past', usage.id)
      local row = past_row(kept, date, model)
      if row then past = with_past_row(kept, date, model, plus(row, lose)) end
    end
  end
  return { usage = usage, past = past }
end

local function advance(usage, now)
  local at = max(usage.at, now)
  local advanced = with(usage, 'at', at)
  advanced.windows = current(usage.windows, at)
  local account = { usage = advanced }
  if date_of(at) ~= usage.date then turn(account) end
  return next(usage.leases) and drop(account) or account
end

-- Changes the usage, which is the step's own copy, and its entry of the model.
local function set_today(usage, model, row)
  local use = usage.models[model]
  usage.charged = usage.charged + (row.charged or 0) - (use.row.charged or 0)
  usage.answered = usage.answered + answers_of(row) - answers_of(use.row)
  use.row = row
end

local function indexed(usage)
  local tokens, known = usage.charged, usage.indexed
  local due = usage.at - known.at >= INDEX_MS
    or date_of(known.at) ~= usage.date
    or tokens > 2 * known.tokens
  if due then usage.indexed = { at = usage.at, tokens = tokens } end
  return usage
end

-- Changes the usage and its entry of the model.
local function charge_user(usage, lease)
  local model, at = lease.model, usage.at
  local use = use_of(usage, model) or { row = {}, windows = {} }
  use.windows = current(use.windows, at)
  charge(usage.windows, lease, at)
  charge(use.windows, lease, at)
  if next(use.windows) then usage.models[model] = use end
end

-- The quotas of a step, of all models and of a lease's model, at the time of the step.
local function quotas_at(lease, now)
  local quotas, model = {}, lease.model
  local scopes = { ALL_MODELS, model }
  if lease.unverified then
    scopes[3], scopes[4] = '~' .. ALL_MODELS, '~' .. model
  end
  for _, scope in ipairs(scopes) do
    local quota = copy(load_quota(scope) or new('quota', { at = now }))
    quota.at = max(quota.at, now)
    quota.windows = current(quota.windows, quota.at)
    quotas[scope] = quota
  end
  return quotas
end

local function charge_all(quotas, lease)
  for _, quota in pairs(quotas) do
    charge(quota.windows, lease, quota.at)
  end
end

-- The rule of each command. Each file below adds its own: `rule_of` makes its functions when a
-- command needs them, because making them all would take a tenth of a step.
local REDUCE = {}

-- What leases hold in one span of a window. `model` is nil for all.
local function reserved_in(leases, model, window, start)
  local held = copy(NOTHING)
  for _, lease in pairs(leases) do
    local same_span = lease.windows[window] and start_of(window, lease.at) == start
    if same_span and (not model or lease.model == model) then add(held, lease.reserved) end
  end
  return held
end
