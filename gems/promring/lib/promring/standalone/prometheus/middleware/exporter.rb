# frozen_string_literal: true

# Rack: answers /metrics, with prometheus-client's options.

require "prometheus/client"
require "prometheus/client/formats/text"
require "promring/rack"

module Prometheus
  module Middleware
    # Of the app's registry it is promring's exporter; another registry's page is text.
    class Exporter < Promring::Rack::Exporter
      attr_reader :app, :registry, :path

      def initialize(app, options = {})
        super(app, path: options[:path] || "/metrics", port: options[:port])
        @registry = options[:registry] || Client.registry
      end

      private

      def page(accept)
        return super if @registry.equal?(Client.registry)

        [Client::Formats::Text::CONTENT_TYPE, Client::Formats::Text.marshal(@registry)]
      end
    end
  end
end
