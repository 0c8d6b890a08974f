-- Asks at a fixed rate and prints a line for each answer: seconds of CLOCK_MONOTONIC at its end,
-- its status, the version that gave it. wrk -s rollback.lua ... URL -- RATE BODY
--
-- The n-th request is due at n / rate, whatever was answered: a connection that is free waits for
-- the next due moment, or asks at once when that has passed. wrk counts delays in whole ms.

local ffi = require("ffi")
ffi.cdef [[
  typedef struct { long seconds; long nanoseconds; } moment;
  int clock_gettime(int clock, moment *now);
]]
local MONOTONIC, at = 1, ffi.new("moment")
local rate, began, asked

local function now_s()
  ffi.C.clock_gettime(MONOTONIC, at)
  return tonumber(at.seconds) + tonumber(at.nanoseconds) / 1e9
end

function init(args)
  rate, began, asked = tonumber(args[1]), now_s(), 0
  wrk.method, wrk.body = "POST", args[2]
  wrk.headers["content-type"] = "application/json"
  io.stdout:setvbuf("line")
end

function delay()
  local due_s = began + asked / rate
  asked = asked + 1
  return math.max(0, math.floor((due_s - now_s()) * 1000 + 0.5))
end

function response(status, headers)
  local version = headers["x-model-version"] or headers["X-Model-Version"] or "-"
  print(string.format("%.6f %d %s", now_s(), status, version))
end
