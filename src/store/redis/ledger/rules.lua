-- The rules of src/usage/ledger.ts and of what it calls, function by function. They are pure:
-- tables are copied, never changed in place, so that a refused or failed command leaves nothing
-- behind.

-- What a rule may ask for besides the user's document; batch.lua, which loads documents, has them.
local load_day, entered, erased_at

local function unsettled(row) return row.requests - row.settled - row.partial - row.failed end

local function answered(row)
  if row.held then return row.settled + row.partial > 0 end
  return row.charged > 0
end

local function shorten(row)
  if row.held and (unsettled(row) > 0 or row.charged == 0 and answered(row)) then return row end
  return { requests = row.requests, charged = row.charged }
end

local function advance(doc, now)
  local at = math.max(doc.at, now)
  local date = date_of(at)
  local next = copy(doc)
  next.at = at
  next.leases = filter(doc.leases, function(lease) return at - lease.at < LATE_SETTLE end)
  next.blocks = filter(
    doc.blocks,
    function(block) return block['until'] == nil or block['until'] > at end
  )
  if minute_of(at) ~= doc.minute.n then next.minute = { n = minute_of(at), rows = {} } end
  if date ~= doc.date then
    local past = doc.past
    if size(doc.rows) > 0 then
      local short = {}
      for model, row in pairs(doc.rows) do
        short[model] = shorten(row)
      end
      past = with(past, doc.date, short)
    end
    local oldest = date_of(at - keep.userDays * DAY)
    next.past = filter(past, function(_, day) return day >= oldest end)
    next.date = date
    next.rows = {}
    next.sessions = {}
    next.reported = nil
  end
  return next
end

local function advance_day(doc, at)
  local day = doc or new_day(date_of(at))
  if minute_of(at) > day.minute.n then
    return with(day, 'minute', { n = minute_of(at), rows = {} })
  end
  return day
end

local function blocked(model, block)
  return {
    ok = false,
    reason = 'blocked',
    model = model,
    why = block.reason,
    ['until'] = block['until'],
  }
end

local function count(tokens, requests) return { tokens = tokens, requests = requests } end

local function day_count(row)
  if not row then return count(0, 0) end
  return count(row.charged, row.requests)
end

local function admitted(doc, lease)
  return {
    ok = true,
    at = lease.at,
    day = day_count(doc.rows[lease.model]),
    minute = doc.minute.rows[lease.model] or count(0, 0),
  }
end

local function sum(counts)
  local total = count(0, 0)
  for _, one in pairs(counts) do
    total.tokens = total.tokens + one.tokens
    total.requests = total.requests + one.requests
  end
  return total
end

local function checks(doc, day, command)
  local model, rows, days = command.model, doc.minute.rows, {}
  for name, row in pairs(doc.rows) do
    days[name] = day_count(row)
  end
  local all = {
    {
      of = 'user',
      model = model,
      limits = command.limits.model,
      day = day_count(doc.rows[model]),
      minute = rows[model] or count(0, 0),
    },
    {
      of = 'user',
      model = ALL_MODELS,
      limits = command.limits.total,
      day = sum(days),
      minute = sum(rows),
    },
  }
  if not day then return all end
  local shared = { { ALL_MODELS, command.global.total }, { model, command.global.model } }
  for _, pair in ipairs(shared) do
    local scope = pair[1]
    all[#all + 1] = {
      of = 'everyone',
      model = scope,
      limits = pair[2],
      day = day.quota[scope] or count(0, 0),
      minute = day.minute.rows[scope] or count(0, 0),
    }
  end
  return all
end

local function refuse(check, bound, at)
  local limits = check.limits
  if not limits then return nil end
  local tries = {
    { 'day', 'requests', limits.requestsPerDay, check.day.requests, 1 },
    { 'day', 'tokens', limits.tokensPerDay, check.day.tokens, bound },
    { 'minute', 'requests', limits.requestsPerMinute, check.minute.requests, 1 },
    { 'minute', 'tokens', limits.tokensPerMinute, check.minute.tokens, bound },
  }
  for _, try in ipairs(tries) do
    local per, unit, limit, used, asked = unpack(try, 1, 5)
    if limit and used + asked > limit then
      local span = per == 'day' and DAY or MINUTE
      return {
        ok = false,
        reason = 'limit',
        of = check.of,
        model = check.model,
        per = per,
        unit = unit,
        limit = limit,
        used = used,
        asked = asked,
        resetAt = (math.floor(at / span) + 1) * span,
      }
    end
  end
  return nil
end

local function add_count(counts, key, tokens, requests)
  local old = counts[key] or count(0, 0)
  return with(counts, key, count(old.tokens + tokens, old.requests + requests))
end

local function hold(day, scopes, bound)
  local quota, rows = day.quota, day.minute.rows
  for _, scope in ipairs(scopes) do
    quota = add_count(quota, scope, bound, 1)
    rows = add_count(rows, scope, bound, 1)
  end
  local next = copy(day)
  next.quota = quota
  next.minute = { n = day.minute.n, rows = rows }
  return next
end

local function rows_of(doc, date) return date == doc.date and doc.rows or doc.past[date] or {} end

local function with_row(doc, date, model, row)
  if date == doc.date then return with(doc, 'rows', with(doc.rows, model, row)) end
  return with(doc, 'past', with(doc.past, date, with(rows_of(doc, date), model, shorten(row))))
end

local function open(row, bound)
  local next = copy(row or new_row())
  if row and not row.held and row.charged == 0 then
    next = new_row()
    next.requests, next.failed = row.requests, row.requests
  end
  next.requests = next.requests + 1
  next.charged = next.charged + bound
  if next.held then next.held = next.held + bound end
  return next
end

local function admit(user, command)
  local doc = advance(user or new_user(command.user, command.now), command.now)
  local model, bound = command.model, command.bound
  local held = doc.leases[command.id]
  if held then return { answer = admitted(doc, held) } end
  if entered(command.id) then return { answer = admitted(doc, { model = model, at = doc.at }) } end

  if doc.blocks[ALL_MODELS] then return { answer = blocked(ALL_MODELS, doc.blocks[ALL_MODELS]) } end
  if doc.blocks[model] then return { answer = blocked(model, doc.blocks[model]) } end
  local row = doc.rows[model]
  if not row and size(doc.rows) >= MODELS_PER_USER then
    return { answer = { ok = false, reason = 'models' } }
  end

  local day = command.global and advance_day(load_day(date_of(doc.at)), doc.at)
  for _, check in ipairs(checks(doc, day, command)) do
    local refusal = refuse(check, bound, doc.at)
    if refusal then return { answer = refusal } end
  end

  local scopes = command.global and command.global.model and { ALL_MODELS, model } or { ALL_MODELS }
  local lease = { model = model, at = doc.at, bound = bound, ['until'] = doc.at + command.lasts }
  if day then lease.scopes = scopes end
  doc = with_row(doc, doc.date, model, open(row, bound))
  doc.minute = { n = doc.minute.n, rows = add_count(doc.minute.rows, model, bound, 1) }
  doc.leases = with(doc.leases, command.id, lease)
  if command.ip then doc.ip = command.ip end
  return { user = doc, day = day and hold(day, scopes, bound), answer = admitted(doc, lease) }
end

local function tally(row, event)
  local next = copy(row)
  next[event.outcome] = row[event.outcome] + 1
  next.prompt = row.prompt + (event.prompt or 0)
  next.cached = row.cached + (event.cached or 0)
  next.completion = row.completion + (event.completion or 0)
  next.overshoot = row.overshoot + math.max(0, event.charged - event.bound)
  return next
end

local function end_row(row, event)
  local next = row.held and tally(row, event) or copy(row)
  next.charged = row.charged - event.bound + event.charged
  if row.held then next.held = row.held - event.bound end
  return next
end

local function end_day_row(row, event, first, at)
  local hour = string.format('%d', math.floor(event.at % DAY / HOUR))
  local next = tally(row, event)
  next.requests = row.requests + 1
  next.charged = row.charged + event.charged
  next.users = row.users + (first and 1 or 0)
  next.hours = with(row.hours, hour, (row.hours[hour] or 0) + event.charged)
  next.at = math.max(row.at, at)
  return next
end

local function first_answer(rows, row, event)
  if event.outcome == 'failed' then return { user = false, model = false, session = false } end
  local first = { user = true, model = not answered(row), session = false }
  for _, one in pairs(rows) do
    if answered(one) then first.user = false end
  end
  return first
end

local function end_day(day, lease, event, first, at)
  local model, change = lease.model, event.charged - lease.bound
  local next, rows = copy(day), day.minute.rows
  for _, scope in ipairs(lease.scopes or {}) do
    if next.quota[scope] then next.quota = add_count(next.quota, scope, change, 0) end
    if minute_of(lease.at) == day.minute.n and rows[scope] then
      rows = add_count(rows, scope, change, 0)
    end
  end
  local known = day.models[model]
  if known or event.outcome ~= 'failed' then
    next.models =
      with(day.models, model, end_day_row(known or new_day_row(), event, first.model, at))
  end
  next.total = end_day_row(day.total, event, first.user, at)
  next.sessions = day.sessions + (first.session and 1 or 0)
  next.minute = { n = day.minute.n, rows = rows }
  return next
end

local function close(doc, lease, ended, load)
  local event = copy(ended)
  event.at, event.user, event.model, event.bound = lease.at, doc.id, lease.model, lease.bound
  if doc.at > lease['until'] then event.late = true end

  local date, first, next =
    date_of(lease.at), { user = false, model = false, session = false }, copy(doc)
  local rows = rows_of(doc, date)
  local row = rows[lease.model]
  if row then
    first = first_answer(rows, row, event)
    next = with_row(doc, date, lease.model, end_row(row, event))
  end
  next.leases = with(doc.leases, event.id, nil)
  next.seen = doc.at
  if minute_of(lease.at) == doc.minute.n then
    next.minute = {
      n = doc.minute.n,
      rows = add_count(doc.minute.rows, lease.model, event.charged - lease.bound, 0),
    }
  end
  local session = event.session
  if session and date == doc.date and event.outcome ~= 'failed' then
    if not doc.sessions[session] and size(doc.sessions) < SESSIONS_PER_USER then
      first.session = true
      next.sessions = with(doc.sessions, session, 1)
    end
  end
  local day = end_day(load(date) or new_day(date), lease, event, first, doc.at)
  return { user = next, day = day, event = event, answer = { applied = true } }
end

local function settle(user, command)
  local nothing = { answer = { applied = false } }
  if not user or not user.leases[command.event.id] then return nothing end
  local doc = advance(user, command.now)
  local lease = doc.leases[command.event.id]
  if not lease then return nothing end
  return close(doc, lease, command.event, load_day)
end

local function enter(user, command)
  local event, scopes = command.event, command.scopes
  local gone = erased_at(command.user) or -math.huge
  if entered(event.id) or command.now - event.at >= ENTER or event.at <= gone then
    return { answer = { applied = false } }
  end
  local doc = advance(user or new_user(command.user, event.at), event.at)
  local held = doc.leases[event.id]
  if held then return with(close(doc, held, event, load_day), 'entered', event.id) end

  local model, at, bound = event.model, event.at, event.bound
  local date = date_of(at)
  local lease = { model = model, at = at, bound = bound, ['until'] = doc.at, scopes = scopes }
  doc = with_row(doc, date, model, open(rows_of(doc, date)[model], bound))
  if minute_of(at) == doc.minute.n then
    doc.minute = { n = doc.minute.n, rows = add_count(doc.minute.rows, model, bound, 1) }
  end
  local load = load_day
  if scopes then
    local day = advance_day(load_day(date), at)
    local charged = hold(day, scopes, bound)
    if minute_of(at) ~= day.minute.n then charged.minute = day.minute end
    load = function() return charged end
  end
  return with(close(doc, lease, event, load), 'entered', event.id)
end

local function audit_of(command, action, user)
  return {
    at = command.now,
    action = action,
    user = user and string.sub(user, 1, AUDIT_ID_CHARS),
    ip = command.ip,
  }
end

local function set_block(user, command)
  local doc = copy(user or new_user(command.user, command.now))
  doc.blocks = with(doc.blocks, command.model, command.block)
  local block, audit =
    command.block, audit_of(command, command.block and 'block' or 'unblock', command.user)
  audit.model = command.model
  if block then
    audit.reason, audit['until'] = block.reason, block['until']
  end
  return { user = doc, block = command, audit = audit, answer = { ok = true } }
end

local function report(user, command)
  local doc = advance(user or new_user(command.user, command.now), command.now)
  local reported = copy(doc.reported or {})
  for model, said in pairs(command.models) do
    local known = reported[model]
    local full = not known and size(reported) >= MODELS_PER_USER
    if said.resetAt == (math.floor(doc.at / DAY) + 1) * DAY and not full then
      known = known or count(0, 0)
      reported[model] =
        count(math.max(known.tokens, said.tokens), math.max(known.requests, said.requests))
    end
  end
  local rows = {}
  for model, row in pairs(doc.rows) do
    rows[model] = day_count(row)
  end
  local answer = { ok = true, at = doc.at, rows = rows, blocks = doc.blocks }
  return { user = user and with(doc, 'reported', reported), answer = answer }
end

local function erase(_, command)
  return {
    erased = command,
    audit = audit_of(command, 'erase', command.user),
    answer = { ok = true },
  }
end

local function session(_, command)
  return { session = command, audit = audit_of(command, command.op), answer = { ok = true } }
end

local function note(_, command)
  return { audit = audit_of(command, command.action), answer = { ok = true } }
end

local function clear(_, command)
  local date = date_of(command.now)
  local today, day = load_day(date), nil
  if today then
    day = new_day(date)
    day.quota, day.minute = today.quota, today.minute
    day.forgotten = today.total.requests + (today.forgotten or 0)
  end
  return {
    day = day,
    cleared = command.now,
    audit = audit_of(command, 'clear'),
    answer = { ok = true },
  }
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
