#!/usr/bin/env bash
# Starts the example, asks it, checks what it counted, and stops it. Needs gunicorn and promring on the PATH.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
work=$(mktemp -d -p /dev/shm promring-example.XXXXXX)
export HOME=$work PROMRING_SEGMENT=$work/segment PROMRING_LISTEN=127.0.0.1:${METRICS_PORT:-19394}
app=127.0.0.1:${PORT:-18000}

gunicorn -c gunicorn.conf.py -b "$app" -w 4 app:app >"$work/log" 2>&1 &
server=$!
trap 'kill $server 2>/dev/null; wait $server || true; rm -rf "$work"' EXIT

get() { curl --silent --fail --noproxy '*' "http://$1"; }
until get "$app/metrics" && get "$PROMRING_LISTEN/-/ready"; do
    kill -0 $server || { cat "$work/log"; exit 1; }
    sleep 0.1
done >/dev/null
for units in 1 2 3 4; do
    get "$app/work?n=$units&kind=book"
done
for page in "$app/metrics" "$PROMRING_LISTEN/metrics"; do
    get "$page" | grep -x 'demo_work_total{kind="book"} 10'
    get "$page" | grep -x 'demo_work_seconds_count 4'
done
echo "gunicorn-wsgi: ok"
