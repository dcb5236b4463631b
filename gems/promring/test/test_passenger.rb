# frozen_string_literal: true

# A real Passenger: workers forked off its preloader or started one by one, and one killed.

require "support/harness"

class TestPassenger < Minitest::Test
  APP = <<~'RUBY'
    # An app that counts its requests.
    require "promring"
    HITS = Promring.counter(:hits, docstring: "d", labels: [:worker])
    use Promring::Rack::Exporter
    run ->(env) { HITS.increment(labels: { worker: Process.pid }) if env["PATH_INFO"] == "/hit"; [200, {}, [Process.pid.to_s]] }
  RUBY
  WORKERS = 3

  def setup
    @directory = Dir.mktmpdir("promring-test-")
    File.write("#{@directory}/config.ru", APP)
    @port, @listen = Harness.free_port, Harness.free_port
    @env = { "PROMRING_SEGMENT" => Harness.fresh_segment, "PROMRING_LISTEN" => "127.0.0.1:#{@listen}" }
    @sent = 0
    @pids = []
  end

  def teardown
    @pids.each { |pid| stop(pid) }
    warn File.read("#{@directory}/log") unless passed?
    FileUtils.rm_rf(@directory)
  end

  def test_workers_forked_off_the_preloader
    counts_exactly("smart")
  end

  def test_workers_started_one_by_one
    counts_exactly("direct")
  end

  private

  # Passenger has no place for a line that starts an aggregator: `promring serve` stands beside it.
  def counts_exactly(spawn_method)
    @pids << passenger(spawn_method)
    first = all_workers
    @pids << start(Gem.bin_path("promring", "promring"), "serve")
    Process.kill(:KILL, first.first)
    second = all_workers { |pids| pids - first.take(1) }
    assert_equal WORKERS + 1, (first | second).size, "one has taken the place of the killed one"
    assert_equal @sent, Harness.wait_until("the page of `serve`") { Harness.sum(page, "hits").to_i.then { |sum| sum if sum >= @sent } }
    assert_equal @sent, Harness.sum(Harness.fetch(@port, "/metrics"), "hits")
  end

  def passenger(spawn_method)
    start("-S", "passenger", "start", "--engine", "builtin", "--spawn-method", spawn_method, "--ruby", RbConfig.ruby, "--environment", "production",
          "--rackup", "config.ru", "--address", "127.0.0.1", "--port", @port.to_s, "--pid-file", "passenger.pid", "--log-file", "passenger.log",
          "--min-instances", WORKERS.to_s, "--max-pool-size", WORKERS.to_s, "--disable-security-update-check", "--disable-anonymous-telemetry")
  end

  # Requests at the same time until all workers have answered some; the pids of these.
  def all_workers
    seen = []
    Harness.wait_until("all workers") do
      seen |= Array.new(2 * WORKERS) { Thread.new { Harness.fetch(@port, "/hit") } }.map(&:value).compact.each { @sent += 1 }.map(&:to_i)
      pids = block_given? ? yield(seen) : seen
      pids if pids.size == WORKERS
    end
  end

  def page
    Harness.fetch(@listen, "/metrics")
  end

  def start(*command)
    Process.spawn(@env, RbConfig.ruby, *command, chdir: @directory, out: ["#{@directory}/log", "a"], err: %i[child out])
  end

  def stop(pid)
    Process.kill(:TERM, pid)
    Process.wait(pid)
  end
end
