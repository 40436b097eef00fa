-- Keeps and writes what admins and browsers change. Almost no command needs it, so its functions
-- are made only for a command that does: `administration` in script.ts.

local audits, changed_audit = {}, nil
local blocks, sessions, profiles, plans, settings, labels = {}, {}, {}, {}, nil, {}
local cleared, cleared_rows = nil, {}

-- The newest entry of the audit trail.
local function last_audit()
  local text = audits[#audits] or changed_audit or redis.call('LINDEX', PREFIX .. 'audit', 0)
  local ok, audit = pcall(cjson.decode, text)
  return ok and type(audit) == 'table' and audit or nil
end

-- The words of a label in a document of any version.
local function words_at(key)
  local doc = docs[key]
  if not doc then
    local ok, decoded = pcall(cjson.decode, text_at(key) or '')
    doc = ok and type(decoded) == 'table' and decoded or {}
  end
  return type(doc.words) == 'table' and doc.words or nil
end

-- Notes that the words of a label have changed. `kind` is usage or profile.
local function relabel(kind, user, before, after)
  if before == after then return end
  local key = kind .. ' ' .. user
  labels[key] = labels[key] or { kind = kind, user = user, before = before or {} }
  labels[key].after = after or {}
end

-- The keys of the rows and of the list of models of the current day. By the ledger's clock, that
-- may still be an earlier day than the day of `moment`.
local function open_keys(moment)
  local keys, quota = {}, load_quota(ALL_MODELS)
  for _, at in ipairs({ moment, quota and quota.at }) do
    local date = date_of(at)
    for model in pairs(load_models(date)) do
      keys[#keys + 1] = row_key(date, model)
    end
    keys[#keys + 1] = PREFIX .. 'models:' .. date
    keys[#keys + 1] = PREFIX .. 'tags:' .. date
  end
  return keys
end

local function keep_audit(step)
  local entry = cjson.encode(step.audit)
  if not step.again then
    audits[#audits + 1] = entry
  elseif audits[1] then
    audits[#audits] = entry
  else
    changed_audit = entry
  end
end

local function keep_cleared(at, keys)
  cleared, cleared_rows = at, keys
  for _, key in ipairs(keys) do
    docs[key] = false
  end
end

local function keep_profile(user, profile, at)
  local before = load_user('profile', user)
  relabel('profile', user, before and before.words, profile.words)
  docs[user_key('profile', user)] = profile
  profiles[user] = { doc = profile, at = at }
end

local function keep_plan(plan)
  local key = PREFIX .. 'plan:' .. plan.name
  docs[key] = plan.doc or false
  plans[key] = plan.doc or false
end

local function keep_erased(user, at)
  for _, kind in ipairs({ 'usage', 'profile' }) do
    relabel(kind, user, words_at(user_key(kind, user)), nil)
  end
  for _, kind in ipairs({ 'usage', 'windows', 'past', 'profile' }) do
    docs[user_key(kind, user)] = false
  end
  profiles[user] = nil
  erased = erased or {}
  erased[user] = at
end

-- Keeps what a step changes.
local function keep_step(step, user, at)
  local keys = step.cleared and open_keys(step.cleared)
  -- Everything has been read and nothing fails from here on, so a command is kept whole or not at
  -- all.
  if step.audit then keep_audit(step) end
  if step.cleared then keep_cleared(step.cleared, keys) end
  if step.profile then keep_profile(user, step.profile, at) end
  if step.settings then
    settings = step.settings
    docs[PREFIX .. 'settings'] = settings
  end
  if step.plan then keep_plan(step.plan) end
  if step.block then blocks[#blocks + 1] = step.block end
  if step.erased then keep_erased(user, step.erased) end
  if step.session then sessions[#sessions + 1] = step.session end
end

local function write_cleared()
  local keys = { PREFIX .. 'events', PREFIX .. 'refused' }
  for ago = 0, keep.historyDays do
    local date = date_of(cleared - ago * DAY_MS)
    if ago > 0 then keys[#keys + 1] = PREFIX .. 'day:' .. date end
    keys[#keys + 1] = PREFIX .. 'refusals:' .. date
  end
  for _, key in ipairs(cleared_rows) do
    keys[#keys + 1] = key
  end
  call_with('DEL', nil, keys)
end

local function write_erased(id, gone_at)
  for _, kind in ipairs({ 'usage', 'windows', 'past', 'profile' }) do
    local key = user_key(kind, id)
    redis.call('DEL', key, damaged_key(key))
  end
  redis.call('SET', PREFIX .. 'erased:' .. id, format('%.0f', gone_at), 'EX', ENTER_SECONDS)
  redis.call('ZREM', PREFIX .. 'users', 'a:' .. id, 't:' .. id)
  redis.call('ZREM', PREFIX .. 'profiles', id)
  for _, member in ipairs(redis.call('ZRANGE', PREFIX .. 'blocks', 0, -1)) do
    if string.sub(member, 1, #id + 1) == id .. ' ' then
      redis.call('ZREM', PREFIX .. 'blocks', member)
    end
  end
  local mine = '"user":' .. cjson.encode(id)
  for list, seconds in pairs({ events = history_seconds(), refused = user_seconds() }) do
    local others = {}
    for _, text in ipairs(redis.call('LRANGE', PREFIX .. list, 0, -1)) do
      if not string.find(text, mine, 1, true) then others[#others + 1] = text end
    end
    redis.call('DEL', PREFIX .. list)
    call_with('RPUSH', PREFIX .. list, others)
    redis.call('EXPIRE', PREFIX .. list, seconds)
  end
end

local function write_sessions()
  for _, command in ipairs(sessions) do
    local key = PREFIX .. 'session:' .. command.session
    local left = command['until'] and math.ceil((command['until'] - command.now) / 1000) or 0
    if left > 0 then
      redis.call('SET', key, format('%.0f', command['until']), 'EX', format('%d', left))
    else
      redis.call('DEL', key)
    end
  end
end

local function write_audit()
  if changed_audit then redis.call('LSET', PREFIX .. 'audit', 0, changed_audit) end
  if audits[1] then
    redis.call('LPUSH', PREFIX .. 'audit', unpack(audits))
    redis.call('LTRIM', PREFIX .. 'audit', 0, AUDIT_KEPT - 1)
  end
end

local function write_profiles()
  local BASE = { v = 1, id = 1, blocks = 1 }
  local function has_more_than_blocks(doc)
    if next(doc.limits) or next(doc.keys) then return true end
    for name in pairs(doc) do
      if not BASE[name] and name ~= 'limits' and name ~= 'keys' then return true end
    end
    return false
  end

  -- When a profile is no longer needed: with its last block, or never if it has more than blocks.
  local function end_of_profile(doc)
    if has_more_than_blocks(doc) then return NO_END end
    local ends = 0
    for _, block in pairs(doc.blocks) do
      ends = max(ends, block['until'] or NO_END)
    end
    return ends
  end

  for id, profile in pairs(profiles) do
    local key, text, ends =
      user_key('profile', id), cjson.encode(profile.doc), end_of_profile(profile.doc)
    if has_more_than_blocks(profile.doc) then
      redis.call('ZADD', PREFIX .. 'profiles', 0, id)
    else
      redis.call('ZREM', PREFIX .. 'profiles', id)
    end
    if ends == NO_END then
      redis.call('SET', key, text)
    elseif ends > 0 then
      local left = max(1, math.ceil((ends - profile.at) / 1000))
      redis.call('SET', key, text, 'EX', format('%.0f', left))
    else
      redis.call('DEL', key)
    end
  end
end

local function write_labels()
  local function members_of(label, list)
    local members = {}
    for word in pairs(list) do
      members[#members + 1] = word .. ' ' .. label.kind .. ' ' .. label.user
    end
    return members
  end

  for _, label in pairs(labels) do
    local before, after = members_of(label, label.before), members_of(label, label.after)
    if before[1] then redis.call('ZREM', PREFIX .. 'labels', unpack(before)) end
    for _, member in ipairs(after) do
      redis.call('ZADD', PREFIX .. 'labels', 0, member)
    end
    if label.kind == 'usage' then
      -- A usage document expires by itself, and its list of words with it.
      local named = PREFIX .. 'labelled'
      if after[1] then
        redis.call('HSET', named, label.user, cjson.encode(after))
      else
        redis.call('HDEL', named, label.user)
      end
    end
  end
end

local function write_plans()
  for key, doc in pairs(plans) do
    if not doc then redis.call('DEL', key) end
  end
  local texts = {}
  for key, doc in pairs(plans) do
    if doc then
      texts[#texts + 1] = key
      texts[#texts + 1] = cjson.encode(doc)
    end
  end
  if settings then
    texts[#texts + 1] = PREFIX .. 'settings'
    texts[#texts + 1] = cjson.encode(settings)
  end
  call_with('MSET', nil, texts)
end

local function write_blocks()
  for _, command in ipairs(blocks) do
    local member = command.user .. ' ' .. command.model
    if command.block then
      redis.call(
        'ZADD',
        PREFIX .. 'blocks',
        format('%.0f', command.block['until'] or NO_END),
        member
      )
    else
      redis.call('ZREM', PREFIX .. 'blocks', member)
    end
  end
end

local function write()
  if cleared then write_cleared() end
  for id, gone_at in pairs(erased or {}) do
    write_erased(id, gone_at)
  end
  write_sessions()
  write_audit()
  write_profiles()
  write_labels()
  write_plans()
  write_blocks()
end

return { keep = keep_step, write = write, relabel = relabel, last_audit = last_audit }
