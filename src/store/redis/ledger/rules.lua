-- The rules: ledger/rules.ts and what it calls, function by function. What is loaded is copied,
-- never changed in place, so that a command that is refused or fails leaves nothing behind.

local RESERVED = {
  requests = function() return 1 end,
  tokens = function(of) return of.reserved end,
}

local CHARGED = {
  requests = function(event) return event.outcome == 'failed' and 0 or 1 end,
  tokens = function(event) return event.charged end,
}

local function amounts_by(meters, of)
  local amounts = {}
  for unit, meter in pairs(meters) do
    amounts[unit] = meter(of)
  end
  return amounts
end

local function charge(windows, lease, scopes, now)
  local next = copy(windows)
  for window in pairs(lease.windows) do
    local start = start_of(window, lease.at)
    if start == start_of(window, now) then
      local counted, used = windows[window], {}
      local old = counted and counted.start == start and counted.used or {}
      for unit, amount in pairs(lease.reserved) do
        local by_scope = copy(old[unit] or {})
        for _, scope in ipairs(scopes) do
          by_scope[scope] = (by_scope[scope] or 0) + amount
        end
        used[unit] = by_scope
      end
      next[window] = { start = start, used = used }
    end
  end
  return next
end

local function correct(windows, lease, scopes, charged)
  local next = copy(windows)
  for window in pairs(lease.windows) do
    local counted, used = windows[window], {}
    if counted and counted.start == start_of(window, lease.at) then
      for unit, amount in pairs(lease.reserved) do
        local by_scope = copy(counted.used[unit] or {})
        for _, scope in ipairs(scopes) do
          local old = by_scope[scope]
          if old then by_scope[scope] = max(0, old + charged[unit] - amount) end
        end
        used[unit] = by_scope
      end
      next[window] = { start = counted.start, used = used }
    end
  end
  return next
end

local function open(row, reserved)
  return plus(row or {}, { requests = 1, charged = reserved.tokens, reserved = reserved.tokens })
end

-- What an end adds to a row's outcomes and sums.
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
  return plus(row, told)
end

local function end_day_row(row, event, first, at)
  local hour = format('%d', floor(event.at % DAY_MS / HOUR_MS))
  local next = copy(row)
  for field, amount in pairs(told_by(event)) do
    next[field] = row[field] + amount
  end
  next.requests = row.requests + 1
  next.charged = row.charged + event.charged
  next.users = row.users + (first and 1 or 0)
  next.hours = with(row.hours, hour, (row.hours[hour] or 0) + event.charged)
  next.at = max(row.at, at)
  return next
end

local function first_answer(rows, row, event)
  local first = { user = event.outcome ~= 'failed', model = false, session = false }
  if not first.user then return first end
  first.model = not answered(row)
  for _, one in pairs(rows) do
    if answered(one) then first.user = false end
  end
  return first
end

-- The rows of a day are kept apart from it as long as it lasts, so this gives both.
local function end_day(day, row, event, first, at)
  local next = copy(day)
  next.total = end_day_row(day.total, event, first.user, at)
  next.sessions = day.sessions + (first.session and 1 or 0)
  if row or event.outcome ~= 'failed' then
    row = end_day_row(row or new_day_row(), event, first.model, at)
  end
  return next, row
end

-- A step's own copy of a user's usage: yesterday's rows go to the past, and a lease of which
-- nothing was heard for a day is lost.

local function turn(account)
  local usage = account.usage
  local at = usage.at
  if next(usage.rows) then
    local past = load_past(usage.id) or new_past(usage.id)
    local oldest = date_of(at - keep.userDays * DAY_MS)
    local days = with(past.days, usage.date, usage.rows)
    account.past = with(past, 'days', filter(days, function(_, day) return day >= oldest end))
  end
  local turned = copy(usage)
  turned.date = date_of(at)
  turned.rows, turned.sessions, turned.reported = {}, {}, {}
  account.usage = turned
end

local function drop(account)
  local usage, past = account.usage, account.past
  local function is_lost(lease) return usage.at - lease.at >= LATE_SETTLE_MS end
  if not next(usage.leases) then return account end
  local lost = filter(usage.leases, is_lost)
  if not next(lost) then return account end
  local left = filter(usage.leases, function(lease) return not is_lost(lease) end)
  local kept = past or load_past(usage.id)
  for _, lease in pairs(lost) do
    local date = date_of(lease.at)
    local row = past_row(past or kept, date, lease.model)
    if row then
      local tokens = lease.reserved.tokens
      row = plus(row, { lost = 1, reserved = -tokens, lostTokens = tokens })
      past = with_past_row(past or kept, date, lease.model, row)
    end
  end
  return { usage = with(usage, 'leases', left), past = past }
end

local function advance(usage, now)
  local at = max(usage.at, now)
  local next_usage = with(usage, 'at', at)
  next_usage.windows = current(usage.windows, at)
  local account = { usage = next_usage }
  if date_of(at) ~= usage.date then turn(account) end
  return drop(account)
end

local function row_of(account, date, model)
  local usage, stored = account.usage
  if date == usage.date then
    stored = usage.rows
  else
    local past = account.past or load_past(usage.id)
    stored = past and past.days[date] or {}
  end
  return stored[model], stored
end

-- Changes the account, which is the step's own.
local function set_row(account, date, model, row)
  local usage = account.usage
  if date == usage.date then
    usage.rows = with(usage.rows, model, row)
  else
    local past = account.past or load_past(usage.id) or new_past(usage.id)
    account.past = with_past_row(past, date, model, row)
  end
end

local function indexed(usage)
  local tokens, known = 0, usage.indexed
  for _, row in pairs(usage.rows) do
    tokens = tokens + (row.charged or 0)
  end
  local due = usage.at - known.at >= INDEX_MS
    or date_of(known.at) ~= usage.date
    or tokens > 2 * known.tokens
  if due then usage.indexed = { at = usage.at, tokens = tokens } end
  return usage
end

local function standing_of(of, scope, limits, windows)
  local used = {}
  for window, counted in pairs(windows) do
    local amounts = {}
    for _, unit in ipairs(UNITS) do
      amounts[unit] = (counted.used[unit] or NOTHING)[scope] or 0
    end
    used[window] = amounts
  end
  return { of = of, model = scope, limits = limits, used = used }
end

local function everyones(scope, at)
  local quota = load_quota(scope)
  return quota and current(quota.windows, at) or {}
end

local function groups_of(command, usage)
  local groups, model, at = {}, command.model, usage.at
  local mine, everyone = command.limits, command.everyone or {}
  local function add_group(of, scope, limits)
    if limits then
      local windows = of == 'user' and usage.windows or everyones(scope, at)
      groups[#groups + 1] = standing_of(of, scope, limits, windows)
    end
  end
  add_group('user', model, mine.model)
  add_group('user', ALL_MODELS, mine.total)
  add_group('everyone', ALL_MODELS, everyone.total)
  add_group('everyone', model, everyone.model)
  return groups
end

-- Changes the groups, which are the step's own.
local function with_reserved(groups, lease)
  for _, group in ipairs(groups) do
    for window in pairs(lease.windows) do
      local old, amounts = group.used[window] or NOTHING, {}
      for unit, amount in pairs(lease.reserved) do
        amounts[unit] = old[unit] + amount
      end
      group.used[window] = amounts
    end
  end
  return groups
end

local function refuse(group, reserved, at)
  local limits, counted = group.limits, group.used
  for _, named in ipairs(LIMITS) do
    local limit = limits[named.name]
    if limit then
      local unit, window = named.unit, named.window
      local used, asked = (counted[window] or NOTHING)[unit], reserved[unit]
      if used + asked > limit then
        return {
          ok = false,
          reason = 'limit',
          of = group.of,
          model = group.model,
          window = window,
          unit = unit,
          limit = limit,
          used = used,
          asked = asked,
          resetAt = end_of(window, at),
        }
      end
    end
  end
  return nil
end

local function counted_in(groups)
  local windows = {}
  for window, row in pairs(WINDOWS) do
    if row.always then windows[window] = 1 end
  end
  for _, group in ipairs(groups) do
    for _, named in ipairs(LIMITS) do
      if not windows[named.window] and group.limits[named.name] then windows[named.window] = 1 end
    end
  end
  return windows
end

local function change_quotas(quota_of, model, now, change)
  local quotas = {}
  for _, scope in ipairs({ ALL_MODELS, model }) do
    local quota = copy(quota_of(scope) or new_quota(now))
    quota.at = max(quota.at, now)
    quota.windows = change(current(quota.windows, quota.at), { scope }, quota.at)
    quotas[scope] = quota
  end
  return quotas
end

local function charge_all(lease, now)
  return change_quotas(
    load_quota,
    lease.model,
    now,
    function(windows, scopes, at) return charge(windows, lease, scopes, at) end
  )
end

local function blocked(scope, block)
  return {
    ok = false,
    reason = 'blocked',
    model = scope,
    why = block.reason,
    ['until'] = block['until'],
  }
end

local function admitted(at, groups) return { ok = true, at = at, limits = groups[1] and groups } end

local function admit(command, now)
  local id, user, model = command.id, command.user, command.model
  local account = advance(load_usage(user) or new_usage(user, now), now)
  local usage = account.usage
  local at = usage.at
  local groups = groups_of(command, usage)
  local held = usage.leases[id]
  if held or entered(id) then return { answer = admitted(held and held.at or at, groups) } end

  local profile = load_profile(user)
  for _, scope in ipairs({ ALL_MODELS, model }) do
    local block = profile and profile.blocks[scope]
    if block and is_in_force(block, at) then return { answer = blocked(scope, block) } end
  end
  local row = usage.rows[model]
  if not row and size(usage.rows) >= MODELS_PER_USER then
    return { answer = { ok = false, reason = 'models' } }
  end

  local reserved = amounts_by(RESERVED, command)
  for _, group in ipairs(groups) do
    local refusal = refuse(group, reserved, at)
    if refusal then return { answer = refusal } end
  end

  local lease = {
    model = model,
    at = at,
    ['until'] = at + command.lasts,
    reserved = reserved,
    windows = counted_in(groups),
  }
  local quotas = charge_all(lease, at)
  usage.windows = charge(usage.windows, lease, { ALL_MODELS, model }, at)
  usage.seen = at
  usage.rows = with(usage.rows, model, open(row, reserved))
  usage.leases = with(usage.leases, id, lease)
  usage.ip = command.ip or usage.ip
  local answer = admitted(at, with_reserved(groups, lease))
  return { usage = indexed(usage), past = account.past, quotas = quotas, answer = answer }
end

local function close(account, lease, ended, now, quota_of)
  local usage, model, at = account.usage, lease.model, lease.at
  local event = copy(ended)
  event.at, event.user, event.model, event.reserved = at, usage.id, model, lease.reserved.tokens
  if usage.at > lease['until'] then event.late = true end

  local date = date_of(at)
  local row, rows = row_of(account, date, model)
  local first = { user = false, model = false, session = false }
  if row then
    first = first_answer(rows, row, event)
    set_row(account, date, model, end_row(row, event))
  end
  local sessions, session = usage.sessions, event.session
  if session and date == usage.date and event.outcome ~= 'failed' then
    if not sessions[session] and size(sessions) < SESSIONS_PER_USER then
      first.session = true
      sessions = with(sessions, session, 1)
    end
  end

  -- Of a user's requests also those count that failed.
  local amounts = amounts_by(CHARGED, event)
  local scopes = { ALL_MODELS, model }
  local windows = correct(usage.windows, lease, scopes, with(amounts, 'requests', 1))
  local quotas = change_quotas(
    quota_of,
    model,
    now,
    function(counted, of) return correct(counted, lease, of, amounts) end
  )
  usage.leases = with(usage.leases, event.id, nil)
  usage.sessions = sessions
  usage.windows = windows
  usage.seen = usage.at
  local day, day_row =
    end_day(load_day(date) or new_day(date), load_day_row(date, model), event, first, usage.at)
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

local function settle(command, now)
  local usage = load_usage(command.user)
  if not usage or not usage.leases[command.event.id] then
    return { answer = { applied = false } }
  end
  local account = advance(usage, now)
  local lease = account.usage.leases[command.event.id]
  if not lease then return { answer = { applied = false } } end
  return close(account, lease, command.event, now, load_quota)
end

local function enter(command, now)
  local user, event = command.user, command.event
  local gone = erased_at(user) or -math.huge
  if entered(event.id) or now - event.at >= ENTER_MS or event.at <= gone then
    return { answer = { applied = false } }
  end
  local at, model = math.min(event.at, now), event.model
  local account = advance(load_usage(user) or new_usage(user, at), at)
  local held = account.usage.leases[event.id]
  if held then return with(close(account, held, event, now, load_quota), 'entered', event.id) end

  local reserved = amounts_by(RESERVED, event)
  -- It does not say which windows its limits name, so it counts in all of them.
  local windows = {}
  for window in pairs(WINDOWS) do
    windows[window] = 1
  end
  local lease =
    { model = model, at = at, ['until'] = account.usage.at, reserved = reserved, windows = windows }
  local quotas = charge_all(lease, now)
  local date = date_of(at)
  local row = row_of(account, date, model)
  account.usage.windows =
    charge(account.usage.windows, lease, { ALL_MODELS, model }, account.usage.at)
  set_row(account, date, model, open(row, reserved))
  local step = close(account, lease, event, now, function(scope) return quotas[scope] end)
  return with(step, 'entered', event.id)
end

local function audit_of(command, at, action, user)
  return {
    v = VERSION,
    at = at,
    action = action,
    user = user and string.sub(user, 1, AUDIT_ID_CHARS),
    ip = command.ip,
  }
end

local function set_block(command, at)
  local user, model, block = command.user, command.model, command.block
  local profile = copy(load_profile(user) or new_profile(user))
  local blocks = filter(profile.blocks, function(one) return is_in_force(one, at) end)
  blocks[model] = block and with(block, 'at', math.min(block.at, at))
  profile.blocks = blocks
  local audit = audit_of(command, at, block and 'block' or 'unblock', user)
  audit.model = model
  if block then
    audit.reason, audit['until'] = block.reason, block['until']
  end
  return { profile = profile, block = command, audit = audit, answer = { ok = true } }
end

local function report(command, now)
  local known = load_usage(command.user)
  local account = advance(known or new_usage(command.user, now), now)
  local usage = account.usage
  local at = usage.at
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
  local profile, limits, models = load_profile(command.user), command.limits, {}
  local function standing(scope, row) return standing_of('user', scope, row or {}, usage.windows) end
  for _, asked in ipairs({ usage.rows, command.models }) do
    for model in pairs(asked) do
      models[model] = standing(model, limits.models[model] or limits.default)
    end
  end
  local blocks = filter(
    profile and profile.blocks or {},
    function(block) return is_in_force(block, at) end
  )
  local total = standing(ALL_MODELS, limits.total)
  local answer = { ok = true, at = at, models = models, total = total, blocks = blocks }
  if not known then return { answer = answer } end
  return { usage = with(usage, 'reported', reported), past = account.past, answer = answer }
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
  return { audit = audit_of(command, at, command.action), answer = { ok = true } }
end

local function clear(command, at)
  local date = date_of(at)
  local today, day = load_day(date), nil
  if today then
    day = new_day(date)
    day.forgotten = today.forgotten + today.total.exact + today.total.estimated
  end
  return { day = day, cleared = at, audit = audit_of(command, at, 'clear'), answer = { ok = true } }
end

local REDUCE = {
  admit = admit,
  settle = settle,
  enter = enter,
  block = set_block,
  report = report,
  erase = erase,
  clear = clear,
  login = session,
  logout = session,
  note = note,
}
