# frozen_string_literal: true

# The four metrics: signatures, values and errors as prometheus-client has them.

require "support/harness"

class TestMetrics < Minitest::Test
  def test_counter
    counter = Promring.counter(:m_counter_total, docstring: "Something.", labels: %i[kind code])
    counter.increment(labels: { kind: "book", code: 200 })
    counter.increment(by: 2.5, labels: { code: "200", kind: :book })
    assert_equal 3.5, counter.get(labels: { kind: "book", code: "200" })
    assert_equal 0.0, counter.get(labels: { kind: "none", code: "200" })
    assert_equal({ { kind: "book", code: "200" } => 3.5 }, counter.values)
    assert_equal [:m_counter_total, "Something.", %i[kind code], {}, :counter],
                 [counter.name, counter.docstring, counter.labels, counter.preset_labels, counter.type]
  end

  def test_a_metric_without_labels_is_shown_from_the_start
    counter = Promring.counter(:m_bare_total, docstring: "d")
    assert_match(/^m_bare_total 0$/, Promring.expose)
    counter.increment
    assert_match(/^m_bare_total 1$/, Promring.expose)
    Promring.histogram(:m_bare_seconds, docstring: "d")
    assert_match(/^m_bare_seconds_count 0$/, Promring.expose)
  end

  def test_every_kind_of_label_value_that_to_s_has_an_answer_for
    counter = Promring.counter(:m_to_s_total, docstring: "d", labels: [:v])
    values = ["s", :sym, :"dyn#{rand}", 0, 42, -17, 2**62, 2**80, -(2**62), 1.5, nil, true, false, [1], Object]
    values.each { |value| counter.increment(labels: { v: value }) }
    assert_equal values.map(&:to_s).sort, counter.values.keys.map { |labels| labels[:v] }.sort
  end

  def test_more_labels_than_the_fast_way_takes
    names = Array.new(20) { |index| :"l#{index}" }
    counter = Promring.counter(:m_wide_total, docstring: "d", labels: names)
    labels = names.to_h { |name| [name, name.to_s] }
    2.times { counter.increment(labels: labels) }
    assert_equal({ labels => 2.0 }, counter.values)
  end

  def test_label_names_made_at_run_time
    name = "made_#{Process.pid}".to_sym
    counter = Promring.counter(:m_made_total, docstring: "d", labels: [name])
    GC.start
    counter.increment(labels: { "made_#{Process.pid}".to_sym => 1 })
    assert_equal 1.0, counter.get(labels: { name => 1 })
  end

  def test_gauge
    gauge = Promring.gauge(:m_gauge, docstring: "d", labels: [:a], aggregation: :sum)
    gauge.set(5, labels: { a: 1 })
    gauge.increment(labels: { a: 1 })
    gauge.increment(by: 2, labels: { a: 1 })
    gauge.decrement(by: 0.5, labels: { a: 1 })
    gauge.decrement(labels: { a: 2 })
    assert_equal 7.5, gauge.get(labels: { a: 1 })
    assert_equal(-1.0, gauge.get(labels: { a: 2 }))
    gauge.set_to_current_time(labels: { a: 2 })
    assert_in_delta Time.now.to_f, gauge.get(labels: { a: 2 }), 60
    gauge.init_label_set({ a: 3 })
    assert_equal 0.0, gauge.values.fetch({ a: "3" })
    assert_raises(ArgumentError) { gauge.set("5", labels: { a: 1 }) }
  end

  def test_aggregations_of_gauges
    modes = { sum: 5.0, max: 3.0, min: 2.0, shared: 3.0, most_recent: 3.0, livesum: 5.0 }
    modes.each do |mode, expected|
      gauge = Promring.gauge(:"m_#{mode}", docstring: "d", aggregation: mode)
      gauge.set(2)
      reader, writer = IO.pipe
      in_live_child(gauge, writer) do
        assert_equal "set", reader.readpartial(3)
        assert_equal({ {} => expected }, gauge.values, mode)
      end
    end
    assert_raises(Promring::InvalidStoreSettingsError) { Promring.gauge(:m_odd, docstring: "d", aggregation: :average) }
    assert_raises(Promring::InvalidStoreSettingsError) do
      Promring.gauge(:m_recent, docstring: "d", store_settings: { aggregation: :most_recent }).increment
    end
    assert_raises(Promring::InvalidStoreSettingsError) do
      Promring.counter(:m_max, docstring: "d", store_settings: { aggregation: :max })
    end
    assert_raises(Promring::InvalidStoreSettingsError) { Promring.counter(:m_x, docstring: "d", store_settings: { x: 1 }) }
  end

  def test_a_gauge_of_all_processes_has_one_sample_of_each
    gauge = Promring.gauge(:m_all, docstring: "d")
    gauge.set(1)
    Harness.in_child { gauge.set(2) }
    assert_equal [1.0, 2.0], gauge.values.values.sort
    assert_includes gauge.values.keys, { pid: Process.pid.to_s }
    assert_equal 1.0, gauge.get
  end

  def test_histogram
    histogram = Promring.histogram(:m_histogram, docstring: "d", labels: [:a], buckets: [1, 2.5, Float::INFINITY])
    [0.5, 1, 2, 99].each { |value| histogram.observe(value, labels: { a: "x" }) }
    expected = { "1" => 2.0, "2.5" => 3.0, "+Inf" => 4.0, "sum" => 102.5 }
    assert_equal expected, histogram.get(labels: { a: "x" })
    assert_equal({ { a: "x" } => expected }, histogram.values)
    assert_equal expected.transform_values { 0.0 }, histogram.get(labels: { a: "none" })
    assert_equal [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10], Promring::Histogram::DEFAULT_BUCKETS
    assert_equal [1.0, 3.0, 5.0], Promring::Histogram.linear_buckets(start: 1, width: 2, count: 3)
    assert_equal [1.0, 2.0, 4.0], Promring::Histogram.exponential_buckets(start: 1, count: 3)
  end

  def test_summary
    summary = Promring.summary(:m_summary, docstring: "d", labels: [:a])
    [0.5, 1, -3].each { |value| summary.observe(value, labels: { a: "x" }) }
    assert_equal({ "count" => 3.0, "sum" => -1.5 }, summary.get(labels: { a: "x" }))
    assert_equal({ "count" => 0.0, "sum" => 0.0 }, summary.get(labels: { a: "y" }))
  end

  def test_presets
    counter = Promring.counter(:m_preset_total, docstring: "d", labels: %i[a b], preset_labels: { a: 1 })
    counter.increment(labels: { b: 2 })
    both = counter.with_labels(b: 3)
    assert_equal({ a: "1", b: "3" }, both.preset_labels)
    both.increment(by: 4)
    both.increment(by: 8, labels: { b: 2 }) # what is given later wins
    assert_equal({ { a: "1", b: "2" } => 9.0, { a: "1", b: "3" } => 4.0 }, counter.values)
    assert_equal({ a: "1" }, counter.preset_labels)
    assert_raises(Promring::InvalidLabelSetError) { counter.increment }
    assert_raises(Promring::InvalidLabelSetError) do
      Promring.counter(:m_preset2_total, docstring: "d", labels: %i[a], preset_labels: { c: 1 })
    end
  end

  def test_remove_and_clear
    counter = Promring.counter(:m_remove_total, docstring: "d", labels: [:a])
    kept = counter.with_labels(a: 1)
    kept.increment(by: 5)
    counter.increment(labels: { a: 2 })
    assert counter.remove(labels: { a: 1 })
    refute counter.remove(labels: { a: 1 })
    assert_equal({ { a: "2" } => 1.0 }, counter.values)
    kept.increment # comes back, at zero
    assert_equal 1.0, counter.get(labels: { a: 1 })
    counter.clear
    assert_empty counter.values
    counter.increment(labels: { a: 2 })
    assert_equal({ { a: "2" } => 1.0 }, counter.values)
  end

  def test_amounts
    counter = Promring.counter(:m_amounts_total, docstring: "d")
    [2**70, Rational(1, 2), 0, 1e-3].each { |amount| counter.increment(by: amount) }
    assert_equal 2**70 + 0.5 + 0 + 1e-3, counter.get
    assert_raises(ArgumentError) { counter.increment(by: -1) }
    assert_raises(ArgumentError) { counter.increment(by: -0.001) }
    assert_raises(ArgumentError) { counter.increment(by: -Float::INFINITY) }
  end

  def test_what_is_not_finite_is_refused_and_counted
    counter = Promring.counter(:m_finite_total, docstring: "d")
    summary = Promring.summary(:m_finite, docstring: "d")
    refused = -> { Harness.sum(Promring.expose, "promring_refused_values_total", "not_finite") }
    before = refused.call
    counter.increment(by: Float::NAN)
    counter.increment(by: Float::INFINITY)
    summary.observe(-Float::INFINITY)
    assert_equal 3, refused.call - before
    assert_equal [0.0, { "count" => 0.0, "sum" => 0.0 }], [counter.get, summary.get]
  end

  def test_errors_of_label_sets
    counter = Promring.counter(:m_labels_total, docstring: "d", labels: %i[a b])
    [{}, { a: 1 }, { a: 1, c: 2 }, { a: 1, b: 2, c: 3 }, { "a" => 1, b: 2 }].each do |labels|
      assert_raises(Promring::LabelSetValidator::InvalidLabelSetError, labels.inspect) { counter.increment(labels: labels) }
    end
    error = assert_raises(Promring::InvalidLabelSetError) { counter.get(labels: { a: 1 }) }
    assert_equal "labels must have the same signature (keys given: [:a] vs. keys expected: [:a, :b])", error.message
    assert_kind_of Promring::LabelSetError, error
    assert_empty counter.values
  end

  def test_errors_of_definitions
    define = ->(name: :m_bad, docstring: "d", **rest) { Promring.counter(name, docstring: docstring, **rest) }
    ["m_bad", :"bad-name", :"9bad", :"", :"bad\n"].each { |name| assert_raises(ArgumentError) { define.call(name: name) } }
    ["", nil].each { |text| assert_raises(ArgumentError) { define.call(docstring: text) } }
    assert_raises(Promring::InvalidLabelError) { define.call(labels: ["a"]) }
    assert_raises(Promring::InvalidLabelError) { define.call(labels: [:"a-b"]) }
    assert_raises(Promring::ReservedLabelError) { define.call(labels: [:__a]) }
    assert_raises(Promring::ReservedLabelError) { define.call(labels: [:pid]) }
    assert_raises(Promring::ReservedLabelError) { Promring.histogram(:m_bad, docstring: "d", labels: [:le]) }
    assert_raises(Promring::ReservedLabelError) { Promring.summary(:m_bad, docstring: "d", labels: [:quantile]) }
    assert_raises(Promring::InvalidLabelSetError) { define.call(labels: :a) }
    [[2, 1], [], [1, 1], [Float::NAN]].each do |buckets|
      assert_raises(ArgumentError, buckets.inspect) { Promring.histogram(:m_bad, docstring: "d", buckets: buckets) }
    end
    refute_includes Promring.expose, "m_bad"
  end

  def test_a_second_registration
    first = Promring.histogram(:m_twice, docstring: "d", labels: %i[a b], buckets: [1, 2])
    second = Promring.histogram(:m_twice, docstring: "another text", labels: %i[b a], buckets: [1, 2])
    first.observe(1, labels: { a: 1, b: 2 })
    second.observe(1, labels: { a: 1, b: 2 })
    assert_equal 2.0, first.get(labels: { a: 1, b: 2 })["+Inf"]
    assert_equal first.get(labels: { a: 1, b: 2 }), second.get(labels: { a: 1, b: 2 })
    error = assert_raises(Promring::AlreadyRegisteredError) { Promring.counter(:m_twice, docstring: "d") }
    assert_includes error.message, "histogram with labels [a, b] and buckets [1.0, 2.0]"
    assert_includes error.message, "counter with labels []"
    assert_raises(Promring::AlreadyRegisteredError) do
      Promring.histogram(:m_twice, docstring: "d", labels: %i[a b], buckets: [1, 3])
    end
    assert_raises(Promring::AlreadyRegisteredError) do
      Promring.histogram(:m_twice, docstring: "d", labels: %i[a], buckets: [1, 2])
    end
  end

  def test_a_call_on_what_with_labels_returns_allocates_no_object
    fixed = Promring.counter(:m_alloc_total, docstring: "d", labels: [:a]).with_labels(a: 1)
    seconds = Promring.histogram(:m_alloc_seconds, docstring: "d")
    gauge = Promring.gauge(:m_alloc, docstring: "d")
    calls = lambda do
      fixed.increment
      fixed.increment(by: 2.5)
      seconds.observe(0.25)
      gauge.set(3)
      gauge.increment
    end
    calls.call
    before = GC.stat(:total_allocated_objects)
    100.times { calls.call }
    after = GC.stat(:total_allocated_objects)
    assert_equal 0, (after - before) / 100
  end

  def test_a_native_metric_is_only_made_by_a_registration
    assert_raises(TypeError) { Promring::Native::Metric.allocate }
    assert_raises(TypeError) { Class.new(Promring::Native::Metric).allocate }
    native = Promring.counter(:m_native_total, docstring: "d").instance_variable_get(:@native)
    assert_raises(TypeError) { native.dup }
    assert_raises(TypeError) { Promring::Native::Metric.instance_method(:increment).bind_call("", 1, {}) }
  end

  def test_errors_are_those_of_prometheus_client_where_it_is_loaded
    out = Harness.ruby!(<<~RUBY)
      module Prometheus; module Client
        class LabelSetValidator
          class LabelSetError < StandardError; end
          class InvalidLabelSetError < LabelSetError; end
          class InvalidLabelError < LabelSetError; end
          class ReservedLabelError < LabelSetError; end
        end
        class Registry; class AlreadyRegisteredError < StandardError; end; end
      end; end
      Promring::Errors.adopt
      counter = Promring.counter(:c, docstring: "d", labels: [:a])
      begin
        counter.increment
      rescue Prometheus::Client::LabelSetValidator::InvalidLabelSetError => error
        puts error.class
      end
      begin
        Promring.gauge(:c, docstring: "d")
      rescue Prometheus::Client::Registry::AlreadyRegisteredError => error
        puts error.class
      end
    RUBY
    assert_equal %w[Prometheus::Client::LabelSetValidator::InvalidLabelSetError
                    Prometheus::Client::Registry::AlreadyRegisteredError], out.split
  end

  def test_it_can_be_configured_until_the_first_metric
    out, err, = Harness.ruby(<<~RUBY)
      p Promring.configure(max_series_per_family: 2, listen: nil)
      counter = Promring.counter(:c_total, docstring: "d", labels: [:a])
      5.times { |n| counter.increment(labels: { a: n }) }
      p counter.values
      p Promring.configure(max_series: 5)
      p Promring.start_aggregator
      begin
        Promring.configure(max_series: 0)
      rescue ArgumentError => error
        puts error.message
      end
    RUBY
    lines = out.lines(chomp: true)
    assert_equal "true", lines[0]
    assert_equal '{{:promring_overflow=>"true"}=>3.0, {:a=>"0"}=>1.0, {:a=>"1"}=>1.0}', lines[1]
    assert_equal %w[false nil], lines[2..3]
    assert_match(/\APROMRING_MAX_SERIES="0" is not valid/, lines[4])
    assert_equal 1, err.lines.size, err
    assert_match(/too late/, err)
  end

  private

  # A child that sets the gauge to 3 and lives while the block runs.
  def in_live_child(gauge, writer)
    reader, closer = IO.pipe
    child = Harness.in_child(wait: false) do
      closer.close
      gauge.set(3)
      writer.write("set")
      reader.read
    end
    yield
  ensure
    closer.close
    Process.wait(child)
  end
end
