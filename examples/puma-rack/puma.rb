# frozen_string_literal: true

# Puma's configuration: several workers, and the aggregator beside them on a port of its own.
bind "tcp://127.0.0.1:#{ENV.fetch('PORT', 9292)}"
workers Integer(ENV.fetch("WEB_CONCURRENCY", 4))
threads 1, 4
preload_app! false # a phased restart (SIGUSR1) replaces the workers one by one
rackup File.expand_path("config.ru", __dir__)

plugin :promring
