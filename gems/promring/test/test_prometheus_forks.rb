# frozen_string_literal: true

# What test_forks shows of promring's metrics, of prometheus-client's: as their store, and with their classes.

require "support/harness"

class TestPrometheusForks < Minitest::Test
  # The metrics of a program, counting through the data store alone or with the classes.
  WAYS = {
    "store" => <<~RUBY,
      require "promring/data_store"
      Seen = Struct.new(:name, :docstring, :labels, :buckets)
      $store = Promring::DataStore.new
      def metric(name, type, *labels) = $store.for_metric(name, metric_type: type, metric: Seen.new(name, "d", labels, [1]))
      $counter = metric(:c_total, :counter, :way)
      $seconds = metric(:h_seconds, :histogram, :way)
      $gauge = $store.for_metric(:g, metric_type: :gauge, metric_settings: { aggregation: :sum }, metric: Seen.new(:g, "d", [], []))
      def count(way) = $counter.increment(labels: { way: way.to_s })
      def observe(way, value)
        $seconds.synchronize do
          $seconds.increment(labels: { way: way.to_s, le: value > 1 ? "+Inf" : "1" }, by: 1)
          $seconds.increment(labels: { way: way.to_s, le: "sum" }, by: value)
        end
      end
      def set(value) = $gauge.set(labels: {}, val: value)
    RUBY
    "classes" => <<~RUBY
      require "promring/prometheus"
      registry = Prometheus::Client.registry
      $counter = registry.counter(:c_total, docstring: "d", labels: [:way])
      $seconds = registry.histogram(:h_seconds, docstring: "d", labels: [:way], buckets: [1])
      $gauge = registry.gauge(:g, docstring: "d", store_settings: { aggregation: :sum })
      def count(way) = $counter.increment(labels: { way: way })
      def observe(way, value) = $seconds.observe(value, labels: { way: way })
      def set(value) = $gauge.set(value)
    RUBY
  }.freeze

  # The samples that a program's page has at its end.
  def samples(way, program)
    out = Harness.ruby!("#{WAYS.fetch(way)}\n#{program}\nputs Promring.expose.lines.grep(/^[chg][_ {]/)")
    out.lines.to_h { |line| line.split.then { |name, value| [name, value.to_f] } }
  end

  WAYS.each_key do |way|
    define_method(:"test_every_way_to_fork_and_to_end_#{way}") do
      found = samples(way, <<~'RUBY')
        def work(way) = 10.times { |n| count(way); observe(way, n / 4.0) }
        work("master"); set(1)
        Process.wait(fork { work("fork"); set(2); exit!(3) })
        Process.wait(fork { work("outer"); Process.wait(fork { work("nested"); exit!(0) }); work("outer"); exit!(0) })
        Process.wait(fork { at_exit { work("at_exit") }; exit(0) })
        Process.wait(fork { work("signalled"); Process.kill(:KILL, Process.pid) })
        Thread.new { Process.wait(fork { work("thread"); exit!(0) }) }.join
        IO.popen("-") { |io| io ? io.read : work("popen") }
        reader, writer = IO.pipe
        Process.wait(fork { Process.daemon(true, true); work("daemon"); writer.write("x"); exit!(0) })
        writer.close
        reader.read
      RUBY
      expected = %w[fork nested at_exit signalled thread popen daemon master].to_h { |name| [name, 10.0] }.merge("outer" => 20.0)
      assert_equal(expected, expected.to_h { |name, _| [name, found[%(c_total{way="#{name}"})]] })
      assert_equal(expected, expected.to_h { |name, _| [name, found[%(h_seconds_count{way="#{name}"})]] })
      assert_equal(expected.transform_values { |n| n / 2 }, expected.to_h { |name, _| [name, found[%(h_seconds_bucket{way="#{name}",le="1.0"})]] })
      assert_equal 3.0, found["g"]
    end

    define_method(:"test_under_gc_stress_and_compaction_#{way}") do
      found = samples(way, <<~'RUBY')
        GC.stress = true
        10.times { |n| count("a#{n % 2}"); observe("b#{n % 2}", 0.5) }
        count(:"dynamic#{Process.pid}")
        GC.stress = false
        200.times do |n|
          GC.compact if (n % 20).zero?
          count("a#{n % 2}")
          observe("b#{n % 2}", 2)
        end
      RUBY
      assert_equal [211.0, 210.0], %w[c_total h_seconds_count].map { |name| found.sum { |sample, value| sample.start_with?(name) ? value : 0 } }
      assert_equal 405.0, found.sum { |sample, value| sample.start_with?("h_seconds_sum") ? value : 0 }
    end

    define_method(:"test_in_a_signal_handler_#{way}") do
      found = samples(way, <<~'RUBY')
        handled = 0
        Signal.trap(:USR1) { count("handler"); observe("handler", 1); set(handled += 1) }
        100.times do
          before = handled
          Process.kill(:USR1, Process.pid)
          observe("main", 1) until handled > before
        end
      RUBY
      assert_equal [100.0] * 3, found.values_at('c_total{way="handler"}', 'h_seconds_count{way="handler"}', "g")
    end

    define_method(:"test_killed_workers_#{way}") do
      found = samples(way, <<~'RUBY')
        require "tmpdir"
        Dir.mktmpdir do |directory|
          workers = 4.times.to_h do |n|
            ledger = "#{directory}/#{n}"
            pid = fork do
              file = File.open(ledger, "ab")
              loop { count(n); file.syswrite(".") }
            end
            [ledger, pid]
          end
          workers.each do |ledger, pid|
            sleep 0.01 until File.size?(ledger).to_i > 2000
            Process.kill(:KILL, pid)
            Process.wait(pid)
          end
          # What was acknowledged, and what was in flight: one call of each.
          workers.each_key { |ledger| File.size(ledger).times { count("acknowledged") } }
        end
      RUBY
      acknowledged = found.delete('c_total{way="acknowledged"}')
      counted = found.sum { |sample, value| sample.start_with?("c_total") ? value : 0 }
      assert_operator acknowledged, :>, 8000
      assert_includes acknowledged..acknowledged + 4, counted
    end
  end
end
