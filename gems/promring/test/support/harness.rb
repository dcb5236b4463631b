# frozen_string_literal: true

# What the tests share: a segment of their own, Ruby programs and servers started beside them, and patience.

require "minitest/autorun"
require "fileutils"
require "net/http"
require "open3"
require "rbconfig"
require "socket"
require "tmpdir"

# Everything a test starts or leaves behind goes through here.
module Harness
  SEGMENTS = Dir.mktmpdir("promring-test-", "/dev/shm")
  owner = Process.pid
  Minitest.after_run { FileUtils.rm_rf(SEGMENTS) if Process.pid == owner }

  ENV.delete_if { |name, _| name.start_with?("PROMRING_", "STATSD_", "PROMETHEUS_MULTIPROC_DIR") }
  ENV["PROMRING_SEGMENT"] = "#{SEGMENTS}/tests"
  ENV["PROMRING_LISTEN"] = "off"

  module_function

  # A segment that no other test uses.
  def fresh_segment
    @n_segments = (@n_segments || 0) + 1
    "#{SEGMENTS}/#{Process.pid}-#{@n_segments}"
  end

  # Runs a Ruby program against the installed gem; returns [stdout, stderr, status].
  def ruby(program, *arguments, env: {})
    env = { "PROMRING_SEGMENT" => fresh_segment }.merge(env)
    Open3.capture3(env, RbConfig.ruby, "-w", "-e", "require 'promring'\n#{program}", *arguments)
  end

  # The same, for a program that must succeed and has nothing to warn of; returns its output.
  def ruby!(program, env: {})
    out, err, status = ruby(program, env: env)
    raise "the program failed: #{status}\n#{err}" unless status.success? && err.empty?

    out
  end

  # Waits for a condition. The limit is a watchdog, not a measurement.
  def wait_until(what, limit: 60)
    deadline = Process.clock_gettime(Process::CLOCK_MONOTONIC) + limit
    loop do
      found = yield
      return found if found
      raise "never came true: #{what}" if Process.clock_gettime(Process::CLOCK_MONOTONIC) > deadline

      sleep 0.02
    end
  end

  def free_port
    TCPServer.open("127.0.0.1", 0) { |server| server.addr[1] }
  end

  # The body of an answer with status 200, or nil.
  def fetch(port, path)
    answer = Net::HTTP.new("127.0.0.1", port, nil).start { |http| http.get(path, "connection" => "close") }
    answer.body if answer.code == "200"
  rescue SystemCallError, EOFError, Net::ReadTimeout
    nil
  end

  # The sum of a metric's samples on a page, of those that hold `labels` if given.
  def sum(page, name, labels = "")
    found = page.to_s.lines.grep(/\A#{name}[{ ]/).select { |line| line.include?(labels) }
    found.sum { |line| line.split.last.to_f }
  end

  # Forks a child that leaves no trace of minitest; waits for it unless told otherwise.
  def in_child(wait: true)
    pid = fork do
      yield
      exit!(0)
    rescue Exception => error # rubocop's advice does not hold here: the parent must see any failure
      warn error.full_message
      exit!(1)
    end
    return pid unless wait

    Process.wait(pid)
    raise "the child failed: #{$?}" unless $?.success?
  end

  def children(pid)
    Dir["/proc/#{pid}/task/*/children"].flat_map { |file| File.read(file).split.map(&:to_i) }
  rescue SystemCallError
    []
  end

  # A server of an app in a folder of its own, with an aggregator. Ended by its pid.
  class Server
    attr_reader :pid, :port, :listen, :segment

    def initialize(files, *command, env: {})
      @directory = Dir.mktmpdir("promring-test-")
      files.each { |name, text| File.write(File.join(@directory, name), text) }
      @command = command
      @port = Harness.free_port
      @listen = Harness.free_port
      @segment = Harness.fresh_segment
      @env = { "PROMRING_SEGMENT" => @segment, "PROMRING_LISTEN" => "127.0.0.1:#{@listen}", "PORT" => @port.to_s }.merge(env)
    end

    # Starts it, and yields when its app and its aggregator answer.
    def self.run(...)
      server = new(...)
      server.start
      yield server
    rescue StandardError, Minitest::Assertion
      warn "--- log of the server\n#{server&.log}"
      raise
    ensure
      server&.stop
    end

    def start
      @pid = Process.spawn(@env, RbConfig.ruby, "-S", *@command, chdir: @directory, out: log_file, err: %i[child out])
      Harness.wait_until("an answer of the app") { alive! && Harness.fetch(@port, "/") }
      Harness.wait_until("an answer of the aggregator") { alive! && Harness.fetch(@listen, "/-/ready") }
    end

    def alive!
      raise "the server ended at its start\n#{log}" if @reaped || Process.wait(@pid, Process::WNOHANG).tap { |pid| @reaped = pid }

      true
    end

    # Ends the master, after another one has come.
    def replaced_by(pid, end_old_by:)
      Process.kill(end_old_by, @pid)
      Process.wait(@pid)
      @pid = pid
    end

    def log
      File.read(log_file)
    end

    def log_file
      File.join(@directory, "log")
    end

    def hit(times, path = "/")
      times.times { Harness.wait_until("an answer") { Harness.fetch(@port, path) } }
    end

    def page
      Harness.fetch(@listen, "/metrics")
    end

    # The app's own page and the aggregator's, which may be one that was made a little before: the next one is not.
    def pages
      seen = Harness.sum(page, "promring_scrapes_total")
      [Harness.fetch(@port, "/metrics"),
       Harness.wait_until("a fresh page") { (now = page) && Harness.sum(now, "promring_scrapes_total") > seen && now }]
    end

    # The server's own children that listen; the aggregator holds no socket of the server's.
    def workers(master = @pid)
      Harness.children(master).select { |pid| !["promring", nil].include?(name_of(pid)) }
    end

    def aggregator(master = @pid)
      Harness.children(master).find { |pid| name_of(pid) == "promring" }
    end

    def stop
      end_process(@pid) if @pid
      Harness.wait_until("the end of the aggregator") { Harness.fetch(@listen, "/-/ready").nil? }
      FileUtils.rm_rf(@directory)
    end

    private

    # Of a running process; what has ended and is not waited for has none.
    def name_of(pid)
      name, state = File.read("/proc/#{pid}/stat").match(/\((.*)\) (.)/).captures
      name unless state == "Z"
    rescue SystemCallError
      nil
    end

    def end_process(pid)
      Process.kill(:TERM, pid)
      Harness.wait_until("the end of #{pid}") { gone?(pid) }
    rescue Errno::ESRCH
      nil
    end

    def gone?(pid)
      Process.wait(pid, Process::WNOHANG)
    rescue Errno::ECHILD # not ours: a master that was started by another
      File.read("/proc/#{pid}/stat").split(") ").last.start_with?("Z")
    end
  end
end

require "promring"
