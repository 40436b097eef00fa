-- Alerts: the port of ledger/alerts.ts and outbox.ts. Most commands need none of it, so its
-- functions are made only for one that does: `alerts` in script.ts.

local terms = cjson.decode(ALERT_TERMS)

local function load_outbox() return load('outbox', PREFIX .. 'alerts') end

-- A copy of what running requests hold in a quota's day. What is never given back leaves with the
-- day.
local function held_in(quota)
  local start, held = start_of('day', quota.at), quota.held
  if held and held.start == start then return copy(held) end
  return { start = start, requests = 0, tokens = 0, usd = '0' }
end

-- Adds a lease's reservation to what is held, or gives it back. Changes the quota.
local function hold_in(quota, lease, sign)
  local held, reserved = held_in(quota), lease.reserved
  quota.held = held
  if start_of('day', lease.at) ~= held.start then return end
  held.requests = max(0, held.requests + sign * reserved.requests)
  held.tokens = max(0, held.tokens + sign * reserved.tokens)
  held.usd = digits_of(max(0, held.usd + sign * reserved.usd))
  set_audio(
    held,
    max(0, (held.audioSeconds or 0) + sign * (reserved.audioSeconds or 0)),
    max(0, (held.characters or 0) + sign * (reserved.characters or 0))
  )
end

-- Changes the quotas, which are the step's own.
local function hold(quotas, lease)
  for _, quota in pairs(quotas) do
    hold_in(quota, lease, 1)
  end
end

-- Changes the quotas, which are the step's own.
local function release(quotas, lease)
  for _, quota in pairs(quotas) do
    if quota.held then hold_in(quota, lease, -1) end
  end
end

-- Whether a limit was not claimed before. Changes the claims.
local function claim(claims, name, start, level, limit)
  local known = claims[name]
  local same = known and known.start == start and known
  if same and level <= same.level and limit <= same.limit + 0 then return false end
  local most = max(limit, same and same.limit + 0 or 0)
  claims[name] = { start = start, level = level, limit = digits_of(most) }
  return true
end

-- The claims of windows that have not ended.
local function lasting(claims, at)
  return filter(claims, function(one, name)
    local window = string.match(name, '%S+$')
    return WINDOWS[window] and start_of(window, at) == one.start
  end)
end

-- The names of limits that no client can wait for, in the order in which limits are checked.
local function long_limits(row)
  local names = {}
  for name in pairs(row or {}) do
    local window = LIMIT_WINDOWS[name]
    if window and not WAITS[window] then names[#names + 1] = name end
  end
  table.sort(names, function(a, b) return LIMIT_RANKS[a] < LIMIT_RANKS[b] end)
  return names
end

-- Claims the limits of a row whose use has reached a percentage. Changes the claims, and adds to
-- what was found.
local function reach(found, of, model, row, used_of, claims, at)
  for _, name in ipairs(long_limits(row)) do
    local limit, unit, window = row[name], LIMIT_UNITS[name], LIMIT_WINDOWS[name]
    local used, reached = limit > 0 and used_of(window)[unit] or 0, nil
    for _, level in ipairs(limit > 0 and terms.LEVELS[of] or {}) do
      if not reached and used * 100 >= limit * level then reached = level end
    end
    local key, start = model .. ' ' .. unit .. ' ' .. window, start_of(window, at)
    if reached and claim(claims, key, start, reached, limit) then
      found[#found + 1] = {
        type = 'limit.threshold',
        of = of,
        model = model,
        unit = unit,
        window = window,
        percent = reached,
        limit = digits_of(limit),
        used = digits_of(used),
        resetAt = end_of(window, at),
      }
    end
  end
end

local function minus(amounts, held)
  local left = {
    requests = max(0, amounts.requests - held.requests),
    tokens = max(0, amounts.tokens - held.tokens),
    usd = max(0, amounts.usd - held.usd),
  }
  set_audio(
    left,
    max(0, (amounts.audioSeconds or 0) - (held.audioSeconds or 0)),
    max(0, (amounts.characters or 0) - (held.characters or 0))
  )
  return left
end

-- The counters of a window, unless they are of another span of it.
local function used_in(windows, window, at)
  local counted = windows and in_window(windows, window)
  return counted and counted.start == start_of(window, at) and counted or NOTHING
end

-- The calls of these five minutes with one more.
local function count_call(quota, event)
  local start = quota.at - quota.at % terms.ERRORS.ms
  local known = quota.calls
  if not known or known.start ~= start then known = { count = 0, failures = 0 } end
  local is_fault = event.outcome == 'failed'
    and (event.status >= 500 or terms.FAULTS[format('%d', event.status)])
  return {
    start = start,
    count = known.count + 1,
    failures = known.failures + (is_fault and 1 or 0),
  }
end

local function label_of(user)
  local profile, usage = load_user('profile', user), load_user('usage', user)
  return profile and profile.label or usage and usage.label
end

-- Those that are delivered or given up first, and then the oldest.
local function by_age(a, b)
  local waits, other = a.state == 'pending', b.state == 'pending'
  if waits ~= other then return other end
  if a.at ~= b.at then return a.at < b.at end
  return a.id < b.id
end

-- The outbox with new alerts, which are due at once.
local function with_new(list, at)
  local known = load_outbox() or new('outbox', {})
  local all, kept = copy(known.alerts), {}
  for _, alert in ipairs(list) do
    if not all[alert.id] then
      alert.state, alert.attempts = alert.state or 'pending', alert.attempts or 0
      if alert.state == 'pending' then alert.due = at end
      all[alert.id] = alert
    end
  end
  local oldest = at - keep.userDays * DAY_MS
  all = filter(all, function(alert) return alert.at >= oldest end)
  for _, alert in pairs(all) do
    kept[#kept + 1] = alert
  end
  table.sort(kept, by_age)
  for i = 1, #kept - ALERTS_KEPT do
    all[kept[i].id] = nil
  end
  return with(known, 'alerts', all)
end

local function next_due(outbox)
  local first
  for _, alert in pairs(outbox.alerts) do
    if alert.state == 'pending' then first = math.min(first or math.huge, alert.due or 0) end
  end
  return first
end

-- A step that writes the outbox, and when its next alert is due. Changes the step.
local function with_outbox(step, outbox, at)
  local all = copy(load_quota(ALL_MODELS) or new('quota', { at = at }))
  all.alertsDue = next_due(outbox)
  step.outbox, step.quotas = outbox, { [ALL_MODELS] = all }
  return step
end

-- A settlement with the alerts that it claims. Changes the step.
local function watch(step, watched)
  local usage, quotas, event = step.usage, step.quotas, step.event
  local all, found = quotas[ALL_MODELS], {}
  local at = all.at
  local mine, shared = copy(usage.alerted or {}), copy(all.alerted or {})

  local function of_user(scope)
    local use = scope ~= ALL_MODELS and use_of(usage, scope)
    local windows = scope == ALL_MODELS and usage.windows or use and current(use.windows, usage.at)
    return function(window)
      local start, model = start_of(window, usage.at), scope ~= ALL_MODELS and scope or nil
      local held = reserved_in(usage.leases, model, window, start)
      return minus(used_in(windows, window, usage.at), held)
    end
  end
  local function of_everyone(scope)
    local quota = quotas[scope]
    return function(window)
      local held = quota.held
      local is_today = held and held.start == start_of('day', at)
      return minus(used_in(quota.windows, window, at), is_today and held or NOTHING)
    end
  end
  local by_user, by_all = watched.user or {}, watched.everyone or {}
  for i, part in ipairs({ 'model', 'total' }) do
    local scope = i == 1 and event.model or ALL_MODELS
    reach(found, 'user', scope, by_user[part], of_user(scope), mine, usage.at)
    reach(found, 'everyone', scope, by_all[part], of_everyone(scope), shared, at)
  end

  local told = copy(all.told or {})
  local function tell_once(alert)
    if at - (told[alert.type] or -math.huge) < terms.QUIET_MS[alert.type] then return end
    told[alert.type] = at
    found[#found + 1] = alert
  end
  local calls = count_call(all, event)
  if calls.count >= terms.ERRORS.calls and calls.failures * terms.ERRORS.of > calls.count then
    tell_once({ type = 'upstream.errors', calls = calls.count, failures = calls.failures })
  end
  if watched.spendBlocked then
    tell_once({ type = 'upstream.spend_blocked', model = event.model })
  end

  all.calls = calls
  local of = {}
  for i, alert in ipairs(found) do
    alert.id, alert.at = event.id .. '-' .. format('%d', i), at
    if alert.of then of[alert.of] = true end
    if alert.of == 'user' then
      alert.user, alert.label = usage.id, label_of(usage.id)
    end
  end
  if of.everyone then all.alerted = lasting(shared, at) end
  if of.user then usage.alerted = lasting(mine, usage.at) end
  if next(told) then all.told = told end
  if found[1] then step.outbox = with_new(found, at) end
  if found[1] or (all.alertsDue or math.huge) <= at then
    all.alertsDue = at + CLAIM_MS
    step.answer.alerts = 1
  end
  return step
end

-- An admission with the alert that its key ends soon. Changes the step.
local function watch_key(step, command, profile)
  local usage, all, key = step.usage, step.quotas[ALL_MODELS], command.key
  local known, at = key and profile and profile.keys[key.id], usage.at
  local ends = known and known.expires
  if not ends or ends - at > EXPIRING_MS or ends - known.created <= EXPIRING_MS then return step end
  local told = usage.keysExpiring or {}
  if told[key.id] == ends then return step end
  local kept = filter(told, function(_, name) return profile.keys[name] end)
  usage.keysExpiring = with(kept, key.id, ends)
  all.alertsDue = math.min(all.alertsDue or at, at)
  step.outbox = with_new({
    {
      id = command.id .. '-key',
      type = 'key.expiring',
      at = at,
      user = command.user,
      label = profile.label or usage.label,
      key = key.id,
      ['until'] = ends,
    },
  }, at)
  return step
end

-- A step that adds an alert. Changes the step.
local function add_alert(step, alert, at) return with_outbox(step, with_new({ alert }, at), at) end

-- The outbox of a receiver that is gone: only tests wait.
local function given_up(outbox)
  local all = {}
  for id, alert in pairs(outbox.alerts) do
    if alert.state == 'pending' and alert.type ~= 'test' then
      alert = copy(alert)
      alert.state, alert.status, alert.due = 'failed', 410, nil
    end
    all[id] = alert
  end
  return with(outbox, 'alerts', all)
end

local function take(command, at)
  local outbox = load_outbox() or new('outbox', {})
  if outbox.gone == command.to then outbox = given_up(outbox) end
  local waiting, taken, all = {}, {}, copy(outbox.alerts)
  for _, alert in pairs(all) do
    if alert.state == 'pending' and (alert.due or 0) <= at then waiting[#waiting + 1] = alert end
  end
  table.sort(waiting, function(a, b)
    local one, other = a.due or 0, b.due or 0
    if one ~= other then return one < other end
    return a.id < b.id
  end)
  for i = 1, math.min(#waiting, ALERTS_TAKEN) do
    local alert = with(waiting[i], 'due', at + CLAIM_MS)
    taken[alert.id], all[alert.id] = alert, alert
  end
  outbox = with(outbox, 'alerts', all)
  local answer = { ok = true, alerts = taken, due = next_due(outbox) }
  return with_outbox({ answer = answer }, outbox, at)
end

local function tried(command, at)
  local known = load_outbox()
  if not known then return { answer = { ok = true } } end
  local all, is_gone, is_back = {}, false, false
  for _, result in pairs(command.results) do
    is_gone = is_gone or result.status == 410
    is_back = is_back or result.state == 'delivered'
  end
  for id, alert in pairs(known.alerts) do
    local result = command.results[id]
    if result and alert.state == 'pending' then
      alert = copy(alert)
      alert.state, alert.status, alert.due = result.state, result.status, result.due
      alert.attempts, alert.triedAt = alert.attempts + 1, at
    end
    all[id] = alert
  end
  local outbox = with(known, 'alerts', all)
  if is_back then outbox.gone = nil end
  if is_gone and not is_back then outbox = given_up(with(outbox, 'gone', command.to)) end
  return with_outbox({ answer = { ok = true, due = next_due(outbox) } }, outbox, at)
end

-- A step that erases a user also erases their alerts. Changes the step.
local function without_user(step, user, at)
  local outbox = load_outbox()
  if not outbox then return step end
  local others = filter(outbox.alerts, function(alert) return alert.user ~= user end)
  if size(others) == size(outbox.alerts) then return step end
  return with_outbox(step, with(outbox, 'alerts', others), at)
end

return {
  hold = hold,
  release = release,
  watch = watch,
  watch_key = watch_key,
  add = add_alert,
  label_of = label_of,
  take = take,
  tried = tried,
  without_user = without_user,
}
