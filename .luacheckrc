-- The luacheck settings for the ledger script. `npm run lua` checks the whole script.
std = 'lua51'
max_line_length = 100
-- StyLua decides how code lines break.
max_code_line_length = false

read_globals = {
  'ARGV',
  'KEYS',
  cjson = { fields = { 'decode', 'encode', 'null' } },
  redis = { fields = { 'call' } },
}

-- Lua 5.1 has these globals, but the Redis sandbox does not.
not_globals = {
  'debug',
  'dofile',
  'getfenv',
  'io',
  'loadfile',
  'module',
  'newproxy',
  'os',
  'package',
  'print',
  'require',
  'setfenv',
}
