# frozen_string_literal: true

# Which kind of metric StatsD's timers, histograms and distributions become, by their names.

module Promring
  module StatsD
    # As `defaults` and `mappings` of a statsd_exporter's configuration say it, of which it understands this part:
    #
    #     defaults:
    #       observer_type: histogram
    #       histogram_options: { buckets: [0.01, 0.1, 1, 10] }
    #     mappings:
    #       - match: "checkout.*.time"
    #         observer_type: summary
    #
    # A `*` stands for one part of a name between dots; the first mapping that fits counts.
    # @api private
    class Observers
      TYPES = %w[histogram summary].freeze
      KNOWN = { "defaults" => %w[observer_type histogram_options], "mappings" => %w[match observer_type histogram_options] }.freeze
      private_constant :TYPES, :KNOWN

      # @param config [Hash] with Strings or Symbols as keys
      # @raise [ArgumentError] for what it does not understand
      def initialize(config = {})
        config = plain(config)
        only(config, KNOWN.keys, "the configuration")
        @default = read(config.fetch("defaults", {}), "defaults", { "observer_type" => "histogram" })
        @mappings = config.fetch("mappings", []).map do |mapping|
          [pattern(mapping["match"]), read(mapping, "mappings", config.fetch("defaults", {}))]
        end
      end

      # @param name [String] as it would be sent
      # @return [Array(String, Array<Float>)] the type, and a histogram's buckets
      def of(name)
        _, found = @mappings.find { |pattern, _| pattern.match?(name) }
        found || @default
      end

      private

      def read(given, where, defaults)
        only(given, KNOWN.fetch(where), where)
        type = given["observer_type"] || defaults["observer_type"] || "histogram"
        raise ArgumentError, "observer_type is #{type.inspect}; it can be #{TYPES.join(' or ')}" unless TYPES.include?(type)
        return [type, []] if type == "summary"

        options = given["histogram_options"] || defaults["histogram_options"] || {}
        only(options, ["buckets"], "histogram_options")
        buckets = options.fetch("buckets", Histogram::DEFAULT_BUCKETS).map { |bound| Float(bound) }
        raise ArgumentError, "buckets must ascend: #{buckets.join(', ')}" unless buckets.each_cons(2).all? { |low, high| low < high }

        [type, buckets.reject(&:infinite?)]
      end

      def pattern(glob)
        raise ArgumentError, "each mapping needs a match" unless glob.is_a?(String) && !glob.empty?

        /\A#{glob.split('*', -1).map { |part| Regexp.escape(part) }.join('[^.]*')}\z/
      end

      def only(given, known, where)
        raise ArgumentError, "#{where} must be a table, not #{given.inspect}" unless given.is_a?(Hash)

        unknown = given.keys - known
        raise ArgumentError, "#{where}: #{unknown.join(', ')} is not understood; it can hold #{known.join(', ')}" unless unknown.empty?
      end

      # Symbols become Strings, at any depth.
      def plain(object)
        case object
        when Hash then object.to_h { |key, value| [key.to_s, plain(value)] }
        when Array then object.map { |item| plain(item) }
        when Symbol then object.to_s
        else object
        end
      end
    end
  end
end
