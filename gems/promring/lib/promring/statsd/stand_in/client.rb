# frozen_string_literal: true

# The client, and the environment that says how it is made.

module StatsD
  module Instrument
    # Returned by calls, so that nobody builds on what they return.
    VOID = Object.new.tap { |void| void.define_singleton_method(:inspect) { "#<StatsD::Instrument::VOID>" } }.freeze

    # Writes each call as a datagram, and gives it to its sink.
    class Client
      KEPT = Object.new.freeze
      private_constant :KEPT

      # The settings of the environment, those given being stronger.
      def self.from_env(env = Environment.current, prefix: env.statsd_prefix, default_sample_rate: env.statsd_sample_rate,
                        default_tags: env.statsd_default_tags, implementation: env.statsd_implementation,
                        sink: env.default_sink_for_environment,
                        datagram_builder_class: datagram_builder_class_for_implementation(implementation))
        new(prefix: prefix, default_sample_rate: default_sample_rate, default_tags: default_tags, sink: sink,
            datagram_builder_class: datagram_builder_class)
      end

      def self.datagram_builder_class_for_implementation(implementation)
        case implementation.to_s
        when "statsd" then StatsDDatagramBuilder
        when "datadog", "dogstatsd" then DogStatsDDatagramBuilder
        else raise NotImplementedError, "there is no implementation named #{implementation}; it can be datadog, dogstatsd or statsd"
        end
      end

      attr_reader :sink, :prefix, :default_tags, :datagram_builder_class

      # The aggregation of datagrams is taken for compatibility: there are none to save.
      def initialize(prefix: nil, default_sample_rate: nil, default_tags: nil, implementation: "datadog", sink: NullSink.new,
                     datagram_builder_class: self.class.datagram_builder_class_for_implementation(implementation),
                     enable_aggregation: false, aggregation_flush_interval: 2.0, aggregation_max_context_size: 250)
        @prefix = prefix
        @default_sample_rate = default_sample_rate
        @default_tags = default_tags
        @sink = sink
        @datagram_builder_class = datagram_builder_class
        @datagram_builder = {}
      end

      def default_sample_rate
        @default_sample_rate || 1.0
      end

      def increment(name, value = 1, sample_rate: nil, tags: nil, no_prefix: false)
        emit(:c, name, value, sample_rate, tags, no_prefix)
      end

      def gauge(name, value, sample_rate: nil, tags: nil, no_prefix: false)
        emit(:g, name, value, sample_rate, tags, no_prefix)
      end

      def set(name, value, sample_rate: nil, tags: nil, no_prefix: false)
        emit(:s, name, value, sample_rate, tags, no_prefix)
      end

      def histogram(name, value, sample_rate: nil, tags: nil, no_prefix: false)
        emit(:h, name, value, sample_rate, tags, no_prefix)
      end

      def measure(name, value = nil, sample_rate: nil, tags: nil, no_prefix: false, &block)
        return latency(name, sample_rate: sample_rate, tags: tags, metric_type: :ms, no_prefix: no_prefix, &block) if block

        emit(:ms, name, value, sample_rate, tags, no_prefix)
      end

      def distribution(name, value = nil, sample_rate: nil, tags: nil, no_prefix: false, &block)
        return latency(name, sample_rate: sample_rate, tags: tags, metric_type: :d, no_prefix: no_prefix, &block) if block

        emit(:d, name, value, sample_rate, tags, no_prefix)
      end

      # The milliseconds that the block takes, also when it raises.
      # @return what the block returns
      def latency(name, sample_rate: nil, tags: nil, metric_type: nil, no_prefix: false)
        started = Process.clock_gettime(Process::CLOCK_MONOTONIC, :float_millisecond)
        begin
          yield
        ensure
          stopped = Process.clock_gettime(Process::CLOCK_MONOTONIC, :float_millisecond)
          type = metric_type || datagram_builder(no_prefix: no_prefix).latency_metric_type
          emit(type, name, stopped - started, sample_rate, tags, no_prefix)
        end
      end

      def event(title, text, timestamp: nil, hostname: nil, aggregation_key: nil, priority: nil, source_type_name: nil,
                alert_type: nil, tags: nil, no_prefix: false)
        @sink << datagram_builder(no_prefix: no_prefix)._e(
          title, text, timestamp: timestamp, hostname: hostname, aggregation_key: aggregation_key, priority: priority,
                       source_type_name: source_type_name, alert_type: alert_type, tags: tags
        )
        VOID
      end

      def service_check(name, status, timestamp: nil, hostname: nil, tags: nil, message: nil, no_prefix: false)
        @sink << datagram_builder(no_prefix: no_prefix)._sc(
          name, status, timestamp: timestamp, hostname: hostname, tags: tags, message: message
        )
        VOID
      end

      def emit_precompiled_increment_metric(datagram, value)
        emit_precompiled(datagram, value)
      end

      def emit_precompiled_gauge_metric(datagram, value)
        emit_precompiled(datagram, value)
      end

      def emit_precompiled_distribution_metric(datagram, value)
        emit_precompiled(datagram, value)
      end

      def force_flush
        @sink.flush(blocking: false)
        VOID
      end

      # A client that differs in some settings, for the block.
      # @return what the block returns
      def with_options(**options)
        yield clone_with_options(**options)
      end

      def clone_with_options(sink: KEPT, prefix: KEPT, default_sample_rate: KEPT, default_tags: KEPT, datagram_builder_class: KEPT)
        given = { sink: sink, prefix: prefix, default_sample_rate: default_sample_rate, default_tags: default_tags,
                  datagram_builder_class: datagram_builder_class }.reject { |_, value| value.equal?(KEPT) }
        kept = { sink: @sink, prefix: @prefix, default_sample_rate: @default_sample_rate, default_tags: @default_tags,
                 datagram_builder_class: @datagram_builder_class }
        self.class.new(**kept, **given)
      end

      def capture_sink
        CaptureSink.new(parent: @sink, datagram_class: datagram_builder_class.datagram_class)
      end

      def with_capture_sink(capture_sink)
        @sink = capture_sink
        yield
      ensure
        @sink = @sink.parent
      end

      # The datagrams of the calls in the block.
      # @return [Array<Datagram>]
      def capture(&block)
        sink = capture_sink
        with_capture_sink(sink, &block)
        sink.datagrams
      end

      protected

      def datagram_builder(no_prefix:)
        @datagram_builder[no_prefix] ||=
          @datagram_builder_class.new(prefix: no_prefix ? nil : prefix, default_tags: default_tags)
      end

      def emit(type, name, value, sample_rate, tags, no_prefix)
        rate = sample_rate || @default_sample_rate
        return VOID unless rate.nil? || @sink.sample?(rate)

        @sink << datagram_builder(no_prefix: no_prefix).public_send(type, name, value, rate, tags)
        VOID
      end

      def emit_precompiled(datagram, value)
        @sink << datagram.to_datagram(value) if datagram.sample_rate.nil? || @sink.sample?(datagram.sample_rate)
        VOID
      end
    end

    # The only reader of the environment.
    class Environment
      def self.current
        @current ||= new(ENV)
      end

      def self.environment
        current.environment
      end

      attr_reader :env

      def initialize(env)
        @env = env
      end

      # @return [String]
      def environment
        return env["STATSD_ENV"] if env["STATSD_ENV"]
        return Rails.env.to_s if defined?(Rails) && Rails.respond_to?(:env)

        env["RAILS_ENV"] || env["RACK_ENV"] || env["ENV"] || "development"
      end

      def statsd_implementation
        env.fetch("STATSD_IMPLEMENTATION", "datadog")
      end

      def statsd_sample_rate
        env.fetch("STATSD_SAMPLE_RATE", 1.0).to_f
      end

      def statsd_prefix
        env.fetch("STATSD_PREFIX", nil)
      end

      def statsd_addr
        env.fetch("STATSD_ADDR", "localhost:8125")
      end

      def statsd_socket_path
        env.fetch("STATSD_SOCKET_PATH", "")
      end

      def statsd_uds_send?
        !statsd_socket_path.empty?
      end

      def statsd_default_tags
        env["STATSD_DEFAULT_TAGS"]&.split(",")
      end

      def client
        Client.from_env(self)
      end

      # Tests count nothing, everything else does; production also sends, with an address given.
      def default_sink_for_environment
        case environment
        when "test" then NullSink.new
        when "production", "staging" then Sink.for_addr(statsd_uds_send? ? statsd_socket_path : statsd_addr)
        else Promring::StatsD::Sink.new
        end
      end
    end
  end
end
