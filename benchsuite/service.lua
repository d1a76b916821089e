-- Searches for words that nobody looked for before, for wrk.
local things = { "car", "dress", "house", "dog", "ring", "phone", "table", "shoe", "flower", "beach", "bike", "cake", "lamp" }
local kinds = { "red", "vintage", "wooden", "small", "blue", "modern", "black", "handmade", "golden", "old", "two", "three" }
local places = { "on a white background", "in the garden", "at night", "for sale", "by the sea", "from above", "in Paris" }

local function any(words)
  return words[math.random(#words)]
end

function init(_)
  math.randomseed(tonumber(os.getenv("SEED") or "7"))
end

function request()
  local words = table.concat({ any(kinds), any(kinds), any(things), any(places), math.random(9999) }, " ")
  return wrk.format("GET", "/api/v1/search?count=20&text=" .. words:gsub(" ", "+"))
end

function done(summary, latency, _)
  local errors = summary.errors
  io.write(string.format(
    '{"requests": %d, "seconds": %.1f, "errors": %d, "p50_ms": %.2f, "p99_ms": %.2f, "max_ms": %.1f}\n',
    summary.requests, summary.duration / 1e6, errors.connect + errors.read + errors.write + errors.status + errors.timeout,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, latency.max / 1e3))
end
