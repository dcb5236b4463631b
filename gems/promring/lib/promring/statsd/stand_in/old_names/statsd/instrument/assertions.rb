# frozen_string_literal: true

# `require "statsd/instrument/assertions"` of apps that used the gem: there already.
require "promring/statsd"
