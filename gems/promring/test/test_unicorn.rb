# frozen_string_literal: true

# A real Unicorn: preloaded or not, through kills and an upgrade by USR2.

require "support/harness"

class TestUnicorn < Minitest::Test
  APP = <<~'RUBY'
    # An app that counts its requests by StatsD calls.
    require "promring/statsd"
    use Promring::Rack::Exporter
    run ->(env) { StatsD.increment("hits") if env["PATH_INFO"] == "/hit"; [200, {}, [Process.pid.to_s]] }
  RUBY

  def unicorn(settings, pid: 'pid "unicorn.pid"', &block)
    config = <<~RUBY
      # Unicorn for a test.
      require "promring/unicorn"
      listen "127.0.0.1:\#{ENV.fetch('PORT')}"
      worker_processes 2
      #{pid}
      #{settings}
    RUBY
    Harness::Server.run({ "config.ru" => APP, "unicorn.rb" => config }, "unicorn", "-c", "unicorn.rb", "config.ru", &block)
  end

  def assert_hits(expected, server)
    server.pages.each { |page| assert_equal expected, Harness.sum(page, "hits") }
  end

  def test_without_preload
    unicorn("preload_app false") { |server| survives_kills(server) }
  end

  def test_with_preload
    unicorn("preload_app true") { |server| survives_kills(server) }
  end

  def test_an_upgrade_by_usr2_keeps_one_segment
    unicorn("preload_app true") do |server|
      server.hit(10, "/hit")
      first = server.aggregator
      Process.kill(:USR2, server.pid)
      second = Harness.wait_until("the new master") { new_master(server) }
      server.hit(10, "/hit")
      assert_hits 20, server
      server.replaced_by(second, end_old_by: :QUIT)
      server.hit(10, "/hit")
      Harness.wait_until("the new master's aggregator") { server.page && server.aggregator }
      refute_equal first, server.aggregator
      assert_hits 30, server
    end
  end

  def test_workers_that_start_by_exec
    unicorn("preload_app false\nworker_exec true", pid: nil) do |server| # Unicorn cannot have a pid file with it
      server.hit(10, "/hit")
      assert_hits 10, server
      assert_equal [], server.workers.map { |worker| server.aggregator(worker) }.compact, "one aggregator, the master's"
      assert_equal 2, Harness.sum(server.page, "unicorn_workers")
    end
  end

  def test_the_gauges_of_workers_and_listeners
    unicorn("preload_app true") do |server|
      listened = %(unicorn_backlog{listener="127.0.0.1:#{server.port}"} 0\n)
      Harness.wait_until("the master to say it, before any request") { server.page.include?(listened) }
      server.hit(3, "/hit")
      page = Harness.fetch(server.port, "/metrics")
      assert_equal 2, Harness.sum(page, "unicorn_workers")
      assert_includes page, listened
      assert_operator Harness.sum(page, "unicorn_active_connections"), :>=, 1, "that of the scrape itself"
      Process.kill(:KILL, server.workers.first)
      Harness.wait_until("its end to be counted") { Harness.sum(server.page, "unicorn_worker_exits_total") == 1 }
      Harness.wait_until("another worker") { Harness.sum(server.page, "unicorn_workers") == 2 }
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

  def new_master(server)
    server.workers.find { |pid| server.workers(pid).size == 2 }
  end
end
