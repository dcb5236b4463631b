# frozen_string_literal: true

# A real Puma: single and cluster, preloaded or not, through kills and restarts.

require "support/harness"
require "promring/servers"

class TestPuma < Minitest::Test
  # Another version's bin/puma may be named, with its lib folder in RUBYLIB: see ci/test.d/pumas.
  PUMA = ENV.fetch("TEST_PUMA", "puma")

  APP = <<~'RUBY'
    # An app that counts its requests.
    require "promring"
    hits = Promring.counter(:hits_total, docstring: "d")
    use Promring::Rack::Exporter
    use Promring::Rack::Collector
    run ->(env) { hits.increment if env["PATH_INFO"] == "/hit"; [200, {}, [Process.pid.to_s]] }
  RUBY

  def puma(settings = "", &block)
    config = <<~RUBY
      # Puma for a test.
      bind "tcp://127.0.0.1:\#{ENV.fetch('PORT')}"
      plugin :promring
      #{settings}
    RUBY
    Harness::Server.run({ "config.ru" => APP, "puma.rb" => config }, PUMA, "-C", "puma.rb", &block)
  end

  # Both pages show every hit.
  def assert_hits(expected, server)
    server.pages.each do |page|
      assert_equal expected, Harness.sum(page, "hits_total")
      assert_equal expected, Harness.sum(page, "http_server_requests_total", '"/hit"')
    end
  end

  def test_single
    puma do |server|
      server.hit(10, "/hit")
      assert_hits 10, server
      assert server.aggregator, "a child of the master"
    end
  end

  def test_cluster_with_preload_and_killed_workers
    puma("workers 2\npreload_app!") { |server| survives_kills(server) }
  end

  def test_cluster_without_preload_and_a_phased_restart
    puma("workers 2\npreload_app! false") do |server|
      survives_kills(server)
      old = server.workers
      Process.kill(:USR1, server.pid)
      Harness.wait_until("other workers") { (now = server.workers).size == 2 && (now & old).empty? }
      server.hit(10, "/hit")
      assert_hits 40, server
    end
  end

  def test_a_hot_restart_keeps_counting_with_the_aggregator_it_has
    puma("workers 2\npreload_app! false") do |server|
      server.hit(10, "/hit")
      aggregator, old = server.aggregator, server.workers
      2.times do
        Process.kill(:USR2, server.pid)
        Harness.wait_until("other workers") { (now = server.workers).size == 2 && (now & old).empty? }
        old = server.workers
        server.hit(10, "/hit")
      end
      assert_hits 30, server
      assert_equal [aggregator], Harness.children(server.pid) - server.workers
    end
  end

  def test_a_killed_aggregator_comes_back
    puma("workers 2") do |server|
      server.hit(10, "/hit")
      killed = server.aggregator
      Process.kill(:KILL, killed)
      Harness.wait_until("its end") { server.aggregator.nil? }
      requests = 0
      Harness.wait_until("another one") do
        server.hit(1)
        requests += 1
        server.page
      end
      assert_operator requests, :<, 250, "noticed by a request, not when a ring fills"
      assert_hits 10, server
    end
  end

  def test_the_gauges_of_a_cluster
    puma("workers 2\nthreads 1, 3\nworker_check_interval 1") do |server|
      server.hit(10, "/hit")
      shown = Harness.wait_until("what both workers have reported") do
        page = server.page
        page if Harness.sum(page, "puma_requests_total") >= 10 && page.scan(/^puma_running\{/).size == 2
      end
      assert_equal [2, 2, 0, 6], %w[workers booted_workers old_workers max_threads].map { |name| Harness.sum(shown, "puma_#{name}") }
      assert_includes shown, %(puma_backlog{worker="0"} 0\n)
      assert_equal 0, Harness.sum(shown, "puma_worker_restarts_total")
      before = Harness.sum(shown, "puma_requests_total")
      Process.kill(:KILL, server.workers.first)
      Harness.wait_until("a restart") { Harness.sum(server.page, "puma_worker_restarts_total") == 1 }
      server.hit(5, "/hit")
      Harness.wait_until("its requests") { Harness.sum(server.page, "puma_requests_total") >= before + 5 }
    end
  end

  def test_requests_are_counted_by_what_has_come_since
    puma = Promring::Servers::Puma.new
    reports = [[11, 5], [11, 8], [12, 3], [12, 3]].map do |pid, requests|
      status = { backlog: 1, running: 2, pool_capacity: 3, max_threads: 4, requests_count: requests }
      { workers: 1, booted_workers: 1, old_workers: 0, worker_status: [{ index: 7, pid: pid, last_status: status }] }
    end
    reports.each { |report| puma.update(report) }
    page = Promring.expose
    assert_equal [11, 1, 1], %w[requests_total worker_restarts_total backlog].map { |name| Harness.sum(page, "puma_#{name}", 'worker="7"') }
    puma.update(reports.last.merge(workers: 0, worker_status: []))
    refute_includes Promring.expose, 'puma_backlog{worker="7"}'
  end

  def test_the_gauges_of_a_single_puma
    puma("threads 2, 4") do |server|
      Harness.wait_until("what it says when no request is left") { Harness.sum(server.page, "puma_pool_capacity") == 4 }
      server.hit(10, "/hit")
      page = Harness.wait_until("a report") { (now = Harness.fetch(server.port, "/metrics")) && Harness.sum(now, "puma_requests_total") >= 10 && now }
      assert_equal [4, 0], %w[max_threads backlog].map { |name| Harness.sum(page, "puma_#{name}", 'worker="0"') }
      assert_operator Harness.sum(page, "puma_running"), :>=, 2
    end
  end

  private

  def survives_kills(server)
    3.times do
      server.hit(10, "/hit")
      victim = server.workers.first
      Process.kill(:KILL, victim)
      Harness.wait_until("another worker") { !(now = server.workers).include?(victim) && now.size == 2 }
    end
    assert_hits 30, server
  end
end
