# frozen_string_literal: true

# Forks a process that counts in several threads, in every way Ruby has: forks.rb FORKS SEGMENT.
# Prints one row: children, threads, what was counted, what should have been, children that failed, that hung.

require "open3"
require "rbconfig"
require "promring"

FORKS, SEGMENT = Integer(ARGV[0]), ARGV[1]
EACH = 7
BURST = 200
# Interpreters take their time to start.
SPAWN_EVERY = 50
# A child that takes longer is ended and counts as hung: a watchdog, far from any work's time.
LONGEST_SECONDS = 120

DONE = Promring.counter(:forks_done_total, docstring: "Units done.", labels: [:who])
MADE = Promring.counter(:forks_made_total, docstring: "Units of series made on the way.", labels: [:number])

def count(who)
  EACH.times { DONE.increment(labels: { who: who }) }
end

# Threads of the parent that are amid something whenever it forks: increments, new series, pages.
class Crowd
  attr_reader :threads

  def initialize
    @counted = [0, 0]
    @made = 0
    @stop = false
    @threads = [Thread.new { count_on(0) }, Thread.new { count_on(1) }, Thread.new { make }, Thread.new { render }]
  end

  def count_on(number)
    until @stop
      BURST.times { DONE.increment(labels: { who: "thread #{number}" }) }
      @counted[number] += BURST
      Thread.pass # a thread's turn is 100 ms long otherwise
    end
  end

  def make
    until @stop
      MADE.increment(labels: { number: @made % 1000 })
      @made += 1
      sleep 0.001
    end
  end

  def render
    until @stop
      Promring.expose
      Thread.pass
    end
  end

  # Ends them; returns what they have counted.
  def stop
    @stop = true
    @threads.each(&:join)
    @counted.sum + @made
  end
end

def sockets_of(pid)
  Dir["/proc/#{pid}/fd/*"].filter_map { |fd| File.readlink(fd) rescue nil }.grep(/\Asocket:/)
end

# Forks a child that works and ends without a trace; returns its pid.
def in_child
  fork do
    yield
    exit!(0)
  rescue Exception => error # the parent must see any failure
    warn error.full_message
    exit!(1)
  end
end

# The child's end: :good, :failed or :hung.
def outcome(pid)
  deadline = Process.clock_gettime(Process::CLOCK_MONOTONIC) + LONGEST_SECONDS
  pause = 0.0005
  until Process.wait(pid, Process::WNOHANG)
    if Process.clock_gettime(Process::CLOCK_MONOTONIC) > deadline
      Process.kill(:KILL, pid)
      Process.wait(pid)
      return :hung
    end
    sleep(pause = [pause * 1.5, 0.05].min)
  end
  $?.success? ? :good : :failed
end

# What a child does, by its way of being made.
class Ways
  def initialize(listeners)
    @listeners = listeners
  end

  def plain = outcome(in_child { count("plain") })

  def nested
    outcome(in_child do
      count("nested")
      raise "a nested child" unless outcome(in_child { count("nested") }) == :good

      count("nested")
    end)
  end

  # Leaves the session and the parent, as daemons do, then counts.
  def daemon
    reader, writer = IO.pipe
    ended = outcome(in_child do
      Process.daemon(true, true)
      count("daemon")
      writer.write("x")
    end)
    writer.close
    reader.read == "x" ? ended : :failed
  ensure
    reader.close
  end

  def threads = outcome(in_child { Array.new(2) { Thread.new { count("threads") } }.each(&:join) })

  # Counts and renders a page, whatever the parent's threads were at.
  def renders
    outcome(in_child do
      count("renders")
      raise "the page lacks the metrics" unless Promring.expose.include?("forks_done_total")
      raise "holds the aggregator's listener" if (sockets_of(Process.pid) & @listeners).any?
    end)
  end

  def from_a_thread = Thread.new { plain }.value

  # A process that is two, with a pipe between.
  def by_popen
    IO.popen("-") { |io| io ? io.read : count("popen") }
    $?.success? ? :good : :failed
  end

  # Another program (vfork, or fork as root, and exec): it inherits nothing of ours.
  def by_exec
    listing = `ls -l /proc/self/fd`
    inherited = listing.include?(SEGMENT) || @listeners.any? { |link| listing.include?(link) }
    $?.success? && !inherited ? :good : :failed
  end

  # A fresh interpreter, which finds the segment by its name.
  def by_spawn
    program = <<~RUBY
      done = Promring.counter(:forks_done_total, docstring: "Units done.", labels: [:who])
      #{EACH}.times { done.increment(labels: { who: "spawned" }) }
    RUBY
    outcome(spawn(RbConfig.ruby, "-w", "-rpromring", "-e", program))
  end
end

# The shares that a child of each way counts.
SHARES = { plain: 1, nested: 3, daemon: 1, threads: 2, renders: 1, from_a_thread: 1, by_popen: 1, by_exec: 0 }.freeze

aggregator = Promring.start_aggregator
sleep 0.01 while (listeners = sockets_of(aggregator)).empty?
crowd = Crowd.new
ways = Ways.new(listeners)
expected = 0
ends = Hash.new(0)
FORKS.times do |number|
  way = number % SPAWN_EVERY == SPAWN_EVERY - 1 ? :by_spawn : SHARES.keys[number % SHARES.size]
  expected += EACH * SHARES.fetch(way, 1)
  ends[ways.public_send(way)] += 1
end
expected += crowd.stop
counted = Promring.expose.lines.grep(/\Aforks_(done|made)_total\{/).sum { |line| line.split.last.to_i }
Promring.stop_aggregator
puts format("%10d%10d%14d%14d%8d%6d", FORKS, crowd.threads.size, counted, expected, ends[:failed], ends[:hung])
exit counted == expected && ends.keys == [:good]
