# frozen_string_literal: true

# promring: exact Prometheus metrics for pre-fork servers. Everything that an app calls starts here.

require "promring/errors"
begin
  require "promring/#{RUBY_VERSION[/\d+\.\d+/]}/promring_native" # a precompiled gem has one for each Ruby
rescue LoadError
  require "promring/promring_native"
end
require "promring/metrics"
require "promring/railtie" if defined?(Rails::Railtie)

# @example
#   orders = Promring.counter(:orders_total, docstring: "Orders taken.", labels: [:kind])
#   orders.increment(labels: { kind: "book" })
#   puts Promring.expose
module Promring
  autoload :DataStore, "promring/data_store"
  autoload :Rack, "promring/rack"

  class << self
    # A counter: only ever grows.
    #
    # A second registration of a name that agrees with the first counts into the same data, in whichever process.
    # @param name [Symbol]
    # @param docstring [String] the help text
    # @param labels [Array<Symbol>] label names
    # @param preset_labels [Hash{Symbol => Object}] values of some of them, given beforehand
    # @param store_settings [Hash] taken for compatibility
    # @return [Counter]
    # @raise [AlreadyRegisteredError] when the name is that of another metric
    def counter(name, docstring:, labels: [], preset_labels: {}, store_settings: {})
      Counter.new(name, docstring: docstring, labels: labels, preset_labels: preset_labels,
                        store_settings: store_settings)
    end

    # A gauge: goes up and down.
    #
    # Each process has its own value; `aggregation` says how they combine: `:sum`, `:max`, `:min`, `:all` (one
    # sample per process), `:most_recent`, the same of living processes alone (`:livesum`, …), or `:shared` (one
    # value that all processes set).
    # @param (see #counter)
    # @param aggregation [Symbol]
    # @return [Gauge]
    def gauge(name, docstring:, labels: [], preset_labels: {}, store_settings: {}, aggregation: nil)
      Gauge.new(name, docstring: docstring, labels: labels, preset_labels: preset_labels,
                      store_settings: store_settings, aggregation: aggregation)
    end

    # A histogram: observations counted in buckets, with their sum.
    # @param (see #counter)
    # @param buckets [Array<Numeric>] upper bounds in ascending order
    # @return [Histogram]
    def histogram(name, docstring:, labels: [], preset_labels: {}, buckets: Histogram::DEFAULT_BUCKETS,
                  store_settings: {})
      Histogram.new(name, docstring: docstring, labels: labels, preset_labels: preset_labels, buckets: buckets,
                          store_settings: store_settings)
    end

    # A summary: count and sum of observations.
    # @param (see #counter)
    # @return [Summary]
    def summary(name, docstring:, labels: [], preset_labels: {}, store_settings: {})
      Summary.new(name, docstring: docstring, labels: labels, preset_labels: preset_labels,
                        store_settings: store_settings)
    end

    # Sets options by the names in the README's table; those not named come from the environment. To be called
    # before the first metric is made.
    # @example
    #   Promring.configure(listen: "127.0.0.1:9100", max_series: 1_000_000)
    # @return [Boolean] false, and without effect, when it is too late
    # @raise [ArgumentError] for a value that an option cannot have
    def configure(**settings)
      done = Native.configure(settings.to_h { |name, value| [name.to_s, (value || "off").to_s] })
      Native.log("Promring.configure comes too late: a metric has been made already") unless done
      done
    end

    # Starts the aggregator, which answers /metrics on a port of its own, as a child of this process. For the
    # server's master; it ends when this process ends.
    # @return [Integer, nil] its pid; nil when `listen` is off
    def start_aggregator
      Native.start_aggregator
    end

    # Ends the aggregator that this process has started.
    # @return [nil]
    def stop_aggregator
      Native.stop_aggregator
    end

    # Where notices go, instead of stderr: at once where Ruby code may run, else with the next request or at the
    # process's end. The Railtie sets it to Rails' logger.
    # @param logger [#warn, nil] nil for stderr again, as far as lines are kept already
    # @return [void]
    def logger=(logger)
      at_exit { pass_on_log } unless defined?(@logger)
      @logger = logger
      Native.keep_log
      pass_on_log
    end

    # @api private
    def pass_on_log
      Native.kept_log.each { |line| @logger ? @logger.warn("promring: #{line}") : Kernel.warn("promring: #{line}") }
    end

    # The page: what all processes of the app have counted, in any of them.
    # @return [String]
    def expose
      Native.scrape("").last
    end
  end
end
