# frozen_string_literal: true

# Puma's configuration. The plug-in is an extra: /metrics on a port of its own, which answers though all workers are busy.
bind "tcp://127.0.0.1:#{ENV.fetch('PORT', 9292)}"
workers Integer(ENV.fetch("WEB_CONCURRENCY", 4))
threads 1, 4
preload_app!
plugin :promring
