-- What luacheck is told of the script of the ledger. `npm run lua` gives it the whole of the script.
std = 'lua51'
max_line_length = 100
-- StyLua breaks code as it sees fit.
max_code_line_length = false

read_globals = {
  'ARGV',
  'KEYS',
  cjson = { fields = { 'decode', 'encode', 'null' } },
  redis = { fields = { 'call' } },
}

-- Lua 5.1 has these and the sandbox of Redis does not.
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
