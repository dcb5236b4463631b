# frozen_string_literal: true

# A small app with metrics of its own. GET /work?n=UNITS&kind=KIND does some work, GET /metrics shows what all workers did.
require "promring"

work = Promring.counter(:demo_work_total, docstring: "Units of work done.", labels: [:kind])
seconds = Promring.histogram(:demo_work_seconds, docstring: "Time per request for work.")

use Promring::Rack::Exporter
use Promring::Rack::Collector

map "/work" do
  run(lambda do |env|
    asked = Rack::Utils.parse_query(env["QUERY_STRING"])
    units = asked.fetch("n", "1").to_i
    started = Process.clock_gettime(Process::CLOCK_MONOTONIC)
    units.times { work.increment(labels: { kind: asked.fetch("kind", "a") }) }
    seconds.observe(Process.clock_gettime(Process::CLOCK_MONOTONIC) - started)
    [200, { "content-type" => "text/plain" }, ["#{units} units by #{Process.pid}\n"]]
  end)
end

run ->(_env) { [404, { "content-type" => "text/plain" }, ["not found; try /work?n=3 and /metrics\n"]] }
