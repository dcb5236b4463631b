# frozen_string_literal: true

# `require "statsd/instrument/strict"` of apps that used the gem.
require "promring/statsd"
require "promring/statsd/stand_in/strict"
