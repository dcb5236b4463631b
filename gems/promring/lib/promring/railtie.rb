# frozen_string_literal: true

# Rails: nothing to configure. /metrics is answered, requests are counted, notices go to Rails' logger.

require "rails/railtie"
require "promring/rack"

module Promring
  # @example what can be set, in config/application.rb
  #   config.promring.path = "/internal/metrics"   # nil: no endpoint in the app
  #   config.promring.port = 9000                  # answered on this port only
  #   config.promring.collector = false            # requests are not counted
  class Railtie < ::Rails::Railtie
    config.promring = ActiveSupport::OrderedOptions.new
    config.promring.path = "/metrics"
    config.promring.collector = true

    # Last of all: a collector that the app has put in is around ours then, which leaves its requests to it.
    initializer "promring.middleware", before: :build_middleware_stack do |app|
      options = app.config.promring
      app.middleware.insert_before(0, Rack::Exporter, path: options.path, port: options.port) if options.path
      app.middleware.use(Rack::Collector) if options.collector
    end

    config.after_initialize { Promring.logger = ::Rails.logger }
  end
end
