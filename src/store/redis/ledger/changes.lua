-- The commands of admins and browsers: the port of ledger/admin.ts, people.ts and
-- browser-report.ts.

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
  local step = { profile = profile, block = command, audit = audit, answer = { ok = true } }
  if not block or not command.alert then return step end
  local alert = {
    id = command.alert,
    type = 'user.blocked',
    at = at,
    user = user,
    label = alerts().label_of(user),
    model = model,
    ['until'] = block['until'],
    by = command.by,
  }
  return alerts().add(step, alert, at)
end

local function raise(command, at)
  local alert, step = copy(command.alert), { answer = { ok = true } }
  alert.at = at
  if alert.type == 'test' then step.audit = audit_of(command, at, 'test alert') end
  return alerts().add(step, alert, at)
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

-- The rows without UNLIMITED: they replace no other limits, so a limit that is left out is no
-- limit.
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

-- What a user's leases of a model hold, by window. `model` is nil for all.
local function reserved_of(usage, model)
  local held = {}
  for window in pairs(WINDOWS) do
    local amounts = reserved_in(usage.leases, model, window, start_of(window, usage.at))
    amounts.usd = digits_of(amounts.usd)
    if amounts.requests > 0 then held[window] = amounts end
  end
  return held
end

-- The windows with only what the leases of the same span reserve. `model` is nil for all.
local function only_leases(windows, leases, model, wanted)
  local result = whole_windows(windows)
  for window, counted in pairs(whole_windows(windows)) do
    if WINDOWS[window] and (not wanted or wanted == window) then
      result[window] =
        with(reserved_in(leases, model, window, counted.start), 'start', counted.start)
    end
  end
  return parted_windows(result)
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
  -- What is used again can be told again.
  if usage.alerted then
    usage.alerted = filter(
      usage.alerted,
      function(_, name) return window and string.match(name, '%S+$') ~= window end
    )
  end
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
    local result = standing_of('user', scope, row or {}, use_windows(usage, scope), WINDOWS)
    for _, used in pairs(result.used) do
      used.usd = digits_of(used.usd)
    end
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
  local step = {
    erased = at,
    audit = audit_of(command, at, 'erase', command.user),
    answer = { ok = true },
  }
  return alerts().without_user(step, command.user, at)
end

local function session(command, at)
  return { session = command, audit = audit_of(command, at, command.op), answer = { ok = true } }
end

local function note(command, at)
  local audit = audit_of(command, at, command.action, command.about)
  local answer = { ok = true }
  local before = command.action == 'failed login' and administration().last_audit()
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
REDUCE.raise, REDUCE.take, REDUCE.tried = raise, alerts().take, alerts().tried
