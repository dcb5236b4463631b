# frozen_string_literal: true

# The file of this name in prometheus-client.
require "prometheus/client"
