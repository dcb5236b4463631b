#!/usr/bin/env bash
# Starts the example and compares what /metrics says, in the app and on the aggregator's port.
# The wheel must be there: ci/wheel VENV, then PATH=VENV/bin:$PATH examples/gunicorn-wsgi/check.sh
. "$(dirname "${BASH_SOURCE[0]}")/../check.lib"

start gunicorn -c gunicorn.conf.py -b "127.0.0.1:$PORT" -w 4 app:app
wait_for "$PORT/metrics" "$listen/-/ready"
count_and_compare "$PORT/metrics" "$listen/metrics"
