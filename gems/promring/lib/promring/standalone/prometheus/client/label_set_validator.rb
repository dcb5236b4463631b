# frozen_string_literal: true

# The file of this name in prometheus-client; all of it stands in one here.
require "prometheus/client"
