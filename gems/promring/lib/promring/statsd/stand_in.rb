# frozen_string_literal: true

# StatsD and StatsD::Instrument for apps without the gem statsd-instrument: its methods, not its code.

require "forwardable"
require "logger"
require "promring/statsd/stand_in/datagrams"
require "promring/statsd/stand_in/sinks"
require "promring/statsd/stand_in/client"
require "promring/statsd/stand_in/methods"
require "promring/statsd/stand_in/compiled_metric"
require "promring/statsd/stand_in/testing"

# The calls that apps make.
module StatsD
  class << self
    extend Forwardable

    # @return [Logger]
    attr_writer :logger
    # @return [StatsD::Instrument::Client]
    attr_writer :singleton_client

    def logger
      @logger ||= Logger.new($stderr)
    end

    def singleton_client
      @singleton_client ||= Instrument::Environment.current.client
    end

    def_delegators :singleton_client, :increment, :gauge, :set, :measure, :histogram, :distribution, :event, :service_check
  end
end

require "promring/statsd/stand_in/strict" if ENV["STATSD_STRICT_MODE"]
# Old names of files that apps require: found last, so that nothing of anybody else's is hidden.
$LOAD_PATH.push(File.expand_path("stand_in/old_names", __dir__))
