# frozen_string_literal: true

# A real Sidekiq with a real Redis: jobs are counted, the aggregator listens, and a killed process loses nothing.

require "support/harness"

class TestSidekiq < Minitest::Test
  APP = <<~'RUBY'
    # An app with jobs.
    require "sidekiq"
    require "promring/sidekiq"
    DONE = Promring.counter(:done_total, docstring: "d")
    class Work
      include Sidekiq::Worker
      sidekiq_options retry: false

      def perform(what)
        DONE.increment
        raise IOError, "no" if what == "fail"
        Process.kill(:KILL, Process.pid) if what == "kill"
      end
    end
  RUBY

  def setup
    @directory = Dir.mktmpdir("promring-test-")
    File.write("#{@directory}/app.rb", APP)
    @listen = Harness.free_port
    @env = { "REDIS_URL" => "unix://#{@directory}/redis", "PROMRING_SEGMENT" => Harness.fresh_segment, "PROMRING_LISTEN" => "127.0.0.1:#{@listen}" }
    @pids = [start("redis-server", "--port", "0", "--unixsocket", "#{@directory}/redis", "--save", "", "--dir", @directory)]
    Harness.wait_until("Redis") { File.socket?("#{@directory}/redis") }
  end

  def teardown
    @pids.each { |pid| stop(pid) }
    Harness.wait_until("the end of the aggregator") { page.nil? }
    warn File.read("#{@directory}/log") unless passed?
    FileUtils.rm_rf(@directory)
  end

  def test_jobs_are_counted
    first = sidekiq
    enqueue(*%w[fine] * 20, *%w[fail] * 3)
    Harness.wait_until("the jobs") { Harness.sum(page, "sidekiq_jobs_total", 'queue="default",job="Work"') == 23 }
    assert_equal [3, 23, 23, 23, 0], %w[sidekiq_failed_jobs_total sidekiq_job_duration_seconds_count sidekiq_job_wait_seconds_count done_total
                                        sidekiq_busy_threads].map { |name| Harness.sum(page, name) }
    second = sidekiq # shares the segment, stands by for the port
    enqueue("kill")
    dead = Harness.wait_until("the death of one") { [first, second].find { |pid| Process.wait(pid, Process::WNOHANG) } }
    @pids.delete(dead)
    enqueue(*%w[fine] * 5)
    Harness.wait_until("the jobs of the other") {  Harness.sum(page, "done_total") == 29 }
    assert_equal 28, Harness.sum(page, "sidekiq_jobs_total")
  end

  private

  def page
    Harness.fetch(@listen, "/metrics")
  end

  def sidekiq
    pid = start(RbConfig.ruby, "-S", "sidekiq", "-r", "./app.rb", "-c", "2", "-t", "1")
    @pids.unshift(pid)
    Harness.wait_until("Sidekiq, with the app loaded") { page && File.read("#{@directory}/log").match?(/pid=#{pid} .*Booting Sidekiq/) }
    pid
  end

  def enqueue(*jobs)
    program = "require './app'; ARGV.each { |what| Work.perform_async(what) }"
    Process.wait(start(RbConfig.ruby, "-e", program, *jobs))
    assert $?.success?
  end

  def start(*command)
    Process.spawn(@env, *command, chdir: @directory, %i[out err] => ["#{@directory}/log", "a"])
  end

  def stop(pid)
    Process.kill(:TERM, pid)
    Process.wait(pid)
  end
end
