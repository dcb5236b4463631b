# frozen_string_literal: true

# `plugin :promring` in puma.rb starts the aggregator in Puma's master, single or cluster, before any worker is forked,
# and shows Puma's own statistics as gauges.

require "puma/plugin"
require "promring"
require "promring/servers"

Puma::Plugin.create do
  def start(launcher)
    statistics = Promring::Servers::Puma.new
    if launcher.options[:workers].to_i.zero?
      Promring::Servers.watch { statistics.update(launcher.stats) }
      in_background { loop { sleep(Promring::Servers::IDLE_SECONDS) && Promring::Servers.report } }
    else
      launcher.events.register(:ping!) { |_worker| statistics.update(launcher.stats) }
    end
    Promring.start_aggregator
  end
end
