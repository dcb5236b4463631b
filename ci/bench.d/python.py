"""Times calls on prometheus_client's metrics, on the ring, by themselves and in multiprocess mode, and prints ratios.

Each way runs in a process of its own, since a process can have one only. The three take turns, so that what
disturbs the machine disturbs all of them; a ratio is that of neighbouring rounds, and the median of these counts.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile

ROUNDS = 60
WAYS = ("promring", "single", "mmap")
# What is called, and how much less of the time it is to take: of single-process mode, of multiprocess mode.
CALLS = {
    "counter.inc()": ("c.inc()", 8, 20),
    "counter.labels(a=, b=).inc()": ("cl.labels(a='GET', b='/').inc()", 15, None),
    "counter.labels(..., ...).inc()": ("cl.labels('GET', '/').inc()", None, None),
    "histogram.observe()": ("h.observe(0.3)", 10, None),
    "histogram.labels(a=, b=).observe()": ("hl.labels(a='GET', b='/').observe(0.3)", None, None),
    "summary.observe()": ("s.observe(0.3)", None, None),
    "gauge.set()": ("g.set(3.5)", None, None),
}


def serve(way):
    """Time a call whenever one is named on stdin; answer with nanoseconds."""
    import timeit

    if way == "promring":
        import promring

        promring.install()
    from prometheus_client import Counter, Gauge, Histogram, Summary

    names = {
        "c": Counter("c", "A counter."),
        "cl": Counter("cl", "A counter.", ["a", "b"]),
        "h": Histogram("h", "A histogram."),
        "hl": Histogram("hl", "A histogram.", ["a", "b"]),
        "s": Summary("s", "A summary."),
        "g": Gauge("g", "A gauge.", multiprocess_mode="livesum"),
    }
    number = {"promring": 20_000, "single": 4_000, "mmap": 2_000}[way]
    timers = {call: timeit.Timer(statement, globals=names) for call, (statement, _, _) in CALLS.items()}
    empty = timeit.Timer("pass")
    for timer in timers.values():
        timer.timeit(1000)
    for line in sys.stdin:
        loop = empty.timeit(number)
        print(json.dumps((timers[json.loads(line)].timeit(number) - loop) / number * 1e9), flush=True)
    assert names["c"]._value.get() >= 1000
    if way == "promring":
        assert names["c"]._value.get() == 1000 + number * ROUNDS, "an increment was lost"


class Way:
    """A process that times calls in its way."""

    def __init__(self, way, directory):
        env = dict(os.environ, PROMRING_SEGMENT=os.path.join(directory, "segment"), PROMRING_LISTEN="off")
        if way == "mmap":
            env["PROMETHEUS_MULTIPROC_DIR"] = directory
        self.process = subprocess.Popen(
            [sys.executable, __file__, way], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def time(self, call):
        """Return nanoseconds of one call."""
        print(json.dumps(call), file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())

    def end(self):
        """End it; fail if it has."""
        self.process.stdin.close()
        if self.process.wait() != 0:
            sys.exit("a way has failed")


def verdict(ratio, gate):
    """Return a ratio with its gate."""
    if gate is None:
        return f"1/{1 / ratio:<5.1f}            "
    return f"1/{1 / ratio:<5.1f} (1/{gate:<2}) {'pass' if ratio <= 1 / gate else 'MISS'}"


def main():
    """Run all ways and print the table."""
    directory = tempfile.mkdtemp(prefix="promring-bench-", dir="/dev/shm")
    try:
        ways = [Way(way, directory) for way in WAYS]
        print(f"{'call':36}{'ns':>6}{'single':>8}{'mmap':>8}   of single (gate)        of mmap (gate)")
        for call, (_, single_gate, mmap_gate) in CALLS.items():
            rounds = [[way.time(call) for way in ways] for _ in range(ROUNDS)]
            ours, single, mmap = (statistics.median(column) for column in zip(*rounds, strict=True))
            of_single = statistics.median(row[0] / row[1] for row in rounds)
            of_mmap = statistics.median(row[0] / row[2] for row in rounds)
            ratios = f"{verdict(of_single, single_gate)}   {verdict(of_mmap, mmap_gate)}"
            print(f"{call:36}{ours:6.0f}{single:8.0f}{mmap:8.0f}   {ratios}")
        for way in ways:
            way.end()
    finally:
        shutil.rmtree(directory)


if __name__ == "__main__":
    serve(sys.argv[1]) if len(sys.argv) > 1 else main()
