-- Whether a request may begin: the port of ledger/admission.ts.

-- The windows that a row has limits of.
local function windows_in(limits)
  local windows = {}
  for name in pairs(limits) do
    local window = LIMIT_WINDOWS[name]
    if window then windows[window] = 1 end
  end
  return windows
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
      local windows = of == 'user' and use_windows(usage, scope) or everyones(counted, at)
      local limited = windows_in(limits)
      local group = standing_of(of, scope, limits, windows, limited)
      group.windows = limited
      groups[#groups + 1] = group
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
  local used = whole_windows(everyones(ALL_MODELS, at))
  return { of = 'everyone', model = ALL_MODELS, limits = MOST_LIMITS, used = used }
end

-- Whether no counter is near the most that can be counted, so that the long windows need not be
-- read.
local function is_far_from_most(at, reserved)
  local windows = everyones(ALL_MODELS, at)
  local day, before = windows.day or NOTHING, windows.before
  local is_long = string.rep('%d', 15)
  return max(day.tokens, day.usd, reserved.tokens, reserved.usd + 0) < 1e14
    and (not before or type(before) == 'string' and not string.find(before, is_long))
end

-- Changes the groups, which are the step's own.
local function with_reserved(groups, lease)
  for i = 1, #groups do
    local used = groups[i].used
    for window in pairs(groups[i].windows) do
      used[window] = used[window] or {}
      add(used[window], lease.reserved)
    end
  end
  return groups
end

-- An amount as answers have it.
local function told(unit, amount) return unit == 'usd' and digits_of(amount) or amount end

-- The refusal of a group, and whether the request can never be within that limit.
local function refuse(group, reserved, at)
  local counted = group.used
  local first, passed, best
  for name, limit in pairs(group.limits) do
    local unit, window = LIMIT_UNITS[name], LIMIT_WINDOWS[name]
    if unit then
      local asked = (reserved[unit] or 0) + 0
      local used = (counted[window] or NOTHING)[unit] or 0
      -- A request that asks for nothing of a unit is not refused by its limits.
      local is_passed = asked ~= 0 and used + asked > limit
      local rank = LIMIT_RANKS[name] - (asked > limit and 1000 or 0)
      if is_passed and (not first or rank < best) then
        first, passed, best = name, limit, rank
      end
    end
  end
  if not first then return nil end
  local unit, window = LIMIT_UNITS[first], LIMIT_WINDOWS[first]
  local refusal = {
    ok = false,
    reason = 'limit',
    of = group.of,
    model = group.model,
    window = window,
    unit = unit,
    limit = passed,
    used = told(unit, (counted[window] or NOTHING)[unit] or 0),
    asked = told(unit, reserved[unit]),
    resetAt = end_of(window, at),
  }
  return refusal, best < 0
end

-- Whether a limit is in dollars.
local function is_in_dollars(groups)
  for i = 1, #groups do
    for name in pairs(groups[i].limits) do
      if LIMIT_UNITS[name] == 'usd' then return true end
    end
  end
  return false
end

-- When the last window ends of which the user has a limit; 0 without limits.
local function last_end(groups, at)
  local last = 0
  for i = 1, #groups do
    if groups[i].of == 'user' then
      for window in pairs(groups[i].windows) do
        last = max(last, end_of(window, at))
      end
    end
  end
  return last
end

local function counted_in(groups)
  local windows = {}
  for window in pairs(ALWAYS) do
    windows[window] = 1
  end
  for i = 1, #groups do
    for window in pairs(groups[i].windows) do
      windows[window] = 1
    end
  end
  return windows
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
    -- The sender knows them by the limits.
    groups[i].windows = nil
    for _, used in pairs(groups[i].used) do
      used.usd = digits_of(used.usd)
    end
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
  if WAITS[refusal.window] then return 'rate_limit_exceeded' end
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
    tag = command.tag,
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

-- Why a request may not begin; nil if it may.
local function refusal_of(command, profile, policy, usage, groups, reserved)
  local plan, at = policy.plan, usage.at
  local denied = access_refused(command, profile, plan, at)
  if denied then return denied end
  if not command.price and is_in_dollars(groups) then return refused('unpriced') end
  local window = models_full(usage, command.model)
  if window then return with(refused('models'), 'window', window) end
  local most = math.min(plan and plan.concurrentRequests or RUNNING_PER_USER, RUNNING_PER_USER)
  if size(usage.leases) >= most and running_at(usage.leases, at) >= most then
    return with(refused('running'), 'limit', most)
  end
  local passed
  local is_never = false
  local function look(group)
    local refusal
    refusal, is_never = refuse(group, reserved, at)
    if is_never or not passed then passed = refusal end
  end
  for i = 1, #groups do
    if not is_never then look(groups[i]) end
  end
  if not is_never and not is_far_from_most(at, reserved) then look(most_of(at)) end
  if passed then passed.maximum = plan and plan.maxCompletionTokens end
  return passed
end

local function admit(command, now)
  local id, user, model = command.id, command.user, command.model
  local known = load_user('usage', user)
  local account = advance(known or new_usage(user, now), now)
  local usage = account.usage
  local at = usage.at
  local profile = load_user('profile', user)
  local policy = policy_of(command, profile, at)
  local groups = groups_of(model, policy, usage)
  local held = usage.leases[id]
  if held then return { answer = admitted(command, policy, held.at, groups, held.maximum) } end
  local granted, maximum = fitted(policy.asked, groups), nil
  if granted and granted < command.completions.tokens then maximum = granted end
  if entered(id) then return { answer = admitted(command, policy, at, groups, maximum) } end
  local reserved = amounts_of(policy.asked, granted)

  local refusal = refusal_of(command, profile, policy, usage, groups, reserved)
  if refusal then return refuse_with(command, refusal, known, at) end

  local newcomer
  if not known and command.newUsers then
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
    watched = command.watch,
  }
  local quotas = quotas_at(lease, at)
  charge_all(quotas, lease)
  if command.watch then alerts().hold(quotas, lease) end
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
  local step = {
    usage = indexed(usage),
    past = account.past,
    quotas = quotas,
    new_users = newcomer,
    refusals = command.refusals,
    answer = answer,
  }
  return command.watch and alerts().watch_key(step, command, profile) or step
end

REDUCE.admit = admit
