#!/usr/bin/env bash
# Starts the example and compares what /metrics says, in the app and on the aggregator's port.
# The gem must be there: ci/gem DIRECTORY, then GEM_HOME=DIRECTORY examples/unicorn-rack/check.sh
. "$(dirname "${BASH_SOURCE[0]}")/../check.lib"

start "${RUBY:-ruby}" -S unicorn -c unicorn.rb config.ru
wait_for "$PORT/metrics" "$listen/-/ready"
count_and_compare "$PORT/metrics" "$listen/metrics"
