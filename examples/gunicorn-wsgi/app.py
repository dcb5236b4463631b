"""A WSGI app on an unmodified prometheus_client: /work counts, /metrics shows what all workers have counted."""

import os
import time
from urllib.parse import parse_qs

import promring
from prometheus_client import Counter, Gauge, Histogram

WORK = Counter("demo_work_total", "Units of work done.", ["kind"])
SECONDS = Histogram("demo_work_seconds", "Time that a request's work took.")
BUSY = Gauge("demo_workers_busy", "Workers at work now.", multiprocess_mode="livesum")

metrics = promring.make_wsgi_app()


def app(environ, start_response):
    """Answer /work?n=UNITS&kind=KIND and /metrics."""
    path = environ["PATH_INFO"]
    if path == "/metrics":
        return metrics(environ, start_response)
    if path == "/work":
        return work(parse_qs(environ["QUERY_STRING"]), start_response)
    return answer(start_response, "404 Not Found", "there are /work?n=UNITS&kind=KIND and /metrics\n")


def work(query, start_response):
    """Do units of work, one increment each."""
    units, kind = int(query.get("n", ["1"])[0]), query.get("kind", ["a"])[0]
    started = time.perf_counter()
    with BUSY.track_inprogress():
        for _ in range(units):
            WORK.labels(kind=kind).inc()
    SECONDS.observe(time.perf_counter() - started)
    return answer(start_response, "200 OK", f"{units} units of kind {kind} done by {os.getpid()}\n")


def answer(start_response, status, text):
    """Answer with a line of text."""
    start_response(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(text)))])
    return [text.encode()]
