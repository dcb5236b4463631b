# frozen_string_literal: true

# Rack: Exporter answers /metrics in any worker for all of them, Collector counts requests.

require "promring"
require "promring/servers"

module Promring
  module Rack
    # A request is counted once, by the outermost of our collectors or of prometheus-client's.
    COLLECTED = "promring.collected"

    # Answers GET and HEAD of the page.
    #
    # @example as middleware
    #   use Promring::Rack::Exporter, path: "/internal/metrics"
    # @example as an app
    #   map("/metrics") { run Promring::Rack::Exporter.new }
    class Exporter
      # @param app [#call, nil] what is asked for every other path; nil when this is the app itself
      # @param path [String]
      # @param port [Integer, String, nil] answer on this port only
      def initialize(app = nil, path: "/metrics", port: nil)
        @app = app
        @path = path
        @port = port&.to_s
      end

      # @param env [Hash]
      # @return [Array(Integer, Hash, #each)]
      def call(env)
        return answer(env) if asked?(env)
        return @app.call(env) if @app

        respond(404, "text/plain", "not found; the metrics are at #{env['SCRIPT_NAME']}#{@path}\n", env)
      end

      private

      def asked?(env)
        path = env["PATH_INFO"]
        return false if @port && @port != env["SERVER_PORT"].to_s

        path == @path || (@app.nil? && ["", "/"].include?(path))
      end

      def answer(env)
        case env["REQUEST_METHOD"]
        when "GET", "HEAD"
          respond(200, *page(env["HTTP_ACCEPT"].to_s.scrub), env)
        else
          status, headers, body = respond(405, "text/plain", "GET or HEAD\n", env)
          [status, headers.merge("allow" => "GET, HEAD"), body]
        end
      end

      # Content type and text.
      def page(accept)
        Servers.report
        Native.scrape(accept)
      end

      def respond(status, content_type, text, env)
        headers = { "content-type" => content_type, "content-length" => text.bytesize.to_s }
        [status, headers, env["REQUEST_METHOD"] == "HEAD" ? [] : [text]]
      end
    end

    # Paths as values of a label: what tells one thing from another of its kind is replaced by the kind's name.
    # @api private
    module Paths
      UUID = [%r{/\h{8}-\h{4}-\h{4}-\h{4}-\h{12}(?=/|$)}, "/:uuid"].freeze
      ID = [%r{/\d+(?=/|$)}, "/:id"].freeze
      OBJECT_ID = [%r{/\h{24}(?=/|$)}, "/:object-id"].freeze
      IDS = [UUID, ID].freeze

      # Anybody may send any bytes as a path.
      def self.without_ids(path, ids = IDS)
        path = Metric.text(path)
        return path unless path.match?(/\d|\h{8}/)

        ids.reduce(path) { |known, (id, name)| known.gsub(id, name) }
      end
    end

    # Counts requests, under the names that prometheus-client's Collector has: `http_server_requests_total`
    # by code, method and path, `http_server_request_duration_seconds` by method and path,
    # `http_server_exceptions_total` by exception. Numbers and UUIDs in paths become `:id` and `:uuid`.
    #
    # With `names: :statsd_rack_instrument` those of that gem: `rack_server_request_duration_seconds` by code, method and
    # path, which counts as well, and `rack_server_exceptions_total`. ObjectIds of MongoDB become `:object-id`, too.
    class Collector
      METHODS = %w[GET HEAD POST PUT PATCH DELETE OPTIONS TRACE CONNECT].to_h { |name| [name, name.downcase] }.freeze
      NAMES = {
        prometheus_client: { prefix: "http_server", duration: %i[method path], ids: Paths::IDS },
        statsd_rack_instrument: { prefix: "rack_server", duration: %i[code method path], ids: [*Paths::IDS, Paths::OBJECT_ID] }
      }.freeze
      private_constant :METHODS, :NAMES

      # @param app [#call]
      # @param names [Symbol] `:prometheus_client` or `:statsd_rack_instrument`
      # @param metrics_prefix [String, nil] instead of `http_server` or `rack_server`
      # @raise [ArgumentError] for names that there are not
      def initialize(app, metrics_prefix: nil, names: :prometheus_client)
        named = NAMES.fetch(names) { raise ArgumentError, "names can be #{NAMES.keys.join(', ')}, not #{names.inspect}" }
        prefix = metrics_prefix || named[:prefix]
        @app = app
        @ids = named[:ids]
        @requests = requests(prefix) unless named[:duration].include?(:code)
        @durations = Promring.histogram(:"#{prefix}_request_duration_seconds", labels: named[:duration],
                                        docstring: "The HTTP response duration of the Rack application.")
        @exceptions = Promring.counter(:"#{prefix}_exceptions_total", labels: [:exception],
                                       docstring: "The total number of exceptions raised by the Rack application.")
      end

      # @param env [Hash]
      # @return [Array(Integer, Hash, #each)]
      def call(env)
        return @app.call(env) if env[COLLECTED]

        env[COLLECTED] = true
        started = now
        response = @app.call(env)
        record(env, response.first, now - started)
        response
      rescue StandardError => error
        @exceptions.increment(labels: { exception: error.class.name })
        raise
      ensure
        Servers.after_request
      end

      private

      def requests(prefix)
        Promring.counter(:"#{prefix}_requests_total", labels: %i[code method path],
                         docstring: "The total number of HTTP requests handled by the Rack application.")
      end

      def now
        Process.clock_gettime(Process::CLOCK_MONOTONIC)
      end

      def record(env, code, seconds)
        method = METHODS.fetch(env["REQUEST_METHOD"], "other")
        path = Paths.without_ids(env["SCRIPT_NAME"].to_s + env["PATH_INFO"].to_s, @ids)
        return @durations.observe(seconds, labels: { code: code, method: method, path: path }) unless @requests

        @requests.increment(labels: { code: code, method: method, path: path })
        @durations.observe(seconds, labels: { method: method, path: path })
      end
    end
  end
end
