# frozen_string_literal: true

# `require "statsd/instrument/client"` of apps that used the gem: there already.
require "promring/statsd"
