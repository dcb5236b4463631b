# frozen_string_literal: true

# What prometheus/statsd_exporter would make of a datagram, made here, without sending it.

module Promring
  module StatsD
    # Names and tags as Prometheus can have them.
    # @api private
    module Names
      # Everything else becomes `_`, and a run of `-` a single one.
      def self.metric(name)
        name = Metric.text(name).gsub(/-+|[^A-Za-z0-9_-]/, "_")
        name.match?(/\A\d/) ? "_#{name}" : name
      end

      # `{ label name => value }` of the tags behind `|#`; the last of several equal ones counts.
      # @return [Array(Hash, Integer)] labels, and how many tags lacked a name or a value
      def self.labels(tags)
        pairs = Metric.text(tags).split(",").map { |tag| tag.delete_prefix("#").split(":", 2) }
        kept = pairs.reject { |name, value| name.nil? || name.empty? || value.nil? || value.empty? }
        [kept.to_h { |name, value| [free(metric(name)), value] }, pairs.size - kept.size]
      end

      # Names that Prometheus keeps for itself.
      def self.free(label)
        label.start_with?("__") || %w[le quantile pid].include?(label) ? "exported_#{label.delete_prefix('__')}" : label
      end
    end

    # Counts datagrams. What a call stands for is learned from the datagram that the client makes of it, so
    # prefix, default tags and normalisation are the client's own.
    # @api private
    module Datagrams
      LINE = /\A([^:|@]*):([^|]*)\|(c|g|ms|h|d|s)(?:\|@([^|]*))?(?:\|#(.*))?\z/mn.freeze
      KINDS = { "c" => "count", "g" => "gauge", "ms" => "time", "h" => "observe", "d" => "observe", "s" => "set" }.freeze
      MODES = { "gauge" => "shared", "set" => "unique" }.freeze
      REFUSED = { "_e" => "event", "_s" => "service_check" }.freeze
      NUMBERS = { "NaN" => Float::NAN, "Infinity" => Float::INFINITY, "-Infinity" => -Float::INFINITY }.freeze
      HELP = "Counted by calls of StatsD."
      MOST_METRICS = 10_000
      private_constant :LINE, :KINDS, :MODES, :REFUSED, :NUMBERS, :HELP, :MOST_METRICS

      @metrics = {}

      class << self
        # Counts a datagram, once whatever its sample rate: nobody has sampled, see {Counting}. Never raises.
        # @param calls [Native::Aliases, nil] learns that a call of this name and these tags stands for it
        # @return [Float, nil] the sample rate
        def count(datagram, calls = nil, name = nil, tags = nil)
          match = LINE.match(datagram.b)
          return refuse(datagram) unless match

          raw, values, type, rate, text = match.captures
          record(KINDS.fetch(type), raw, values, text, [calls || Native::Aliases.new, name, tags])
          rate && Float(rate, exception: false)
        rescue StandardError => error # whatever was given: a request goes on
          StatsD.refuse("call", 1, "StatsD #{datagram[0, 200].inspect}: #{error.message}")
          nil
        end

        private

        def record(kind, raw, values, text, call)
          labels, bad = Names.labels(text || "")
          StatsD.refuse("tag", bad) if bad.positive?
          raise ArgumentError, "it has no name" if raw.empty?

          given = kind == "set" ? [values] : numbers(values)
          metric, names = metric(kind, raw, labels)
          labels = names.map { |label| labels[label] || "" }
          calls, name, tags = call
          given.each { |value| calls.learn(kind, name, tags, metric, labels, value) }
        end

        def numbers(values)
          values.split(":", -1).then { |parts| parts.empty? ? [""] : parts }.map { |part| NUMBERS[part] || Float(part) }
        end

        # A metric and the names of its labels, as the app has registered them first. In StatsD each call may bring
        # other tags: one that lacks some of the labels leaves them empty, which is the same as absent; tags that are
        # not among them are left off, and that is said and counted. The sum over the family stays exact.
        def metric(kind, raw, labels)
          @metrics.clear if @metrics.size >= MOST_METRICS
          metric, names, name = @metrics[[kind, raw]] ||= register(kind, raw, labels.keys)
          extra = labels.keys - names
          StatsD.refuse("tag", extra.size, "StatsD metric #{name}: tags #{extra.join(', ')} are left off, its first call had " \
                                           "the tags #{names.join(', ')}") unless extra.empty?
          [metric, names]
        end

        def register(kind, raw, names)
          type, buckets = type_of(kind, raw)
          name = Names.metric(raw)
          there_type, there_names = Native.registered(name)
          names = there_names if there_type == type
          [Native::Metric.new(type, name, HELP, names.map(&:to_sym), buckets, MODES.fetch(kind, "all")), names, name]
        end

        def type_of(kind, raw)
          case kind
          when "count" then ["counter", []]
          when "gauge", "set" then ["gauge", []]
          else StatsD.observers.of(Metric.text(raw))
          end
        end

        # Prometheus has no place for events and service checks: refused and counted, as by statsd_exporter.
        def refuse(datagram)
          StatsD.refuse(REFUSED.fetch(datagram[0, 2], "call"))
          nil
        end
      end
    end
  end
end
