# frozen_string_literal: true

# Processes come and go, in every way that Ruby has: the sums are exact.

require "support/harness"

class TestForks < Minitest::Test
  def test_killed_workers_lose_nothing_that_was_acknowledged
    counter = Promring.counter(:kill_total, docstring: "d", labels: [:worker])
    seconds = Promring.histogram(:kill_seconds, docstring: "d", buckets: [1])
    Dir.mktmpdir do |directory|
      workers = Array.new(6) do |number|
        ledger = "#{directory}/#{number}"
        pid = Harness.in_child(wait: false) { count_for_ever(counter, seconds, number, ledger) }
        [number, pid, ledger]
      end
      workers.each_with_index do |(_, pid, ledger), index|
        Harness.wait_until("a worker's work") { File.size?(ledger).to_i > 1500 + index * 300 }
        Process.kill(:KILL, pid)
        Process.wait(pid)
      end
      workers.each do |number, _, ledger|
        acknowledged = File.size(ledger)
        assert_includes acknowledged..acknowledged + 1, counter.get(labels: { worker: number }), "worker #{number}"
      end
      total = workers.sum { |_, _, ledger| File.size(ledger) }
      assert_includes total..total + workers.size, seconds.get["+Inf"]
      assert_equal seconds.get["+Inf"] * 0.5, seconds.get["sum"]
    end
  end

  def test_many_short_workers
    counter = Promring.counter(:short_total, docstring: "d")
    counter.increment
    40.times.each_slice(8) do |batch|
      pids = batch.map { Harness.in_child(wait: false) { 1000.times { counter.increment } } }
      pids.each { |pid| Process.wait(pid) }
    end
    assert_equal 40_001, counter.get
  end

  def test_every_way_to_fork_and_to_end
    out = Harness.ruby!(<<~'RUBY')
      $counter = Promring.counter(:ways_total, docstring: "d", labels: [:way])
      def count(way) = 10.times { $counter.increment(labels: { way: way }) }
      count("master")
      Process.wait(fork { count("fork"); exit!(3) })
      Process.wait(fork { count("outer"); Process.wait(fork { count("nested"); exit!(0) }); count("outer"); exit!(0) })
      Process.wait(fork { at_exit { count("at_exit") }; exit(0) })
      Process.wait(fork { count("raised"); $stderr.reopen(File::NULL); raise "ends badly" })
      Process.wait(fork { count("signalled"); Process.kill(:KILL, Process.pid) })
      Thread.new { Process.wait(fork { count("thread"); exit!(0) }) }.join
      IO.popen("-") { |io| io ? io.read : count("popen") }
      `true`; system("true")
      reader, writer = IO.pipe
      Process.wait(fork { Process.daemon(true, true); count("daemon"); writer.write("x"); exit!(0) })
      writer.close
      reader.read
      count("master")
      $counter.values.each { |labels, value| puts "#{labels[:way]} #{value.to_i}" }
    RUBY
    expected = { "master" => 20, "fork" => 10, "outer" => 20, "nested" => 10, "at_exit" => 10, "raised" => 10,
                 "signalled" => 10, "thread" => 10, "popen" => 10, "daemon" => 10 }
    assert_equal expected, out.lines.to_h { |line| line.split.then { |way, n| [way, n.to_i] } }
  end

  def test_metrics_made_after_the_fork_meet
    Promring::Native.attach # a segment that everybody has left starts afresh
    first, second = 2.times.map do |n|
      Harness.in_child(wait: false) do
        counter = Promring.counter(:late_total, docstring: "d", labels: n.zero? ? %i[a b] : %i[b a])
        1000.times { counter.increment(labels: { a: 1, b: 2 }) }
      end
    end
    [first, second].each { |pid| Process.wait(pid) }
    counter = Promring.counter(:late_total, docstring: "d", labels: %i[a b])
    assert_equal({ { a: "1", b: "2" } => 2000.0 }, counter.values)
  end

  def test_threads_share_their_process
    counter = Promring.counter(:threads_total, docstring: "d", labels: [:t])
    threads = Array.new(8) { |n| Thread.new { 5000.times { counter.increment(labels: { t: n % 2 }) } } }
    scrapes = Thread.new { 20.times { Promring.expose } }
    [*threads, scrapes].each(&:join)
    assert_equal({ { t: "0" } => 20_000.0, { t: "1" } => 20_000.0 }, counter.values)
  end

  def test_in_a_signal_handler
    out = Harness.ruby!(<<~'RUBY')
      require "promring/statsd"
      counter = Promring.counter(:trap_total, docstring: "d", labels: [:where])
      handled = 0
      Signal.trap(:USR1) do
        counter.increment(labels: { where: "handler#{handled % 3}" })
        StatsD.increment("trapped", tags: { where: "handler#{handled % 3}" })
        Promring.counter(:trap_new_total, docstring: "d").increment
        handled += 1
      end
      200.times do
        before = handled
        Process.kill(:USR1, Process.pid)
        until handled > before
          counter.increment(labels: { where: "main" })
          Promring.expose if rand < 0.05
        end
      end
      sums = counter.values.select { |labels, _| labels[:where] != "main" }.values.sum
      page = Promring.expose
      puts sums.to_i, page[/^trap_new_total (\d+)/, 1], page.scan(/^trapped\{.*\} (\d+)/).flatten.sum(&:to_i)
    RUBY
    assert_equal %w[200 200 200], out.split
  end

  def test_under_gc_stress_and_compaction
    out = Harness.ruby!(<<~'RUBY')
      require "promring/statsd"
      counter = Promring.counter(:gc_total, docstring: "d", labels: %i[a b])
      seconds = Promring.histogram(:gc_seconds, docstring: "d", labels: [:a])
      GC.stress = true
      10.times do |n|
        counter.increment(labels: { a: "a#{n % 3}", b: n })
        counter.with_labels(a: :"dyn#{n}", b: 1.5).increment
        seconds.observe(n / 2.0, labels: { a: "x#{n % 2}" })
        StatsD.increment("gc.calls", tags: { "key" => "v#{n}" })
      end
      GC.stress = false
      100.times do |n|
        GC.compact if GC.respond_to?(:compact) && (n % 10).zero?
        counter.increment(labels: { a: "a#{n % 3}", b: n % 10 })
        StatsD.increment("gc.calls", tags: ["key:v#{n % 7}"])
      end
      puts counter.values.values.sum, seconds.values.values.sum { |v| v["+Inf"] }, Promring.expose.scan(/^gc_calls\{.*\} (\d+)/).flatten.sum(&:to_i)
    RUBY
    assert_equal %w[120.0 10.0 110], out.split
  end

  private

  def count_for_ever(counter, seconds, number, ledger)
    file = File.open(ledger, "ab")
    fixed = counter.with_labels(worker: number)
    loop do
      number.even? ? fixed.increment : counter.increment(labels: { worker: number })
      seconds.observe(0.5)
      file.syswrite(".")
    end
  end
end
