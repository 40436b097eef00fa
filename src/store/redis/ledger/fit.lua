-- What a request costs and reserves, and how many completion tokens it is granted: the port of
-- ledger/money.ts and fit.ts.

-- count * each / per, as a whole number and a remainder, which is not divided. No product passes
-- 2^53.
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
      local unit, window = LIMIT_UNITS[name], LIMIT_WINDOWS[name]
      local wanted = unit and (full[unit] or 0) + 0
      -- A limit on requests cuts nothing, since a request is one whatever its size.
      if unit and unit ~= 'requests' and wanted > 0 and (not WAITS[window] or limit < wanted) then
        local left = limit - ((groups[i].used[window] or NOTHING)[unit] or 0)
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
