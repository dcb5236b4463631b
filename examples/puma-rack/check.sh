#!/usr/bin/env bash
# Starts the example, asks it for work, and compares what /metrics says: in the app and on the aggregator's port.
# The gem must be there: ci/gem DIRECTORY, then GEM_HOME=DIRECTORY examples/puma-rack/check.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

ruby=${RUBY:-ruby}
segments=$(mktemp -d /dev/shm/promring-example-XXXXXX)
read -r PORT listen < <("$ruby" -rsocket -e 'puts Array.new(2) { TCPServer.new("127.0.0.1", 0) }.map { |s| s.addr[1] }.join(" ")')
export PORT WEB_CONCURRENCY=2 PROMRING_SEGMENT=$segments/check PROMRING_LISTEN=127.0.0.1:$listen

"$ruby" -S puma -C puma.rb >"$segments/log" 2>&1 &
server=$!
finish() {
    local status=$?
    ((status == 0)) || cat "$segments/log" >&2
    kill -TERM "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
    until ! curl --silent --noproxy '*' --output /dev/null "127.0.0.1:$listen/-/ready"; do sleep 0.05; done # ends by itself
    rm -rf "$segments"
}
trap finish EXIT

ask() { curl --silent --fail --noproxy '*' "127.0.0.1:$1"; }
wait_for() {
    local end=$((SECONDS + 60))
    until ask "$1" >/dev/null; do
        if ! kill -0 "$server" || ((SECONDS >= end)); then
            echo "no answer from port $1" >&2
            exit 1
        fi
        sleep 0.1
    done
}
wait_for "$PORT/metrics"
wait_for "$listen/-/ready"

for _ in {1..20}; do
    ask "$PORT/work?n=25&kind=book" >/dev/null
done
for page in "$PORT/metrics" "$listen/metrics"; do
    found=$(ask "$page" | grep -E '^(demo_work_total|demo_work_seconds_count|http_server_requests_total.*"/work")' | sort)
    wanted='demo_work_seconds_count 20
demo_work_total{kind="book"} 500
http_server_requests_total{code="200",method="get",path="/work"} 20'
    [[ $found == "$wanted" ]] || { printf '%s\n' "port $page says:" "$found" "instead of:" "$wanted" >&2; exit 1; }
done
echo "puma-rack: 500 units in 20 requests, on both pages"
