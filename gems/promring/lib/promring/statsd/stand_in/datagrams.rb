# frozen_string_literal: true

# How StatsD calls are written as datagrams, and read again by tests.

module StatsD
  module Instrument
    # `name:value|type|@rate|#tag:value,…`
    class DatagramBuilder
      def self.datagram_class
        Datagram
      end

      def self.unsupported_datagram_types(*types)
        types.each do |type|
          define_method(type) { |*| raise NotImplementedError, "#{self.class.name} has no metrics of type #{type}" }
        end
      end

      def initialize(prefix: nil, default_tags: nil)
        @prefix = prefix.nil? || prefix.to_s.empty? ? "" : clean_name("#{prefix}.")
        @default_tags = none?(default_tags) ? nil : normalize_tags(default_tags)
      end

      %w[c g ms s h d kv].each do |type|
        define_method(type) { |name, value, sample_rate, tags| write(name, value, type, sample_rate, tags) }
      end

      def latency_metric_type
        :ms
      end

      # Tags of any form as they are sent.
      # @return [String]
      def normalize_tags(tags, buffer = +"")
        buffer << case tags
                  when String then text(tags).tr("|#", "_")
                  when Hash then tags.map { |name, value| "#{clean_tag(name)}:#{clean_tag(value)}" }.join(",")
                  else Array(tags).map { |tag| clean_tag(tag) }.join(",")
                  end
      end

      protected

      def write(name, value, type, sample_rate, tags)
        name = clean_name(name)
        datagram = "#{@prefix unless name.empty?}#{name}:#{text(value)}|#{type}"
        datagram << "|@#{sample_rate}" if sample_rate && sample_rate < 1
        datagram << written_tags(tags)
      end

      def written_tags(tags)
        all = [@default_tags, none?(tags) ? nil : normalize_tags(tags)].compact
        all.empty? ? "" : "|##{all.join(',')}"
      end

      private

      def none?(tags)
        tags.nil? || (tags.respond_to?(:empty?) && tags.empty?)
      end

      def clean_name(name)
        text(name).tr(":|@", "_")
      end

      def clean_tag(tag)
        text(tag).delete("|,")
      end

      # Anybody may give any bytes.
      def text(object)
        Promring::Metric.text(object)
      end
    end

    # Plain StatsD: no tags.
    class StatsDDatagramBuilder < DatagramBuilder
      unsupported_datagram_types :h, :d, :kv

      def normalize_tags(*)
        raise NotImplementedError, "#{self.class.name} does not support tags"
      end
    end

    # DogStatsD: also events and service checks.
    class DogStatsDDatagramBuilder < DatagramBuilder
      STATUS = { ok: 0, warning: 1, critical: 2, unknown: 3 }.freeze
      private_constant :STATUS
      unsupported_datagram_types :kv

      def self.datagram_class
        DogStatsDDatagram
      end

      def latency_metric_type
        :d
      end

      def _e(title, text, timestamp: nil, hostname: nil, aggregation_key: nil, priority: nil, source_type_name: nil,
             alert_type: nil, tags: nil)
        title, text = ["#{@prefix}#{title}", text.to_s].map { |part| text(part).gsub("\n", '\n') }
        fields = { h: hostname, d: timestamp&.to_i, k: aggregation_key, p: priority, s: source_type_name, t: alert_type }
        "_e{#{title.length},#{text.length}}:#{title}|#{text}#{written(fields)}#{written_tags(tags)}"
      end

      def _sc(name, status, timestamp: nil, hostname: nil, tags: nil, message: nil)
        status = STATUS.fetch(status.to_sym) unless status.is_a?(Integer)
        said = message ? "|m:#{clean_name(message)}" : ""
        "_sc|#{@prefix}#{clean_name(name)}|#{status}#{written(h: hostname, d: timestamp&.to_i)}#{written_tags(tags)}#{said}"
      end

      private

      def written(fields)
        fields.compact.map { |field, value| "|#{field}:#{value}" }.join
      end
    end

    # A datagram, read.
    class Datagram
      LINE = /\A(?<name>[^:|@]+):(?<value>[^|@]+)\|(?<type>c|ms|g|s|h|d|kv)(?:\|@(?<sample_rate>[\d.]+))?(?:\|#(?<tags>[^|]+))?\n?\z/.freeze
      LINES = [LINE].freeze
      private_constant :LINE

      # @return [String]
      attr_reader :source

      def initialize(source)
        @source = source
      end

      # @return [Float]
      def sample_rate
        Float(field(:sample_rate) || 1)
      end

      # @return [Symbol]
      def type
        field(:type).to_sym
      end

      # @return [String]
      def name
        field(:name)
      end

      # @return [Integer, Float, String, Array<Float>]
      def value
        case type
        when :c then Integer(field(:value))
        when :g, :h, :d, :kv, :ms
          values = field(:value).split(":").map { |value| Float(value) }
          values.one? ? values.first : values
        else field(:value)
        end
      end

      # @return [Array<String>, nil]
      def tags
        field(:tags)&.split(",")
      end

      def inspect
        "#<#{self.class.name}:\"#{@source}\">"
      end

      def hash
        source.hash
      end

      def eql?(other)
        source == (other.is_a?(Datagram) ? other.source : other)
      end
      alias == eql?

      private

      def lines
        LINES
      end

      def field(name)
        @fields ||= lines.lazy.filter_map { |line| line.match(source) }.first&.named_captures ||
                    raise(ArgumentError, "no StatsD datagram: #{source}")
        @fields[name.to_s]
      end
    end

    # One that may be an event or a service check, too.
    class DogStatsDDatagram < Datagram
      CHECK = /\A(?<type>_sc)\|(?<name>[^|]+)\|(?<value>\d+)(?:\|h:(?<hostname>[^|]+))?(?:\|d:(?<timestamp>\d+))?(?:\|#(?<tags>[^|]+))?(?:\|m:(?<message>[^|]+))?\n?\z/.freeze
      EVENT = /\A(?<type>_e)\{\d+,\d+\}:(?<name>[^|]+)\|(?<value>[^|]+)(?:\|h:(?<hostname>[^|]+))?(?:\|d:(?<timestamp>\d+))?(?:\|k:(?<aggregation_key>[^|]+))?(?:\|p:(?<priority>[^|]+))?(?:\|s:(?<source_type_name>[^|]+))?(?:\|t:(?<alert_type>[^|]+))?(?:\|#(?<tags>[^|]+))?\n?\z/.freeze
      LINES = [*Datagram::LINES, CHECK, EVENT].freeze
      private_constant :CHECK, :EVENT, :LINES

      def name
        type == :_e ? super.gsub('\n', "\n") : super
      end

      def value
        case type
        when :_sc then Integer(field(:value))
        when :_e then super.gsub('\n', "\n")
        else super
        end
      end

      # @return [Time]
      def timestamp
        Time.at(Integer(field(:timestamp))).utc
      end

      %i[hostname aggregation_key source_type_name priority alert_type message].each do |name|
        define_method(name) { field(name) }
      end

      private

      def lines
        LINES
      end
    end
  end
end
