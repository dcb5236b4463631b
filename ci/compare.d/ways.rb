# frozen_string_literal: true

# Ruby's ways of counting, for ci/compare: ways.rb WAY TASK NUMBER...; the tasks are those of ways.py, line by line.

require "json"

PER_FAMILY = 100
DIRECTORY = ENV.fetch("COMPARE_DIRECTORY")

# client_ruby from its checkout; the classes are the same whatever its store.
CLIENT = <<~'RUBY'
  $LOAD_PATH.unshift(ENV.fetch("PEER_CLIENT_RUBY"))
  require "prometheus/client"
  require "prometheus/client/formats/text"
  make = ->(name) { Prometheus::Client.registry.counter(name.to_sym, docstring: "d", labels: %i[a b]) }
  count = ->(counter, a, b) { counter.increment(labels: { a: a, b: b }) }
  expose = -> { Prometheus::Client::Formats::Text.marshal(Prometheus::Client.registry) }
RUBY

WAYS = {
  "promring" => <<~'RUBY',
    require "promring"
    make = ->(name) { Promring.counter(name.to_sym, docstring: "d", labels: %i[a b]) }
    count = ->(counter, a, b) { counter.increment(labels: { a: a, b: b }) }
    expose = -> { Promring.expose }
  RUBY
  "client" => CLIENT,
  "files" => CLIENT + <<~'RUBY',
    require "prometheus/client/data_stores/direct_file_store"
    Prometheus::Client.config.data_store = Prometheus::Client::DataStores::DirectFileStore.new(dir: DIRECTORY)
  RUBY
  "mmap" => <<~'RUBY',
    ENV["prometheus_multiproc_dir"] = DIRECTORY
    mmap = ENV.fetch("PEER_MMAP")
    $LOAD_PATH.unshift("#{mmap}/usr/lib/ruby/vendor_ruby", *Dir["#{mmap}/usr/lib/*/ruby/vendor_ruby/#{RUBY_VERSION[/\d+\.\d+/]}.0"])
    require "prometheus/client"
    require "prometheus/client/formats/text"
    make = ->(name) { Prometheus::Client.registry.counter(name.to_sym, "d") }
    count = ->(counter, a, b) { counter.increment({ a: a, b: b }) }
    expose = -> { Prometheus::Client::Formats::Text.marshal_multiprocess(DIRECTORY) }
  RUBY
  "statsd" => <<~'RUBY'
    ENV["STATSD_ENV"], ENV["STATSD_ADDR"] = "production", "127.0.0.1:#{ENV.fetch("COMPARE_PORT")}"
    $LOAD_PATH.unshift(ENV.fetch("PEER_STATSD"))
    require "statsd-instrument"
    make = ->(name) { name }
    count = ->(name, a, b) { StatsD.increment(name, tags: { a: a, b: b }) }
    expose = nil
  RUBY
}.freeze

place = binding
place.eval(WAYS.fetch(ARGV.fetch(0)))
MAKE, COUNT, EXPOSE = %i[make count expose].map { |name| place.local_variable_get(name) }

def cpu = Process.clock_gettime(Process::CLOCK_PROCESS_CPUTIME_ID)

def join(pids)
  pids.each { |pid| abort "a worker has failed" unless Process.wait2(pid).last.success? }
end

def calls(n)
  counter = MAKE.call("calls_total")
  rounds = Array.new(6) do
    started = cpu
    n.times { COUNT.call(counter, "GET", "/orders") }
    (cpu - started) / n * 1e9
  end
  { ns: rounds.drop(1).sort[2] }
end

def events(workers, n)
  counter = MAKE.call("events_total")
  work = -> { (n / workers).times { |i| COUNT.call(counter, "GET", "/#{i % 100}") } }
  workers == 1 ? work.call : join(Array.new(workers) { fork { work.call } })
  counted = EXPOSE&.call&.scan(/^events_total\{.*\} (\S+)/)&.sum { |number, | number.to_f }
  { counted: counted, cpu: Process.times.sum }
end

def look
  times = []
  started = Process.clock_gettime(Process::CLOCK_MONOTONIC)
  page = nil
  while times.size < 2 || (times.size < 5 && Process.clock_gettime(Process::CLOCK_MONOTONIC) - started < 5)
    before = cpu
    page = EXPOSE.call
    times << (cpu - before)
  end
  paths = Dir["#{DIRECTORY}/**/*"].select { |path| File.file?(path) }
  { ms: times.sort[times.size / 2] * 1e3, page: page.bytesize, files: paths.size, memory: paths.sum { |path| File.stat(path).blocks * 512 } }
end

def scrape(workers, series, dead)
  counters = Array.new(series / PER_FAMILY) { |n| MAKE.call("scrape_#{n}_total") }
  work = lambda do |most|
    counters.each { |counter| most.times { |i| COUNT.call(counter, "value-#{i % 10}", "value-#{i / 10}") } }
  end
  if workers == 1
    work.call(PER_FAMILY)
    return look
  end
  ready, tell_ready = IO.pipe
  stop, tell_stop = IO.pipe
  pids = Array.new(workers) do
    fork do
      tell_stop.close
      work.call(PER_FAMILY)
      tell_ready.syswrite(".")
      stop.read(1)
    end
  end
  workers.times { ready.sysread(1) }
  found = look
  if dead.positive?
    Array.new(dead).each_slice(8) { |batch| join(batch.map { fork { work.call(1) } }) }
    found[:dead] = look
  end
  tell_stop.close
  join(pids)
  found
end

puts JSON.generate(send(ARGV.fetch(1), *ARGV.drop(2).map(&:to_i)))
