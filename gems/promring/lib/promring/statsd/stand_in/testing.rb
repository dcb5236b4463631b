# frozen_string_literal: true

# What tests of apps use: helpers, assertions for minitest, matchers for RSpec. All look at captured datagrams.

require "set"

module StatsD
  module Instrument
    # Captures calls.
    module Helpers
      # @return [Array<Datagram>]
      def capture_statsd_datagrams(client: nil, &block)
        (client || ::StatsD.singleton_client).capture(&block)
      end
      alias capture_statsd_calls capture_statsd_datagrams

      class << self
        def add_tag(tags, key, value)
          case tags
          when nil then { key => value }
          when Hash then tags.merge(key => value)
          when Array then tags + ["#{key}:#{value}"]
          when String then [tags, "#{key}:#{value}"].reject(&:empty?).join(",")
          else raise ArgumentError, "tags can be a String, an Array or a Hash, not a #{tags.class}"
          end
        end

        def prefix_metric(name, client: nil)
          [(client || ::StatsD.singleton_client)&.prefix, name].compact.join(".")
        end

        def prefixed_metric?(name, client: nil)
          prefix = (client || ::StatsD.singleton_client)&.prefix
          !prefix.nil? && name.start_with?("#{prefix}.")
        end
      end
    end

    # A call that a test waits for.
    class Expectation
      { increment: :c, measure: :ms, gauge: :g, set: :s, distribution: :d, histogram: :h }.each do |call, type|
        define_singleton_method(call) { |name, value = nil, **options| new(type: type, name: name, value: value, **options) }
      end

      attr_accessor :times, :type, :name, :value, :sample_rate, :tags

      def initialize(type:, name:, client: nil, value: nil, sample_rate: nil, tags: nil, no_prefix: false, times: 1)
        @type = type
        @name = no_prefix ? name : Helpers.prefix_metric(name, client: client)
        @value = value && comparable(value)
        @sample_rate = sample_rate
        @tags = sorted_out(tags)
        @times = times
      end

      # @return [Boolean]
      def matches(datagram)
        (sample_rate.nil? || sample_rate == datagram.sample_rate) &&
          (value.nil? || value == comparable(datagram.value)) &&
          Set.new(tags).subset?(Set.new(datagram.tags || []))
      end

      def to_s
        text = +"#{name}:#{value || '<anything>'}|#{type}"
        text << "|@#{sample_rate}" if sample_rate
        text << "|##{tags.join(',')}" unless tags.empty?
        text << " (expected #{times} times)" if times > 1
        text
      end

      def inspect
        "#<#{self.class.name}:\"#{self}\">"
      end

      private

      def comparable(value)
        case type
        when :c then Integer(value)
        when :s then String(value)
        else Float(value)
        end
      end

      def sorted_out(tags)
        tags = tags.map { |name, value| "#{name}:#{value}" } if tags.is_a?(Hash)
        Array(tags).map { |tag| tag.delete("|,") }
      end
    end
    MetricExpectation = Expectation

    # For minitest, and whatever else has `assert` and `flunk`.
    module Assertions
      include Helpers

      # None at all, or none of these names.
      def assert_no_statsd_calls(*names, datagrams: nil, client: nil, no_prefix: false, &block)
        datagrams ||= statsd_datagrams_of(__method__, client, &block)
        unless no_prefix
          names = names.map do |name|
            next Helpers.prefix_metric(name, client: client) unless Helpers.prefixed_metric?(name, client: client)

            warn("`#{__method__}` will prefix metrics by default. `#{name}` skipped due to existing prefix.")
            name
          end
        end
        found = names.empty? ? datagrams : datagrams.select { |datagram| names.include?(datagram.name) }
        assert(found.empty?, "No StatsD calls for metric #{found.map(&:name).join(', ')} expected.")
      end

      %i[increment measure gauge histogram distribution set].each do |call|
        define_method(:"assert_statsd_#{call}") do |name, value = nil, datagrams: nil, client: nil, **options, &block|
          expected = Expectation.public_send(call, name, value, client: client, **options)
          assert_statsd_expectations(expected, datagrams: datagrams, client: client, &block)
        end
      end

      # Each as often as it says.
      def assert_statsd_expectations(expectations, datagrams: nil, client: nil, &block)
        datagrams ||= statsd_datagrams_of(__method__, client, &block)
        Array(expectations).each { |expected| meet_statsd_expectation(expected, datagrams) }
        pass
      end
      alias assert_statsd_expectation assert_statsd_expectations
      alias assert_statsd_calls assert_statsd_expectations

      private

      def meet_statsd_expectation(expected, datagrams)
        alike = datagrams.select { |datagram| datagram.type == expected.type && datagram.name == expected.name }
        found = alike.select { |datagram| expected.matches(datagram) }
        if alike.empty? && expected.times.positive?
          flunk("No StatsD calls for metric #{expected.name} of type #{expected.type} were made.")
        end
        if found.size > expected.times
          flunk("Unexpected StatsD call; number of times this metric was expected exceeded: #{expected.inspect}")
        end
        if found.size < expected.times
          flunk("Metric expected #{expected.times} times but seen #{found.size} times: #{expected.inspect}.\n" \
                "Captured metrics with the same key: #{alike}")
        end
        found.each { |datagram| datagrams.delete_at(datagrams.index { |one| one.equal?(datagram) }) }
      end

      def statsd_datagrams_of(assertion, client, &block)
        raise LocalJumpError, "#{assertion} requires a block" unless block

        begin
          capture_statsd_datagrams(client: client, &block)
        rescue StandardError => error
          flunk("An exception occurred in the block provided to the StatsD assertion.\n\n" \
                "#{error.class.name}: #{error.message}\n\t#{Array(error.backtrace).join("\n\t")}\n\n" \
                "If this exception is expected, make sure to handle it using `assert_raises` inside the block.")
        end
      end
    end

    # For RSpec: `expect { … }.to trigger_statsd_increment("name", tags: […], times: 2)`.
    module Matchers
      # One expectation of one block.
      class Matcher
        include Helpers

        attr_reader :failure_message

        def initialize(type, name, options = {})
          extend(RSpec::Matchers::Composable)
          @type = type
          @name = name
          @options = options
        end

        def matches?(block)
          calls = capture_statsd_datagrams(&block).select { |call| call.type == @type && call.name == @name && tagged?(call) }
          @failure_message = complaint(calls)
          @failure_message.nil?
        end

        def failure_message_when_negated
          "No StatsD calls for metric #{@name} expected."
        end

        def supports_block_expectations?
          true
        end

        def description
          "trigger a statsd call for metric #{@name}"
        end

        private

        def tagged?(call)
          @options[:tags].nil? || fits?(@options[:tags], call.tags || [])
        end

        def complaint(calls)
          times = @options[:times]
          return "No StatsD calls for metric #{@name} were made." if calls.empty?
          if times && times != calls.size
            return "The numbers of StatsD calls for metric #{@name} was unexpected. Expected #{times}, got #{calls.size}"
          end

          missed = %i[sample_rate value tags].find { |what| @options[what] && !often_enough?(calls, what) }
          missed && "expected StatsD #{missed.inspect} for metric '#{@name}' to be called\n  " \
                    "#{times ? "exactly #{times} times" : 'at least once'} with: #{@options[missed]}\n  " \
                    "captured metric values: #{calls.map(&missed).join(', ')}"
        end

        def often_enough?(calls, what)
          found = calls.count { |call| fits?(@options[what], call.public_send(what)) }
          @options[:times] ? found == @options[:times] : found.positive?
        end

        def fits?(expected, actual)
          RSpec::Matchers::BuiltIn::Match.new(expected).matches?(actual)
        end
      end

      { increment: :c, measure: :ms, gauge: :g, set: :s, histogram: :h, distribution: :d }.each do |call, type|
        const_set(call.capitalize, Class.new(Matcher))
        define_method(:"trigger_statsd_#{call}") { |name, options = {}| Matchers.const_get(call.capitalize).new(type, name, options) }
      end
    end
  end
end
