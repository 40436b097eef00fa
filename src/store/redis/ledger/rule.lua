-- Which rule a command has: ledger/rules.ts.

local with_admission, with_changes
local function rule_of(op)
  if not REDUCE[op] then
    if op == 'settle' or op == 'enter' then
      with_settlement()
    else
      if not with_admission then
        with_admission, with_changes = with_policy()
      end
      if op == 'admit' then
        with_admission()
      else
        with_changes()
      end
    end
  end
  return REDUCE[op]
end

local function reduce(command, at) return rule_of(command.op)(command, at) end
