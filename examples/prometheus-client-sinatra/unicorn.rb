# frozen_string_literal: true

# Unicorn's configuration. The first line is an extra: /metrics on a port of its own.
require "promring/unicorn"

listen "127.0.0.1:#{ENV.fetch('PORT', 8080)}"
worker_processes Integer(ENV.fetch("WEB_CONCURRENCY", 4))
preload_app true
