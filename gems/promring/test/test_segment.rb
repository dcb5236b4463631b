# frozen_string_literal: true

# A segment that cannot be used: the app boots, counts, and says one line that names file, cause and remedy.

require "support/harness"

class TestSegment < Minitest::Test
  PROGRAM = <<~'RUBY'
    counter = Promring.counter(:c_total, docstring: "d")
    Promring.start_aggregator
    Process.wait(fork { 5.times { counter.increment }; exit!(0) })
    counter.increment
    puts Promring.expose[/^c_total (\d+)/, 1], Promring::Native.segment_path.inspect
    Promring.stop_aggregator
  RUBY

  def boots_with(path)
    out, err, status = Harness.ruby(PROGRAM, env: { "PROMRING_SEGMENT" => path })
    assert_predicate status, :success?
    assert_equal %w[6 nil], out.split, "counted by a parent and its child"
    assert_equal 1, err.lines.size, err
    assert_match(/\Apromring: segment .*; .*only this process and its forks/, err)
    err
  end

  def data_file(base)
    Harness.ruby!("Promring::Native.attach; print Promring::Native.segment_path", env: { "PROMRING_SEGMENT" => base })
  end

  def test_a_directory
    base = Harness.fresh_segment
    path = data_file(base)
    FileUtils.rm_f(Dir["#{base}*"])
    FileUtils.mkdir_p(path)
    assert_includes boots_with(base), path
    assert_path_exists path
  end

  def test_a_symlink
    base = Harness.fresh_segment
    path = data_file(base)
    FileUtils.rm_f(Dir["#{base}*"])
    victim = "#{base}-victim"
    File.write(victim, "precious")
    File.symlink(victim, path)
    boots_with(base)
    assert_equal "precious", File.read(victim)
  end

  def test_random_bytes
    base = Harness.fresh_segment
    path = data_file(base)
    File.binwrite(path, "\xDE\xAD" * 5000)
    boots_with(base)
    assert_equal "\xDE\xAD".b * 5000, File.binread(path), "not overwritten"
  end

  def test_a_place_where_nothing_can_be_made
    boots_with("/proc/nowhere/segment")
  end
end
