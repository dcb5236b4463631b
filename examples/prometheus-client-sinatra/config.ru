# frozen_string_literal: true

# The app behind prometheus-client's middlewares.
require "bundler"
Bundler.require
require_relative "app"
require "prometheus/middleware/collector"
require "prometheus/middleware/exporter"

use Prometheus::Middleware::Exporter
use Prometheus::Middleware::Collector
run App
