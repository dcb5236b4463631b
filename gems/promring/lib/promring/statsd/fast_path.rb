# frozen_string_literal: true

# The methods that stand before those of StatsD::Instrument::Client, of the gem statsd-instrument or our stand-in for it.
#
# A call of a form seen before is one look-up and one event in the ring. All else goes the way it always went: the
# client's datagram builder makes a datagram, and that is counted by Datagrams instead of being sent, which also tells
# what later calls of this form stand for. While calls are captured, and with sinks that are not ours, nothing changes.

module Promring
  module StatsD
    VOID = ::StatsD::Instrument::VOID

    # Makes a sink count what it is given before it passes it on.
    #
    # Nobody samples before it: every call counts, which is the number that sampling estimates. What is passed on
    # is sampled here, by the rate that the datagram names.
    # @api private
    module Counting
      def sample?(rate, passing_on = nil)
        passing_on ? super(rate) : true
      end

      def <<(datagram)
        rate = Datagrams.count(datagram)
        super if rate.nil? || sample?(rate, true)
        self
      end

      # Whoever else gets its datagrams must get all of them: no call may go another way.
      def tables(*)
        nil
      end
    end

    # A sink that counts, and sends nothing.
    class Sink < ::StatsD::Instrument::Sink
      MOST_TABLES = 100
      Tables = Struct.new(:calls, :unprefixed, :compiled)
      private_constant :MOST_TABLES, :Tables

      def initialize
        super
        @tables = {}
      end

      # @return [true]
      def sample?(_rate)
        true
      end

      # @return [self]
      def <<(datagram)
        Datagrams.count(datagram)
        self
      end

      # What calls stand for under these settings; clients of the same settings share it.
      # @api private
      def tables(*settings)
        @tables.clear if @tables.size >= MOST_TABLES
        @tables[settings] ||= Tables.new(*Array.new(3) { Native::Aliases.new })
      end
    end

    # What StatsD's own methods look calls up in: the table of its client, and none where they must ask the client itself.
    # @api private
    module Direct
      CALLS = Native::Direct.new(VOID)

      class << self
        def client=(client)
          @client = client
          CALLS.calls = nil
          follow(client) if client.is_a?(FastPath)
        end

        # Where somebody else stands before the fast path, it must see each call.
        def follow(client)
          return unless client.equal?(@client)

          first = client.class.ancestors.find { |there| there.method_defined?(:increment, false) }
          CALLS.calls = first.equal?(FastPath) ? client.calls : nil
        end
      end
    end
    private_constant :Direct

    # @api private
    module FastPath
      # Calls of forms seen before; nil where each has to be a datagram.
      # @api private
      attr_reader :calls

      def initialize(...)
        super
        follow_sink
      end

      def increment(name, value = 1, sample_rate: nil, tags: nil, no_prefix: false)
        return VOID if @calls && !no_prefix && @calls.count(name, value, tags)

        @counting ? count_as(:c, :count, name, value, sample_rate, tags, no_prefix) : super
      end

      def gauge(name, value, sample_rate: nil, tags: nil, no_prefix: false)
        return VOID if @calls && !no_prefix && @calls.gauge(name, value, tags)

        @counting ? count_as(:g, :gauge, name, value, sample_rate, tags, no_prefix) : super
      end

      def histogram(name, value, sample_rate: nil, tags: nil, no_prefix: false)
        return VOID if @calls && !no_prefix && @calls.observe(name, value, tags)

        @counting ? count_as(:h, :observe, name, value, sample_rate, tags, no_prefix) : super
      end

      def measure(name, value = nil, sample_rate: nil, tags: nil, no_prefix: false)
        return super if block_given? || !@counting # a block's time comes back to `latency`
        return VOID if @calls && !no_prefix && @calls.time(name, value, tags)

        count_as(:ms, :time, name, value, sample_rate, tags, no_prefix)
      end

      def distribution(name, value = nil, sample_rate: nil, tags: nil, no_prefix: false)
        return super if block_given? || !@counting
        return VOID if @calls && !no_prefix && @calls.observe(name, value, tags)

        count_as(:d, :observe, name, value, sample_rate, tags, no_prefix)
      end

      def latency(name, sample_rate: nil, tags: nil, metric_type: nil, no_prefix: false)
        return super unless @counting

        started = Process.clock_gettime(Process::CLOCK_MONOTONIC, :float_millisecond)
        begin
          yield
        ensure
          stopped = Process.clock_gettime(Process::CLOCK_MONOTONIC, :float_millisecond)
          type = metric_type || datagram_builder(no_prefix: no_prefix).latency_metric_type
          kind = type == :ms ? :time : :observe
          unless @calls && !no_prefix && @calls.public_send(kind, name, stopped - started, tags)
            count_as(type, kind, name, stopped - started, sample_rate, tags, no_prefix)
          end
        end
      end

      def set(name, value, sample_rate: nil, tags: nil, no_prefix: false)
        return VOID if @calls && !no_prefix && @calls.set(name, value, tags)

        @counting ? count_as(:s, :set, name, value, sample_rate, tags, no_prefix) : super
      end

      def emit_precompiled_increment_metric(datagram, value)
        @counting ? count_compiled(:count, datagram, value) : super
      end

      def emit_precompiled_gauge_metric(datagram, value)
        @counting ? count_compiled(:gauge, datagram, value) : super
      end

      def emit_precompiled_distribution_metric(datagram, value)
        @counting ? count_compiled(:observe, datagram, value) : super
      end

      def with_capture_sink(_sink)
        @calls = @counting = nil # what is captured are datagrams
        Direct.follow(self)
        super
      ensure
        follow_sink
      end

      private

      def follow_sink
        @counting = @sink.respond_to?(:tables)
        @tables = @counting ? @sink.tables(@datagram_builder_class, @prefix, @default_tags) : nil
        @calls = @tables&.calls
        Direct.follow(self)
      end

      # A call of a form that has not been seen before, or one that cannot be looked up.
      def count_as(type, kind, name, value, sample_rate, tags, no_prefix)
        return VOID if no_prefix && @tables&.unprefixed&.public_send(kind, name, value, tags)

        datagram = datagram_builder(no_prefix: no_prefix).public_send(type, name, value, sample_rate, tags)
        fall_back(datagram, @tables && (no_prefix ? @tables.unprefixed : @tables.calls), name, tags)
      end

      # Compiled metrics come with everything but the value; what they stand for is told by blueprint and tag values.
      def count_compiled(kind, datagram, value)
        blueprint, tags = datagram.datagram_blueprint, datagram.tag_values
        return VOID if @tables&.compiled&.public_send(kind, blueprint, value, tags)

        fall_back(datagram.to_datagram(value), @tables&.compiled, blueprint, tags)
      end

      # Counts by way of the datagram, and lets `calls` learn what this name and these tags stand for.
      def fall_back(datagram, calls, name, tags)
        StatsD.fell_back
        calls ? Datagrams.count(datagram, calls, name, tags) : @sink << datagram
        VOID
      end
    end

    # StatsD's own methods, without the detour over the client for calls of a form seen before.
    # @api private
    module Singleton
      DIRECT = Direct::CALLS
      private_constant :DIRECT

      def singleton_client=(client)
        Direct.client = client
        super
      end

      def singleton_client
        @singleton_client || (self.singleton_client = super)
      end

      def increment(name, value = 1, sample_rate: nil, tags: nil, no_prefix: false)
        DIRECT.count(name, value, tags, no_prefix) ||
          singleton_client.increment(name, value, sample_rate: sample_rate, tags: tags, no_prefix: no_prefix)
      end

      def gauge(name, value, sample_rate: nil, tags: nil, no_prefix: false)
        DIRECT.gauge(name, value, tags, no_prefix) ||
          singleton_client.gauge(name, value, sample_rate: sample_rate, tags: tags, no_prefix: no_prefix)
      end

      def histogram(name, value, sample_rate: nil, tags: nil, no_prefix: false)
        DIRECT.observe(name, value, tags, no_prefix) ||
          singleton_client.histogram(name, value, sample_rate: sample_rate, tags: tags, no_prefix: no_prefix)
      end
    end

    # Where the app would send by default, it counts; with an address given in the environment it does both.
    # @api private
    module Environment
      def default_sink_for_environment
        sends = %w[production staging].include?(environment)
        return Sink.new if sends && !env.key?("STATSD_ADDR") && !statsd_uds_send?

        sink = super
        sink.is_a?(::StatsD::Instrument::NullSink) || sink.respond_to?(:tables) ? sink : sink.extend(Counting)
      end
    end

    # Puts everything in its place.
    # @api private
    module Install
      def self.call
        used = ::StatsD.instance_variable_get(:@singleton_client)
        Native.log("StatsD has been used before promring/statsd was loaded: its client goes on as it is") if used
        ::StatsD::Instrument::Environment.prepend(Environment)
        # Strict mode, if loaded before, stays in front: what it refuses must not be counted.
        strict = ::StatsD::Instrument.const_defined?(:Strict, false) && ::StatsD::Instrument::Strict
        strict ? strict.include(FastPath) : ::StatsD::Instrument::Client.prepend(FastPath)
        ::StatsD.singleton_class.prepend(Singleton)
      end
    end
  end
end
