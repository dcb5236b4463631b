# frozen_string_literal: true

# `extend StatsD::Instrument`: calls of a class's methods are counted or timed.

module StatsD
  # Each `statsd_…` puts a module before the class; each `statsd_remove_…` takes the method out of it again.
  module Instrument
    class << self
      # @api private
      def name_for(name, object, arguments)
        (name.respond_to?(:call) ? name.call(object, arguments) : name).gsub("::", ".")
      end

      # @api private
      def tags_for(tags, object, arguments)
        tags.respond_to?(:call) ? tags.call(object, arguments) : tags
      end

      # The seconds that the block takes.
      # @return [Float]
      def duration
        started = Process.clock_gettime(Process::CLOCK_MONOTONIC)
        yield
        Process.clock_gettime(Process::CLOCK_MONOTONIC) - started
      end
    end

    def statsd_measure(method, name, client: nil, **options)
      statsd_time(:measure, method, name, client, options)
    end

    def statsd_distribution(method, name, client: nil, **options)
      statsd_time(:distribution, method, name, client, options)
    end

    def statsd_count(method, name, sample_rate: nil, tags: nil, no_prefix: false, client: nil)
      statsd_put(method, name, :count) do
        define_method(method) do |*arguments, &block|
          (client || ::StatsD.singleton_client).increment(
            Instrument.name_for(name, self, arguments),
            sample_rate: sample_rate, tags: Instrument.tags_for(tags, self, arguments), no_prefix: no_prefix
          )
          super(*arguments, &block)
        end
      end
    end

    # Calls that return something true, or something that the block finds good.
    def statsd_count_if(method, name, sample_rate: nil, tags: nil, no_prefix: false, client: nil, &good)
      statsd_judge(method, :count_if, name, good) do |object, arguments, success, _error|
        next unless success

        (client || ::StatsD.singleton_client).increment(
          Instrument.name_for(name, object, arguments),
          sample_rate: sample_rate, tags: Instrument.tags_for(tags, object, arguments), no_prefix: no_prefix
        )
      end
    end

    # Likewise, as `name.success` and `name.failure`.
    def statsd_count_success(method, name, sample_rate: nil, tags: nil, no_prefix: false, client: nil, tag_error_class: false, &good)
      statsd_judge(method, :count_success, name, good) do |object, arguments, success, error|
        found = Instrument.tags_for(tags, object, arguments)
        found = Helpers.add_tag(found, :error_class, error.class.name) if tag_error_class && error
        (client || ::StatsD.singleton_client).increment(
          "#{Instrument.name_for(name, object, arguments)}.#{success ? 'success' : 'failure'}",
          sample_rate: sample_rate, tags: found, no_prefix: no_prefix
        )
      end
    end

    %i[count count_if count_success measure distribution].each do |action|
      define_method(:"statsd_remove_#{action}") do |method, name|
        statsd_module(method, name, action).send(:remove_method, method)
      end
    end

    # @api private
    def statsd_instrumentations
      return @statsd_instrumentations if defined?(@statsd_instrumentations)
      return superclass.statsd_instrumentations if respond_to?(:superclass) && superclass.respond_to?(:statsd_instrumentations)

      @statsd_instrumentations = {}
    end

    private

    def statsd_time(call, method, name, client, options)
      tags = options.delete(:tags)
      statsd_put(method, name, call) do
        define_method(method) do |*arguments, &block|
          client_of_call = client || ::StatsD.singleton_client
          client_of_call.public_send(call, Instrument.name_for(name, self, arguments),
                                     tags: Instrument.tags_for(tags, self, arguments), **options) do
            super(*arguments, &block)
          end
        end
      end
    end

    # What `judged` gets, also of a call that raises: object, arguments, was it a success, what it raised.
    def statsd_judge(method, action, name, good, &judged)
      statsd_put(method, name, action) do
        define_method(method) do |*arguments, &block|
          success = false
          result = super(*arguments, &block)
          begin
            success = good ? good.call(result) : result
          rescue StandardError => error
            success = false
          end
          result
        rescue StandardError => error
          raise
        ensure
          judged.call(self, arguments, success, error)
        end
      end
    end

    def statsd_put(method, name, action, &definition)
      before = statsd_module(method, name, action)
      raise ArgumentError, "Already instrumented #{method} for #{self.name}" if before.method_defined?(method)
      unless method_defined?(method) || private_method_defined?(method)
        raise ArgumentError, "could not find method #{method} for #{self.name}"
      end

      visibility = %i[private protected].find { |word| public_send(:"#{word}_method_defined?", method) } || :public
      before.module_eval(&definition)
      before.send(visibility, method)
      before.send(:ruby2_keywords, method)
      prepend(before) unless self < before
    end

    def statsd_module(method, name, action)
      key = [method, name, action]
      unless statsd_instrumentations.key?(key)
        @statsd_instrumentations = statsd_instrumentations.merge(key => Module.new)
      end
      @statsd_instrumentations[key] || statsd_instrumentations[key]
    end
  end
end
