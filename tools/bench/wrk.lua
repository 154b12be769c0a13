-- A script for wrk, which posts files in turn and prints the totals as JSON: wrk -s wrk.lua URL -- TYPE FILE…
local requests = {}
local at = 0

function init(args)
  wrk.method = "POST"
  wrk.headers["Content-Type"] = args[1]
  for i = 2, #args do
    local file = assert(io.open(args[i], "rb"))
    requests[i - 1] = wrk.format(nil, nil, nil, file:read("*a"))
    file:close()
  end
end

function request()
  at = at % #requests + 1
  return requests[at]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '{"seconds": %f, "requests": %d, "failed": %d, "p50, ms": %f, "p99, ms": %f}\n',
    summary.duration / 1e6, summary.requests,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
