# frozen_string_literal: true

# Without the gem statsd-instrument: its methods are there, and what apps' tests use.

require "support/harness"
require "promring/statsd"
require "rspec/core"
require "rspec/expectations"

class TestStandIn < Minitest::Test
  include StatsD::Instrument::Assertions
  include StatsD::Instrument::Matchers

  def setup
    @client = Promring::StatsD::Client.new(prefix: "in")
    @before = StatsD.singleton_client
    StatsD.singleton_client = @client
  end

  def teardown
    StatsD.singleton_client = @before
  end

  def test_it_is_the_stand_in
    refute defined?(StatsD::Instrument::VERSION)
  end

  def test_the_old_require
    out = Harness.ruby!(<<~RUBY, env: { "STATSD_ENV" => "production" })
      require "statsd-instrument"
      require "statsd/instrument/matchers"
      3.times { StatsD.increment("n", tags: ["a:1"]) }
      puts Promring.expose.lines.grep(/^n|fallbacks_total [0-9]/)
    RUBY
    assert_equal "promring_statsd_fallbacks_total 1\nn{a=\"1\"} 3\n", out
  end

  def test_methods_are_counted_and_timed
    worker = Class.new do
      extend StatsD::Instrument
      def work(value, key: nil) = value || raise(IndexError, key.to_s)
      statsd_count :work, "all"
      statsd_count_if(:work, "good") { |value| value > 1 }
      statsd_count_success :work, ->(object, arguments) { "A::B#{arguments.size}#{object.class.name}" }, tag_error_class: true
      statsd_measure :work, "took", tags: ->(_, arguments) { { first: arguments.first.to_s } }
      statsd_distribution :work, "spread"

      private def hidden = 1
      statsd_count :hidden, "hidden"
    end
    object = worker.new
    assert_statsd_expectations([
      StatsD::Instrument::Expectation.increment("all", 1, times: 3), StatsD::Instrument::Expectation.increment("good", times: 1),
      StatsD::Instrument::Expectation.increment("A.B1.success", times: 2),
      StatsD::Instrument::Expectation.increment("A.B2.failure", tags: ["error_class:IndexError"]),
      StatsD::Instrument::Expectation.measure("took", tags: { first: 2 }), StatsD::Instrument::Expectation.distribution("spread", times: 3)
    ]) do
      assert_equal [1, 2], [object.work(1), object.work(2)]
      assert_equal("x", assert_raises(IndexError) { object.work(nil, key: "x") }.message)
    end
    assert_raises(NoMethodError) { object.hidden }
    assert_raises(ArgumentError) { worker.statsd_count(:work, "all") }
    assert_raises(ArgumentError) { worker.statsd_count(:missing, "all") }
    worker.statsd_remove_count(:work, "all")
    assert_no_statsd_calls("all") { object.work(1) }
  end

  def test_captured_calls_are_read_and_count_once
    2.times { StatsD.increment("seen") }
    captured = @client.capture { StatsD.increment("seen", 2, sample_rate: 0.5, tags: { a: "x|y" }) }
    assert_equal [["in.seen", 2, :c, 0.5, ["a:xy"]]], captured.map { |one| [one.name, one.value, one.type, one.sample_rate, one.tags] }
    StatsD.increment("seen")
    assert_equal 5, Harness.sum(Promring.expose, "in_seen")
  end

  def test_assertions_fail_when_they_should
    [-> { assert_statsd_increment("a") { StatsD.increment("b") } }, -> { assert_statsd_increment("a", 2) { StatsD.increment("a") } },
     -> { assert_statsd_increment("a") { 2.times { StatsD.increment("a") } } }, -> { assert_statsd_gauge("a") { StatsD.increment("a") } },
     -> { assert_statsd_measure("a", tags: ["x:1"]) { StatsD.measure("a", 1) } }, -> { assert_no_statsd_calls { StatsD.set("a", 1) } },
     -> { assert_statsd_increment("a") { raise "the app" } }].each { |wrong| assert_raises(Minitest::Assertion, &wrong) }
    assert_no_statsd_calls("other") { StatsD.histogram("a", 1) }
    assert_statsd_set("a", "7", no_prefix: true) { StatsD.set("a", 7, no_prefix: true) }
  end

  def test_matchers
    assert trigger_statsd_increment("in.a", times: 2, tags: ["x:1"]).matches?(-> { 2.times { StatsD.increment("a", tags: { x: 1 }) } })
    wrong = trigger_statsd_gauge("in.a", value: 3)
    refute wrong.matches?(-> { StatsD.gauge("a", 4) })
    assert_match(/expected StatsD :value for metric 'in.a' to be called.*captured metric values: 4.0/m, wrong.failure_message)
    refute trigger_statsd_measure("in.a").matches?(-> {})
  end

  def test_compiled_metrics
    counter = Class.new(StatsD::Instrument::CompiledMetric::Counter) { define(name: "c%s", static_tags: { s: "5%" }, tags: { shop: Integer }, sample_rate: 0.01) }
    timer = Class.new(StatsD::Instrument::CompiledMetric::Distribution) { define(name: "ct") }
    gauge = Class.new(StatsD::Instrument::CompiledMetric::Gauge) { define(name: "cg", tags: { "k" => String }.transform_keys(&:to_sym), no_prefix: true) }
    3.times { counter.increment(2, shop: 5) }
    assert_equal(:made, timer.distribution { :made })
    gauge.gauge(-4, k: "a,b")
    page = Promring.expose
    assert_equal [6, 1, -4], [Harness.sum(page, "in_c_s", '{s="5%",shop="5"}'), Harness.sum(page, "in_ct_count"), Harness.sum(page, "cg", '{k="ab"}')]
    assert_raises(ArgumentError) { counter.increment }
    assert_raises(ArgumentError) { gauge.gauge(k: "a") }
    assert_raises(StatsD::Instrument::CompiledMetric::DefinitionError) { Class.new(StatsD::Instrument::CompiledMetric::Counter).increment }
    assert_raises(StatsD::Instrument::CompiledMetric::DefinitionError) { StatsD::Instrument::CompiledMetric::Counter.define(name: "x") }
  end

  def test_strict_mode
    out = Harness.ruby!(<<~RUBY, env: { "STATSD_STRICT_MODE" => "1" })
      require "promring/statsd"
      [-> { StatsD.increment("n", 1.5) }, -> { StatsD.gauge("n", "1") }, -> { StatsD.measure("n") }, -> { StatsD.increment("n", tags: "a:1") },
       -> { StatsD.distribution("n", 1) {} }].each do |call|
        2.times { call.call }
        puts "taken"
      rescue ArgumentError
        nil
      end
      puts Promring.expose.lines.grep(/^n/)
    RUBY
    assert_empty out
  end

  def test_the_environment
    in_env = lambda do |env|
      Harness.ruby!(<<~RUBY, env: env)
        require "promring/statsd"
        StatsD.increment("n")
        puts StatsD.singleton_client.sink.class, Promring.expose.lines.grep(/^n /)
      RUBY
    end
    assert_equal "Promring::StatsD::Sink\nn 1\n", in_env.call({})
    assert_equal "Promring::StatsD::Sink\nn 1\n", in_env.call({ "RAILS_ENV" => "production" })
    assert_equal "StatsD::Instrument::NullSink\n", in_env.call({ "STATSD_ENV" => "test", "RAILS_ENV" => "production" })
    _, err, status = Harness.ruby('require "promring/statsd"; StatsD.increment("n")', env: { "STATSD_IMPLEMENTATION" => "collectd" })
    refute_predicate status, :success?
    assert_match(/no implementation named collectd/, err)
  end

  def test_an_address_mirrors_each_datagram_sampled
    server = UDPSocket.new.tap { |socket| socket.bind("127.0.0.1", 0) }
    env = { "STATSD_ENV" => "production", "STATSD_ADDR" => "127.0.0.1:#{server.addr[1]}", "STATSD_PREFIX" => "p", "STATSD_DEFAULT_TAGS" => "e:1" }
    out = Harness.ruby!(<<~RUBY, env: env)
      require "promring/statsd"
      2.times { StatsD.measure("n", 2, tags: { a: 1 }) }
      100.times { StatsD.increment("never", sample_rate: 0.0) }
      StatsD.event("title", "text")
      puts Promring.expose.lines.grep(/^p_(n_sum|never)/)
    RUBY
    assert_equal "p_n_sum{e=\"1\",a=\"1\"} 0.004\np_never{e=\"1\"} 100\n", out
    assert_equal ["p.n:2|ms|#e:1,a:1"] * 2 + ["_e{7,4}:p.title|text|#e:1"], Array.new(3) { server.recvfrom(1000).first }
    server.close
    # Nobody listens any more: the app does not notice.
    assert_equal "n 3\n", Harness.ruby!(<<~RUBY, env: env.slice("STATSD_ENV", "STATSD_ADDR"))
      require "promring/statsd"
      3.times { StatsD.increment("n") }
      puts Promring.expose.lines.grep(/^n /)
    RUBY
  end

  def test_what_timers_become
    out = Harness.ruby!(<<~RUBY)
      require "promring/statsd"
      File.write(ENV["PROMRING_SEGMENT"] + ".yml", <<~YAML)
        defaults:
          histogram_options: { buckets: [1, 2.5] }
        mappings:
          - match: "shop.*.time"
            observer_type: summary
          - match: "shop.*"
            histogram_options: { buckets: [7] }
      YAML
      Promring::StatsD.configure(ENV["PROMRING_SEGMENT"] + ".yml")
      StatsD.measure("shop.a.time", 500)
      StatsD.distribution("shop.b", 5)
      StatsD.histogram("other", 2)
      StatsD.histogram("shop.a.b.time", 2)
      puts Promring.expose.lines.grep(/^(shop|other).*[ }]/)
    RUBY
    assert_equal <<~PAGE.lines.sort, out.lines.sort
      shop_a_time_sum 0.5
      shop_a_time_count 1
      shop_b_bucket{le="7.0"} 1
      shop_b_bucket{le="+Inf"} 1
      shop_b_sum 5
      shop_b_count 1
      other_bucket{le="1.0"} 0
      other_bucket{le="2.5"} 1
      other_bucket{le="+Inf"} 1
      other_sum 2
      other_count 1
      shop_a_b_time_bucket{le="1.0"} 0
      shop_a_b_time_bucket{le="2.5"} 1
      shop_a_b_time_bucket{le="+Inf"} 1
      shop_a_b_time_sum 2
      shop_a_b_time_count 1
    PAGE
    [{ mapping: [] }, { defaults: { observer_type: "gauge" } }, { mappings: [{ observer_type: "summary" }] }, { defaults: [] },
     { defaults: { histogram_options: { buckets: [2, 1] } } }, { mappings: [{ match: "a", name: "b" }] }].each do |wrong|
      assert_raises(ArgumentError, wrong.inspect) { Promring::StatsD.configure(wrong) }
    end
  end

  def test_with_options
    3.times { @client.with_options(prefix: "other", default_tags: ["z:1"]) { |client| client.increment("w") } }
    3.times { @client.clone_with_options(prefix: nil).gauge("bare", 2) }
    assert_equal [3, 2], [Harness.sum(Promring.expose, "other_w", '{z="1"}'), Harness.sum(Promring.expose, "bare")]
  end
end
