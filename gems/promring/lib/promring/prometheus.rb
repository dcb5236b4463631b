# frozen_string_literal: true

# `require "promring/prometheus"`: prometheus-client's own classes on native handles, with one page for all processes.
#
# Counter, Gauge, Histogram and Summary get promring's calls prepended, metrics that exist already included, so code and
# subclasses stay as they are. What is no instance of these four counts through the data store, which is ours then.
# Without the gem prometheus-client the same names come from promring/standalone.

# prometheus-client-mmap has the file, too, with another API: told by what it lacks. Debian installs it where every
# program finds it.
theirs = $LOAD_PATH.any? { |path| File.exist?("#{path}/prometheus/client/config.rb") } ||
         Gem::Specification.find_all_by_name("prometheus-client").any? { |gem| gem.version >= Gem::Version.new("1") }
$LOAD_PATH.unshift(File.expand_path("standalone", __dir__)) unless theirs
require "prometheus/client"
unless Prometheus::Client.respond_to?(:config)
  raise LoadError, "promring/prometheus: another gem's Prometheus::Client is loaded, prometheus-client-mmap's perhaps; " \
                   "it has to leave the Gemfile"
end
require "promring/data_store"
require "promring/servers"

module Promring
  # What makes prometheus-client run on promring. Nothing in it is called by apps.
  # @api private
  module ClientRuby
    CALLS = { Counter: CounterCalls, Gauge: GaugeCalls, Histogram: HistogramCalls, Summary: SummaryCalls }.freeze

    class << self
      # Once; a second time changes nothing.
      def activate
        Errors.adopt
        return if standalone? || @active

        @active = true
        DataStore.learn_from_metrics
        client = ::Prometheus::Client
        client::Config.prepend(OurStore)
        CALLS.each { |name, calls| client.const_get(name).prepend(OnNative, calls, MetricCalls) }
        take_over_metrics
        require "prometheus/client/formats/text"
        client::Formats::Text.singleton_class.prepend(OnePage)
        require "prometheus/middleware/exporter"
        require "prometheus/middleware/collector"
        ::Prometheus::Middleware::Exporter.prepend(Exporter)
        ::Prometheus::Middleware::Collector.prepend(Collector)
      end

      # Is it all on the page of the app?
      def shown?(metric)
        metric.is_a?(::Prometheus::Client::Metric) && metric.instance_variable_get(:@store).then do |store|
          store.respond_to?(:native) && store.native && !store.isolated?
        end
      end

      private

      def standalone?
        ::Prometheus::Client::Metric == Promring::Metric
      end

      # Metrics made before. What they have counted is kept, but for observations, of which only buckets are known.
      def take_over_metrics
        stores = {}.compare_by_identity # a metric and what its with_labels has made share one
        CALLS.each_key do |name|
          ObjectSpace.each_object(::Prometheus::Client.const_get(name)).each do |metric|
            before = metric.send(:move_to_promring)
            next if stores[before]

            stores[before] = true
            metric.send(:keep_values, before)
          end
        end
      end
    end

    # Prepended to Config: whichever store the app chooses, ours is used.
    module OurStore
      def data_store
        chosen = super
        return chosen if chosen.is_a?(DataStore)

        @promring_store ||= DataStore.new
      end
    end

    # Prepended to the four classes: where `@native` comes from.
    module OnNative
      def initialize(name, **)
        super
        take_native
      end

      # A label-less metric calls it while it is made: shown, not set. The zero of a master that never sets it would be
      # the least, or one sample more.
      def init_label_set(labels)
        return super if @native

        take_native.touch([])
      end

      protected

      def preset(labels)
        super
        @all_labels_preset = @preset_labels.size == @labels.size
        self
      end

      private

      def take_native
        return @native if @native

        @latest_only = @store_settings[:aggregation] == :most_recent
        @native = @store.native_for(@labels)
        preset(@preset_labels)
        @native
      end

      def validate_label_names(labels)
        @validator.validate_symbols!(labels)
      end

      # Returns the store that it had.
      def move_to_promring
        before = @store
        @store = ::Prometheus::Client.config.data_store.for_metric(
          name, metric_type: type, metric_settings: @store_settings, metric: self
        )
        take_native
        before
      end

      # Of this process alone: what files hold is other processes', too. Our own store holds it already.
      def keep_values(before)
        return if before.respond_to?(:native) || before.class.name.to_s.include?("DirectFileStore")

        before.all_values.each { |labels, value| move(labels, value) }
      end

      def move(labels, value)
        values = @labels.map { |label| Metric.text(labels[label]) }
        case type
        when :counter then @native.add_to(values, value)
        when :gauge then @native.set_to(values, value)
        else
          return if value.zero? || @lost_observations

          @lost_observations = true
          Native.log("#{name}: what was observed before promring/prometheus was required is not kept")
        end
      end
    end

    # Prepended to Formats::Text: the default registry's page is the app's, of all processes.
    module OnePage
      Others = Struct.new(:metrics)

      def marshal(registry)
        return super unless registry.equal?(::Prometheus::Client.registry)

        others = registry.metrics.reject { |metric| ClientRuby.shown?(metric) }
        others.empty? ? Promring.expose : Promring.expose + super(Others.new(others))
      end
    end

    # Prepended to Middleware::Exporter: for the default registry, every format that promring speaks.
    module Exporter
      OURS = %r{application/(openmetrics-text|vnd\.google\.protobuf)}.freeze

      private

      def negotiate(env, formats)
        format = super
        return format unless registry.equal?(::Prometheus::Client.registry)

        accept = env["HTTP_ACCEPT"].to_s.scrub
        return format unless format || OURS.match?(accept)
        return format unless registry.metrics.all? { |metric| ClientRuby.shown?(metric) }

        Servers.report
        Page.new(*Native.scrape(accept))
      end

      def respond_with(format)
        return super unless format.is_a?(Page)

        [200, { "content-type" => format.content_type }, [format.text]]
      end
    end

    # Prepended to Middleware::Collector: the Railtie's has nothing to count then.
    module Collector
      def call(env)
        env["promring.collected"] = true
        super
      ensure
        Servers.after_request
      end
    end

    # A page in the format that was asked for.
    Page = Struct.new(:content_type, :text)
  end
end

Promring::ClientRuby.activate
