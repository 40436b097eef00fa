-- Which plan a user has, which limits hold, and whether a caller may call a model at all: the port
-- of ledger/plans.ts and ledger/access.ts.

local function load_plan(name) return load('plan', PREFIX .. 'plan:' .. name) end
local function load_settings() return load('settings', PREFIX .. 'settings') end

-- The name and the document of the plan, and the plan that was named and is not stored.
local function plan_of(profile, claimed)
  local settings = load_settings()
  local by_default = settings and settings.defaultPlan or DEFAULT_PLAN
  local named = profile and profile.plan or claimed or by_default
  local plan = load_plan(named)
  if plan or named == by_default or named == DEFAULT_PLAN then return named, plan end
  return by_default, load_plan(by_default), named
end

-- The stored rows that apply to a model, and to all of them.
local function stored_rows(stored, model)
  local row = model ~= TOTAL and stored[model] or stored[ALL_MODELS]
  return { model = row, total = stored[TOTAL] }
end

local function combine(row, more, merge)
  if not more then return row end
  return merge(row or {}, more)
end

local function overridden(row, own)
  local result = copy(row)
  for name, limit in pairs(own) do
    result[name] = limit ~= UNLIMITED and limit or nil
  end
  return result
end

local function raised(row, boost)
  local result = copy(row)
  for name, limit in pairs(row) do
    result[name] = limit + max(0, boost[name] or 0)
  end
  return result
end

-- The rows of a user for a model; those of the command if nothing else is stored.
local function user_rows(model, environment, plan, profile, at)
  local rows = plan and stored_rows(plan.limits, model) or environment
  if profile and next(profile.limits) then
    local own = stored_rows(profile.limits, model)
    rows = {
      model = combine(rows.model, own.model, overridden),
      total = combine(rows.total, own.total, overridden),
    }
  end
  local boost = profile and profile.boost
  if boost and boost['until'] > at then
    local more = stored_rows(boost.limits, model)
    rows = {
      model = combine(rows.model, more.model, raised),
      total = combine(rows.total, more.total, raised),
    }
  end
  return rows
end

local function everyone_rows(model, environment)
  local settings = load_settings()
  local global = settings and settings.globalLimits
  return global and stored_rows(global, model) or environment or {}
end

local function part_of(row, share)
  if not row then return nil end
  local result = {}
  for name, limit in pairs(row) do
    -- The product of a limit in dollars and a percentage may pass 2^53.
    result[name] = floor(limit / 100) * share + floor(limit % 100 * share / 100)
  end
  return result
end

-- The part of everyone's limits that unverified callers have together, in percent.
local function share_of(rows, share)
  return { model = part_of(rows.model, share), total = part_of(rows.total, share) }
end

-- Whether a list is absent, or has a glob that a model matches.
local function is_listed(model, list)
  if not list or list[model] then return true end
  for glob in pairs(list) do
    local pattern = string.gsub(glob, '%W', '%%%0')
    pattern = string.gsub(pattern, '%%%*', '.*')
    if string.find(model, '^' .. pattern .. '$') then return true end
  end
  return false
end

local function key_refused(key, hash, at)
  if not key then return 'unknown' end
  local previous = key.previous
  local is_previous = previous and hash == previous.hash and at < previous['until']
  if hash ~= key.hash and not is_previous then return 'unknown' end
  if key.disabled then return 'disabled' end
  return key.expires and key.expires <= at and 'expired'
end

local function refused(reason) return { ok = false, reason = reason } end

-- The refusal of a key that is not valid, or of a token that was revoked.
local function credential_refused(command, profile, at)
  local key, claims = command.key, command.claims
  local why = key and key_refused(profile and profile.keys[key.id], key.hash, at)
  if why then return with(refused('key'), 'why', why) end
  local revoked = claims and claims.issuedAt < (profile and profile.notBefore or 0)
  return revoked and refused('revoked') or nil
end

-- The refusal of a caller for a reason other than a limit.
local function access_refused(command, profile, plan, at)
  local model, key = command.model, command.key
  local invalid = credential_refused(command, profile, at)
  if invalid then return invalid end
  local known = key and profile and profile.keys[key.id]
  for _, scope in ipairs({ ALL_MODELS, model }) do
    local block = profile and profile.blocks[scope]
    if block and is_in_force(block, at) then
      local refusal = with(refused('blocked'), 'model', scope)
      refusal.why, refusal['until'] = block.reason, block['until']
      return refusal
    end
  end
  local listed = is_listed(model, profile and profile.models)
    and is_listed(model, plan and plan.models)
    and is_listed(model, known and known.models)
  if not listed then return refused('model') end
  local limit = plan and plan.maxCompletionTokens
  if limit and command.maximum and command.maximum > limit then
    return with(refused('maximum'), 'limit', limit)
  end
  return nil
end

local function use_windows(usage, scope)
  if scope == ALL_MODELS then return usage.windows end
  local use = use_of(usage, scope)
  return use and current(use.windows, usage.at) or {}
end

-- A row of limits with its use in the windows that are shown.
local function standing_of(of, scope, limits, windows, shown)
  local used = {}
  for window in pairs(shown) do
    local counted = in_window(windows, window)
    if counted then
      used[window] = { requests = counted.requests, tokens = counted.tokens, usd = counted.usd }
      join_audio(used[window], counted, NOTHING, 1)
    end
  end
  return { of = of, model = scope, limits = limits, used = used }
end
