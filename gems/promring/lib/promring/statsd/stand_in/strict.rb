# frozen_string_literal: true

# Strict mode, for tests of apps: calls that are not as documented raise.

module StatsD
  module Instrument
    # Stands before the client.
    module Strict
      NONE = Object.new.freeze
      private_constant :NONE

      def increment(name, value = 1, sample_rate: nil, tags: nil, no_prefix: false)
        check(value.is_a?(Integer), "The value argument should be an integer, got #{value.inspect}")
        check_options(sample_rate, tags, block_given?)
        super
      end

      def gauge(name, value, sample_rate: nil, tags: nil, no_prefix: false)
        check(value.is_a?(Numeric), "The value argument should be a number, got #{value.inspect}")
        check_options(sample_rate, tags, block_given?)
        super
      end

      def histogram(name, value, sample_rate: nil, tags: nil, no_prefix: false)
        check(value.is_a?(Numeric), "The value argument should be a number, got #{value.inspect}")
        check_options(sample_rate, tags, block_given?)
        super
      end

      def set(name, value, sample_rate: nil, tags: nil, no_prefix: false)
        check_options(sample_rate, tags, block_given?)
        super
      end

      def measure(name, value = NONE, sample_rate: nil, tags: nil, no_prefix: false, &block)
        check_value_or_block(value, block)
        check_options(sample_rate, tags, false)
        super
      end

      def distribution(name, value = NONE, sample_rate: nil, tags: nil, no_prefix: false, &block)
        check_value_or_block(value, block)
        check_options(sample_rate, tags, false)
        super
      end

      private

      def check(fine, complaint)
        raise ArgumentError, complaint unless fine
      end

      def check_value_or_block(value, block)
        if block
          check(value.equal?(NONE), "The value argument should not be set when providing a block")
        else
          check(value.is_a?(Numeric), "The value argument should be a number, got #{value.equal?(NONE) ? 'none' : value.inspect}")
        end
      end

      def check_options(sample_rate, tags, block)
        check(!block, "this call does not accept a block")
        check(sample_rate.nil? || sample_rate.is_a?(Numeric), "The sample_rate argument should be a number, got #{sample_rate.inspect}")
        check([NilClass, Hash, Array, Proc].any? { |type| tags.is_a?(type) },
              "The tags argument should be a hash, a proc or an array, got #{tags.inspect}")
      end
    end

    # Stands before the methods of `extend StatsD::Instrument`.
    module StrictMetaprogramming
      %i[statsd_measure statsd_distribution statsd_count statsd_count_if statsd_count_success].each do |call|
        define_method(call) do |method, name, **options, &block|
          raise ArgumentError, "The method name should be provided as symbol, got #{method.inspect}" unless method.is_a?(Symbol)
          unless name.is_a?(String) || name.is_a?(Proc)
            raise ArgumentError, "The metric name should be a proc or string, got #{name.inspect}"
          end

          super(method, name, **options, &block)
        end
      end
    end
  end
end

StatsD::Instrument::Client.prepend(StatsD::Instrument::Strict)
StatsD::Instrument.prepend(StatsD::Instrument::StrictMetaprogramming)
