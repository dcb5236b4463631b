# frozen_string_literal: true

# `require "statsd/instrument/compiled_metric"` of apps that used the gem: there already.
require "promring/statsd"
