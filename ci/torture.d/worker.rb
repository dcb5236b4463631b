# frozen_string_literal: true

# A worker of the torture in Ruby: counts for ever, the ledger follows each call (see core/tests/torture.rs).

require "promring"

me = { worker: ENV.fetch("PROMRING_TORTURE_WORKER") }
at = Integer(ENV.fetch("PROMRING_TORTURE_AT"))
ledger = File.open(ENV.fetch("PROMRING_TORTURE_LEDGER"), "r+b")
words = ledger.pread(32, at).unpack("Q4")
step = lambda do |word|
  words[word] += 1
  ledger.pwrite([words[word]].pack("Q"), at + word * 8)
end

hits = Promring.counter(:torture_total, docstring: "torture_total", labels: [:worker])
sizes = Promring.histogram(:torture_sizes, docstring: "torture_sizes", labels: [:worker], buckets: [1, 2, 4])
loop do
  step.call(0)
  hits.increment(labels: me)
  step.call(1)
  step.call(2)
  sizes.observe(3, labels: me)
  step.call(3)
end
