# frozen_string_literal: true

# The data store of prometheus-client: its own metric classes, counting into the ring.
#
# A store is told a metric's name and type only, while a family in the segment has label names, buckets and a help text.
# These are learnt from the metric under construction, which asks for its store; see {DataStore::Asking}. A histogram
# increments a bucket and a sum, a summary a count and a sum: both are one event here, the sum's.

require "monitor"
require "promring"

module Promring
  # @example
  #   Prometheus::Client.config.data_store = Promring::DataStore.new   # before the first metric is made
  class DataStore
    InvalidStoreSettingsError = Promring::InvalidStoreSettingsError

    AGGREGATIONS = %i[sum max min all most_recent].freeze
    METRIC = :promring_metric
    private_constant :AGGREGATIONS, :METRIC

    # A store with data of its own, which no other sees: for tests.
    # @return [DataStore]
    def self.isolated
      @n_isolated = (@n_isolated || 0) + 1
      new(namespace: "isolated:#{Process.pid}:#{@n_isolated}")
    end

    # @param namespace [String, nil] stands before all names, and keeps this store's data apart from other stores'
    def initialize(namespace: nil)
      @namespace = namespace
      @stores = {}
      @lock = Monitor.new
      DataStore.learn_from_metrics
    end

    # What a metric keeps its values in; the same for the same name and type.
    # @param metric_name [Symbol]
    # @param metric_type [Symbol]
    # @param metric_settings [Hash] of them `aggregation` alone: `:sum`, of gauges also `:max`, `:min`, `:all` and
    #   `:most_recent`, of counters `:all`
    # @param metric [#labels, nil] the metric itself, of which labels, help text and buckets are taken
    # @return [MetricStore]
    # @raise [InvalidStoreSettingsError]
    # @raise [AlreadyRegisteredError] when the name is that of another metric
    def for_metric(metric_name, metric_type:, metric_settings: {}, metric: Thread.current[METRIC])
      aggregation = aggregation_of(metric_type, metric_settings)
      metric = nil unless metric&.name == metric_name
      buckets = metric.buckets if metric && metric_type == :histogram
      key = [metric_name, metric_type, aggregation, metric&.labels&.sort, buckets]
      @lock.synchronize { @stores[key] ||= make(metric_name, metric_type, aggregation, metric) }
    end

    # Prepended to prometheus-client's Metric: while a metric is made, its store can see it.
    # @api private
    module Asking
      def initialize(name, **)
        outer = Thread.current[METRIC]
        Thread.current[METRIC] = self
        super
      ensure
        Thread.current[METRIC] = outer
      end
    end
    private_constant :Asking

    # @api private
    def self.learn_from_metrics
      ::Prometheus::Client::Metric.prepend(Asking) if defined?(::Prometheus::Client::Metric)
    end

    private

    def make(name, type, aggregation, metric)
      name = :"#{@namespace}:#{name}" if @namespace
      CLASSES.fetch(type).new(name, type, aggregation, metric, !@namespace.nil?)
    end

    # As DirectFileStore does, except that what was added up cannot show the largest or least of its processes.
    def aggregation_of(type, settings)
      unknown = settings.keys - [:aggregation]
      wrong("Only :aggregation setting can be specified, not #{unknown.join(', ')}") unless unknown.empty?

      chosen = settings.fetch(:aggregation, type == :gauge ? :all : :sum)
      known = AGGREGATIONS.include?(chosen)
      wrong("Metrics need a valid :aggregation key, one of #{AGGREGATIONS.join(', ')}") unless known
      return chosen if type == :gauge || chosen == :sum || (chosen == :all && type == :counter)

      wrong("Only gauges support the :#{chosen} aggregation, not a #{type}")
    end

    def wrong(text)
      raise InvalidStoreSettingsError, text
    end

    # The values of one metric, by label sets.
    class MetricStore
      # What a metric class of prometheus-client's needs to count past its store.
      # @api private
      attr_reader :native

      # Has it data of its own, under a name that no page should show?
      # @api private
      def isolated?
        @isolated
      end

      # What the metric's own calls go to, with label values in the order of these names.
      # @api private
      def native_for(_names)
        @native
      end

      # @api private
      def initialize(name, type, aggregation, metric, isolated)
        @isolated = isolated
        @name = name
        @type = type
        @aggregation = aggregation
        @metric = metric
        @lock = Monitor.new
        register(metric.labels) if metric
      end

      # Runs the block while no other thread of this process is in such a block of this store.
      def synchronize
        entered = enter
        yield
      ensure
        @lock.exit if entered
      end

      # @return [Float] the value over all processes; of a gauge with a sample per process, this one's
      def get(labels:)
        label_names(labels)
        present(@native.get(values_of(labels)), labels)
      end

      # @return [Hash{Hash{Symbol => String} => Float}] over all processes; 0.0 for what there is not
      def all_values
        found = Hash.new { |_, _| 0.0 }
        return found unless @native

        @native.collect.each do |values, worker, number|
          add_parts(found, Metric.labels_of(@label_names, values, worker), number)
        end
        found
      end

      private

      # A signal handler may not wait for a lock, nor need it: a single call is not interrupted.
      def enter
        @lock.enter
        true
      rescue ThreadError
        false
      end

      # Without the metric, the first labels say which there are.
      def label_names(labels)
        @label_names || @lock.synchronize { @label_names || register(names_in(labels)) }
      end

      def names_in(labels)
        labels.keys
      end

      def register(names)
        text = @metric ? Metric.text(@metric.docstring) : "A metric of prometheus-client."
        @native = Native::Metric.new(@type.to_s, @name.to_s, text, names.map(&:itself), bounds, mode)
        @label_names = names.dup.freeze
      end

      def bounds
        []
      end

      def mode
        "all"
      end

      # Label values in the order of the names.
      def values_of(labels)
        return @label_names.map { |name| Metric.text(labels[name]) } if names_in(labels).sort == @label_names.sort

        raise InvalidLabelSetError,
              "labels must have the same signature (keys given: #{labels.keys} vs. keys expected: #{@label_names.sort})"
      end

      def present(number, _labels)
        number || 0.0
      end

      def add_parts(found, labels, number)
        found[labels] = number
      end

      def refuse(what)
        Native.log("#{@name}: #{what}. It is not counted") unless @refused
        @refused = true
        nil
      end
    end

    # A counter's, of which each process has a part that only grows.
    class CounterStore < MetricStore
      # @return [Float] what this process has counted
      def increment(labels:, by: 1)
        label_names(labels) unless @native
        labels = labels.merge(pid: Process.pid) if @per_process
        @native.count(by, labels) || @native.count_to(values_of(labels), Float(by))
      end

      # Counts what is missing to that value of this process's; a counter does not go back.
      # @return [Float]
      def set(labels:, val:)
        counted = increment(labels: labels, by: 0)
        return increment(labels: labels, by: val - counted) if val > counted

        refuse("a counter at #{counted} was set to #{val}") if val < counted && !val.zero?
        counted
      end

      # @return [Float]
      def get(labels:)
        label_names(labels)
        super(labels: @per_process ? labels.merge(pid: Process.pid) : labels)
      end

      # @api private
      def native_for(names)
        @per_process ? PerProcess.new(@native, names.size) : @native
      end

      private

      # A part for each process is a label here: their sum would be all that is left otherwise.
      def register(names)
        @per_process = @aggregation == :all
        super(@per_process ? names + [:pid] : names)
      end
    end

    # A gauge's.
    class GaugeStore < MetricStore
      # @return [Float] this process's value
      # @raise [InvalidStoreSettingsError] when the most recent value is shown: nobody knows what this adds to
      def increment(labels:, by: 1)
        if @aggregation == :most_recent
          raise InvalidStoreSettingsError, "The :most_recent aggregation does not support the use of increment/decrement"
        end

        label_names(labels) unless @native
        @native.count(by, labels) || @native.count_to(values_of(labels), Float(by))
      end

      # @return [Float]
      def set(labels:, val:)
        label_names(labels) unless @native
        val = val.to_f
        @native.set(val, labels) || @native.set_to(values_of(labels), val)
        val
      end

      private

      def mode
        Aggregation::MODES.fetch(@aggregation)
      end
    end

    # A histogram's or a summary's: one event for each observation.
    class ObservationStore < MetricStore
      # @api private
      def initialize(name, type, ...)
        @part = type == :histogram ? :le : :quantile
        super
      end

      # The sum's increment is the observation; where it belongs and that it is one follow from it.
      # @return [void]
      def increment(labels:, by: 1)
        return unless labels[@part] == "sum"

        label_names(labels) unless @native
        @native.observe_sum(by, labels) || @native.add_to(values_of(labels), Float(by))
      end

      # Zero only: the label set is shown before anything is observed.
      # @return [void]
      def set(labels:, val:)
        label_names(labels)
        return refuse("a #{@type} was set to #{val}") unless val.zero?

        @native.touch(values_of(labels)) if labels[@part] == "sum"
      end

      private

      def names_in(labels)
        labels.keys - [@part]
      end

      def register(names)
        return super if @metric || @type == :summary

        raise InvalidStoreSettingsError, "#{@name}: a histogram's buckets must be known: give for_metric the metric"
      end

      def bounds
        @type == :summary ? [] : Histogram.finite(@metric.buckets)
      end

      # The parts of an observation in the order in which the core has them.
      def parts
        @parts ||= @type == :summary ? %w[count sum] : bucket_names + ["sum"]
      end

      # As prometheus-client asks for them. An infinite bucket that is given is called as a number is.
      def bucket_names
        names = @metric.buckets.map(&:to_s)
        @metric.buckets.last == Float::INFINITY ? names : names + ["+Inf"]
      end

      def present(numbers, labels)
        index = parts.index(labels[@part])
        (numbers && index && numbers[index]) || 0.0
      end

      def add_parts(found, labels, numbers)
        parts.zip(numbers) { |part, number| found[labels.merge(@part => part)] = number }
      end
    end

    CLASSES = { counter: CounterStore, gauge: GaugeStore, histogram: ObservationStore, summary: ObservationStore }.freeze
    private_constant :MetricStore, :CounterStore, :GaugeStore, :ObservationStore, :CLASSES
  end
end
