"""Python's ways of counting, for ci/compare: ways.py WAY TASK NUMBER...; answers with one line of JSON.

calls N: nanoseconds of processor time of one call. events WORKERS N: what is counted of N increments of forked workers,
and the processor time of all of it. scrape WORKERS SERIES DEAD: time and size of a page, files, memory.
"""

import json
import os
import resource
import statistics
import sys
import time
from pathlib import Path

PER_FAMILY = 100


class Way:
    """How one library counts and exposes; the import is part of it, since some patch another."""

    def __init__(self, name):
        getattr(self, name)()

    def client(self):
        """Count by prometheus_client, whatever the environment or an import before makes of it."""
        import prometheus_client as client

        registry = client.REGISTRY
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            from prometheus_client import multiprocess

            registry = client.CollectorRegistry()
            multiprocess.MultiProcessCollector(registry)
        self.make = lambda name: client.Counter(name, "d", ["a", "b"])
        self.count = lambda counter, a, b: counter.labels(a=a, b=b).inc()
        self.expose = lambda: client.generate_latest(registry)

    single = multiprocess = client

    def promring(self):
        """Count on the ring, behind prometheus_client."""
        import promring

        promring.install()
        self.client()

    def statsd(self):
        """Send a datagram for each call."""
        import statsd

        client = statsd.StatsClient("127.0.0.1", int(os.environ["COMPARE_PORT"]))
        self.make = lambda name: name
        self.count = lambda name, a, b: client.incr(f"{name}.{a}.{b}")

    def datadog(self):
        """Send datagrams of several calls each, as the library does by default."""
        from datadog.dogstatsd import DogStatsd

        client = DogStatsd("127.0.0.1", int(os.environ["COMPARE_PORT"]), disable_telemetry=True)
        self.make = lambda name: name
        self.count = lambda name, a, b: client.increment(name, tags=[f"a:{a}", f"b:{b}"])
        self.flush = client.flush

    def flush(self):
        """Send what waits."""


def calls(way, n):
    """Time single calls in five rounds; the median counts."""
    counter = way.make("calls_total")
    rounds = []
    for _ in range(6):
        started = time.process_time()
        for _ in range(n):
            way.count(counter, "GET", "/orders")
        rounds.append((time.process_time() - started) / n * 1e9)
        way.flush()
    return {"ns": statistics.median(rounds[1:])}


def fork(work):
    """Run it in a child that leaves as a worker does: by exit handlers."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
            sys.exit(0)
        except SystemExit:
            raise
        except BaseException as error:
            print(error, file=sys.stderr)
            os._exit(1)
    return pid


def join(pids):
    """Wait for children; none may have failed."""
    assert all([os.waitpid(pid, 0)[1] == 0 for pid in pids]), "a worker has failed"


def events(way, workers, n):
    """Let workers count as fast as they can, then look at the page."""
    counter = way.make("events_total")

    def work():
        for i in range(n // workers):
            way.count(counter, "GET", f"/{i % 100}")
        way.flush()

    if workers == 1:
        work()
    else:
        join([fork(work) for _ in range(workers)])
    counted = None
    if hasattr(way, "expose"):
        lines = [line for line in way.expose().decode().splitlines() if line.startswith("events_total{")]
        counted = sum(float(line.rsplit(" ", 1)[1]) for line in lines)
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return {"counted": counted, "cpu": sum(u.ru_utime + u.ru_stime for u in used)}


def look(way):
    """Time one page after another, for five pages or five seconds."""
    times, started = [], time.monotonic()
    while len(times) < 2 or (len(times) < 5 and time.monotonic() - started < 5):
        before = time.process_time()
        page = way.expose()
        times.append(time.process_time() - before)
    paths = [path for path in Path(os.environ["COMPARE_DIRECTORY"]).rglob("*") if path.is_file()]
    memory = sum(path.stat().st_blocks * 512 for path in paths)
    return {"ms": statistics.median(times) * 1e3, "page": len(page), "files": len(paths), "memory": memory}


def scrape(way, workers, series, dead):
    """Let every worker count in every series and stay; with `dead`, let as many come and go before a second look."""
    counters = [way.make(f"scrape_{n}_total") for n in range(series // PER_FAMILY)]

    def work(most=PER_FAMILY):
        for counter in counters:
            for i in range(most):
                way.count(counter, f"value-{i % 10}", f"value-{i // 10}")

    if workers == 1:
        work()
        return look(way)
    (ready, tell_ready), (stop, tell_stop) = os.pipe(), os.pipe()

    def live():
        os.close(tell_stop)
        work()
        os.write(tell_ready, b".")
        os.read(stop, 1)

    pids = [fork(live) for _ in range(workers)]
    for _ in pids:
        os.read(ready, 1)
    found = look(way)
    if dead:
        for start in range(0, dead, 8):
            join([fork(lambda: work(1)) for _ in range(start, min(start + 8, dead))])
        found["dead"] = look(way)
    os.close(tell_stop)
    join(pids)
    return found


def main():
    """Do what the command line says."""
    name, task, *numbers = sys.argv[1:]
    answer = {"calls": calls, "events": events, "scrape": scrape}[task](Way(name), *map(int, numbers))
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
