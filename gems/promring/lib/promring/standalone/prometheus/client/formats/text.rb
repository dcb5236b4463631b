# frozen_string_literal: true

# The page as text: all of it for the app's registry, of another registry what it holds.

require "prometheus/client"

module Prometheus
  module Client
    module Formats
      # Text 0.0.4.
      module Text
        MEDIA_TYPE = "text/plain"
        VERSION = "0.0.4"
        CONTENT_TYPE = "#{MEDIA_TYPE}; version=#{VERSION}".freeze

        # @return [String]
        def self.marshal(registry)
          page = Promring.expose
          return page if registry.equal?(Client.registry)

          names = registry.metrics.to_h { |metric| [metric.name.to_s, true] }
          families = page.split(/^(?=# HELP )/)
          families.select { |family| names[family[/\A# HELP (\S+)/, 1]] }.join
        end
      end
    end
  end
end
