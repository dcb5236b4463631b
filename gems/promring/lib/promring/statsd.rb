# frozen_string_literal: true

# `require "promring/statsd"`: the calls of the gem statsd-instrument, counted into the ring.
#
# With the gem installed, its own code stays and only the last step is another; without it, a stand-in has its methods.
# What a StatsD call becomes is what prometheus/statsd_exporter would have made of its datagram: `increment` a counter,
# `measure` a histogram in seconds, `histogram` and `distribution` a histogram as it is, `gauge` a gauge. `set`, which that one refuses, is a
# gauge of about how many different values the last ten minutes have brought. Two things
# differ, both on purpose: a negative gauge is a value and not a decrement, and a `sample_rate` loses nothing. It is there
# to save datagrams, and there are none here: every call counts, which is the number that sampling estimates.

require "promring"

module Promring
  # What StatsD calls become.
  module StatsD
    @said = {}

    class << self
      # Which metrics timers, histograms and distributions become; see {configure}.
      # @api private
      attr_reader :observers

      # Sets what timers, histograms and distributions become: a histogram unless told otherwise. Before the first
      # call: what has been counted already stays what it is.
      # @example
      #   Promring::StatsD.configure(
      #     defaults: { histogram_options: { buckets: [0.01, 0.1, 1, 10] } },
      #     mappings: [{ match: "checkout.*.time", observer_type: "summary" }]
      #   )
      # @example from a file, of the form that statsd_exporter has
      #   Promring::StatsD.configure("config/statsd.yml")
      # @param config [Hash, String] a table, or the path of a YAML file
      # @return [void]
      # @raise [ArgumentError] for what is not understood
      def configure(config)
        unless config.is_a?(Hash)
          require "yaml"
          config = YAML.safe_load(File.read(config)) || {}
        end
        @observers = Observers.new(config)
      end

      # Counts what cannot be kept, and says each thing once.
      # @api private
      def refuse(what, count = 1, line = nil)
        @refused ||= Promring.counter(:promring_statsd_refused_total, labels: [:what],
                                      docstring: "StatsD calls, or tags of them, that Prometheus has no place for.")
        @refused.increment(by: count, labels: { what: what })
        return unless line && @said.size < 100 && !@said[line]

        @said[line] = true
        Native.log(line)
      end

      # Counts a call that took the long way: the first of its form, or one that cannot be looked up.
      # @api private
      def fell_back
        @fallbacks ||= Promring.counter(:promring_statsd_fallbacks_total,
                                        docstring: "StatsD calls that were not looked up but counted by way of a datagram.")
        @fallbacks.increment
      end
    end
  end
end

require "promring/statsd/gem_file"
require "promring/statsd/observers"
Promring::StatsD.configure({})
require "promring/statsd/datagrams"

unless defined?(StatsD::Instrument::Client)
  require(Promring::StatsD.gem_file || "promring/statsd/stand_in")
end
require "promring/statsd/fast_path"
Promring::StatsD::Install.call

module Promring
  module StatsD
    # A client that counts, whatever the environment.
    # @example
    #   jobs = Promring::StatsD::Client.new(prefix: "jobs", default_tags: { queue: "low" })
    #   jobs.increment("done")
    class Client < ::StatsD::Instrument::Client
      # `STATSD_PREFIX` and `STATSD_DEFAULT_TAGS`, as statsd-instrument reads them.
      # @return [Client]
      def self.from_env(env = ::StatsD::Instrument::Environment.current)
        new(prefix: env.statsd_prefix, default_tags: env.statsd_default_tags)
      end

      # @param prefix [String, nil]
      # @param default_tags [Hash, Array<String>, String, nil]
      def initialize(prefix: nil, default_tags: nil, default_sample_rate: nil, implementation: "datadog", sink: Sink.new,
                     datagram_builder_class: self.class.datagram_builder_class_for_implementation(implementation), **others)
        super
      end
    end
  end
end
