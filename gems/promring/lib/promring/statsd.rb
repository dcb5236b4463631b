# frozen_string_literal: true

# `require "promring/statsd"`: the calls of the gem statsd-instrument, counted into the ring.
#
# What a StatsD call becomes is what prometheus/statsd_exporter would have made of its datagram: `increment` a counter,
# `measure` a histogram in seconds, `histogram` and `distribution` a histogram as it is, `gauge` a gauge. Two things
# differ, both on purpose: a negative gauge is a value and not a decrement, and a `sample_rate` loses nothing. It is there
# to save datagrams, and there are none here: every call counts, which is the number that sampling estimates.

require "promring"

module Promring
  # What StatsD calls become.
  module StatsD
    # Returned by calls, so that nobody builds on what they return.
    VOID = Object.new.tap { |void| void.define_singleton_method(:inspect) { "#<StatsD::VOID>" } }.freeze

    # Names and tags as Prometheus can have them.
    # @api private
    module Names
      # Everything else becomes `_`, and a run of `-` a single one.
      def self.metric(name)
        label(name)
      end

      def self.label(name)
        name = Metric.text(name).gsub(/-+|[^A-Za-z0-9_-]/, "_")
        name.match?(/\A\d/) ? "_#{name}" : name
      end

      # `{ label name => value }` of the tags in any of their three forms; the last of several equal ones counts.
      # @return [Array(Hash, Integer)] labels, and how many tags lacked a name or a value
      def self.labels(tags)
        pairs = pairs(tags)
        kept = pairs.reject { |name, value| name.empty? || value.nil? || value.empty? }
        [kept.to_h { |name, value| [free(label(name)), value] }, pairs.size - kept.size]
      end

      # statsd-instrument takes these characters out of names and values.
      def self.pairs(tags)
        case tags
        when nil then []
        when Hash then tags.map { |name, value| [clean(name), clean(value)] }
        when String then tags.split(",").map { |tag| Metric.text(tag).tr("|#", "_").split(":", 2) }
        else Array(tags).map { |tag| clean(tag).split(":", 2) }
        end.map { |name, value| [name.to_s, value] }
      end

      def self.clean(text)
        Metric.text(text).delete("|,")
      end

      # Names that Prometheus keeps for itself.
      def self.free(label)
        label.start_with?("__") || %w[le quantile pid].include?(label) ? "exported_#{label.delete_prefix('__')}" : label
      end
    end

    # One prefix and one set of default tags, and what calls under them stand for.
    # @api private
    class Recorder
      TYPES = { "count" => :counter, "gauge" => :gauge, "time" => :histogram, "observe" => :histogram }.freeze
      HELP = "Counted by calls of StatsD."
      private_constant :TYPES, :HELP

      # Native methods `count`, `gauge`, `time` and `observe`: true when the call has been seen before and is counted.
      attr_reader :aliases

      def initialize(prefix: nil, default_tags: nil)
        @prefix = prefix.nil? || prefix.to_s.empty? ? "" : "#{prefix}."
        @default_tags, = Names.labels(default_tags)
        @aliases = Native::Aliases.new
        @metrics = {}
      end

      # Counts a call that the aliases do not know, and lets them know it. Never raises.
      # @param kind [String] of {TYPES}
      def record(kind, name, value, tags)
        labels, bad = Names.labels(tags)
        StatsD.refuse("tag", bad) if bad.positive?
        number = Float(value)
        raise ArgumentError, "it has no name" if name.to_s.empty?

        metric, names = metric(TYPES.fetch(kind), Names.metric("#{@prefix}#{name}"), @default_tags.merge(labels))
        values = names.map { |label| labels[label] || @default_tags[label] || "" }
        @aliases.learn(kind, name, tags, metric, values, number)
      rescue StandardError => error # whatever was given: a request goes on
        StatsD.refuse("call", 1, "StatsD #{kind} of #{name.inspect}: #{error.message}")
      end

      private

      # A metric and the names of its labels, as the app has registered them first. In StatsD each call may bring
      # other tags: one that lacks some of the labels leaves them empty, which is the same as absent; tags that are
      # not among them are left off, and that is said and counted. The sum over the family stays exact.
      def metric(type, name, labels)
        metric, names = @metrics[[type, name]] ||= register(type, name, labels.keys)
        extra = labels.keys - names
        StatsD.refuse("tag", extra.size, "StatsD metric #{name}: tags #{extra.join(', ')} are left off, its first call had " \
                                         "the tags #{names.join(', ')}") unless extra.empty?
        [metric, names]
      end

      def register(type, name, names)
        there_type, there_names = Native.registered(name)
        names = there_names if there_type == type.to_s
        buckets = type == :histogram ? Histogram::DEFAULT_BUCKETS.map(&:to_f) : []
        [Native::Metric.new(type.to_s, name, HELP, names.map(&:to_sym), buckets, type == :gauge ? "shared" : "all"), names]
      end
    end

    # The calls themselves, for whoever says by `use` which prefix and tags are theirs.
    module Calls
      # @param name [String, Symbol]
      # @param value [Numeric]
      # @param sample_rate [Float, nil] taken for compatibility: every call counts
      # @param tags [Hash, Array<String>, String, nil]
      # @param no_prefix [Boolean]
      # @return [Object] nothing of use
      def increment(name, value = 1, sample_rate: nil, tags: nil, no_prefix: false)
        return VOID if !no_prefix && @aliases.count(name, value, tags)

        record("count", name, value, tags, no_prefix)
      end

      # The value is set, whatever its sign.
      # @param (see #increment)
      # @return (see #increment)
      def gauge(name, value, sample_rate: nil, tags: nil, no_prefix: false)
        return VOID if !no_prefix && @aliases.gauge(name, value, tags)

        record("gauge", name, value, tags, no_prefix)
      end

      # Milliseconds, or those that the block takes, also when it raises. Prometheus shows seconds.
      # @param (see #increment)
      # @return what the block returns
      def measure(name, value = nil, sample_rate: nil, tags: nil, no_prefix: false, &block)
        return timed(:measure, name, tags, no_prefix, &block) if block

        return VOID if !no_prefix && @aliases.time(name, value, tags)

        record("time", name, value, tags, no_prefix)
      end

      # Any unit: what is given is what is observed.
      # @param (see #increment)
      # @return (see #increment)
      def histogram(name, value, sample_rate: nil, tags: nil, no_prefix: false)
        return VOID if !no_prefix && @aliases.observe(name, value, tags)

        record("observe", name, value, tags, no_prefix)
      end

      # As {#histogram}; or the milliseconds that the block takes, also when it raises.
      # @param (see #increment)
      # @return what the block returns
      def distribution(name, value = nil, sample_rate: nil, tags: nil, no_prefix: false, &block)
        return timed(:distribution, name, tags, no_prefix, &block) if block

        histogram(name, value, tags: tags, no_prefix: no_prefix)
      end

      # Prometheus has no sets: refused and counted, as by statsd_exporter. So are events and service checks.
      # @param (see #increment)
      # @return (see #increment)
      def set(_name, _value, sample_rate: nil, tags: nil, no_prefix: false)
        StatsD.refuse("set")
      end

      # @return (see #increment)
      def event(_title, _text, **_options)
        StatsD.refuse("event")
      end

      # @return (see #increment)
      def service_check(_name, _status, **_options)
        StatsD.refuse("service_check")
      end

      private

      def use(prefix, default_tags)
        @recorder = Recorder.new(prefix: prefix, default_tags: default_tags)
        @unprefixed = Recorder.new(default_tags: default_tags)
        @aliases = @recorder.aliases
      end

      def record(kind, name, value, tags, no_prefix)
        (no_prefix ? @unprefixed : @recorder).record(kind, name, value, tags)
        VOID
      end

      def timed(call, name, tags, no_prefix)
        started = Process.clock_gettime(Process::CLOCK_MONOTONIC, :float_millisecond)
        begin
          yield
        ensure
          stopped = Process.clock_gettime(Process::CLOCK_MONOTONIC, :float_millisecond)
          public_send(call, name, stopped - started, tags: tags, no_prefix: no_prefix)
        end
      end
    end

    # A prefix and default tags of its own.
    # @example
    #   jobs = Promring::StatsD::Client.new(prefix: "jobs", default_tags: { queue: "low" })
    #   jobs.increment("done")
    class Client
      include Calls

      # @return [String, nil]
      attr_reader :prefix
      # @return [Hash, Array<String>, String, nil]
      attr_reader :default_tags

      # `STATSD_PREFIX` and `STATSD_DEFAULT_TAGS`, as statsd-instrument reads them.
      # @return [Client]
      def self.from_env(env = ENV)
        new(prefix: env["STATSD_PREFIX"], default_tags: env["STATSD_DEFAULT_TAGS"])
      end

      def initialize(prefix: nil, default_tags: nil)
        @prefix = prefix
        @default_tags = default_tags
        use(prefix, default_tags)
      end
    end

    @said = {}

    # Counts what cannot be kept, and says each thing once.
    # @api private
    def self.refuse(what, count = 1, line = nil)
      @refused ||= Promring.counter(:promring_statsd_refused_total, labels: [:what],
                                    docstring: "StatsD calls, or tags of them, that Prometheus has no place for.")
      @refused.increment(by: count, labels: { what: what })
      if line && @said.size < 100 && !@said[line]
        @said[line] = true
        Native.log(line)
      end
      VOID
    end
  end
end

if defined?(StatsD::Instrument)
  Promring::Native.log("statsd-instrument is loaded: StatsD calls go on to where it sends them, and are not counted here")
else
  # The stand-in for the gem's: the same calls, under the prefix and tags of the same environment variables.
  module StatsD
    VOID = Promring::StatsD::VOID
    extend Promring::StatsD::Calls
    use(ENV.fetch("STATSD_PREFIX", nil), ENV.fetch("STATSD_DEFAULT_TAGS", nil))
  end
end
