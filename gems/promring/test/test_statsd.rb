# frozen_string_literal: true

# StatsD's calls: what statsd_exporter would have made of their datagrams, and the look-up of calls seen before.

require "support/harness"

# Loaded into the tests' own process without prefix and tags.
require "promring/statsd"

class TestStatsD < Minitest::Test
  def setup
    @prefix = "s#{self.class.next_number}"
    @client = Promring::StatsD::Client.new(prefix: @prefix)
  end

  def self.next_number
    @number = (@number || 0) + 1
  end

  # Twice each: the first call of a form goes another way than the others.
  def test_increment
    2.times do
      @client.increment("a")
      @client.increment("a", 2.5)
      @client.increment("tagged", tags: { shop: "x", id: 5 })
    end
    assert_samples "a" => 7, 'tagged{shop="x",id="5"}' => 2
  end

  def test_tags_in_each_form_are_the_same_series
    forms = [{ a: "1", b: "2" }, { b: 2, a: 1 }, { "a" => :"1", "b" => "2" }, ["a:1", "b:2"], %w[b:2 a:1], "a:1,b:2", "b:2,a:1"]
    3.times { forms.each { |tags| @client.increment("hits", tags: tags) } }
    assert_samples 'hits{a="1",b="2"}' => forms.size * 3
  end

  def test_calls_that_look_alike_are_told_apart
    symbol = :a.object_id.then { [:a.__id__].pack("q") } # bytes that imitate an immediate
    calls = [
      ["x", nil], ["x", {}], ["x", []], ["x", ""], ["xa", nil], ["", nil], [:x, nil],
      ["x", { "a" => "1" }], ["x", { "a1" => "" }], ["x", { "" => "a1" }], ["xa", { "" => "1" }], ["x", { a: "1" }],
      ["x", { "a" => 1 }], ["x", { "a" => 1.0 }], ["x", { "a" => nil }], ["x", { "a" => :a }], ["x", { "a" => symbol }],
      ["x", ["a:1"]], ["x", "a:1"], ["x", ["a:1", "b:2"]], ["x", ["a:1b:2"]], ["x", ["a:1", "b", ":2"]],
      ["x\0", nil], ["x", { "a" => "1\0" }], ["x", ["a:1\0"]],
      ["x", ["a:123456", "b"]], ["x", ["a:123456s\0\0\0\0\0\0\0b"]], ["x", ["a:123456s\1\0\0\0\0\0\0b"]], # what stands between parts
      ["x", { "a" => "1234567" }], ["x", { "a" => "1234567\0" }], ["x", { "a" => "12345678" }], # short texts are one word
      ["x", { "a" => "" }], ["x", { "a" => "\0" }], ["x", { a: symbol }], ["x", { symbol => "1" }],
      ["x", { "a" => "1", "b" => "2" }], ["x", { "b" => "2", "a" => "1" }], ["x", { "a" => "1b2" }], ["x", %w[a 1]]
    ]
    aliases = Promring::Native::Aliases.new
    metric = Promring.counter(:"#{@prefix}_alike", docstring: "d", labels: [:call])
    native = metric.instance_variable_get(:@native)
    calls.each_with_index { |(name, tags), call| aliases.learn("count", name, tags, native, [call.to_s], 1.0) }
    assert_equal calls.size, aliases.size
    calls.each { |name, tags| assert aliases.count(name, 10, tags) }
    assert_equal [11.0] * calls.size, metric.values.values
    refute aliases.gauge("x", 1, nil), "another call of the same name"
  end

  def test_gauge_is_absolute_whatever_its_sign_and_shared
    2.times { @client.gauge("g", 10) }
    2.times { @client.gauge("g", -3) }
    assert_samples "g" => -3
    Harness.in_child { @client.gauge("g", -7.5) }
    assert_samples "g" => -7.5
    @client.gauge("g", 2, sample_rate: 0.001)
    assert_samples "g" => 2
  end

  def test_measure_is_milliseconds_shown_as_seconds
    2.times { @client.measure("t", 250) }
    assert_samples "t_sum" => 0.5, "t_count" => 2, 't_bucket{le="0.25"}' => 2, 't_bucket{le="0.1"}' => 0
  end

  def test_histogram_and_distribution_are_not_scaled
    2.times { @client.histogram("h", 2) }
    2.times { @client.distribution("d", 250) }
    assert_samples "h_sum" => 4, "h_count" => 2, 'h_bucket{le="2.5"}' => 2, "d_sum" => 500, 'd_bucket{le="10.0"}' => 0
  end

  def test_blocks
    assert_equal :value, @client.measure("t", tags: { a: 1 }) { :value }
    assert_equal :value, @client.distribution("d") { :value }
    assert_raises(IndexError) { @client.measure("t", tags: { a: 1 }) { raise IndexError } }
    assert_equal(:thrown, catch(:out) { @client.measure("t", tags: { a: 1 }) { throw :out, :thrown } })
    assert_samples 't_count{a="1"}' => 3, "d_count" => 1
    assert_operator sample('t_sum{a="1"}'), :<, 3, "seconds"
    @client.distribution("slow") { sleep 0.002 }
    assert_operator sample("slow_sum"), :>=, 2, "milliseconds, as they are"
  end

  def test_every_call_counts_at_any_sample_rate
    1000.times { @client.increment("sampled", sample_rate: 0.1) }
    1000.times { @client.measure("timed", 1, sample_rate: 0.01) }
    100.times { @client.distribution("d", 2, sample_rate: 0.5) }
    assert_samples "sampled" => 1000, "timed_count" => 1000, "d_sum" => 200
  end

  def test_names_and_tags_are_normalised
    2.times do
      @client.increment("a.b-c:d|e@f g--h", no_prefix: false)
      @client.increment("9lives", no_prefix: true)
      @client.increment("t", tags: { "bad-name" => "a|b,c", "__x": 1, le: 2, pid: 3, "1st" => "é\xff\n" })
    end
    assert_samples "a_b_c_d_e_f_g_h" => 2,
                   "t{bad_name=\"abc\",exported_x=\"1\",exported_le=\"2\",exported_pid=\"3\",_1st=\"é\uFFFD\\n\"}" => 2
    assert_equal 2, Harness.sum(Promring.expose, "_9lives")
  end

  def test_names_may_be_symbols_and_of_any_length
    2.times do
      @client.increment(:symbol, tags: { a: :b })
      @client.increment("long", tags: { a: "x" * 600 })
      @client.increment("huge", tags: { a: "x" * 1_000_000 })
    end
    assert_samples 'symbol{a="b"}' => 2, "long{a=\"#{'x' * 600}\"}" => 2, 'huge{promring_overflow="true"}' => 2
  end

  def test_tags_without_name_or_value_are_left_off_and_counted
    before = refused("tag")
    @client.increment("t", tags: ["a:1", "bare", ":2", "empty:"])
    @client.increment("t", tags: { a: 1, nothing: nil })
    assert_samples 't{a="1"}' => 2
    assert_equal 4, refused("tag") - before
  end

  def test_other_tags_than_the_first_calls
    before = refused("tag")
    _, said = capture_subprocess_io do
      @client.increment("t", tags: { a: 1, b: 2 })
      2.times { @client.increment("t", tags: { b: 2 }) }
      2.times { @client.increment("t", tags: { a: 1, b: 2, c: 3 }) }
    end
    assert_samples 't{a="1",b="2"}' => 3, 't{a="",b="2"}' => 2
    assert_equal 1, refused("tag") - before
    assert_equal ["promring: StatsD metric #{@prefix}_t: tags c are left off, its first call had the tags a, b\n"], said.lines
  end

  def test_what_is_refused_is_counted_and_nothing_raises
    before = %w[call event service_check].to_h { |what| [what, refused(what)] }
    capture_subprocess_io do
      @client.increment("n")
      3.times { @client.gauge("n", 1) }
      ["many", nil, Object.new].each { |value| @client.increment("n", value) }
      @client.increment(nil)
      @client.increment("n", tags: Object.new)
      @client.set("users", "a|b") # as a datagram it would end there
      @client.event("title", "text", tags: { a: 1 }, alert_type: "error")
      @client.service_check("up", :ok, hostname: "h")
    end
    after = %w[call event service_check].to_h { |what| [what, refused(what) - before[what]] }
    assert_equal({ "call" => 8, "event" => 1, "service_check" => 1 }, after)
    assert_samples "n" => 2 # tags of no form are left off
  end

  def test_sets_show_how_many_different_values_all_processes_have_added
    pids = Array.new(3) do |child|
      fork do
        100.times { |n| @client.set("users", "user #{(child * 50) + n}", tags: { plan: "free" }) }
        exit!(0)
      end
    end
    pids.each { |pid| assert_predicate Process.wait2(pid).last, :success? }
    [7, "7", :seven, 7.5, nil, "a:b", "\xff".b, "ü", 7].each { |value| @client.set("users", value, tags: { plan: "paid" }, sample_rate: 0.1) }
    @client.set("users", 1, tags: { plan: "one" }, no_prefix: true)
    page = Promring.expose
    assert_in_delta 200, Harness.sum(page, "#{@prefix}_users", "free"), 33 # five standard errors
    assert_includes 4..7, Harness.sum(page, "#{@prefix}_users", "paid") # of seven a few may share a register
    assert_includes page, "# TYPE #{@prefix}_users gauge\n"
    assert_includes page, "\nusers{plan=\"one\"} 1"
  end

  def test_a_set_and_a_gauge_are_not_the_same
    before = refused("call")
    capture_subprocess_io do
      @client.set("n", 1)
      @client.gauge("n", 5)
      @client.gauge("level", 5)
      @client.set("level", 1)
    end
    assert_samples "n" => 1, "level" => 5
    assert_equal 2, refused("call") - before
  end

  def test_values_that_are_no_amounts_are_refused_by_the_core
    refused = ->(why) { Harness.sum(Promring.expose, "promring_refused_values_total", why) }
    before = [refused.call("negative"), refused.call("not_finite")]
    2.times do
      @client.increment("n", -1)
      @client.increment("n", Float::NAN)
      @client.measure("t", Float::INFINITY)
    end
    assert_equal [2, 4], [refused.call("negative") - before[0], refused.call("not_finite") - before[1]]
    assert_samples "n" => 0, "t_count" => 0
  end

  def test_prefix_and_tags_of_the_environment
    out = Harness.ruby!(<<~RUBY, env: { "STATSD_PREFIX" => "my.app", "STATSD_DEFAULT_TAGS" => "env:prod,zone:a" })
      require "promring/statsd"
      2.times { StatsD.increment("hits", tags: { zone: "b", x: 1 }) }
      StatsD.increment("bare", no_prefix: true)
      2.times { StatsD.increment("hits", tags: { zone: "b", x: 1 }, no_prefix: true) } # known with the prefix
      StatsD.increment("hits", tags: { zone: "b", x: 1 }, no_prefix: nil)
      2.times { StatsD::Instrument::VOID.equal?(StatsD.gauge("g", 1)) or abort "not VOID" }
      puts Promring.expose.lines.grep(/^(my_app_|bare|hits)/)
    RUBY
    assert_equal ['my_app_hits{env="prod",zone="b",x="1"} 3', 'bare{env="prod",zone="a"} 1', 'hits{env="prod",zone="b",x="1"} 2', 'my_app_g{env="prod",zone="a"} 1'],
                 out.lines(chomp: true)
  end

  def test_timers_may_be_summaries_with_quantiles
    out = Harness.ruby!(<<~RUBY, env: { "PROMRING_SUMMARY_QUANTILES" => "checkout_*=0.5/0.99" })
      require "promring/statsd"
      Promring::StatsD.configure(mappings: [{ match: "checkout.*", observer_type: "summary" }])
      1.upto(100) { |n| StatsD.measure("checkout.time", n) }
      1.upto(100) { |n| StatsD.distribution("checkout.size", n, tags: { kind: "book" }) }
      5.times { StatsD.measure("cart.time", 1) }
      puts Promring.expose.lines.grep(/^(checkout|cart)_/)
    RUBY
    samples = out.lines.to_h { |line| line.split(" ").then { |name, value| [name, value.to_f] } }
    assert_equal [100, 100, 5], samples.values_at("checkout_time_count", 'checkout_size_count{kind="book"}', "cart_time_count")
    assert_in_delta 0.050, samples.fetch('checkout_time{quantile="0.5"}'), 0.050 * 0.045
    assert_in_delta 99, samples.fetch('checkout_size{kind="book",quantile="0.99"}'), 99 * 0.045
    assert(samples.keys.none? { |name| name.start_with?("cart") && name.include?("quantile") })
  end

  def test_the_table_of_calls_is_bounded
    aliases = Promring::Native::Aliases.new
    metric = Promring.counter(:"#{@prefix}_bound", docstring: "d")
    native = metric.instance_variable_get(:@native)
    12_000.times { |n| aliases.learn("count", "b", "t:#{n}", native, [], 1.0) }
    assert_equal 2000, aliases.size
    assert aliases.count("b", 1, "t:11999"), "the last one is known"
    refute aliases.count("b", 1, "t:0"), "the first one was forgotten"
    assert_equal 12_001.0, metric.get
  end

  def test_what_a_known_call_answers_is_kept
    out = Harness.ruby!(<<~RUBY)
      require "promring"
      native = Promring.counter(:kept, docstring: "d").instance_variable_get(:@native)
      aliases = Promring::Native::Aliases.new
      aliases.learn("count", "b", nil, native, [], 1.0)
      directs = Array.new(100) { |n| Promring::Native::Direct.new("done \#{n}").tap { |direct| direct.calls = aliases } }
      GC.start
      GC.compact if GC.respond_to?(:compact)
      100_000.times { |n| "another \#{n}" }
      puts directs.each_with_index.count { |direct, n| direct.count("b", 1, nil, nil) == "done \#{n}" }
      puts directs.count { |direct| direct.count("never seen", 1, nil, nil) == false }
    RUBY
    assert_equal "100\n100\n", out
  end

  def test_a_removed_series_comes_back
    2.times { @client.increment("gone", tags: { a: 1 }) }
    metric = Promring.counter(:"#{@prefix}_gone", docstring: "d", labels: [:a])
    metric.clear
    @client.increment("gone", tags: { a: 1 })
    assert_samples 'gone{a="1"}' => 1
  end

  def test_calls_in_forks_add_up
    @client.increment("forked", tags: { a: 1 })
    pids = Array.new(4) { Harness.in_child(wait: false) { 1000.times { @client.increment("forked", tags: { a: 1 }) } } }
    pids.each { |pid| Process.wait(pid) }
    assert_samples 'forked{a="1"}' => 4001
  end

  def test_a_call_of_statsd_itself_allocates_its_literals_only
    out = Harness.ruby!(<<~RUBY)
      require "promring/statsd"
      def nothing(name, value = 1, sample_rate: nil, tags: nil, no_prefix: false); end
      def objects
        2.times { yield }
        before = GC.stat(:total_allocated_objects)
        100.times { yield }
        (GC.stat(:total_allocated_objects) - before) / 100
      end
      print objects { nothing("hits", tags: { a: "x", b: "y" }) }, " "
      print objects { StatsD.increment("hits", tags: { a: "x", b: "y" }) }, " "
      print objects { StatsD.increment(:hits, 2, tags: nil) }
    RUBY
    assert_equal "4 4 0", out
  end

  def test_a_call_seen_before_allocates_nothing_of_its_own
    tags = { shop: "x", id: 5 }
    calls = lambda do
      @client.increment("alloc", tags: tags)
      @client.gauge("alloc_g", 2.5, tags: tags)
      @client.measure("alloc_t", 3)
    end
    2.times { calls.call }
    before = GC.stat(:total_allocated_objects)
    100.times { calls.call }
    assert_equal 0, (GC.stat(:total_allocated_objects) - before) / 100
  end

  private

  # The value of a sample by its name behind the prefix, and its labels as they are shown.
  def sample(name)
    line = Promring.expose.lines.find { |found| found.start_with?("#{@prefix}_#{name} ") }
    line && line.split(" ").last.to_f
  end

  def assert_samples(expected)
    assert_equal expected.transform_values(&:to_f), expected.keys.to_h { |name| [name, sample(name)] }
  end

  def refused(what)
    Harness.sum(Promring.expose, "promring_statsd_refused_total", "\"#{what}\"")
  end
end
