# frozen_string_literal: true

# The command line of the gem: serve, dump, ls, help, and the exit statuses that it promises.

require "support/harness"

class TestCommandLine < Minitest::Test
  PROGRAM = Gem.bin_path("promring", "promring")

  def promring(*arguments, env: {})
    Open3.capture3(env, RbConfig.ruby, "-w", PROGRAM, *arguments)
  end

  def counted(segment)
    Harness.ruby!("Promring.counter(:cli_total, docstring: 'd').increment(by: 7)", env: { "PROMRING_SEGMENT" => segment })
  end

  def test_help_and_version
    out, err, status = promring("--help")
    assert_equal ["", 0], [err, status.exitstatus]
    %w[serve dump ls PROMRING_SEGMENT PROMRING_LISTEN].each { |word| assert_includes out, word }
    assert_equal "promring #{Promring::VERSION}\n", promring("-V")[0]
  end

  def test_wrong_usage
    [[], ["fly"], ["dump", "--wings"], ["serve", "--listen", "nowhere"]].each do |arguments|
      out, err, status = promring(*arguments)
      assert_equal ["", 2], [out, status.exitstatus], arguments.inspect
      assert_match(/--help/, err)
    end
  end

  def test_dump
    segment = Harness.fresh_segment
    out, err, status = promring("--segment", segment, "dump")
    assert_equal ["", 1], [out, status.exitstatus]
    assert_match(/there is no segment/, err)
    with_app(segment) do
      out, err, status = promring("dump", env: { "PROMRING_SEGMENT" => segment })
      assert_equal ["", 0], [err, status.exitstatus]
      assert_includes out, "cli_total 7\n"
    end
  end

  def test_ls
    segment = Harness.fresh_segment
    with_app(segment) do |pid|
      out, _, status = promring("ls", File.dirname(segment))
      assert_equal 0, status.exitstatus
      lines = out.lines.drop_while { |line| !line.start_with?("#{segment}.") }
      assert_match(/worker 0 +pid #{pid} +running/, lines[2])
    end
    assert_equal 1, promring("ls", "/nowhere/at/all")[2].exitstatus
  end

  def test_serve
    segment = Harness.fresh_segment
    with_app(segment) do
      port = Harness.free_port
      arguments = ["--segment", segment, "serve", "--listen", "127.0.0.1:#{port}"]
      pid = Process.spawn(RbConfig.ruby, PROGRAM, *arguments, err: File::NULL)
      page = Harness.wait_until("an answer") { Harness.fetch(port, "/metrics") }
      assert_includes page, "cli_total 7\n"
      _, err, status = promring(*arguments)
      assert_equal 1, status.exitstatus
      assert_match(/runs already \(pid #{pid}\)/, err)
      Process.kill(:TERM, pid)
      Process.wait(pid)
      assert_equal 0, $?.exitstatus
      ends_at_interrupt(*arguments, port: port)
    end
  end

  private

  # SIGINT ends it as it ends any program.
  def ends_at_interrupt(*arguments, port:)
    pid = Process.spawn(RbConfig.ruby, PROGRAM, *arguments, err: File::NULL)
    Harness.wait_until("an answer") { Harness.fetch(port, "/-/ready") }
    Process.kill(:INT, pid)
    Process.wait(pid)
    assert_equal Signal.list["INT"], $?.termsig
  end

  # A process that has counted 7 and stays while the block runs.
  def with_app(segment)
    program = "require 'promring'; Promring.counter(:cli_total, docstring: 'd').increment(by: 7); puts 'ready'; $stdout.flush; $stdin.read"
    Open3.popen2({ "PROMRING_SEGMENT" => segment }, RbConfig.ruby, "-e", program) do |stdin, stdout, thread|
      assert_equal "ready\n", stdout.gets
      yield thread.pid
      stdin.close
    end
  end
end
