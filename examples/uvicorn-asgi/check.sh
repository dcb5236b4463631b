#!/usr/bin/env bash
# Starts the example and compares what /metrics says: any of the workers answers for all.
# The wheel must be there: ci/wheel VENV, then PATH=VENV/bin:$PATH examples/uvicorn-asgi/check.sh
. "$(dirname "${BASH_SOURCE[0]}")/../check.lib"

start uvicorn --workers 4 --port "$PORT" app:app
wait_for "$PORT/metrics"
count_and_compare "$PORT/metrics"
