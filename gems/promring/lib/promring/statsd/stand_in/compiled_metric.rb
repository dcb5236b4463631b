# frozen_string_literal: true

# Metrics whose name and tag names are fixed when their class is defined.

module StatsD
  module Instrument
    # class Checkouts < StatsD::Instrument::CompiledMetric::Counter
    #   define(name: "checkouts", static_tags: { service: "web" }, tags: { shop: Integer })
    # end
    # Checkouts.increment(shop: 5)
    class CompiledMetric
      # A class is defined wrongly, or used before it is.
      class DefinitionError < StandardError; end

      DEFAULT_MAX_TAG_COMBINATION_CACHE_SIZE = 5000
      TAG_TYPES = [String, Integer, Float, Symbol, :Boolean].freeze
      private_constant :TAG_TYPES

      # Everything but the value.
      PrecompiledDatagram = Struct.new(:tag_values, :datagram_blueprint, :sample_rate) do
        def to_datagram(value)
          tags = tag_values.map { |tag| tag.to_s.delete("|,") }
          format(datagram_blueprint, value.is_a?(Array) ? value.join(":") : value, *tags)
        end
      end

      class << self
        # The name as it is sent, without prefix.
        attr_reader :metric_name

        def sample_rate
          @sample_rate || raise(DefinitionError, "Every CompiledMetric subclass needs to call `define` before accessing its sample_rate.")
        end

        # @param tags [Hash{Symbol => Class}] tags whose values come with each call
        # @return [Class] itself
        def define(name:, static_tags: {}, tags: {}, no_prefix: false, sample_rate: nil,
                   max_cache_size: DEFAULT_MAX_TAG_COMBINATION_CACHE_SIZE)
          unless superclass < CompiledMetric
            raise DefinitionError, "`define` must be called on a subclass, not on #{self.name} directly"
          end
          raise DefinitionError, "`define` has already been called on #{self.name}" if @metric_name

          wrong = tags.values.find { |type| !TAG_TYPES.include?(type) }
          raise ArgumentError, "Unsupported tag value type: #{wrong}. It can be #{TAG_TYPES.join(', ')}." if wrong

          @client = ::StatsD.singleton_client
          @metric_name = name.tr(":|@", "_").freeze
          @sample_rate = sample_rate || @client.default_sample_rate
          define_call(blueprint(no_prefix, static_tags, tags.keys), tags.keys)
          self
        end

        private

        # `%` starts a place for a value: one in a name or a tag stands for itself.
        def blueprint(no_prefix, static_tags, names)
          builder = @client.datagram_builder_class.new(prefix: no_prefix ? nil : @client.prefix, default_tags: @client.default_tags)
          line = builder.public_send(self::TYPE, @metric_name, "\0", @sample_rate, static_tags).gsub("%", "%%").sub("\0", "%s")
          return line if names.empty?

          line + (line.include?("|#") ? "," : "|#") + names.map { |name| "#{name.to_s.delete('|,').gsub('%', '%%')}:%s" }.join(",")
        end

        def define_call(blueprint, names)
          client, rate = @client, @sample_rate
          emit = :"emit_precompiled_#{self::CALL}_metric"
          timed = self::TIMED
          needed = self::DEFAULT
          define_singleton_method(self::CALL) do |value = needed, **tags, &block|
            values = names.map { |name| tags.fetch(name) { raise ArgumentError, "missing keyword: #{name.inspect}" } }
            raise ArgumentError, "unknown keywords: #{(tags.keys - names).join(', ')}" if tags.size > names.size
            raise ArgumentError, "a value must be given" if value.nil?

            datagram = PrecompiledDatagram.new(values, blueprint, rate)
            next time(client, emit, datagram, &block) if timed && block

            client.public_send(emit, datagram, value)
            VOID
          end
        end

        def time(client, emit, datagram)
          started = Process.clock_gettime(Process::CLOCK_MONOTONIC, :float_millisecond)
          begin
            yield
          ensure
            stopped = Process.clock_gettime(Process::CLOCK_MONOTONIC, :float_millisecond)
            client.public_send(emit, datagram, stopped - started)
          end
        end

        def undefined(call)
          raise DefinitionError, "Every CompiledMetric subclass needs to call `define` before first invocation of #{call}."
        end
      end

      { Counter: [:c, :increment, 1, false], Gauge: [:g, :gauge, nil, false], Distribution: [:d, :distribution, 0, true] }
        .each do |name, (type, call, default, timed)|
          kind = const_set(name, Class.new(self))
          kind.const_set(:TYPE, type)
          kind.const_set(:CALL, call)
          kind.const_set(:DEFAULT, default)
          kind.const_set(:TIMED, timed)
          kind.define_singleton_method(call) { |*, **| undefined(call) }
        end
    end
  end
end
