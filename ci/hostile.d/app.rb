# frozen_string_literal: true

# An app that boots, forks workers that count, and serves a page, wherever it is put: app.rb WORKERS UNITS SERIES.
# Prints what its page shows and what was counted. Settings as in app.py.

require "promring"

WORKERS, UNITS, SERIES = ARGV.map { |word| Integer(word) }

# Drops to the user of a setting.
def become(name)
  return unless (uid = ENV[name])

  Process.groups = []
  Process::Sys.setgid(Integer(uid))
  Process::Sys.setuid(Integer(uid))
end

def work(number)
  total = Promring.counter(:hostile_units_total, docstring: "Units.")
  seconds = Promring.histogram(:hostile_seconds, docstring: "Times.", buckets: [0.5, 1.0])
  visits = Promring.counter(:hostile_visits_total, docstring: "Visits.", labels: [:path])
  UNITS.times do
    total.increment
    seconds.observe(0.75)
  end
  SERIES.times { |path| visits.increment(labels: { path: "/#{number}/#{path}/#{'x' * 50}" }) }
end

# Runs the workers, all of them alive at a time; returns how many failed.
def crowd
  ready, let_go = IO.pipe
  begun, tell = IO.pipe
  pids = Array.new(WORKERS) do |number|
    fork do
      let_go.close
      become("WORKER_UID")
      work(number)
      tell.syswrite("x")
      ready.read
      exit!(0)
    ensure
      exit!(1)
    end
  end
  tell.close
  pids.each { begun.read(1) }
  let_go.close
  pids.count { |pid| Process.wait2(pid).last.exitstatus != 0 }
end

become("APP_UID")
Promring::Native.attach
failed = crowd
shown = Promring.expose.lines.grep(/\Ahostile_(units_total|seconds_count|visits_total)[ {]/)
puts "#{shown.sum { |line| line.split.last.to_i }} #{WORKERS * (2 * UNITS + SERIES)} #{failed}"
exit(failed.zero?)
