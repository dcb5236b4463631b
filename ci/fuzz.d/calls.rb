# frozen_string_literal: true

# Hostile names, tags, values and label bytes through Ruby's calls: calls.rb RUNS [SEED].
# No call raises, every page is made of legal lines of UTF-8, and memory stays bounded whatever comes.

require "promring/statsd"

RUNS, SEED = Integer(ARGV.fetch(0)), Integer(ARGV[1] || 0)
# Resident memory after all of it: the caps' worth of series, and Ruby's own garbage.
MOST_KIB = 400 * 1024
PIECES = ["\"", "\\", "\n", "\r", "\0", "{", "}", ",", "=", " ", "#", "|", ":", "@", "-", "__name__", "le", "quantile", "pid",
          "_total", "é", "\u2028", "\xff", "\xc3", "\xed\xa0\x80", "a", "b", "9", "x" * 200, "a.b", "é".encode("UTF-16LE"),
          "\xe9".dup.force_encoding("ISO-8859-1"), "\xfe".b].freeze
VALUES = [1, 0, -1, 2.5, -0.0, Float::NAN, Float::INFINITY, -Float::INFINITY, 2**53, 2**80, 1e308, nil, "7", "no", :s, [], 1r].freeze
SAMPLE = /\A(?:[a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(?:[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\[\\n"])*",?)*\})? (?:NaN|[+-]?Inf|[-+0-9.e]+)\z/.freeze

$dice = Random.new(SEED)

def pick(from) = from[$dice.rand(from.size)]
def text = Array.new($dice.rand(4)) { pick(PIECES).b }.join.force_encoding(pick(%w[UTF-8 BINARY US-ASCII]))
def odd = pick([method(:text), -> { pick(VALUES) }, -> { text.scrub.to_sym }]).call

def tags
  case $dice.rand(5)
  when 0 then nil
  when 1 then { odd => odd, text => text }
  when 2 then "#{text.b}:#{text.b},#{text.b}"
  when 3 then Array.new($dice.rand(4)) { text.b + ":" + text.b }
  else [odd]
  end
end

CALLS = %i[increment gauge set measure histogram distribution].select { |call| StatsD.respond_to?(call) }
LABELS = Promring.counter(:fuzz_labels_total, docstring: "Hostile values.", labels: %i[a b])

# Bad names and amounts may be told by errors of the compatible library's own; nothing else may come out of a call.
def run(number)
  case number % 4
  when 0 then LABELS.increment(labels: { a: odd, b: odd })
  when 1 then StatsD.increment(text, tags: tags)
  else StatsD.public_send(pick(CALLS), text, pick(VALUES), tags: tags, sample_rate: pick([nil, 1, 0.5, 0, -1, "x"]))
  end
rescue ArgumentError, TypeError, Promring::Error => error
  $told[error.class] += 1
end

def check(page)
  raise "not UTF-8" unless page.dup.force_encoding("UTF-8").valid_encoding?

  page.force_encoding("UTF-8").each_line(chomp: true) do |line|
    raise "no legal line: #{line.inspect}" unless line.start_with?("# ") || line.match?(SAMPLE)
  end
end

$told = Hash.new(0)
started = Process.clock_gettime(Process::CLOCK_MONOTONIC)
RUNS.times do |number|
  run(number)
rescue Exception => error
  abort "Ruby's calls: input #{number} of seed #{SEED} fails: #{error.full_message}"
ensure
  check(Promring.expose) if (number % (RUNS / 10 + 1)).zero?
end
check(Promring.expose)
took = Process.clock_gettime(Process::CLOCK_MONOTONIC) - started
memory = File.read("/proc/self/status")[/VmRSS:\s+(\d+)/, 1].to_i
puts format("Ruby's calls: %d inputs in %.1f s, %d a second; %d KiB; refused: %s", RUNS, took, RUNS / took, memory, $told)
abort "memory grows: #{memory} KiB" if memory > MOST_KIB
