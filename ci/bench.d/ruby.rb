# frozen_string_literal: true

# Times calls on promring's metrics and of StatsD, what Ruby itself takes, and the peers' gems, and prints ratios.
#
# Each way runs in a process of its own, as they cannot share one. They take turns, so that what disturbs the machine
# disturbs all; a ratio is that of neighbouring rounds, and the median of these counts. Time is CPU time of the whole
# process, so a peer's sending thread is counted, too.

require "json"
require "socket"
require "tmpdir"

ROUNDS = 100
CLIENT_RUBY, STATSD = ENV.values_at("PEER_CLIENT_RUBY", "PEER_STATSD").map { |path| path unless path.to_s.empty? }

# What is timed, ours and the peer's, in the words of both libraries, and how much less of the time ours is to take.
# `fixed` are metrics with all labels given by with_labels; apps rarely call prometheus-client's that way.
FIXED, LITERAL = "counter_fixed.increment", "counter.increment(labels: { a: 'x', b: 'y' })"
OBSERVE, SET = "histogram.observe(0.3, labels: { a: 'x', b: 'y' })", "gauge_fixed.set(2.5)"
METRICS = {
  "increment, labels given / literal" => [FIXED, LITERAL, { "memory" => 50, "files" => 100 }],
  "increment, labels literal" => [LITERAL, LITERAL, { "memory" => 10, "files" => nil }],
  "increment, labels given" => [FIXED, FIXED, { "memory" => nil, "files" => nil }],
  "observe, labels literal" => [OBSERVE, OBSERVE, { "memory" => nil, "files" => nil }],
  "gauge set, labels given" => [SET, SET, { "memory" => nil, "files" => nil }]
}.freeze
# prometheus-client itself on promring: its classes, after `require "promring/prometheus"`, and its data store alone.
ADOPTED = {
  "classes" => {
    "classes, handle / literal" => [FIXED, LITERAL, { "memory" => 50, "files" => 100 }],
    "classes, labels literal" => [LITERAL, LITERAL, { "memory" => 10, "files" => nil }],
    "classes, observe literal" => [OBSERVE, OBSERVE, { "memory" => nil, "files" => nil }]
  },
  "store" => {
    "data store, labels literal" => [LITERAL, LITERAL, { "memory" => nil, "files" => nil }],
    "data store, labels given" => [FIXED, FIXED, { "memory" => nil, "files" => nil }],
    "data store, observe literal" => [OBSERVE, OBSERVE, { "memory" => nil, "files" => nil }]
  }
}.freeze
CALLS = {
  "StatsD.increment, literals" => "StatsD.increment('hits', tags: { a: 'x', b: 'y' })",
  "StatsD.increment, frozen" => "StatsD.increment(NAME, tags: TAGS)"
}.freeze
# What Ruby takes for calls that do nothing: the call of ours beside it, and how many times as long that may take.
FLOORS = {
  "empty method" => ["nothing", FIXED, 3.5],
  "empty method, keywords" => ["keywords", FIXED, 3.0],
  "Integer#zero?" => ["5.zero?", FIXED, 3.5],
  "empty method, labels literal" => ["keywords(labels: { a: 'x', b: 'y' })", LITERAL, 2.5],
  "empty method, StatsD literals" => ["statsd('hits', tags: { a: 'x', b: 'y' })", CALLS.values.first, 2.5]
}.freeze

# Times statements in one way of counting.
class Way
  DEFINITIONS = <<~RUBY
    NAME = "hits"
    TAGS = { a: "x", b: "y" }.freeze
    def nothing; end
    def keywords(by: 1, labels: nil); end
    def statsd(name, value = 1, sample_rate: nil, tags: nil, no_prefix: false); end
  RUBY
  MAKE = <<~RUBY
    counter = make.call(:counter, :c_total); gauge = make.call(:gauge, :g); histogram = make.call(:histogram, :h_seconds)
    counter_fixed, gauge_fixed, histogram_fixed = [counter, gauge, histogram].map { |m| m.with_labels(a: "x", b: "y") }
  RUBY
  THEIRS = <<~RUBY
    make = ->(type, name) { Prometheus::Client.registry.public_send(type, name, docstring: "d", labels: %i[a b]) }
    #{MAKE}
  RUBY
  SETUPS = {
    "promring" => [<<~RUBY, 20_000],
      require "promring/statsd"
      make = ->(type, name) { Promring.public_send(type, name, docstring: "d", labels: %i[a b]) }
      #{MAKE}
    RUBY
    "classes" => [<<~RUBY, 20_000],
      $LOAD_PATH.unshift(CLIENT_RUBY)
      require "promring/prometheus"
      #{THEIRS}
    RUBY
    "store" => [<<~RUBY, 2_000],
      $LOAD_PATH.unshift(CLIENT_RUBY)
      require "prometheus/client"
      require "promring"
      Prometheus::Client.config.data_store = Promring::DataStore.new
      #{THEIRS}
    RUBY
    "memory" => [<<~RUBY, 2_000],
      $LOAD_PATH.unshift(CLIENT_RUBY)
      require "prometheus/client"
      #{THEIRS}
    RUBY
    "files" => [<<~RUBY, 1_000],
      $LOAD_PATH.unshift(CLIENT_RUBY)
      require "prometheus/client"
      require "prometheus/client/data_stores/direct_file_store"
      Prometheus::Client.config.data_store = Prometheus::Client::DataStores::DirectFileStore.new(dir: Dir.mktmpdir(nil, ENV["BENCH_DIRECTORY"]))
      #{THEIRS}
    RUBY
    "udp" => [<<~RUBY, 30_000] # more than its buffer holds: what counts is what it can sustain
      $LOAD_PATH.unshift(STATSD)
      require "statsd-instrument"
      make = nil
    RUBY
  }.freeze
  # Ends what a round has begun, within its time.
  FLUSH = { "udp" => "StatsD.singleton_client.sink.flush(blocking: false)" }.freeze

  # The child: answers each statement with nanoseconds per call and objects allocated by one.
  def self.serve(way)
    setup, number = SETUPS.fetch(way)
    place = TOPLEVEL_BINDING
    place.eval(DEFINITIONS + setup)
    loops = Hash.new do |known, statement|
      known[statement] = place.eval("->(n) { i = 0; while i < n; #{statement}; i += 1; end; #{FLUSH[way]} }")
    end
    $stdin.each_line do |line|
      statement = JSON.parse(line, create_additions: false)
      loops[statement].call(500)
      $stdout.puts JSON.generate([nanoseconds(loops[statement], number) - nanoseconds(loops["nil"], number),
                                  objects(loops[statement])])
      $stdout.flush
    end
  end

  def self.nanoseconds(loop, number)
    started = Process.clock_gettime(Process::CLOCK_PROCESS_CPUTIME_ID)
    loop.call(number)
    (Process.clock_gettime(Process::CLOCK_PROCESS_CPUTIME_ID) - started) / number * 1e9
  end

  def self.objects(loop)
    before = GC.stat(:total_allocated_objects)
    loop.call(100)
    (GC.stat(:total_allocated_objects) - before) / 100
  end

  def initialize(way, directory, port)
    env = { "PROMRING_SEGMENT" => "#{directory}/#{way}", "PROMRING_LISTEN" => "off", "BENCH_DIRECTORY" => directory,
            "STATSD_ENV" => "production", "STATSD_ADDR" => ("127.0.0.1:#{port}" if way == "udp") }
    @pipe = IO.popen([env, RbConfig.ruby, __FILE__, way], "r+")
  end

  def time(statement)
    @pipe.puts(JSON.generate(statement))
    JSON.parse(@pipe.gets || abort("a way has failed"))
  end
end

# The columns: ours, and those it is compared with.
class Table
  def initialize(directory, port)
    ways = ["promring", *(%w[classes store memory files] if CLIENT_RUBY), *("udp" if STATSD)]
    @ways = ways.to_h { |way| [way, Way.new(way, directory, port)] }
    @missed = 0
  end

  def print
    puts format("%-38s %6s %8s", "CPU time, and new objects, of a call", "ns", "objects")
    floors
    puts
    METRICS.each { |what, row| compare(what, *row) }
    ADOPTED.slice(*@ways.keys).each { |way, rows| rows.each { |what, row| compare(what, *row, way: way) } }
    CALLS.each { |what, statement| compare(what, statement, statement, { "udp" => 15 }) }
    puts "PROMRING_CLIENT_RUBY is not set: no comparison with prometheus-client" unless CLIENT_RUBY
    puts "PROMRING_STATSD_INSTRUMENT is not set: no comparison with statsd-instrument" unless STATSD
    puts @missed.zero? ? "all gates passed" : "#{@missed} missed"
  end

  private

  # Our calls against the least that Ruby takes for any call, in one process.
  def floors
    ours = @ways.fetch("promring")
    FLOORS.each do |what, (floor, call, gate)|
      rounds = Array.new(ROUNDS) { [call, floor].map { |statement| ours.time(statement).first } }
      ratio = median(rounds.map { |with, without| with / without })
      @missed += 1 if ratio > gate
      puts format("%-38s %6.1f          %s takes %.2f times that (%.1f %s)", what, median(rounds.map(&:last)),
                  call[/\S+/], ratio, gate, ratio <= gate ? "pass" : "MISS")
    end
  end

  def compare(what, ours, theirs, gates, way: "promring")
    gates = gates.slice(*@ways.keys)
    rounds = Array.new(ROUNDS) do
      [@ways[way].time(ours), *gates.keys.map { |way| @ways[way].time(theirs) }]
    end
    row = format("%-38s %6.1f %8d", what, median(rounds.map { |round| round[0][0] }), rounds.last[0][1])
    gates.each_with_index do |(peers, gate), index|
      peer = median(rounds.map { |round| round[index + 1][0] })
      row << format("   %s %.0f: %s", peers, peer, verdict(median(rounds.map { |round| round[0][0] / round[index + 1][0] }), gate))
    end
    puts row
  end

  def verdict(ratio, gate)
    text = format("1/%.1f", 1 / ratio)
    return text unless gate

    passed = ratio <= 1.0 / gate
    @missed += 1 unless passed
    "#{text} (1/#{gate} #{passed ? 'pass' : 'MISS'})"
  end

  def median(numbers)
    numbers.sort[numbers.size / 2]
  end
end

if ARGV.empty?
  nobody_reads = UDPSocket.new.tap { |socket| socket.bind("127.0.0.1", 0) }
  Dir.mktmpdir("promring-bench-", "/dev/shm") { |directory| Table.new(directory, nobody_reads.addr[1]).print }
else
  Way.serve(ARGV.first)
end
