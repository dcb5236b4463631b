# frozen_string_literal: true

# What apps call of prometheus-client, where that gem is not there: its names for promring's own classes.

require "promring"

module Prometheus
  # The metrics of the app, under the names that its code knows.
  module Client
    Metric = Promring::Metric
    Counter = Promring::Counter
    Gauge = Promring::Gauge
    Histogram = Promring::Histogram
    Summary = Promring::Summary
    LabelSetValidator = Promring::LabelSetValidator

    # The metrics that belong together: those of the app, or of a library that keeps its own apart.
    class Registry
      AlreadyRegisteredError = Promring::AlreadyRegisteredError

      def initialize
        @metrics = {}
        @mutex = Mutex.new
      end

      # @return [Metric] the same
      # @raise [AlreadyRegisteredError]
      def register(metric)
        name = metric.name.to_sym
        @mutex.synchronize do
          raise AlreadyRegisteredError, "#{name} has already been registered" if @metrics.key?(name)

          @metrics[name] = metric
        end
      end

      # Of the registry alone: what was counted stays on the page.
      def unregister(name)
        @mutex.synchronize { @metrics.delete(name.to_sym) }
      end

      def counter(name, **options)
        register(Counter.new(name, **options))
      end

      def gauge(name, **options)
        register(Gauge.new(name, **options))
      end

      def histogram(name, **options)
        register(Histogram.new(name, **options))
      end

      def summary(name, **options)
        register(Summary.new(name, **options))
      end

      def exist?(name)
        @mutex.synchronize { @metrics.key?(name) }
      end

      def get(name)
        @mutex.synchronize { @metrics[name.to_sym] }
      end

      def metrics
        @mutex.synchronize { @metrics.values }
      end
    end

    # Takes the store that an app chooses. Metrics here need none; until then it is ours.
    class Config
      attr_writer :data_store

      def data_store
        @data_store ||= Promring::DataStore.new
      end
    end

    # Stores that an app may name. They keep nothing.
    module DataStores
      class Synchronized
      end

      class SingleThreaded
      end

      class DirectFileStore
        InvalidStoreSettingsError = Promring::InvalidStoreSettingsError

        def initialize(dir:)
          @dir = dir
        end
      end
    end

    def self.registry
      @registry ||= Registry.new
    end

    def self.config
      @config ||= Config.new
    end
  end
end
