# frozen_string_literal: true

# Counter, Gauge, Histogram and Summary, with the methods of prometheus-client's.
#
# A call goes to a native method first, which answers false for everything unusual: a label set that does not fit, a
# value that needs converting. Only then the Ruby here converts, validates and raises. Where labels are not given, they
# are nil and not an empty Hash: a literal as the default costs a call nothing.
module Promring
  # What is called on any metric. The calls stand in modules, as prometheus-client's own classes take them, too: see
  # promring/prometheus. They need `@native`, `@labels` and `@preset_labels`.
  module MetricCalls
    LABEL_NAME = /\A[a-zA-Z_][a-zA-Z0-9_]*\z/.freeze
    private_constant :LABEL_NAME

    # The same metric with some or all label values given beforehand. With all of them given, a call neither looks
    # the labels up nor allocates an object.
    # @param labels [Hash{Symbol => Object}]
    # @return [self.class]
    def with_labels(labels)
      validate_label_names(labels)
      dup.preset(preset_labels.merge(labels))
    end

    # Lets the series be exposed, at zero, before anything is counted.
    # @param labels [Hash{Symbol => Object}, nil]
    # @return [void]
    def init_label_set(labels)
      @native.touch(label_values(labels))
    end

    # The value over all processes; of a gauge with a sample per process, this one's.
    # @param labels [Hash{Symbol => Object}, nil]
    # @return [Float, Hash{String => Float}]
    def get(labels: nil)
      present(@native.get(label_values(labels)))
    end

    # All series with their values over all processes.
    # @return [Hash{Hash{Symbol => String} => Float, Hash{String => Float}}]
    def values
      @native.collect.to_h do |values, worker, number|
        [Metric.labels_of(@labels, values, worker), present(number)]
      end
    end

    # Takes the series of a label set out of the exposition, in all processes. Counting in it again starts at zero.
    # @param labels [Hash{Symbol => Object}, nil]
    # @return [Boolean] was there one?
    def remove(labels: nil)
      @native.remove(label_values(labels))
    end

    # Takes all series out of the exposition.
    # @return [nil]
    def clear
      @native.clear
    end

    protected

    # Only for a copy that nobody has seen yet.
    def preset(labels)
      @preset_labels = labels.transform_values { |value| Metric.text(value) }.freeze
      label_values(nil) if @preset_labels.size == @labels.size
      @native = @native.with(@labels.map { |label| @preset_labels[label] })
      self
    end

    private

    # What the core answered, as prometheus-client has it; nil stands for nothing yet.
    def present(number)
      number || 0.0
    end

    # The values in the order of the label names.
    def label_values(labels)
      given = labels ? @preset_labels.merge(labels) : @preset_labels
      unless given.size == @labels.size && @labels.all? { |label| given.key?(label) }
        raise InvalidLabelSetError,
              "labels must have the same signature (keys given: #{given.keys} vs. keys expected: #{@labels.sort})"
      end
      @labels.map { |label| Metric.text(given[label]) }
    end

    # Counts what the native call has left to us.
    def add_slowly(amount, labels)
      @native.add_to(label_values(labels), Float(amount))
      nil
    end

    def validate_label_names(labels)
      raise InvalidLabelSetError, "#{labels} is not a valid label set" unless labels.respond_to?(:all?)

      labels.each do |label, _|
        raise InvalidLabelError, "label #{label} is not a symbol" unless label.is_a?(Symbol)
        raise ReservedLabelError, "label #{label} must not start with __" if label.start_with?("__")
        raise InvalidLabelError, "label name must match #{LABEL_NAME.source}" unless LABEL_NAME.match?(label.to_s)
        raise ReservedLabelError, "#{label} is reserved" if reserved_labels.include?(label)
      end
    end
  end

  # What is called on counters.
  module CounterCalls
    # @param by [Numeric] not negative
    # @param labels [Hash{Symbol => Object}, nil]
    # @return [nil]
    # @raise [ArgumentError] for a negative amount
    def increment(by: 1, labels: nil)
      return if @native.increment(by, labels)
      raise ArgumentError, "increment must be a non-negative number" if by < 0

      add_slowly(by, labels)
    end
  end

  # What is called on gauges.
  module GaugeCalls
    # @param value [Numeric]
    # @param labels [Hash{Symbol => Object}, nil]
    # @return [nil]
    def set(value, labels: nil)
      return if @native.set(value, labels)
      raise ArgumentError, "value must be a number" unless value.is_a?(Numeric)

      @native.set_to(label_values(labels), Float(value))
      nil
    end

    # @param labels [Hash{Symbol => Object}, nil]
    # @return [nil]
    def set_to_current_time(labels: nil)
      set(Time.now.to_f, labels: labels)
    end

    # @param by [Numeric]
    # @param labels [Hash{Symbol => Object}, nil]
    # @return [nil]
    def increment(by: 1, labels: nil)
      refuse_relative if @latest_only
      return if @native.add(by, labels)

      add_slowly(by, labels)
    end

    # @param (see #increment)
    # @return [nil]
    def decrement(by: 1, labels: nil)
      increment(by: -by, labels: labels)
    end

    # Sets it to zero.
    # @param labels [Hash{Symbol => Object}, nil]
    # @return [nil]
    def init_label_set(labels)
      set(0, labels: labels)
    end

    private

    def refuse_relative
      raise InvalidStoreSettingsError,
            "a gauge that shows the most recent value can only be set: nobody knows what an increment adds to"
    end
  end

  # What is called on histograms and summaries.
  module ObservationCalls
    # @param value [Numeric]
    # @param labels [Hash{Symbol => Object}, nil]
    # @return [nil]
    def observe(value, labels: nil)
      return if @native.observe(value, labels)

      add_slowly(value, labels)
    end
  end

  # What is called on histograms.
  module HistogramCalls
    include ObservationCalls

    private

    # Cumulative counts by upper bound, and the sum.
    def present(numbers)
      keys = @buckets.map(&:to_s)
      keys.pop if @buckets.last == Float::INFINITY
      *counts, sum = numbers || Array.new(keys.size + 2, 0.0)
      total = 0.0
      (keys << "+Inf").zip(counts.map { |count| total += count }).to_h.merge("sum" => sum)
    end
  end

  # What is called on summaries.
  module SummaryCalls
    include ObservationCalls

    private

    def present(numbers)
      count, sum = numbers || [0.0, 0.0]
      { "count" => count, "sum" => sum }
    end
  end

  # What the four kinds have in common.
  class Metric
    include MetricCalls

    NAME = /\A[a-zA-Z_:][a-zA-Z0-9_:]*\z/.freeze
    RESERVED_LABELS = [:pid].freeze
    private_constant :NAME, :RESERVED_LABELS

    # @return [Symbol]
    attr_reader :name
    # @return [String]
    attr_reader :docstring
    # @return [Array<Symbol>]
    attr_reader :labels
    # @return [Hash{Symbol => String}]
    attr_reader :preset_labels

    # @see Promring.counter
    def initialize(name, docstring:, labels: [], preset_labels: {}, store_settings: {})
      validate_name(name)
      raise ArgumentError, "docstring must be given" unless docstring.respond_to?(:empty?) && !docstring.empty?

      validate_label_names(labels)
      validate_label_names(preset_labels)
      @name = name
      @docstring = docstring
      @labels = labels.map(&:itself).freeze
      @native = native(store_settings)
      preset(preset_labels)
      show if labels.empty?
    end

    # Any object as text that Prometheus can carry.
    # @api private
    def self.text(object)
      text = object.to_s
      if text.encoding == Encoding::BINARY
        text = text.dup.force_encoding(Encoding::UTF_8)
      elsif text.encoding != Encoding::UTF_8
        text = text.encode(Encoding::UTF_8, invalid: :replace, undef: :replace)
      end
      text.scrub
    end

    # The labels of a series as the core answers with it: no values are the overflow's, and a worker is told by its pid.
    # @api private
    def self.labels_of(names, values, worker)
      labels = values ? names.zip(values).to_h : { promring_overflow: "true" }
      labels[:pid] = worker if worker
      labels
    end

    private

    def native(store_settings)
      register(@labels, aggregation_mode(store_settings))
    end

    def register(label_names, mode)
      refuse_ractor unless Ractor.current == Ractor.main
      Native::Metric.new(type.to_s, @name.to_s, Metric.text(@docstring), label_names, bounds, mode)
    end

    def refuse_ractor
      raise Ractor::UnsafeError, "metrics are made and counted in the main Ractor: let others send it what to count"
    end

    # Finite upper bounds, of a histogram.
    def bounds
      []
    end

    # How the processes' values combine, as the core calls it. What is summed has nothing to choose.
    def aggregation_mode(store_settings)
      Aggregation.validate(store_settings, allowed: [:sum])
      "all"
    end

    # A label-less metric is exposed from the start.
    def show
      init_label_set(nil)
    end

    def validate_name(name)
      raise ArgumentError, "metric name must be a symbol" unless name.is_a?(Symbol)
      raise ArgumentError, "metric name must match #{NAME.source}" unless NAME.match?(name.to_s)
    end

    def reserved_labels
      RESERVED_LABELS
    end
  end

  # How gauges combine: what prometheus-client and its Python sister call it, and what the core does.
  # @api private
  module Aggregation
    MODES = {
      all: "all", sum: "sum", max: "max", min: "min", most_recent: "mostrecent", mostrecent: "mostrecent",
      liveall: "liveall", livesum: "livesum", livemax: "livemax", livemin: "livemin",
      livemostrecent: "livemostrecent", shared: "shared"
    }.freeze

    def self.validate(settings, allowed: MODES.keys)
      unknown = settings.keys - [:aggregation]
      raise InvalidStoreSettingsError, "unknown settings: #{unknown.join(', ')}" unless unknown.empty?

      chosen = settings.fetch(:aggregation, allowed.first)
      return chosen if allowed.include?(chosen)

      raise InvalidStoreSettingsError, "aggregation is #{chosen.inspect}; it can be #{allowed.join(', ')}"
    end
  end

  # Stands in for the native metric where the process is one label, `pid`, more than the metric has.
  # @api private
  class PerProcess
    def initialize(native, n_labels)
      @native = native
      @n_labels = n_labels
    end

    # Labels given beforehand are in what the slow calls pass.
    def with(_values)
      self
    end

    def increment(_by, _labels)
      false
    end

    def add_to(values, amount)
      @native.add_to(of_this_process(values), amount)
    end

    def touch(values)
      @native.touch(of_this_process(values))
    end

    def get(values)
      @native.get(of_this_process(values))
    end

    def remove(values)
      @native.remove(of_this_process(values))
    end

    def clear
      @native.clear
    end

    def collect
      @native.collect.map { |values, _, number| [values&.first(@n_labels), values&.last, number] }
    end

    private

    def of_this_process(values)
      values + [Process.pid.to_s]
    end
  end

  # Only ever grows.
  class Counter < Metric
    include CounterCalls

    # @return [Symbol]
    def type
      :counter
    end

    private

    # The processes' sum; with `:all`, a sample for each of them.
    def native(store_settings)
      return super unless Aggregation.validate(store_settings, allowed: %i[sum all]) == :all

      PerProcess.new(register(@labels + [:pid], "all"), @labels.size)
    end
  end

  # Goes up and down. Each process has its own value; see {Promring.gauge} for how they combine.
  class Gauge < Metric
    include GaugeCalls

    # @see Promring.gauge
    def initialize(name, docstring:, labels: [], preset_labels: {}, store_settings: {}, aggregation: nil)
      settings = aggregation ? store_settings.merge(aggregation: aggregation) : store_settings
      super(name, docstring: docstring, labels: labels, preset_labels: preset_labels, store_settings: settings)
    end

    # @return [Symbol]
    def type
      :gauge
    end

    private

    def aggregation_mode(store_settings)
      mode = Aggregation::MODES[Aggregation.validate(store_settings)]
      @latest_only = mode.end_with?("mostrecent")
      mode
    end

    # Not set: the zero of a master that never sets it would be the least, or one sample more.
    def show
      @native.touch([])
    end
  end

  # Counts observations in buckets, and sums them up.
  class Histogram < Metric
    include HistogramCalls

    # As in the other client libraries: for the response times of a network service, in seconds.
    DEFAULT_BUCKETS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10].freeze

    # @return [Array<Numeric>] upper bounds
    attr_reader :buckets

    # @return [Array<Float>]
    def self.linear_buckets(start:, width:, count:)
      Array.new(count) { |index| start.to_f + index * width }
    end

    # @return [Array<Float>]
    def self.exponential_buckets(start:, count:, factor: 2)
      Array.new(count) { |index| start.to_f * factor**index }
    end

    # Upper bounds for the core. The last bucket is implied, and may be given.
    # @api private
    def self.finite(buckets)
      bounds = buckets.map { |bound| Float(bound) }
      bounds.pop if bounds.last == Float::INFINITY
      bounds
    end

    # @see Promring.histogram
    def initialize(name, docstring:, labels: [], preset_labels: {}, buckets: DEFAULT_BUCKETS, store_settings: {})
      raise ArgumentError, "Unsorted buckets, typo?" unless buckets.each_cons(2).all? { |low, high| low <= high }

      @buckets = buckets
      super(name, docstring: docstring, labels: labels, preset_labels: preset_labels, store_settings: store_settings)
    end

    # @return [Symbol]
    def type
      :histogram
    end

    private

    def bounds
      Histogram.finite(@buckets)
    end

    def reserved_labels
      super + [:le]
    end
  end

  # Count and sum of observations.
  class Summary < Metric
    include SummaryCalls

    # @return [Symbol]
    def type
      :summary
    end

    private

    def reserved_labels
      super + [:quantile]
    end
  end
end
