"""Runs every way of counting and writes the table and the picture: compare.py SIZE DIRECTORY, started by ci/compare."""

import json
import os
import platform
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent))
sys.dont_write_bytecode = True
from plot import plot  # noqa: E402

HERE = Path(__file__).parent
PYTHON = [sys.executable, "-B", str(HERE / "ways.py")]
RUBY = ["/usr/bin/ruby", "-W0", str(HERE / "ways.rb")]
RUST = [os.environ["COMPARE_RUST"]]


class Way(NamedTuple):
    """A library, how its program is started, and what it can do."""

    label: str
    command: list[str]
    several: bool  # shows one page for several processes
    page: bool = True  # has a page; if not, it sends datagrams
    needs: str = ""  # the variable that says where it is
    multiproc: bool = False


WAYS = [
    Way("promring, Python", [*PYTHON, "promring"], True),
    Way("prometheus_client", [*PYTHON, "single"], False),
    Way("prometheus_client, multiprocess", [*PYTHON, "multiprocess"], True, multiproc=True),
    Way("statsd (Python)", [*PYTHON, "statsd"], True, page=False),
    Way("datadog (Python)", [*PYTHON, "datadog"], True, page=False),
    Way("promring, Ruby", [*RUBY, "promring"], True),
    Way("prometheus-client (Ruby)", [*RUBY, "client"], False, needs="PEER_CLIENT_RUBY"),
    Way("prometheus-client, DirectFileStore", [*RUBY, "files"], True, needs="PEER_CLIENT_RUBY"),
    Way("prometheus-client-mmap", [*RUBY, "mmap"], True, needs="PEER_MMAP"),
    Way("statsd-instrument", [*RUBY, "statsd"], True, page=False, needs="PEER_STATSD"),
    Way("promring, Rust", [*RUST, "promring"], False),
    Way("prometheus (Rust)", [*RUST, "prometheus"], False),
    Way("prometheus-client (Rust)", [*RUST, "prometheus-client"], False),
    Way("metrics-exporter-prometheus", [*RUST, "metrics"], False),
]
WORKERS = (1, 8, 32, 128)
EVENTS, SENDERS = 200_000, 4
# Workers that have come and gone, by size: each is a process.
LIVES = {1: 100, 10: 1_000, 100: 1_000}


class Failed(Exception):
    """A way did not answer."""


def run(way, task, *numbers, port=0):
    """Start the program of a way in a directory of its own, and return its answer."""
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="promring-compare-") as directory:
        env = os.environ | {
            "COMPARE_DIRECTORY": directory,
            "COMPARE_PORT": str(port),
            "PROMRING_SEGMENT": f"{directory}/segment",
            "PROMRING_LISTEN": "off",
            "PROMRING_MAX_SERIES": "200000",
        }
        if way.multiproc:
            env["PROMETHEUS_MULTIPROC_DIR"] = directory
        done = subprocess.run([*way.command, task, *map(str, numbers)], env=env, capture_output=True, text=True)
        if done.returncode:
            raise Failed(f"{way.label} {task} {numbers}: {done.stderr.strip()[-400:]}")
        return json.loads(done.stdout.splitlines()[-1])


def receiving(way, task, *numbers):
    """As `run`, with a receiver of datagrams; adds what came, and what receiving took."""
    command = [sys.executable, str(HERE / "receiver.py")]
    receiver = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        port = int(receiver.stdout.readline())
        answer = run(way, task, *numbers, port=port)
        came = json.loads(receiver.communicate()[0])
    finally:
        receiver.kill()
        receiver.wait()
    return answer | {"counted": came["counted"], "cpu": answer.get("cpu", 0) + came["cpu"]}


def figures(way, size):
    """Yield (row, answer) for all that a way can do."""
    measure = run if way.page else receiving
    rust = way.command[0] == RUST[0]
    yield "calls", measure(way, "calls", 200_000 if rust else 5_000)
    yield "events", measure(way, "events", SENDERS if way.several else 1, EVENTS)
    for series in [n for n in (1_000, 10_000, 100_000) if way.page and n <= size * 1_000]:
        for workers in WORKERS if way.several else (1,):
            dead = LIVES[size] if (workers, series) == (8, 1_000) else 0
            yield f"{series} series, {workers} workers", run(way, "scrape", workers, series, dead)


def number(value):
    """Return a figure with three digits that count."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def table(head, rows):
    """Return a table of Markdown."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "".join("| " + " | ".join(map(str, line)) + " |\n" for line in lines)


def calls_table(found):
    """Return what calls cost, and what came of a burst."""
    rows = []
    for label, row in found.items():
        counted = row["events"]["counted"]
        lost = f"{(1 - counted / EVENTS) * 100:.3g} %" if counted != EVENTS else "0"
        per_million = row["events"]["cpu"] / EVENTS * 1e6
        rows.append([label, number(row["calls"]["ns"]), number(per_million), lost])
    return table(["library", "call, ns", "CPU s per million events", "lost in the burst"], rows)


def scrapes_table(found, series):
    """Return time and size of pages over workers."""
    rows = []
    for label, row in found.items():
        cells = [row.get(f"{series} series, {workers} workers") for workers in WORKERS]
        if any(cells):
            most = [cell for cell in cells if cell][-1]
            times = [number(cell["ms"]) if cell else "" for cell in cells]
            rows.append([label, *times, number(most["page"] / 1e3), most["files"], number(most["memory"] / 1e6)])
    return table(
        ["library", *[f"{n} workers, ms" if n > 1 else "1, ms" for n in WORKERS], "page, kB", "files", "MB"], rows
    )


def dead_table(found):
    """Return what dead workers leave."""
    rows = []
    for label, row in found.items():
        before = row.get("1000 series, 8 workers")
        if before:
            after = before["dead"]
            cells = [
                f"{number(before[k] / u)} → {number(after[k] / u)}"
                for k, u in (("ms", 1), ("files", 1), ("memory", 1e6))
            ]
            rows.append([label, *cells])
    return table(["library", "scrape, ms", "files", "MB"], rows)


def page(found, absent, size):
    """Return the page of documentation."""
    model = next(
        (line.split(": ")[1] for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), "?"
    )
    machine = f"{os.cpu_count()} cores, {model.strip()}; Linux {platform.release().split('-')[0]}; {date.today()}"
    text = f"""# Beside its peers

Written by `ci/compare {size}`. {machine}. Times are processor time of the process that calls or scrapes, so other load
disturbs them little; Rust's calls and scrapes are by the clock. The peers are as their packages come.

## Calls, and a burst

A call is a counter's increment with two labels. The burst is {EVENTS:,} of them from {SENDERS} processes at once (one,
where a library knows no more), as fast as they can; its processor time holds all of it, the scrape or the receiver
included. StatsD's receiver adds up what it is sent, which is less than an aggregator does; what the kernel drops is
lost.

{calls_table(found)}"""
    for series in [n for n in (1_000, 10_000, 100_000) if n <= size * 1_000]:
        text += f"\n## Scrape of {series:,} series\n\nEach worker has counted in every series and lives. "
        text += "Page, files and memory on tmpfs are those of the last column.\n\n"
        text += scrapes_table(found, series)
    text += "\n![Scrape time over workers](compare.svg)\n"
    text += f"\n## After {LIVES[size]:,} dead workers\n\n"
    text += "1,000 series, 8 living workers; each of the dead has counted in ten series.\n\n"
    text += dead_table(found)
    return text + "".join(f"\nabsent: {label}\n" for label in absent)


def main():
    """Measure, then write."""
    size, directory = int(sys.argv[1]), Path(sys.argv[2])
    found, absent = {}, []
    for way in WAYS:
        if way.needs and not os.environ.get(way.needs):
            absent.append(f"{way.label} (nothing says where it is)")
            print(f"absent: {absent[-1]}", flush=True)
            continue
        rows = {}
        try:
            for row, answer in figures(way, size):
                rows[row] = answer
                print(f"{way.label}, {row}: {json.dumps(answer)}", flush=True)
        except Failed as error:  # what the others show is still worth its time
            absent.append(f"{way.label} (failed, see what ci/compare printed)")
            print(f"FAILED: {error}", flush=True)
            continue
        found[way.label] = rows
    (directory / "compare.md").write_text(page(found, absent, size))
    lines = {
        label: [(n, cell["ms"]) for n in WORKERS if (cell := row.get(f"{size * 1_000} series, {n} workers"))]
        for label, row in found.items()
    }
    lines = {label: points for label, points in lines.items() if len(points) > 1}
    (directory / "compare.svg").write_text(plot(lines, f"Scrape of {size * 1_000:,} series: milliseconds over workers"))


if __name__ == "__main__":
    main()
