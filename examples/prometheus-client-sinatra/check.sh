#!/usr/bin/env bash
# Starts the example under Puma and under Unicorn, and compares what /metrics says in the app and on the aggregator's port.
# The gem must be there: ci/gem DIRECTORY, then GEM_HOME=DIRECTORY examples/prometheus-client-sinatra/check.sh
if (($# == 0)); then
    for server in puma unicorn; do "${BASH_SOURCE[0]}" $server || exit; done
    exit
fi
. "$(dirname "${BASH_SOURCE[0]}")/../check.lib"

export BUNDLE_GEMFILE=$segments/Gemfile # Bundler writes its lock file beside it
cp Gemfile "$segments"
declare -A configuration=([puma]=-C [unicorn]=-c)
start "${RUBY:-ruby}" -S "$1" "${configuration[$1]}" "$1.rb" config.ru
wait_for "$PORT/metrics" "$listen/-/ready"
count_and_compare "$PORT/metrics" "$listen/metrics"
page=$(ask "$PORT/metrics") # read whole: a pipe that closes early would fail curl
grep -q '^http_server_requests_total{code="200",method="get",path="/work"} 20$' <<<"$page"
