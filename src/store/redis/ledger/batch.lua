-- A batch of commands in one atomic step. Everything is decoded and reckoned before the first
-- write, since Redis does not roll back. A document that cannot be read is moved to `…:damaged:…`
-- and reported.

-- Documents: the raw ones of the declared keys, and those of undeclared keys where clocks disagree.

local raw, docs, damaged = {}, {}, {}
for i, value in ipairs(redis.call('MGET', unpack(KEYS))) do
  raw[KEYS[i]] = value
end

local function load(key, readable)
  if docs[key] == nil then
    local text = raw[key]
    if text == nil then text = redis.call('GET', key) end
    docs[key] = false
    if text then
      local ok, doc = pcall(cjson.decode, text)
      if ok and readable(doc) then
        docs[key] = doc
      else
        damaged[key] = text
      end
    end
  end
  return docs[key] or nil
end

local function load_user(id) return load(user_key(id), is_user) end
function load_day(date) return load(day_key(date), is_day) end

-- Events that must not be entered again. MGET gives false for a key that is not there.
local once = {}
function entered(id) return once[id] or raw[once_key(id)] and true or false end

-- Until when a user's requests were erased. Erased users of this batch are here too.
local erased = {}
function erased_at(id) return erased[id] or tonumber(raw[erased_key(id)] or nil) end

-- The batch: reckon all, then write.

local users, days, events, blocks, answers = {}, {}, {}, {}, {}
local audits, sessions = {}, {}
local last_seen, spent, chores_at, cleared = {}, {}, nil, nil

local function settled_tokens(doc)
  local tokens = 0
  for _, row in pairs(doc.rows) do
    tokens = tokens + row.charged - row.held
  end
  return tokens
end

-- Last active goes by the minute, so that a busy user is not indexed anew with each request, and
-- below it by a fraction from the id, so that hardly two users are alike: activityOf in
-- src/usage/record.ts.
local function activity(doc)
  local hash = 0
  for i = 1, 4 do
    hash = hash * 64 + (string.byte(doc.id, i) or 0) % 64
  end
  return minute_of(doc.seen) + hash / 16777216
end

-- A score of top is the day and the day's tokens in one number, exact below 2^53.
local function index(before, doc)
  local minute = minute_of(doc.seen)
  if not before or not before.seen or minute_of(before.seen) ~= minute then
    last_seen[#last_seen + 1] = string.format('%.17g', activity(doc))
    last_seen[#last_seen + 1] = doc.id
  end
  local tokens = settled_tokens(doc)
  if tokens > 0 then
    spent[doc.id] = math.floor(doc.at / DAY) * TOP_DAY + math.min(tokens, TOP_DAY - 1)
  end
end

local function run(text)
  local command = cjson.decode(text)
  local before = command.user and load_user(command.user)
  local step = REDUCE[command.op](before, command)
  if step.user then
    docs[user_key(command.user)] = step.user
    users[command.user] = step.user
  end
  if step.day then
    docs[day_key(step.day.date)] = step.day
    days[step.day.date] = step.day
  end
  if step.entered then once[step.entered] = true end
  if step.event then
    events[#events + 1] = cjson.encode(step.event)
    index(before, step.user)
    if step.day.total.requests % CHORES_EVERY == 1 then chores_at = command.now end
  end
  if step.block then blocks[#blocks + 1] = step.block end
  if step.erased then
    docs[user_key(command.user)], users[command.user] = false, nil
    erased[command.user] = command.now
  end
  if step.session then sessions[#sessions + 1] = step.session end
  if step.audit then audits[#audits + 1] = cjson.encode(step.audit) end
  cleared = step.cleared or cleared
  return step.answer
end

for i = 2, #ARGV do
  local ok, answer = pcall(run, ARGV[i])
  answers[i - 1] = ok and answer or { error = true }
end

local function user_seconds(doc)
  local seconds = keep.userDays * SECONDS_PER_DAY
  for _, block in pairs(doc.blocks) do
    if not block['until'] then return nil end
    seconds = math.max(seconds, math.ceil((block['until'] - doc.at) / SECOND))
  end
  return seconds
end

local reported = {}
for key, text in pairs(damaged) do
  redis.call(
    'SET',
    prefix .. 'damaged:' .. string.sub(key, #prefix + 1),
    text,
    'EX',
    DAMAGED_SECONDS
  )
  redis.call('DEL', key)
  reported[#reported + 1] = key
end
if cleared then
  local keys = { prefix .. 'events' }
  for ago = 1, keep.historyDays do
    keys[#keys + 1] = day_key(date_of(cleared - ago * DAY))
  end
  redis.call('DEL', unpack(keys))
end
local function forget(id)
  redis.call('DEL', user_key(id), prefix .. 'damaged:user:' .. id)
  redis.call(
    'SET',
    erased_key(id),
    string.format('%.0f', erased[id]),
    'EX',
    string.format('%d', ENTER_SECONDS)
  )
  redis.call('ZREM', prefix .. 'users', id)
  redis.call('ZREM', prefix .. 'top', id)
  for _, member in ipairs(redis.call('ZRANGE', prefix .. 'blocks', 0, -1)) do
    if string.sub(member, 1, #id + 1) == id .. ' ' then
      redis.call('ZREM', prefix .. 'blocks', member)
    end
  end
  local mine, others = '"user":' .. cjson.encode(id), {}
  for _, text in ipairs(redis.call('LRANGE', prefix .. 'events', 0, -1)) do
    if not string.find(text, mine, 1, true) then others[#others + 1] = text end
  end
  redis.call('DEL', prefix .. 'events')
  for i = 1, #others, 1000 do
    redis.call('RPUSH', prefix .. 'events', unpack(others, i, math.min(i + 999, #others)))
  end
  redis.call('EXPIRE', prefix .. 'events', string.format('%d', keep.historyDays * SECONDS_PER_DAY))
end
for id in pairs(erased) do
  forget(id)
end
for _, command in ipairs(sessions) do
  local key = prefix .. 'session:' .. command.session
  local left = command['until'] and math.ceil((command['until'] - command.now) / SECOND) or 0
  if left > 0 then
    redis.call('SET', key, string.format('%.0f', command['until']), 'EX', string.format('%d', left))
  else
    redis.call('DEL', key)
  end
end
if #audits > 0 then
  redis.call('LPUSH', prefix .. 'audit', unpack(audits))
  redis.call('LTRIM', prefix .. 'audit', 0, AUDIT_KEPT - 1)
end
for id, doc in pairs(users) do
  local seconds = user_seconds(doc)
  if seconds then
    redis.call('SET', user_key(id), cjson.encode(doc), 'EX', string.format('%d', seconds))
  else
    redis.call('SET', user_key(id), cjson.encode(doc))
  end
end
for date, doc in pairs(days) do
  redis.call(
    'SET',
    day_key(date),
    cjson.encode(doc),
    'EX',
    string.format('%d', keep.historyDays * SECONDS_PER_DAY)
  )
end
for id in pairs(once) do
  redis.call('SET', once_key(id), '1', 'EX', string.format('%d', ENTER_SECONDS))
end
if #events > 0 and keep.eventsKept > 0 then
  local length = redis.call('LPUSH', prefix .. 'events', unpack(events))
  if length > keep.eventsKept * 1.1 + 64 then
    redis.call('LTRIM', prefix .. 'events', 0, keep.eventsKept - 1)
  end
end
if #last_seen > 0 then redis.call('ZADD', prefix .. 'users', unpack(last_seen)) end
local top = {}
for id, score in pairs(spent) do
  top[#top + 1] = string.format('%.0f', score)
  top[#top + 1] = id
end
if #top > 0 then redis.call('ZADD', prefix .. 'top', unpack(top)) end
for _, command in ipairs(blocks) do
  local member = command.user .. ' ' .. command.model
  if command.block then
    redis.call(
      'ZADD',
      prefix .. 'blocks',
      string.format('%.0f', command.block['until'] or NO_END),
      member
    )
  else
    redis.call('ZREM', prefix .. 'blocks', member)
  end
end

-- What has aged leaves the indexes.
if chores_at then
  local seconds = string.format('%d', keep.userDays * SECONDS_PER_DAY)
  redis.call(
    'ZREMRANGEBYSCORE',
    prefix .. 'users',
    '-inf',
    string.format('%d', minute_of(chores_at) - keep.userDays * DAY / MINUTE)
  )
  redis.call(
    'ZREMRANGEBYSCORE',
    prefix .. 'top',
    '-inf',
    string.format('%.0f', (math.floor(chores_at / DAY) - 1) * TOP_DAY)
  )
  redis.call('ZREMRANGEBYSCORE', prefix .. 'blocks', '-inf', string.format('%.0f', chores_at))
  redis.call('EXPIRE', prefix .. 'users', seconds)
  redis.call('EXPIRE', prefix .. 'top', seconds)
  redis.call('EXPIRE', prefix .. 'events', string.format('%d', keep.historyDays * SECONDS_PER_DAY))
end

return cjson.encode({ answers = answers, damaged = #reported > 0 and reported or nil })
