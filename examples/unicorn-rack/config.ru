# frozen_string_literal: true

# A small app that counts by StatsD calls. GET /work?n=UNITS&kind=KIND does some work, GET /metrics shows what all workers
# did.
require "promring/statsd"

use Promring::Rack::Exporter
use Promring::Rack::Collector

map "/work" do
  run(lambda do |env|
    asked = Rack::Utils.parse_query(env["QUERY_STRING"])
    units = asked.fetch("n", "1").to_i
    StatsD.measure("demo_work_seconds") do
      units.times { StatsD.increment("demo_work_total", tags: { kind: asked.fetch("kind", "a") }) }
    end
    [200, { "content-type" => "text/plain" }, ["#{units} units by #{Process.pid}\n"]]
  end)
end

run ->(_env) { [404, { "content-type" => "text/plain" }, ["not found; try /work?n=3 and /metrics\n"]] }
