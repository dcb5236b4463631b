#!/usr/bin/env bash
# Starts the example, asks it, checks what it counted, and stops it. Needs uvicorn and promring on the PATH.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
work=$(mktemp -d -p /dev/shm promring-example.XXXXXX)
export PROMRING_SEGMENT=$work/segment
port=${PORT:-18001}

uvicorn --workers 4 --port "$port" app:app >"$work/log" 2>&1 &
server=$!
trap 'kill $server 2>/dev/null; wait $server || true; rm -rf "$work"' EXIT

get() { curl --silent --fail --noproxy '*' "http://127.0.0.1:$port$1"; }
until get /metrics; do
    kill -0 $server || { cat "$work/log"; exit 1; }
    sleep 0.1
done >/dev/null
for units in 1 2 3 4; do
    get "/work?n=$units&kind=book"
done
get /metrics | grep -x 'demo_work_total{kind="book"} 10'
get /metrics | grep -x 'demo_work_seconds_count 4'
echo "uvicorn-asgi: ok"
