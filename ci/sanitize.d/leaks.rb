# frozen_string_literal: true

# What the gem allocates and does not free: each call many times, and the heap in use before and after. Prints a row for
# each call; exit status 1 when one of them grows.

ENV["PROMRING_LISTEN"] = "off"
ENV["PROMRING_MAX_SERIES"] = "1000"

require "fiddle"
require "promring/statsd"

TIMES = 4000
# Bytes per call that are no leak: a table that has doubled, the collector's own. Malloc hands out no fewer than 24.
NOISE = 4.0

# glibc's own account of the heap: ten words, by a hidden pointer.
MALLINFO2 = Fiddle::Function.new(Fiddle.dlopen(nil)["mallinfo2"], [Fiddle::TYPE_VOIDP], Fiddle::TYPE_VOIDP)
INFO = Fiddle::Pointer.malloc(80, Fiddle::RUBY_FREE)

# Bytes that are allocated, in all arenas and in mappings of their own. Ruby's objects stand in pages that it keeps.
def in_use
  4.times { GC.start }
  MALLINFO2.call(INFO)
  words = INFO[0, 80].unpack("Q10")
  words[7] + words[4]
end

def refused(*kinds)
  yield
rescue ArgumentError, *kinds
  nil
else
  raise "nothing was refused"
end

HITS = Promring.counter(:leak_total, docstring: "Help.", labels: [:path])
LEVEL = Promring.gauge(:leak_level, docstring: "Help.", labels: [:path])
TIMINGS = Promring.histogram(:leak_seconds, docstring: "Help.", labels: [:path], buckets: [0.5, 1])
SIZES = Promring.summary(:leak_bytes, docstring: "Help.", labels: [:path])
BOUND = HITS.with_labels(path: "/")
HERE = { path: "/" }.freeze
$number = 0

CALLS = {
  "increment" => -> { HITS.increment(labels: HERE) },
  "increment, bound" => -> { BOUND.increment },
  "increment, too many labels" => -> { HITS.increment(labels: { path: "/#{$number += 1}" }) },
  "increment, wrong labels" => -> { refused(Promring::Error) { HITS.increment(labels: { other: "/" }) } },
  "increment, refused" => -> { refused(Promring::Error) { HITS.increment(by: -1, labels: HERE) } },
  "set" => -> { LEVEL.set(2.5, labels: HERE) },
  "observe" => -> { TIMINGS.observe(0.7, labels: HERE) },
  "observe, summary" => -> { SIZES.observe(0.7, labels: HERE) },
  "read" => -> { [HITS.get(labels: HERE), TIMINGS.get(labels: HERE)] },
  "values" => -> { LEVEL.values },
  "bind" => -> { HITS.with_labels(path: "/") },
  "register anew" => -> { Promring.counter(:leak_total, docstring: "Help.", labels: [:path]) },
  "register, conflict" => -> { refused(Promring::Error) { Promring.gauge(:leak_total, docstring: "Help.") } },
  "remove, count" => -> { [LEVEL.remove(labels: HERE), LEVEL.set(1, labels: HERE)] },
  "StatsD, increment" => -> { StatsD.increment("leak.hits", tags: { path: "/" }) },
  "StatsD, measure" => -> { StatsD.measure("leak.time", 3, tags: ["path:/"]) },
  "page" => -> { Promring.expose }
}.freeze

# Bytes by which the heap grows per call, once all that is kept is there.
def growth(call, times)
  times.times { call.call }
  before = in_use
  times.times { call.call }
  (in_use - before).fdiv(times)
end

failed = false
CALLS.each do |name, call|
  times = name == "page" ? TIMES / 40 : TIMES
  grown = growth(call, times)
  3.times { grown = growth(call, times) if grown > NOISE } # a table doubles only once
  leaks = grown > NOISE
  failed ||= leaks
  puts format("ruby    %-34s %10.2f bytes a call%s", name, grown, leaks ? "   LEAKS" : "")
end
exit !failed
