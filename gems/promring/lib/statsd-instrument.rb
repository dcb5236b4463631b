# frozen_string_literal: true

# `require "statsd-instrument"` of apps without that gem. Where the gem is to be had, it is what they get.

require "promring"
require "promring/statsd/gem_file"

file = Promring::StatsD.gem_file
require(file || "promring/statsd")
