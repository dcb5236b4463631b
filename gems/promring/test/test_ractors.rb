# frozen_string_literal: true

# Ractors: the main one counts, another is told that it cannot, and nothing is lost or crashes by its trying.

require "support/harness"

class TestRactors < Minitest::Test
  def test_another_ractor_is_refused_and_the_main_one_goes_on
    out = Harness.ruby!(<<~'RUBY')
      $VERBOSE = nil # that Ractors are an experiment
      Thread.report_on_exception = false
      COUNTER = Promring.counter(:c_total, docstring: "d", labels: [:a])
      FIXED = COUNTER.with_labels(a: 1)
      tries = { "constant" => -> { Ractor.new { Thread.current.report_on_exception = false; FIXED.increment }.take },
                "made there" => -> { Ractor.new { Thread.current.report_on_exception = false; Promring.counter(:d_total, docstring: "d") }.take },
                "page" => -> { Ractor.new { Thread.current.report_on_exception = false; Promring.expose }.take },
                "passed" => -> { Ractor.new(FIXED) { |fixed| fixed.increment }.take },
                "shared" => -> { Ractor.make_shareable(FIXED) } }
      tries.each do |name, try|
        100.times { FIXED.increment }
        try.call
        puts "#{name}: not refused"
      rescue Ractor::Error, TypeError => error
        cause = error.cause || error
        puts "#{name}: #{cause.class}: #{cause.message}"
      end
      # What others want to count, the main one counts.
      askers = 4.times.map { |n| Ractor.new(n) { |number| 250.times { Ractor.yield(number) }; nil } }
      until askers.empty?
        ractor, number = Ractor.select(*askers)
        number ? COUNTER.increment(labels: { a: "r#{number}" }) : askers.delete(ractor)
      end
      puts COUNTER.values.values.inspect
    RUBY
    lines = out.lines(chomp: true)
    assert_equal ["constant: Ractor::IsolationError", "made there: Ractor::UnsafeError", "page: Ractor::UnsafeError", "passed: TypeError",
                  "shared: Ractor::Error"], lines.first(5).map { |line| line[/\A[^:]+: [\w:]+\w/] }
    assert_match(/made and counted in the main Ractor/, lines[1])
    assert_equal "[500.0, 250.0, 250.0, 250.0, 250.0]", lines.last
  end
end
