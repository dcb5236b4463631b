# frozen_string_literal: true

# Our exposition against the datagrams that statsd-instrument makes of the same calls without promring, translated by the
# rules of statsd_exporter. Every call is made several times: the first goes by way of a datagram, the others do not.

require "json"
require "open3"

ROUNDS = 4
SETTINGS = [
  {},
  { prefix: "app" },
  { prefix: "a:b|c", default_tags: { env: "prod", zone: 1 } },
  { default_tags: ["env:prod", "bare"], default_sample_rate: 0.5 },
  { prefix: "s", default_tags: "env:prod,x:y" },
  { prefix: "plain", implementation: "statsd" }
].freeze

TAGS = [
  nil, {}, [], { a: 1 }, { a: "x", b: :y }, { "a" => 1.5, "b" => true }, { a: nil, b: false }, ["a:1", "b:2"], %w[a b:2 :3 c:],
  "a:1,b:2", { "we-ird k|e,y" => "v|a,l:ue" }, { env: "mine" }, { a: "é", b: "日本" }, { __a: 1, le: 2, quantile: 3 }, ["#a:1"], { "1a": "%s" }
].freeze
NAMES = ["n", "a.b.c", "a-b--c", "x:y|z@w", "9lives", "camelCase_1", "sp ace"].freeze

# Method, arguments and options of each; no name is used for two types, nor with two sets of tags.
CALLS = begin
  number = 0
  plain = lambda do |method, value, options = {}|
    number += 1
    [method, ["#{NAMES[number % NAMES.size]}.#{method}#{number}", *value], options]
  end
  TAGS.flat_map { |tags| %i[increment gauge measure histogram distribution].map { |method| plain.call(method, 3, tags: tags) } } +
    [1, 0, 2.5, 10**20, 1e-9].map { |value| plain.call(:increment, value) } +
    [-7, -0.5, 0, 1e300, 10**18].map { |value| plain.call(:gauge, value) } +
    [0, 0.004, 5, 250, 12_000, 1e9].flat_map { |value| %i[measure histogram distribution].map { |method| plain.call(method, value) } } +
    %i[increment gauge measure histogram distribution].map { |method| plain.call(method, 4, sample_rate: 0.1) } +
    %i[increment gauge measure].map { |method| plain.call(method, 5, no_prefix: true, tags: nil) } +
    [plain.call(:increment, []), plain.call(:increment, [], tags: { a: 2 })]
end.freeze

# Those that an implementation has.
def calls_of(settings)
  return CALLS unless settings[:implementation] == "statsd"

  CALLS.select { |method, _, options| %i[increment gauge measure].include?(method) && (options[:tags].nil? || options[:tags].empty?) }
end

# The child without promring: the datagrams of each call, as Base64 of JSON lines.
if ARGV.first == "datagrams"
  require "statsd-instrument"
  client = StatsD::Instrument::Client.new(**SETTINGS.fetch(Integer(ARGV.last)))
  abort "promring is loaded" if defined?(Promring::StatsD)
  lines = calls_of(SETTINGS.fetch(Integer(ARGV.last))).map do |method, arguments, options|
    client.capture { client.public_send(method, *arguments, **options) }.map { |datagram| [datagram.source].pack("m0") }
  end
  puts JSON.generate(lines)
  exit
end

require "support/harness"
require "statsd-instrument"
require "promring/statsd"

# What statsd_exporter exposes for datagrams.
class Exporter
  BUCKETS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10].freeze

  attr_reader :samples

  def initialize
    @samples = Hash.new(0.0)
  end

  def take(line)
    head, *fields = line.dup.force_encoding("UTF-8").split("|", -1)
    name, value = head.split(":", 2)
    type = fields.shift
    labels = labels_of(fields.find { |field| field.start_with?("#") })
    name = escape(name)
    case type
    when "c" then @samples[[name, labels]] += Float(value)
    when "g" then @samples[[name, labels]] = Float(value)
    else observe(name, labels, type == "ms" ? Float(value) / 1000 : Float(value))
    end
  end

  private

  def observe(name, labels, value)
    @samples[["#{name}_sum", labels]] += value
    @samples[["#{name}_count", labels]] += 1
    [*BUCKETS, Float::INFINITY].each { |bound| @samples[["#{name}_bucket", labels.merge("le" => bound.to_f)]] += value <= bound ? 1 : 0 }
  end

  def labels_of(field)
    return {} unless field

    tags = field.delete_prefix("#").split(",").map { |tag| tag.delete_prefix("#").split(":", 2) }
    tags.select { |key, value| key && value && !key.empty? && !value.empty? }.to_h { |key, value| [allowed(escape(key)), value] }
  end

  def escape(name)
    name = name.gsub(/-+/, "-").gsub(/[^A-Za-z0-9_]/, "_")
    name.match?(/\A[0-9]/) ? "_#{name}" : name
  end

  # Where statsd_exporter breaks the page or dies, see core/docs/why.md.
  def allowed(label)
    label.start_with?("__") ? "exported_#{label[2..]}" : { "le" => "exported_le", "quantile" => "exported_quantile" }.fetch(label, label)
  end
end

class TestOracle < Minitest::Test
  SETTINGS.each_with_index do |settings, index|
    define_method(:"test_the_same_as_statsd_exporter_#{index}") do
      expected = Exporter.new
      ROUNDS.times { datagrams(index).flatten.each { |line| expected.take(line) } }
      calls = calls_of(settings)
      found, fallbacks = in_process do
        client = StatsD::Instrument::Client.new(**settings, sink: Promring::StatsD::Sink.new)
        ROUNDS.times { calls.each { |method, arguments, options| client.public_send(method, *arguments, **options) } }
      end
      expected = rounded(expected.samples)
      found = rounded(found)
      assert_equal [[], []], [(expected - found).first(5), (found - expected).first(5)]
      assert_operator expected.size, :>, calls.size
      # Every form once, and each time what cannot be looked up: Integers beyond 62 bits.
      big = calls.count { |_, arguments, _| arguments[1].is_a?(Integer) && arguments[1].bit_length > 62 }
      assert_equal calls.size + big * (ROUNDS - 1), fallbacks
    end
  end

  def test_statsds_own_methods_and_the_environment
    found, fallbacks = in_process("STATSD_ENV" => "production", "STATSD_PREFIX" => "p", "STATSD_DEFAULT_TAGS" => "e:1", "STATSD_SAMPLE_RATE" => "0.01") do
      100.times do
        StatsD.increment("c", tags: { a: 1 })
        StatsD.gauge("g", -2)
        StatsD.histogram("h", 3)
        StatsD.measure("m", 4)
        StatsD.distribution("d", 5)
        StatsD.singleton_client.with_options(prefix: "q") { |client| client.increment("c", tags: { a: 1 }) }
        StatsD.singleton_client.clone_with_options(default_tags: nil).increment("t")
      end
    end
    assert_equal 7, fallbacks
    assert_equal [100, -2, 300, 0.4, 500, 100, 100],
                 [["p_c", { "e" => "1", "a" => "1" }], ["p_g", { "e" => "1" }], ["p_h_sum", { "e" => "1" }], ["p_m_sum", { "e" => "1" }],
                  ["p_d_sum", { "e" => "1" }], ["q_c", { "e" => "1", "a" => "1" }], ["p_t", {}]].map { |sample| found[sample]&.round(9) }
  end

  def test_blocks_metaprogramming_and_compiled_metrics
    found, fallbacks = in_process("STATSD_ENV" => "staging", "STATSD_PREFIX" => "p") do
      counted = Class.new(StatsD::Instrument::CompiledMetric::Counter) { define(name: "cc", static_tags: { s: "|1" }, tags: { k: String }, sample_rate: 0.001) }
      gauged = Class.new(StatsD::Instrument::CompiledMetric::Gauge) { define(name: "cg", no_prefix: true) }
      timed = Class.new(StatsD::Instrument::CompiledMetric::Distribution) { define(name: "cd", tags: { n: Integer }, sample_rate: 0.5) }
      worker = Class.new do
        extend StatsD::Instrument
        def work(value) = value
        statsd_count :work, "worked"
        statsd_measure :work, "took"
        statsd_count_success(:work, "success") { |value| value > 2 }
      end.new
      5.times do |value|
        counted.increment(2, k: "a,b")
        gauged.gauge(-value)
        raise "the block's value" unless timed.distribution(n: 3) { :made } == :made

        timed.distribution([1, 2], n: 4)
        raise "the method's value" unless worker.work(value) == value
        begin
          StatsD.measure("raises", tags: ["a:1"]) { raise IndexError }
        rescue IndexError
          nil
        end
      end
    end
    expected = { ["p_cc", { "s" => "1", "k" => "ab" }] => 10, ["cg", {}] => -4, ["p_cd_count", { "n" => "3" }] => 5, ["p_cd_count", { "n" => "4" }] => 10,
                 ["p_worked", {}] => 5, ["p_took_count", {}] => 5, ["p_success_success", {}] => 2, ["p_success_failure", {}] => 3,
                 ["p_raises_count", { "a" => "1" }] => 5 }
    assert_equal expected, found.slice(*expected.keys)
    # Packed values are never looked up: 5 of them, and 8 forms.
    assert_equal 13, fallbacks
  end

  def test_captured_calls_are_captured_and_count_once
    found, = in_process("STATSD_ENV" => "production") do
      2.times { StatsD.increment("n", sample_rate: 0.1) }
      captured = StatsD.singleton_client.capture { 3.times { StatsD.increment("n", sample_rate: 0.1) } }
      raise captured.inspect unless captured.map(&:source) == ["n:1|c|@0.1"] * 3

      4.times { StatsD.increment("n", sample_rate: 0.1) }
    end
    assert_equal 9, found[["n", {}]]
  end

  def test_strict_mode_refuses_before_anything_counts_loaded_before_or_after
    [%w[statsd/instrument/strict promring/statsd], %w[promring/statsd statsd/instrument/strict]].each do |files|
      out = program(<<~RUBY, "STATSD_ENV" => "production")
        require "statsd-instrument"
        #{files.map { |file| "require #{file.inspect}" }.join("\n")}
        3.times { StatsD.increment("n") }
        begin
          StatsD.increment("n", 1.5)
        rescue ArgumentError => error
          puts error.message[0, 30]
        end
        puts Promring.expose.lines.grep(/^n /)
      RUBY
      assert_equal "The value argument should be a\nn 3\n", out
    end
  end

  def test_an_address_mirrors_each_datagram_sampled
    server = UDPSocket.new.tap { |socket| socket.bind("127.0.0.1", 0) }
    out = program(<<~RUBY, "STATSD_ENV" => "production", "STATSD_ADDR" => "127.0.0.1:#{server.addr[1]}", "STATSD_BUFFER_CAPACITY" => "0")
      require "promring/statsd"
      3.times { StatsD.increment("n", 2, tags: { a: 1 }) }
      200.times { StatsD.increment("never", sample_rate: 0.0) }
      StatsD.increment("last")
      puts Promring.expose.lines.grep(/^(n|never|last)[ {]/)
    RUBY
    assert_equal "n{a=\"1\"} 6\nnever 200\nlast 1\n", out
    assert_equal ["n:2|c|#a:1"] * 3 + ["last:1|c"], Array.new(4) { server.recvfrom(1000).first }
  ensure
    server.close
  end

  def test_tests_and_development_are_as_before
    out = program(<<~RUBY, "STATSD_ENV" => "test")
      require "promring/statsd"
      StatsD.increment("n")
      puts StatsD.singleton_client.sink.class, Promring.expose.lines.grep(/^n /).size
    RUBY
    assert_equal "StatsD::Instrument::NullSink\n0\n", out
    out = program(<<~RUBY, "STATSD_ENV" => "development")
      require "promring/statsd"
      StatsD.logger = Logger.new($stdout, formatter: ->(*, line) { line + "\\n" })
      2.times { StatsD.increment("n", sample_rate: 0.1) }
      puts Promring.expose.lines.grep(/^n /)
    RUBY
    assert_equal "[StatsD] n:1|c|@0.1\n[StatsD] n:1|c|@0.1\nn 2\n", out
  end

  def test_the_old_require_gets_the_gem
    out = program(<<~RUBY, "STATSD_ENV" => "test")
      $LOAD_PATH.unshift(File.dirname($LOADED_FEATURES.find { |file| file.end_with?("/lib/promring.rb") }))
      require "statsd-instrument"
      puts StatsD::Instrument::VERSION, StatsD::Instrument::Client.instance_method(:increment).owner
    RUBY
    assert_equal "#{StatsD::Instrument::VERSION}\nStatsD::Instrument::Client\n", out, "ours stands first on the load path"
  end

  private

  # Sums of fractions depend on the order of adding.
  def rounded(samples)
    samples.to_a.map { |key, value| [key.first, key.last.sort_by(&:first), format("%.12g", value)] }
  end

  def datagrams(index)
    @datagrams ||= begin
      out, status = Open3.capture2(RbConfig.ruby, "-I#{ENV['SUITE_OF_STATSD']}/lib", __FILE__, "datagrams", index.to_s)
      raise "the gem has failed" unless status.success?

      JSON.parse(out).map { |lines| lines.map { |line| line.unpack1("m0") } }
    end
  end

  # Samples and fallbacks of a segment of its own.
  def in_process(env = {})
    reader, writer = IO.pipe
    pid = fork do
      reader.close
      yield_in_fresh_segment(env, writer) { yield }
      exit!(0)
    end
    writer.close
    page = reader.read
    Process.wait(pid)
    assert_predicate $?, :success?
    samples = page.lines.grep_v(/^#/).to_h { |line| sample(line) }
    fallbacks = samples.fetch(["promring_statsd_fallbacks_total", {}]).to_i
    [samples.reject { |(name, _), _| name.start_with?("promring_") }, fallbacks]
  end

  def yield_in_fresh_segment(env, writer)
    env.each { |name, value| ENV[name] = value }
    ENV["PROMRING_SEGMENT"] = Harness.fresh_segment
    yield
    writer.write(Promring.expose)
    writer.close
  end

  def sample(line)
    match = /\A([^{ ]+)(?:\{(.*)\})? (\S+)\n\z/.match(line)
    labels = match[2].to_s.scan(/([^=,]+)="((?:[^"\\]|\\.)*)"/).to_h { |name, value| [name, name == "le" ? number(value) : value] }
    [[match[1], labels], number(match[3])]
  end

  def number(text)
    text == "+Inf" ? Float::INFINITY : Float(text)
  end

  def program(text, env)
    out, err, status = Harness.ruby("$LOAD_PATH.unshift(#{"#{ENV['SUITE_OF_STATSD']}/lib".inspect})\n#{text}", env: env)
    assert_predicate status, :success?, err
    out
  end
end
