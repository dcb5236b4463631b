# frozen_string_literal: true

# A small app with metrics of its own, as it is written for prometheus-client.
require "prometheus/client"
require "sinatra/base"

# GET /work?n=UNITS&kind=KIND does some work.
class App < Sinatra::Base
  set :environment, :production
  set :logging, false

  REGISTRY = Prometheus::Client.registry
  WORK = REGISTRY.counter(:demo_work_total, docstring: "Units of work done.", labels: [:kind])
  SECONDS = REGISTRY.histogram(:demo_work_seconds, docstring: "Time per request for work.")
  LAST = REGISTRY.gauge(:demo_last_units, docstring: "Units of the latest request.", store_settings: { aggregation: :most_recent })

  get "/work" do
    units = params.fetch("n", "1").to_i
    started = Process.clock_gettime(Process::CLOCK_MONOTONIC)
    work = WORK.with_labels(kind: params.fetch("kind", "a"))
    units.times { work.increment }
    LAST.set(units)
    SECONDS.observe(Process.clock_gettime(Process::CLOCK_MONOTONIC) - started)
    "#{units} units by #{Process.pid}\n"
  end
end
