"""Times what many workers cost, on the ring and in multiprocess mode: a fresh one's first increment, a page of all.

Each way runs in a process of its own. A page has 25,000 lines from 128 workers; between two pages another worker
counts in every series. Time is CPU time.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

METRICS, SERIES, WORKERS, PAGES, FIRSTS = 25, 1000, 128, 11, 11
# What is measured, and how many times cheaper it has to be.
GATES = {
    "alone": ("first increment of a fresh worker, 1 series", 20),
    "first": (f"the same, {METRICS * SERIES} series", 20),
    "page": (f"page of {METRICS * SERIES} lines", 1000),
}


def in_worker(work):
    """Have a forked worker do something; return what it returns."""
    answer, question = os.pipe()
    if os.fork() == 0:
        os.write(question, json.dumps(work()).encode())
        os._exit(0)
    os.close(question)
    with os.fdopen(answer) as said:
        result = json.load(said)
    os.wait()
    return result


def timed(work):
    """Return how much of the processor's time something takes."""
    started = time.process_time()
    work()
    return time.process_time() - started


def serve(way):
    """Print the median times of a first increment and of a page."""
    if way == "promring":  # before anybody takes `generate_latest` by its name
        import promring

        promring.install()
    from prometheus_client import REGISTRY, CollectorRegistry, Counter, generate_latest
    from prometheus_client.multiprocess import MultiProcessCollector

    registry = REGISTRY
    if way == "mmap":
        registry = CollectorRegistry()
        MultiProcessCollector(registry)
    first = Counter("first", "What a fresh worker counts.")

    def firsts():
        return statistics.median(in_worker(lambda: timed(first.inc)) for _ in range(FIRSTS))

    alone = firsts()
    families = [Counter(f"bench_{number}", "d", ["a", "b"]) for number in range(METRICS)]
    counters = [f.labels(f"value-{n % 10}", f"value-{n // 10}") for f in families for n in range(SERIES)]

    def count():
        for counter in counters:
            counter.inc()

    def page():
        return generate_latest(registry).decode()

    for _ in range(WORKERS):
        in_worker(count)
    pages = []
    for _ in range(PAGES if way == "promring" else 1):
        pages.append(timed(page))
        in_worker(count)
    lines = [line for line in page().splitlines() if line.startswith("bench_") and "_total{" in line]
    wanted = (WORKERS + len(pages)) * METRICS * SERIES
    assert len(lines) == METRICS * SERIES and sum(float(line.split()[-1]) for line in lines) == wanted, "lost counts"
    print(json.dumps({"alone": alone, "first": firsts(), "page": statistics.median(pages)}))


def run(way):
    """Return the times of one way."""
    with tempfile.TemporaryDirectory(prefix="promring-bench-", dir="/dev/shm") as directory:
        env = dict(os.environ, PROMRING_SEGMENT=os.path.join(directory, "segment"), PROMRING_LISTEN="off")
        if way == "mmap":
            env["PROMETHEUS_MULTIPROC_DIR"] = directory
        return json.loads(subprocess.run([sys.executable, __file__, way], env=env, check=True, stdout=-1).stdout)


def main():
    """Run both ways and print the table."""
    ours, theirs = run("promring"), run("mmap")
    print(f"{'with ' + str(WORKERS) + ' workers':44}{'us':>9}{'mmap':>12}   of mmap (gate)")
    for what, (name, gate) in GATES.items():
        ratio = theirs[what] / ours[what]
        passed = "pass" if ratio >= gate else "MISS"
        print(f"{name:44}{ours[what] * 1e6:9.0f}{theirs[what] * 1e6:12.0f}   1/{ratio:.1f} (1/{gate}) {passed}")


if __name__ == "__main__":
    serve(sys.argv[1]) if len(sys.argv) > 1 else main()
