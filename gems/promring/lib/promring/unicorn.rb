# frozen_string_literal: true

# `require "promring/unicorn"` at the top of unicorn.rb starts the aggregator in Unicorn's master.
#
# Unicorn reads its configuration in the master, daemonised already, before it forks. On USR2 a second master does the
# same: both masters use one segment, found by its path, and the second aggregator stands by until the first has ended
# with its master. Unicorn's workers and listeners are shown as gauges.

require "promring"
require "promring/servers"

Unicorn::HttpServer.prepend(Promring::Servers::Unicorn::Watched) if defined?(Unicorn::HttpServer)
# With `worker_exec true` each worker reads the configuration, too.
Promring.start_aggregator unless ENV["UNICORN_WORKER"]
