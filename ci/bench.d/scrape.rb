# frozen_string_literal: true

# Times a scrape of 128 processes that all hold 10,000 series, of promring and of prometheus-client-mmap.
#
# Each way in a process of its own; between two scrapes another process counts in every series. Time is CPU time.

require "json"
require "tmpdir"

PROCESSES, METRICS, SERIES, ROUNDS, GATE = 128, 100, 100, 20, 20
MMAP = ENV.fetch("PEER_MMAP")

SETUPS = {
  "promring" => <<~'RUBY',
    require "promring"
    make = ->(name) { Promring.counter(name, docstring: "d", labels: %i[a b]) }
    count = ->(counter, labels) { counter.increment(labels: labels) }
    scrape = -> { Promring.expose }
  RUBY
  "mmap" => <<~'RUBY'
    ENV["prometheus_multiproc_dir"] = ENV.fetch("BENCH_DIRECTORY")
    $LOAD_PATH.unshift("#{MMAP}/usr/lib/ruby/vendor_ruby", *Dir["#{MMAP}/usr/lib/*/ruby/vendor_ruby/#{RUBY_VERSION[/\d+\.\d+/]}.0"])
    require "prometheus/client"
    require "prometheus/client/formats/text"
    make = ->(name) { Prometheus::Client.registry.counter(name, "d") }
    count = ->(counter, labels) { counter.increment(labels) }
    scrape = -> { Prometheus::Client::Formats::Text.marshal_multiprocess(ENV.fetch("BENCH_DIRECTORY")) }
  RUBY
}.freeze

# The child: prints the sum of all samples, and CPU seconds of each scrape.
def serve(way)
  place = binding
  place.eval(SETUPS.fetch(way))
  make, count, scrape = %i[make count scrape].map { |name| place.local_variable_get(name) }
  counters = Array.new(METRICS) { |n| make.call(:"bench_#{n}_total") }
  labels = Array.new(SERIES) { |n| { a: "value-#{n % 10}", b: "value-#{n / 10}" } }
  work = -> { counters.each { |counter| labels.each { |set| count.call(counter, set) } } }
  PROCESSES.times.each_slice(8) { |batch| batch.map { fork { work.call; exit!(0) } }.each { |pid| Process.wait(pid) } }
  times = Array.new(ROUNDS) do
    Process.wait(fork { work.call; exit!(0) })
    started = Process.clock_gettime(Process::CLOCK_PROCESS_CPUTIME_ID)
    scrape.call
    Process.clock_gettime(Process::CLOCK_PROCESS_CPUTIME_ID) - started
  end
  puts JSON.generate([scrape.call.scan(/^bench_\d+_total\{.*\} (\S+)/).sum { |number, | number.to_f }, times])
end

def time(way)
  Dir.mktmpdir("promring-bench-", "/dev/shm") do |directory|
    env = { "PROMRING_SEGMENT" => "#{directory}/segment", "PROMRING_LISTEN" => "off", "BENCH_DIRECTORY" => directory }
    sum, times = JSON.parse(IO.popen([env, RbConfig.ruby, "-W0", __FILE__, way], &:read))
    expected = (PROCESSES + ROUNDS) * METRICS * SERIES
    abort "#{way} has counted #{sum} instead of #{expected}" unless sum == expected
    times.sort[ROUNDS / 2]
  end
end

if ARGV.empty?
  ours, theirs = %w[promring mmap].map { |way| time(way) }
  passed = ours <= theirs / GATE
  puts format("scrape of %d series, %d processes: %.1f ms   mmap %.1f: 1/%.0f (1/%d %s)", METRICS * SERIES, PROCESSES, ours * 1e3, theirs * 1e3,
              theirs / ours, GATE, passed ? "pass" : "MISS")
  exit passed
else
  serve(ARGV.first)
end
