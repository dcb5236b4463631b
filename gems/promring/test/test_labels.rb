# frozen_string_literal: true

# Label values that anybody may send: whatever they hold, the call goes on, and the page can be read.

require "support/harness"

class TestLabels < Minitest::Test
  HOSTILE = [
    "\xff\xfe", "\x00", "a\nb", "\"", "\\", "\\n", "\u2028", "é", "日本", " ", "", "}", "{a=\"b\"}", "x" * 1024, "\r\n# EOF",
    "caf\xe9".b, "caf\u00e9".encode("ISO-8859-1"), "ab".encode("UTF-16LE"), "\xe3\x81".dup.force_encoding("UTF-8")
  ].freeze

  def test_they_are_counted_and_the_page_holds
    counter = Promring.counter(:hostile_total, docstring: "d", labels: [:v])
    HOSTILE.each { |value| 2.times { counter.increment(labels: { v: value }) } }
    values = counter.values
    assert_equal HOSTILE.size * 2, values.values.sum
    assert_equal 2.0, counter.get(labels: { v: "\uFFFD\uFFFD" }), "what is not UTF-8 is replaced"
    assert_equal 2.0, values.fetch({ v: "ab" }), "UTF-16 is not read as something else"
    page = Promring.expose
    assert page.encoding == Encoding::UTF_8 && page.valid_encoding?
    lines = page.lines.grep(/\Ahostile_total/)
    assert_equal values.size, lines.size
    lines.each { |line| assert_match(/\Ahostile_total\{v="(?:[^"\\\n]|\\[n"\\])*"\} \d+\n\z/, line) }
  end

  def test_the_same_text_in_another_encoding_is_the_same_label
    counter = Promring.counter(:encoded_total, docstring: "d", labels: [:v])
    ["\u00e9", "\u00e9".b, "\u00e9".encode("ISO-8859-1"), "\u00e9".encode("UTF-16BE")].each do |value|
      counter.increment(labels: { v: value })
    end
    ["ab", "ab".encode("UTF-16LE"), "ab".encode("UTF-32BE"), "ab".b].each { |value| counter.increment(labels: { v: value }) }
    assert_equal({ { v: "é" } => 4.0, { v: "ab" } => 4.0 }, counter.values)
  end

  def test_a_megabyte_goes_to_the_overflow_series
    counter = Promring.counter(:large_total, docstring: "d", labels: [:v])
    counter.increment(labels: { v: "x" * 1_000_000 })
    counter.increment(labels: { v: "small" })
    assert_equal({ { promring_overflow: "true" } => 1.0, { v: "small" } => 1.0 }, counter.values)
    assert_operator Promring.expose.bytesize, :<, 500_000
  end

  def test_presets_are_taken_the_same_way
    fixed = Promring.counter(:hostile_preset_total, docstring: "d", labels: [:v]).with_labels(v: "\xff\n")
    fixed.increment
    assert_equal({ v: "\uFFFD\n" }, fixed.preset_labels)
    assert_includes Promring.expose, "hostile_preset_total{v=\"\uFFFD\\n\"} 1\n"
  end

  # An object that answers what it likes.
  class Odd
    def to_s
      "odd"
    end
  end

  # One that has no text.
  class Mute
    def to_s
      raise "no text"
    end
  end

  def test_the_users_own_to_s
    counter = Promring.counter(:odd_total, docstring: "d", labels: [:v])
    counter.increment(labels: { v: Odd.new })
    assert_equal "no text", assert_raises(RuntimeError) { counter.increment(labels: { v: Mute.new }) }.message
    assert_equal({ { v: "odd" } => 1.0 }, counter.values)
  end

  def test_help_with_any_text
    Promring.counter(:help_total, docstring: "a\\b\nc \xff")
    assert_includes Promring.expose, "# HELP help_total a\\\\b\\nc \uFFFD\n"
  end
end
