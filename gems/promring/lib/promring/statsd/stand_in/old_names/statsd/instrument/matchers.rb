# frozen_string_literal: true

# `require "statsd/instrument/matchers"` of apps that used the gem.
require "rspec/expectations"
require "promring/statsd"
