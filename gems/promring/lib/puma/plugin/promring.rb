# frozen_string_literal: true

# `plugin :promring` in puma.rb starts the aggregator in Puma's master, single or cluster, before any worker is forked.

require "puma/plugin"
require "promring"

Puma::Plugin.create do
  def start(_launcher)
    Promring.start_aggregator
  end
end
