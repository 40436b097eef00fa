-- The rules: the port of ledger/rules.ts and of the functions that it calls, one by one.
--
-- Until a command is granted, what it loads is copied before it is changed, so that a refusal
-- changes nothing. After that, windows and rows are changed in place, which costs a third of
-- copying. If a command fails after that, the batch is decided again without it.

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

-- Amounts of audio are there only if they are not zero. So a request without audio costs two looks.
local function add_audio(counted, unit, amount)
  local sum = max(0, (counted[unit] or 0) + amount)
  counted[unit] = sum ~= 0 and sum or nil
end

-- Adds amounts in place.
local function add(counted, amounts)
  counted.requests = (counted.requests or 0) + amounts.requests
  counted.tokens = (counted.tokens or 0) + amounts.tokens
  counted.usd = digits_of((counted.usd or 0) + amounts.usd)
  if amounts.audioSeconds then add_audio(counted, 'audioSeconds', amounts.audioSeconds) end
  if amounts.characters then add_audio(counted, 'characters', amounts.characters) end
end

-- Changes the windows.
local function charge(windows, lease, now)
  local at, reserved = lease.at, lease.reserved
  for window in pairs(lease.windows) do
    local start = start_of(window, at)
    if start == start_of(window, now) then
      local counted = windows[window]
      if not counted or counted.start ~= start then
        counted = { start = start }
        windows[window] = counted
      end
      add(counted, reserved)
    end
  end
end

-- Changes the windows.
local function correct(windows, lease, charged)
  local at, reserved = lease.at, lease.reserved
  for window in pairs(lease.windows) do
    local counted = windows[window]
    if counted and counted.start == start_of(window, at) then
      -- The difference first, so that no sum on the way passes 2^53.
      counted.requests = max(0, counted.requests + (charged.requests - reserved.requests))
      counted.tokens = max(0, counted.tokens + (charged.tokens - reserved.tokens))
      counted.usd = digits_of(max(0, counted.usd + (charged.usd - reserved.usd)))
      if charged.audioSeconds or reserved.audioSeconds then
        local more = (charged.audioSeconds or 0) - (reserved.audioSeconds or 0)
        add_audio(counted, 'audioSeconds', more)
      end
      if charged.characters or reserved.characters then
        local more = (charged.characters or 0) - (reserved.characters or 0)
        add_audio(counted, 'characters', more)
      end
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
  if event.audioMs then add_audio(row, 'audioMs', event.audioMs) end
  if event.characters then add_audio(row, 'characters', event.characters) end
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

-- Changes the day and its row. Gives the row.
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

-- The step's own copy of a user's usage: rows of an earlier day move to the past, and a lease that
-- has not ended within a day is lost.

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

-- Changes the usage, which is the step's own copy, and its entry of the model.
local function set_today(usage, model, row)
  local use = usage.models[model]
  usage.charged = usage.charged + (row.charged or 0) - (use.row.charged or 0)
  usage.answered = usage.answered + answers_of(row) - answers_of(use.row)
  use.row = row
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

-- Changes the usage and its entry of the model.
local function correct_user(usage, lease, charged)
  local use = use_of(usage, lease.model)
  correct(usage.windows, lease, charged)
  if use then
    use.windows = current(use.windows, usage.at)
    correct(use.windows, lease, charged)
  end
end

local function windows_of(usage, scope)
  if scope == ALL_MODELS then return usage.windows end
  local use = use_of(usage, scope)
  return use and current(use.windows, usage.at) or {}
end

-- The windows that a row has limits of.
local function windows_in(limits)
  local windows = {}
  for name in pairs(limits) do
    local limit = LIMITS[name]
    if limit then windows[limit.window] = 1 end
  end
  return windows
end

-- A row of limits with its use in the windows that are shown.
local function standing_of(of, scope, limits, windows, shown)
  local used = {}
  for window in pairs(shown) do
    local counted = windows[window]
    if counted then
      used[window] = {
        requests = counted.requests,
        tokens = counted.tokens,
        usd = counted.usd,
        audioSeconds = counted.audioSeconds,
        characters = counted.characters,
      }
    end
  end
  return { of = of, model = scope, limits = limits, used = used }
end

local function everyones(scope, at)
  local quota = load_quota(scope)
  return quota and current(quota.windows, at) or {}
end

local function groups_of(model, policy, usage)
  local groups, at = {}, usage.at
  local mine, everyone, unverified = policy.user, policy.everyone, policy.unverified
  local function add_group(of, scope, limits)
    if limits then
      local counted = of == 'unverified' and '~' .. scope or scope
      local windows = of == 'user' and windows_of(usage, scope) or everyones(counted, at)
      groups[#groups + 1] = standing_of(of, scope, limits, windows, windows_in(limits))
    end
  end
  add_group('user', model, mine.model)
  add_group('user', ALL_MODELS, mine.total)
  add_group('everyone', ALL_MODELS, everyone.total)
  add_group('everyone', model, everyone.model)
  if unverified then
    add_group('unverified', ALL_MODELS, unverified.total)
    add_group('unverified', model, unverified.model)
  end
  return groups
end

-- What everyone uses, against the most that can be counted.
local function most_of(at)
  local used = everyones(ALL_MODELS, at)
  return { of = 'everyone', model = ALL_MODELS, limits = MOST_LIMITS, used = used }
end

-- Changes the groups, which are the step's own.
local function with_reserved(groups, lease)
  for i = 1, #groups do
    local used = groups[i].used
    for window in pairs(windows_in(groups[i].limits)) do
      used[window] = used[window] or {}
      add(used[window], lease.reserved)
    end
  end
  return groups
end

local function refuse(group, reserved, at)
  local counted = group.used
  local first, passed
  for name, limit in pairs(group.limits) do
    local named = LIMITS[name]
    if named then
      local asked = (reserved[named.unit] or 0) + 0
      local used = (counted[named.window] or NOTHING)[named.unit] or 0
      -- A request that asks for nothing of a unit is not refused by its limits.
      if asked ~= 0 and used + asked > limit and (not first or named.rank < first.rank) then
        first, passed = named, limit
      end
    end
  end
  if not first then return nil end
  local unit, window = first.unit, first.window
  return {
    ok = false,
    reason = 'limit',
    of = group.of,
    model = group.model,
    window = window,
    unit = unit,
    limit = passed,
    used = (counted[window] or NOTHING)[unit] or 0,
    asked = reserved[unit],
    resetAt = end_of(window, at),
  }
end

-- Money: ledger/money.ts.

-- count * each / per, as a whole number and the rest, which is not divided.
-- No product passes 2^53.
local function parts_of(count, each, per)
  local few, rest = count % per, each % per
  return count * ((each - rest) / per) + ((count - few) / per) * rest, few * rest
end

-- The cost of a request in nano-USD, rounded up once. `audio` has what is not tokens, if there is
-- any.
local function cost_of(prompt, completion, price, audio)
  local nano, pico = parts_of(prompt, price.input, 1000)
  local more, rest = parts_of(completion, price.output, 1000)
  nano, pico = nano + more, pico + rest
  if not audio then return math.min(nano + math.ceil(pico / 1000), MOST_MONEY) end
  -- There are 3,600,000 ms in an hour.
  local heard, left = parts_of(audio.audioMs or 0, price.audioHour or 0, 3600000)
  more, rest = parts_of(audio.characters or 0, price.characters or 0, 1000)
  local parts = (pico + rest) * 3600 + left
  return math.min(nano + heard + more + math.ceil(parts / 3600000), MOST_MONEY)
end

-- The fit: ledger/fit.ts.

-- What a request reserves, with a maximum of its own or with `most` tokens of each completion.
local function amounts_of(asked, most)
  local completions, price = asked.completions, asked.price
  local prompt = asked.reserved - asked.completion
  local completion = completions and most and completions.count * most or asked.completion
  local audio = (asked.audioMs or asked.characters) and asked
  local usd = price and cost_of(prompt, completion, price, audio) or 0
  return {
    requests = 1,
    tokens = prompt + completion,
    usd = digits_of(usd),
    audioSeconds = asked.audioMs,
    characters = asked.characters,
  }
end

-- The most tokens of each completion, up to `most`, with which a request costs at most `left`.
local function most_tokens(prompt, count, price, left, most)
  local function fits(each) return cost_of(prompt, count * each, price) <= left end
  if not fits(0) then return -1 end
  if fits(most) then return most end
  local nano, pico = parts_of(prompt, price.input, 1000)
  local tokens = max(0, floor(((left - nano) * 1000 - pico) / (count * price.output)))
  while not fits(tokens) do
    tokens = tokens - 1
  end
  while fits(tokens + 1) do
    tokens = tokens + 1
  end
  return tokens
end

-- The tokens of each completion that a request is granted; nil if the client sent a maximum.
local function fitted(asked, groups)
  local completions = asked.completions
  if not completions then return nil end
  local full, most = amounts_of(asked, completions.tokens), completions.tokens
  local prompt, count = asked.reserved - asked.completion, completions.count
  for i = 1, #groups do
    for name, limit in pairs(groups[i].limits) do
      local named = LIMITS[name]
      local unit = named and named.unit
      local wanted = named and (full[unit] or 0) + 0
      -- No limit is on requests alone, since a request is one whatever its size.
      if
        named
        and unit ~= 'requests'
        and wanted > 0
        and (not WINDOWS[named.window].waits or limit < wanted)
      then
        local left = limit - ((groups[i].used[named.window] or NOTHING)[unit] or 0)
        if wanted > left then
          local fits = 0
          if unit ~= 'usd' then
            fits = floor((left - prompt) / count)
          elseif asked.price then
            fits = most_tokens(prompt, count, asked.price, left, most)
          end
          most = math.min(most, fits)
        end
      end
    end
  end
  return max(most, math.min(FIT_MIN_TOKENS, completions.tokens))
end

-- What a request asks for. Without a maximum of its own, it gets the plan's.
local function under_plan(command, most)
  local completions = command.completions
  if not most or not completions or completions.tokens <= most then return command end
  local asked = copy(command)
  asked.completion = completions.count * most
  asked.reserved = command.reserved - command.completion + asked.completion
  asked.completions = { count = completions.count, tokens = most }
  return asked
end

-- Whether a limit is in dollars.
local function is_in_dollars(groups)
  for i = 1, #groups do
    for name in pairs(groups[i].limits) do
      if LIMITS[name] and LIMITS[name].unit == 'usd' then return true end
    end
  end
  return false
end

-- When the last window ends of which the user has a limit; 0 without limits.
local function last_end(groups, at)
  local last = 0
  for i = 1, #groups do
    if groups[i].of == 'user' then
      for window in pairs(windows_in(groups[i].limits)) do
        last = max(last, end_of(window, at))
      end
    end
  end
  return last
end

local function counted_in(groups)
  local windows = {}
  for window, row in pairs(WINDOWS) do
    if row.always then windows[window] = 1 end
  end
  for i = 1, #groups do
    for window in pairs(windows_in(groups[i].limits)) do
      windows[window] = 1
    end
  end
  return windows
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

local function correct_all(quotas, lease, charged)
  for _, quota in pairs(quotas) do
    correct(quota.windows, lease, charged)
  end
end

-- What holds for one request: its rows of limits, its plan, and what it asks for under that plan.
local function policy_of(command, profile, at)
  local model, claims = command.model, command.claims
  local name, plan, unknown = plan_of(profile, claims and claims.plan)
  local policy = {
    name = name,
    plan = plan,
    unknown = unknown,
    user = user_rows(model, command.limits, plan, profile, at),
    everyone = everyone_rows(model, command.everyone),
    asked = under_plan(command, plan and plan.maxCompletionTokens),
  }
  if command.unverified then policy.unverified = share_of(policy.everyone, command.unverified) end
  return policy
end

-- The sender knows the limits that its command named, and writing them would take longer than
-- checking them.
local function admitted(command, policy, at, groups, maximum)
  local mine, everyone = command.limits, command.everyone or {}
  for i = 1, #groups do
    local limits = groups[i].limits
    if
      limits == mine.model
      or limits == mine.total
      or limits == everyone.model
      or limits == everyone.total
    then
      groups[i].limits = nil
    end
  end
  return {
    ok = true,
    at = at,
    limits = groups[1] and groups,
    plan = policy.plan and policy.name,
    unknownPlan = policy.unknown,
    maximum = maximum,
  }
end

local function running_at(leases, at)
  return size(filter(leases, function(lease) return not is_past(lease, at) end))
end

-- Counts a new user in the network's minute, or refuses. A network beyond NETWORKS is not counted.
local function new_users_of(command, at)
  local network, per_minute = command.newUsers.network, command.newUsers.perMinute
  local minute, known = minute_of(at), load_new_users()
  local networks = known and known.minute == minute and known.networks or {}
  local count = networks[network] or 0
  if count >= per_minute then
    local reset_at = end_of('minute', at)
    return nil, { ok = false, reason = 'newUsers', perMinute = per_minute, resetAt = reset_at }
  end
  if count == 0 and size(networks) >= NETWORKS then return nil end
  return new('newUsers', { minute = minute, networks = with(networks, network, count + 1) })
end

-- The code of a refusal, as clients see it: ledger/refusals.ts.
local function code_of(refusal)
  if refusal.reason ~= 'limit' then
    return REFUSAL_CODES[refusal.reason == 'key' and refusal.why or refusal.reason]
  end
  if WINDOWS[refusal.window].waits then return 'rate_limit_exceeded' end
  return refusal.of == 'user' and 'insufficient_quota' or 'global_quota'
end

-- Refuses a request, and counts the refusal of a user who is known. Others are counted by the
-- sender.
local function refuse_with(command, refusal, known, at)
  local carried = command.refusals
  if not known then return { answer = refusal, refusals = carried } end
  local model, code = load_quota(command.model) and command.model or UNUSED_MODEL, code_of(refusal)
  local refusals, date, name = copy(carried or {}), date_of(at), code .. ' ' .. model
  refusals[date] = copy(refusals[date] or {})
  refusals[date][name] = (refusals[date][name] or 0) + 1
  local entry = {
    v = VERSION,
    id = command.id,
    at = at,
    user = command.user,
    code = code,
    model = command.model,
  }
  if refusal.reason == 'limit' then
    entry.limit = {
      of = refusal.of,
      model = refusal.model,
      unit = refusal.unit,
      window = refusal.window,
      limit = refusal.limit,
      used = tonumber(refusal.used),
      asked = tonumber(refusal.asked),
    }
  end
  return { answer = with(refusal, 'counted', true), refused = entry, refusals = refusals }
end

-- The window in which a user has used as many models as are allowed, if this is one more.
local function models_full(usage, model)
  local use, known = use_of(usage, model), size(usage.models)
  if not use and known >= MODELS_COUNTED then return 'month' end
  if use and use.row.requests or known < MODELS_PER_USER then return nil end
  local today = 0
  for name in pairs(usage.models) do
    if use_of(usage, name).row.requests then today = today + 1 end
  end
  return today >= MODELS_PER_USER and 'day' or nil
end

local function admit(command, now)
  local id, user, model = command.id, command.user, command.model
  local known = load_user('usage', user)
  local account = advance(known or new_usage(user, now), now)
  local usage = account.usage
  local at = usage.at
  local profile = load_user('profile', user)
  local policy = policy_of(command, profile, at)
  local groups, plan = groups_of(model, policy, usage), policy.plan
  local held = usage.leases[id]
  if held then return { answer = admitted(command, policy, held.at, groups, held.maximum) } end
  local granted, maximum = fitted(policy.asked, groups), nil
  if granted and granted < command.completions.tokens then maximum = granted end
  if entered(id) then return { answer = admitted(command, policy, at, groups, maximum) } end
  local reserved = amounts_of(policy.asked, granted)

  local denied = access_refused(command, profile, plan, at)
  if denied then return refuse_with(command, denied, known, at) end
  if not command.price and is_in_dollars(groups) then
    return refuse_with(command, refused('unpriced'), known, at)
  end
  local window = models_full(usage, model)
  if window then
    return refuse_with(command, with(refused('models'), 'window', window), known, at)
  end
  local most = math.min(plan and plan.concurrentRequests or RUNNING_PER_USER, RUNNING_PER_USER)
  if size(usage.leases) >= most and running_at(usage.leases, at) >= most then
    return refuse_with(command, with(refused('running'), 'limit', most), known, at)
  end

  for i = 1, #groups do
    local refusal = refuse(groups[i], reserved, at)
    if refusal then
      refusal.maximum = plan and plan.maxCompletionTokens
      return refuse_with(command, refusal, known, at)
    end
  end
  local too_much = refuse(most_of(at), reserved, at)
  if too_much then
    too_much.maximum = plan and plan.maxCompletionTokens
    return refuse_with(command, too_much, known, at)
  end

  local newcomer
  if not known and command.newUsers then
    local refusal
    newcomer, refusal = new_users_of(command, at)
    if refusal then return refuse_with(command, refusal, known, at) end
  end

  local lease = {
    model = model,
    at = at,
    ['until'] = at + command.lasts,
    reserved = reserved,
    windows = counted_in(groups),
    maximum = maximum,
    unverified = command.unverified and 1,
  }
  local quotas = quotas_at(lease, at)
  charge_all(quotas, lease)
  charge_user(usage, lease)
  usage.seen = at
  set_today(usage, model, open(usage.models[model].row, reserved))
  usage.leases[id] = lease
  usage.ip = command.ip or usage.ip
  local claims, key = command.claims, command.key
  if claims then
    if claims.label and claims.label ~= usage.label then
      usage.label, usage.words = claims.label, claims.words or {}
    end
    usage.plan = claims.plan
  end
  if key then
    local used = filter(usage.keysUsed or {}, function(_, name) return profile.keys[name] end)
    used[key.id] = at
    usage.keysUsed = used
  end
  local limited_until = last_end(groups, at)
  usage.limitedUntil = limited_until > end_of('day', at) and limited_until or nil
  local answer = admitted(command, policy, at, with_reserved(groups, lease), maximum)
  return {
    usage = indexed(usage),
    past = account.past,
    quotas = quotas,
    new_users = newcomer,
    refusals = command.refusals,
    answer = answer,
  }
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

local function close(account, lease, event, quotas)
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
  if row then set_row(account, date, model, end_row(row, event)) end
  if first.session then sessions[session] = 1 end

  local charged = charged_by(event)
  correct_all(quotas, lease, charged)
  -- Of a user's requests, the failed ones count too.
  charged.requests = 1
  correct_user(usage, lease, charged)
  usage.leases[event.id] = nil
  usage.seen = usage.at
  if event.key then charge_key(usage, event.key, at, charged) end
  day_row = end_day(day, day_row, event, first, usage.at)
  return {
    usage = indexed(usage),
    past = account.past,
    quotas = quotas,
    day = day,
    day_row = day_row,
    event = event,
    answer = { applied = true },
  }
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
    return with(close(account, held, event, quotas_at(held, now)), 'entered', event.id)
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
  return with(close(account, lease, event, quotas), 'entered', event.id)
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
  return close(account, lease, event, quotas_at(lease, now))
end

local REDUCE = { admit = admit, settle = settle, enter = enter }

-- The other commands are rare, so their functions are made only when one of them comes.
local function add_rare_commands()
  local function audit_of(command, at, action, user)
    return {
      v = VERSION,
      at = at,
      action = action,
      user = user and string.sub(user, 1, AUDIT_ID_CHARS),
      ip = command.ip,
      by = command.by,
    }
  end

  -- A copy of a user's profile, without blocks that have ended.
  local function profile_at(user, at)
    local profile = copy(load_user('profile', user) or new('profile', { id = user }))
    profile.blocks = filter(profile.blocks, function(one) return is_in_force(one, at) end)
    return profile
  end

  local function set_block(command, at)
    local user, model, block = command.user, command.model, command.block
    local profile = profile_at(user, at)
    local blocks = profile.blocks
    blocks[model] = block and with(block, 'at', math.min(block.at, at))
    local audit = audit_of(command, at, block and 'block' or 'unblock', user)
    audit.model = model
    if block then
      audit.reason, audit['until'] = block.reason, block['until']
    end
    return { profile = profile, block = command, audit = audit, answer = { ok = true } }
  end

  -- A record with some fields set and others removed.
  local function changed(record, set, clear)
    local result = copy(record)
    for name, value in pairs(set) do
      result[name] = value
    end
    for name in pairs(clear or {}) do
      result[name] = nil
    end
    return result
  end

  -- The names of changed fields, in order.
  local function names_of(set, clear)
    local names = {}
    for _, fields in ipairs({ set, clear or {} }) do
      for name in pairs(fields) do
        if name ~= 'words' then names[#names + 1] = name end
      end
    end
    table.sort(names)
    return table.concat(names, ' ')
  end

  local function set_profile(command, at)
    local user, set, clear = command.user, command.set, command.clear
    local profile = changed(profile_at(user, at), set, clear)
    profile.limits = profile.limits or {}
    local audit = with(audit_of(command, at, 'user', user), 'what', names_of(set, clear))
    return { profile = profile, audit = audit, answer = { ok = true, profile = profile } }
  end

  local function key_after(command, known, at)
    local action = command.action
    if action == 'create' then return command.key end
    if not known or action == 'delete' then return known end
    if action == 'change' then return changed(known, command.set, command.clear) end
    local key = changed(known, command.secret, { previous = 1 })
    if command.graceUntil > at then
      key.previous = { hash = known.hash, ['until'] = command.graceUntil }
    end
    return key
  end

  local function set_key(command, at)
    local user, id, action = command.user, command.id, command.action
    local profile = profile_at(user, at)
    local known = profile.keys[id]
    if action == 'create' then
      if known then return { answer = refused('exists') } end
      if size(profile.keys) >= KEYS_PER_USER then return { answer = refused('keys') } end
    end
    local key = key_after(command, known, at)
    if not key then return { answer = refused('unknown') } end
    profile.keys = with(profile.keys, id, action ~= 'delete' and key or nil)
    local audit = with(audit_of(command, at, action .. ' key', user), 'what', id)
    return { profile = profile, audit = audit, answer = { ok = true, key = key } }
  end

  -- Rows that start from no limits need not say that there is none.
  local function without_unlimited(rows)
    local result = {}
    for name, row in pairs(rows) do
      result[name] = filter(row, function(limit) return limit ~= UNLIMITED end)
    end
    return result
  end

  local function set_plan(command, at)
    local name, plan = command.name, command.plan
    local settings = copy(load_settings() or new('settings', {}))
    local known = settings.plans[name]
    if not plan and not known then return { answer = refused('unknown') } end
    if plan and not known and size(settings.plans) >= PLANS then
      return { answer = refused('plans') }
    end
    settings.plans = with(settings.plans, name, plan and 1 or nil)
    local doc = plan and copy(plan)
    if doc then
      doc.v, doc.limits = VERSIONS.plan, without_unlimited(plan.limits)
    end
    local audit = with(audit_of(command, at, plan and 'plan' or 'delete plan'), 'what', name)
    return {
      settings = settings,
      plan = { name = name, doc = doc },
      audit = audit,
      answer = { ok = true },
    }
  end

  local function set_settings(command, at)
    local set, clear = command.set, command.clear
    local settings = changed(load_settings() or new('settings', {}), set, clear)
    local global = settings.globalLimits
    settings.globalLimits = global and without_unlimited(global)
    local audit = with(audit_of(command, at, 'settings'), 'what', names_of(set, clear))
    return { settings = settings, audit = audit, answer = { ok = true, settings = settings } }
  end

  -- What leases hold in one span of a window. `model` is nil for all.
  local function reserved_in(leases, model, window, start)
    local held = copy(NOTHING)
    for _, lease in pairs(leases) do
      local same_span = lease.windows[window] and start_of(window, lease.at) == start
      if same_span and (not model or lease.model == model) then add(held, lease.reserved) end
    end
    return held
  end

  -- What a user's requests of a model reserve that have not ended: by window.
  local function reserved_of(usage, model)
    local held = {}
    for window in pairs(WINDOWS) do
      local amounts = reserved_in(usage.leases, model, window, start_of(window, usage.at))
      if amounts.requests > 0 then held[window] = amounts end
    end
    return held
  end

  -- The windows with only what the leases of one span of them reserve. `model` is nil for all.
  local function only_leases(windows, leases, model, wanted)
    local result = copy(windows)
    for window, counted in pairs(windows) do
      if WINDOWS[window] and (not wanted or wanted == window) then
        result[window] =
          with(reserved_in(leases, model, window, counted.start), 'start', counted.start)
      end
    end
    return result
  end

  local function reset(command, now)
    local user, window = command.user, command.window
    local audit = with(audit_of(command, now, 'reset', user), 'what', window)
    local known = load_user('usage', user)
    if not known then return { audit = audit, answer = { ok = true } } end
    local account = advance(known, now)
    local usage, models = account.usage, {}
    for model in pairs(usage.models) do
      local use = use_of(usage, model)
      local windows = only_leases(use.windows, usage.leases, model, window)
      models[model] = with(use, 'windows', windows)
    end
    local windows = only_leases(usage.windows, usage.leases, nil, window)
    usage = with(usage, 'windows', windows)
    usage.models = models
    return { usage = usage, past = account.past, audit = audit, answer = { ok = true } }
  end

  local function report(command, now)
    local known = load_user('usage', command.user)
    local account = advance(known or new_usage(command.user, now), now)
    local usage = account.usage
    local at = usage.at
    local profile = load_user('profile', command.user)
    local invalid = credential_refused(command, profile, at)
    if invalid then return { answer = invalid } end
    local minute = minute_of(at)
    local syncs = (usage.syncMinute == minute and usage.syncs or 0) + 1
    if syncs > SYNCS_PER_MINUTE then
      return { answer = { ok = false, reason = 'syncs', resetAt = end_of('minute', at) } }
    end
    local reported = copy(usage.reported)
    for model, said in pairs(command.models) do
      local old = reported[model]
      local full = not old and size(reported) >= MODELS_PER_USER
      if said.resetAt == end_of('day', at) and not full then
        old = old or NOTHING
        reported[model] = {
          requests = max(old.requests, said.requests),
          tokens = max(old.tokens, said.tokens),
        }
      end
    end
    local limits, models = command.limits, {}
    local plan_name, plan = plan_of(profile, command.claims and command.claims.plan)
    local function rows_now(model)
      local environment = { model = limits.models[model] or limits.default, total = limits.total }
      return user_rows(model, environment, plan, profile, at)
    end
    local function standing(scope, row)
      local result = standing_of('user', scope, row or {}, windows_of(usage, scope), WINDOWS)
      result.reserved = reserved_of(usage, scope ~= ALL_MODELS and scope or nil)
      return result
    end
    for model in pairs(usage.models) do
      if use_of(usage, model).row.requests then models[model] = 1 end
    end
    for model in pairs(command.models) do
      models[model] = 1
    end
    for model in pairs(models) do
      models[model] = standing(model, rows_now(model).model)
    end
    local blocks = filter(
      profile and profile.blocks or {},
      function(block) return is_in_force(block, at) end
    )
    local total = standing(ALL_MODELS, rows_now(ALL_MODELS).total)
    local answer = {
      ok = true,
      at = at,
      known = known ~= nil,
      models = models,
      total = total,
      blocks = blocks,
      plan = plan and plan_name,
    }
    if not known then return { answer = answer } end
    usage = with(usage, 'reported', reported)
    usage.syncMinute, usage.syncs = minute, syncs
    return { usage = usage, past = account.past, answer = answer }
  end

  local function erase(command, at)
    return {
      erased = at,
      audit = audit_of(command, at, 'erase', command.user),
      answer = { ok = true },
    }
  end

  local function session(command, at)
    return { session = command, audit = audit_of(command, at, command.op), answer = { ok = true } }
  end

  local function note(command, at)
    local audit = audit_of(command, at, command.action, command.about)
    local answer = { ok = true }
    local before = command.action == 'failed login' and last_audit()
    if not before or before.action ~= audit.action or at - before.at >= HOUR_MS then
      return { audit = audit, answer = answer }
    end
    before.times = (before.times or 1) + 1
    if before.ip ~= audit.ip then before.ip = nil end
    return { audit = before, again = true, answer = answer }
  end

  local function clear(command, at)
    local date = date_of(at)
    local today, day = load_day(date), nil
    if today then
      if today.open then today = closed(today) end
      day = new('day', { date = date, open = 1 })
      day.forgotten = today.forgotten + today.total.exact + today.total.estimated
    end
    return {
      day = day,
      cleared = at,
      audit = audit_of(command, at, 'clear'),
      answer = { ok = true },
    }
  end

  REDUCE.block, REDUCE.report, REDUCE.erase, REDUCE.clear = set_block, report, erase, clear
  REDUCE.login, REDUCE.logout, REDUCE.note = session, session, note
  REDUCE.profile, REDUCE.key, REDUCE.reset = set_profile, set_key, reset
  REDUCE.plan, REDUCE.settings = set_plan, set_settings
end

local function reduce(command, at)
  if not REDUCE[command.op] then add_rare_commands() end
  return REDUCE[command.op](command, at)
end
