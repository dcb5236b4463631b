# frozen_string_literal: true

# Rack: counts requests. Its steps are methods of the names that subclasses of prometheus-client's Collector override.

require "prometheus/client"
require "promring/rack"

module Prometheus
  module Middleware
    # @see Promring::Rack::Collector
    class Collector
      attr_reader :app, :registry

      def initialize(app, options = {})
        @app = app
        @registry = options[:registry] || Client.registry
        @metrics_prefix = options[:metrics_prefix] || "http_server"
        init_request_metrics
        init_exception_metrics
      end

      def call(env)
        env[Promring::Rack::COLLECTED] = true
        trace(env) { @app.call(env) }
      ensure
        Promring::Servers.after_request
      end

      protected

      def init_request_metrics
        @requests = @registry.counter(:"#{@metrics_prefix}_requests_total", labels: %i[code method path],
                                      docstring: "The total number of HTTP requests handled by the Rack application.")
        @durations = @registry.histogram(:"#{@metrics_prefix}_request_duration_seconds", labels: %i[method path],
                                         docstring: "The HTTP response duration of the Rack application.")
      end

      def init_exception_metrics
        @exceptions = @registry.counter(:"#{@metrics_prefix}_exceptions_total", labels: [:exception],
                                        docstring: "The total number of exceptions raised by the Rack application.")
      end

      def trace(env)
        response = nil
        duration = realtime { response = yield }
        record(env, response.first.to_s, duration)
        response
      rescue StandardError => error
        @exceptions.increment(labels: { exception: error.class.name })
        raise
      end

      def realtime
        started = Process.clock_gettime(Process::CLOCK_MONOTONIC)
        yield
        Process.clock_gettime(Process::CLOCK_MONOTONIC) - started
      end

      # What a subclass gets wrong here is no failure of the request.
      def record(env, code, duration)
        labels = { method: env["REQUEST_METHOD"].downcase, path: generate_path(env) }
        @requests.increment(labels: { code: code, **labels })
        @durations.observe(duration, labels: labels)
      rescue StandardError
        nil
      end

      def generate_path(env)
        strip_ids_from_path([env["SCRIPT_NAME"], env["PATH_INFO"]].join)
      end

      def strip_ids_from_path(path)
        Promring::Rack::Paths.without_ids(path)
      end
    end
  end
end
