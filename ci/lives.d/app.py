"""An app whose workers live for one request; the answer is how many this one has had."""

import os

from prometheus_client import Counter, Gauge, Histogram

WORK = Counter("lives_work", "Units of work.", ["kind"])
SECONDS = Histogram("lives_seconds", "What a request observes.")
BUSY = Gauge("lives_busy", "Workers that have begun.", multiprocess_mode="livesum")
HIGHEST = Gauge("lives_highest", "The highest number that was asked for.", multiprocess_mode="max")
UNITS = 7
had = 0


def app(environ, start_response):
    """Count, once in each kind of metric."""
    global had
    had += 1
    number = int(environ["QUERY_STRING"])
    WORK.labels(kind=f"kind {number % 5}").inc(UNITS)
    SECONDS.observe(number % 5 / 4)
    BUSY.inc()
    HIGHEST.set(number)
    body = f"{os.getpid()} {had}".encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
