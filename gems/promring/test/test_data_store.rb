# frozen_string_literal: true

# The data store: prometheus-client's contract, in one process and over several.

require "support/harness"
require "promring/data_store"

class TestDataStore < Minitest::Test
  # What a store sees of a metric.
  Metric = Struct.new(:name, :docstring, :labels, :buckets)

  def setup
    @store = Promring::DataStore.isolated
  end

  def counter(name = :c_total, **settings)
    @store.for_metric(name, metric_type: :counter, metric_settings: settings)
  end

  def gauge(name = :g, **settings)
    @store.for_metric(name, metric_type: :gauge, metric_settings: settings)
  end

  def histogram(name = :h_seconds, labels: [:a], buckets: [0.5, 1])
    @store.for_metric(name, metric_type: :histogram, metric: Metric.new(name, "Some text.", labels, buckets))
  end

  # What prometheus-client's Histogram does at an observation.
  def observe(store, bucket, value, labels)
    store.synchronize do
      store.increment(labels: labels.merge(le: bucket), by: 1)
      store.increment(labels: labels.merge(le: "sum"), by: value)
    end
  end

  def test_values_are_set_counted_and_read
    store = counter
    assert_same 0.0, store.get(labels: { foo: "bar" })
    assert_same 5.0, store.set(labels: { foo: "bar" }, val: 5)
    assert_same 6.0, store.increment(labels: { foo: "bar" })
    assert_same 8.5, store.increment(labels: { foo: "bar" }, by: 2.5)
    assert_same 9.0, store.set(labels: { foo: "bar" }, val: 9)
    assert_same 3.0, store.increment(labels: { foo: "baz" }, by: 3)
    assert_equal [9.0, 3.0, 0.0], %w[bar baz none].map { |foo| store.get(labels: { foo: foo }) }
    assert_equal({ { foo: "bar" } => 9.0, { foo: "baz" } => 3.0 }, store.all_values)
    assert_same 0.0, store.all_values[{ foo: "none" }]
    refute_includes store.all_values, { foo: "none" }
  end

  def test_the_order_of_labels_does_not_matter_and_the_hash_stays_as_it_is
    store = counter
    labels = { b: "2", a: "1" }.freeze
    store.increment(labels: { a: "1", b: "2" }, by: 1)
    assert_same 11.0, store.increment(labels: labels, by: 10)
    assert_equal({ { a: "1", b: "2" } => 11.0 }, store.all_values)
    assert_equal 11.0, store.get(labels: labels)
    assert_raises(Promring::InvalidLabelSetError) { store.increment(labels: { a: "1" }) }
  end

  def test_odd_label_values_and_amounts
    store = counter
    long = "x" * 500_000
    odd = ["\xff", "\xff".b, "é".encode("ISO-8859-1"), long, 5, :sym, ""]
    odd.each { |value| 2.times { store.increment(labels: { foo: value }) } }
    assert_equal odd.size * 2.0, store.all_values.values.sum
    assert_same 0.0, store.increment(labels: { foo: "refused" }, by: Float::NAN)
    assert_same 0.0, store.increment(labels: { foo: "refused" }, by: -1)
    assert_same 0.5, store.increment(labels: { foo: "refused" }, by: Rational(1, 2))
  end

  def test_two_metrics_of_one_name_share_their_data_and_stores_do_not
    counter.increment(labels: {})
    assert_same 2.0, counter.increment(labels: {})
    assert_empty Promring::DataStore.isolated.for_metric(:c_total, metric_type: :counter).all_values
    error = assert_raises(Promring::AlreadyRegisteredError) { gauge(:c_total).set(labels: {}, val: 1) }
    assert_match(/counter with labels \[\]/, error.message)
  end

  def test_a_store_without_a_namespace_counts_into_the_apps_page
    store = Promring::DataStore.new
    store.for_metric(:ds_total, metric_type: :counter, metric: Metric.new(:ds_total, "Some text.", [:a])).increment(labels: { a: "x" })
    assert_includes Promring.expose, "# HELP ds_total Some text.\n# TYPE ds_total counter\nds_total{a=\"x\"} 1\n"
  end

  def test_synchronize_can_be_nested_and_keeps_threads_apart
    store = counter
    assert_equal 3, store.synchronize { store.synchronize { store.increment(labels: {}, by: 3).to_i } }
    gauge = gauge(:sync, aggregation: :sum)
    threads = Array.new(8) do
      Thread.new { 50.times { gauge.synchronize { gauge.set(labels: {}, val: gauge.get(labels: {}).tap { Thread.pass } + 1) } } }
    end
    threads.each(&:join)
    assert_equal 400.0, gauge.get(labels: {})
    assert_raises(IOError) { store.synchronize { raise IOError } }
    assert_equal 3.0, Thread.new { store.synchronize { store.get(labels: {}) } }.value
  end

  def test_in_a_signal_handler_while_the_lock_is_held
    store = histogram
    handled = false
    before = Signal.trap(:USR2) do
      observe(store, "0.5", 0.25, { a: "x" })
      handled = true
    end
    store.synchronize do
      Process.kill(:USR2, Process.pid)
      Harness.wait_until("the handler") { handled }
    end
    assert_equal 0.25, store.get(labels: { a: "x", le: "sum" })
  ensure
    Signal.trap(:USR2, before || "DEFAULT")
  end

  def test_an_observation_is_one_event
    store = histogram(buckets: [0.5, 1])
    observe(store, "0.5", 0.25, { a: "x" })
    observe(store, "0.5", 0.5, { a: "x" })
    observe(store, "+Inf", 7, { a: "x" })
    expected = { "0.5" => 2.0, "1" => 0.0, "+Inf" => 1.0, "sum" => 7.75 }
    assert_equal(expected.transform_keys { |le| { a: "x", le: le } }, store.all_values)
    assert_equal(expected, expected.to_h { |le, _| [le, store.get(labels: { a: "x", le: le })] })
    assert_same 0.0, store.get(labels: { a: "none", le: "sum" })
    pushed = -> { Promring.expose[/^promring_events_drained_total (\d+)$/, 1] || flunk(Promring.expose) }
    before = pushed.call.to_i
    10.times { observe(store, "1", 0.75, { a: "x" }) }
    assert_equal 10, pushed.call.to_i - before
  end

  def test_a_summary
    store = @store.for_metric(:s, metric_type: :summary)
    store.synchronize do
      store.increment(labels: { a: "x", quantile: "count" }, by: 1)
      store.increment(labels: { quantile: "sum", a: "x" }, by: 2.5)
    end
    assert_equal({ { a: "x", quantile: "count" } => 1.0, { a: "x", quantile: "sum" } => 2.5 }, store.all_values)
  end

  def test_what_is_initialised_is_shown_at_zero_and_wipes_nothing
    store = histogram(labels: [])
    %w[0.5 1 +Inf sum].each { |le| store.set(labels: { le: le }, val: 0) }
    assert_equal [0.0] * 4, store.all_values.values
    counter = counter(:wiped_total)
    counter.increment(labels: {}, by: 5)
    Harness.in_child do
      counter.set(labels: {}, val: 0) # as each worker does that loads the app
      counter.increment(labels: {}, by: 2)
    end
    counter.set(labels: {}, val: 0)
    assert_equal 7.0, counter.get(labels: {})
  end

  def test_processes_are_added_up
    store = counter
    seconds = histogram
    store.set(labels: { n: "x" }, val: 0)
    3.times do |n|
      Harness.in_child do
        100.times do
          store.increment(labels: { n: "x" })
          observe(seconds, "1", n, { a: "y" })
        end
      end
    end
    assert_equal({ { n: "x" } => 300.0 }, store.all_values)
    assert_equal 300.0, seconds.all_values.sum { |labels, value| labels[:le] == "sum" ? 0 : value }
    assert_equal 300.0, seconds.get(labels: { a: "y", le: "sum" })
  end

  def test_every_aggregation
    modes = { sum: { {} => 4.0 }, max: { {} => 3.0 }, min: { {} => 1.0 }, most_recent: { {} => 3.0 } }
    modes.each do |mode, expected|
      store = gauge(:"g_#{mode}", aggregation: mode)
      store.set(labels: {}, val: 1)
      Harness.in_child { store.set(labels: {}, val: 3) }
      assert_equal expected, store.all_values, mode
    end
    [gauge(:g_all), counter(:c_all, aggregation: :all)].each do |store|
      store.set(labels: { a: "x" }, val: 1)
      Harness.in_child { store.increment(labels: { a: "x" }, by: 3) }
      assert_equal [1.0, 3.0], store.all_values.values.sort
      assert_equal 1.0, store.all_values[{ a: "x", pid: Process.pid.to_s }]
      assert_equal 1.0, store.get(labels: { a: "x" })
    end
    assert_same 3.5, gauge(:g_all).increment(labels: { a: "x" }, by: 2.5)
  end

  def test_settings_that_there_are_not
    wrong = Promring::DataStore::InvalidStoreSettingsError
    assert_raises(wrong) { counter(:x, some_setting: true) }
    assert_raises(wrong) { counter(:x, aggregation: :average) }
    assert_raises(wrong) { gauge(:x, aggregation: nil) }
    %i[counter histogram summary].each do |type|
      %i[most_recent max].each do |mode|
        assert_raises(wrong) { @store.for_metric(:x, metric_type: type, metric_settings: { aggregation: mode }) }
      end
    end
    assert_raises(wrong) { gauge(:recent, aggregation: :most_recent).increment(labels: {}) }
  end

  def test_what_cannot_be_kept_is_said_once_and_not_counted
    out, err, = Harness.ruby(<<~RUBY)
      require "promring/data_store"
      store = Promring::DataStore.new
      counter = store.for_metric(:c_total, metric_type: :counter)
      p counter.increment(labels: {}, by: 5), counter.set(labels: {}, val: 3), counter.set(labels: {}, val: 2)
      summary = store.for_metric(:s, metric_type: :summary)
      2.times { summary.set(labels: { quantile: "sum" }, val: 7) }
      p summary.all_values
    RUBY
    assert_equal %w[5.0 5.0 5.0 {}], out.split
    assert_equal 2, err.lines.size, err
  end
end
