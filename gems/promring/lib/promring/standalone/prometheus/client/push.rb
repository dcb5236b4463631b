# frozen_string_literal: true

# Pushes a registry's page to a push gateway, for jobs that end before anybody scrapes them.

require "net/http"
require "uri"
require "prometheus/client"
require "prometheus/client/formats/text"

module Prometheus
  module Client
    # One group of metrics at a gateway.
    class Push
      class HttpError < StandardError; end
      class HttpRedirectError < HttpError; end
      class HttpClientError < HttpError; end
      class HttpServerError < HttpError; end

      DEFAULT_GATEWAY = "http://localhost:9091"

      attr_reader :job, :gateway, :path

      def initialize(job:, gateway: DEFAULT_GATEWAY, grouping_key: {}, **timeouts)
        raise ArgumentError, "job cannot be nil" if job.nil?
        raise ArgumentError, "job cannot be empty" if job.to_s.empty?

        @job = job
        @gateway = gateway || DEFAULT_GATEWAY
        @uri = parse(@gateway)
        @path = ["/metrics", *[[:job, job], *grouping_key].map { |name, value| element(name, value.to_s) }].join("/")
        @http = Net::HTTP.new(@uri.host, @uri.port)
        @http.use_ssl = @uri.scheme == "https"
        timeouts.each { |name, seconds| @http.public_send(:"#{name}=", seconds) if seconds }
      end

      def basic_auth(user, password)
        @user = user
        @password = password
      end

      # Adds to the group: metrics of other names stay.
      def add(registry)
        send_request(Net::HTTP::Post, registry)
      end

      # The group is what the registry holds.
      def replace(registry)
        send_request(Net::HTTP::Put, registry)
      end

      def delete
        send_request(Net::HTTP::Delete)
      end

      private

      def parse(url)
        uri = URI.parse(url)
        raise ArgumentError, "only HTTP gateway URLs are supported currently." unless uri.is_a?(URI::HTTP)

        uri
      rescue URI::InvalidURIError => error
        raise ArgumentError, "#{url} is not a valid URL: #{error}"
      end

      # Slashes and nothing at all are not possible in a path's element as they are.
      def element(name, value)
        return "#{name}@base64/=" if value.empty?
        return "#{name}@base64/#{[value].pack('m0').tr('+/', '-_')}" if value.include?("/")

        "#{name}/#{URI.encode_www_form_component(value).gsub('+', '%20')}"
      end

      def send_request(method, registry = nil)
        request = method.new(@uri.path.chomp("/") + @path)
        request.content_type = Formats::Text::CONTENT_TYPE
        request.basic_auth(@user, @password) if @user
        request.body = Formats::Text.marshal(registry) if registry
        answer(@http.request(request))
      end

      def answer(response)
        failure = { "3" => HttpRedirectError, "4" => HttpClientError, "5" => HttpServerError }[response.code[0]]
        return response unless failure

        raise failure, "status: #{response.code}, message: #{response.message}, body: #{response.body}"
      end
    end
  end
end
