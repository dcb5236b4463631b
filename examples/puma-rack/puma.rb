# frozen_string_literal: true

# Puma's configuration: several workers, and the aggregator beside them on a port of its own.
bind "tcp://127.0.0.1:#{ENV.fetch('PORT', 9292)}"
workers Integer(ENV.fetch("WEB_CONCURRENCY", 4))
threads 1, 4
preload_app! false # each worker loads the app, so that a phased restart (USR1) can bring in a new version
rackup File.expand_path("config.ru", __dir__)

plugin :promring
