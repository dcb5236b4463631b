"""Wears out workers, a request each, and watches what stays: lives.py LIVES [MASTERS]."""

import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from processes import DemoError, adopt_orphans, descendants, end_all, free_port, listening_inode, wait_until
from prometheus_client.parser import text_string_to_metric_families

HERE = Path(__file__).parent
WORKERS, UNITS, ROWS, SCRAPES = 4, 7, 10, 51
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
# What allocators keep of the aggregator's memory.
SLACK_KIB = 1024
# A connection that is just being closed, a worker that a master is just starting.
SLACK_DESCRIPTORS = 16
# A place of the segment is claimed by a worker's first count, and free again when somebody has looked after the dead:
# every claim does, unless another process drains just then. So there are as many as were alive or freshly dead at once.
N_PLACES_AT, PLACE_KIB, STEP_KIB = 72, 32, 64  # core/docs/segment.md; a place with its gauges' cells, how regions grow


def fetch(url):
    """Return the text of an answer."""
    with DIRECT.open(url, timeout=60) as answer:
        return answer.read().decode()


class Masters:
    """Several gunicorns on one segment; the first one's aggregator shows it."""

    def __init__(self, number, place):
        self.place, self.segment = place, place / "segment"
        aggregator = free_port()
        self.page = f"http://127.0.0.1:{aggregator}/metrics"
        self.ports = [free_port() for _ in range(number)]
        self.masters = []
        for port in self.ports:
            listen = f"127.0.0.1:{aggregator}" if port == self.ports[0] else "off"
            self._start(port, dict(os.environ, PROMRING_LISTEN=listen))
        wait_until("the masters", lambda: all(map(listening_inode, self.ports)))
        wait_until("the aggregator", self._answers)

    def _start(self, port, env):
        home = self.place / f"home-{port}"
        home.mkdir()
        env |= {"HOME": str(home), "PROMRING_SEGMENT": str(self.segment)}
        command = [
            str(Path(sys.executable).with_name("gunicorn")),
            "--preload",
            "-w",
            str(WORKERS),
            "--max-requests",
            "1",
        ]
        command += ["--logger-class", "promring.gunicorn.Logger", "--log-level", "warning", "-b", f"127.0.0.1:{port}"]
        with open(home / "log", "wb") as log:
            started = subprocess.Popen(
                [*command, "app:app"], env=env, cwd=HERE, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self.masters.append(started.pid)

    def _answers(self):
        try:
            return bool(fetch(self.page))
        except OSError:
            return False

    def live(self, number):
        """Make one request; return pid and how many requests this worker had, this one with it."""
        pid, had = fetch(f"http://127.0.0.1:{self.ports[number % len(self.ports)]}/?{number}").split()
        return int(pid), int(had)

    def samples(self):
        """Return name and labels -> value of the page."""
        families = text_string_to_metric_families(fetch(self.page))
        return {(s.name, *sorted(s.labels.values())): s.value for family in families for s in family.samples}

    def aggregator(self):
        """Return the aggregator's pid."""
        return next(pid for pid in descendants(os.getpid()) if name(pid) == "promring")

    def descriptors(self):
        """Return how many descriptors are open in the processes that stay: the masters and the aggregator."""
        stay = [self.aggregator(), *self.masters]
        return sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in stay)

    def files(self):
        """Return every file of the place, and of ours in shared memory."""
        found = {path for path in self.place.rglob("*") if path.is_file()} | set(Path("/dev/shm").glob("promring.*"))
        return {path for path in found if not path.name.startswith("log")}

    def segment_files(self):
        """Return the segment's files: one, whose name carries a number behind the path."""
        return list(self.place.glob("segment.*"))

    def places(self):
        """Return how many places the segment has ever handed out."""
        (path,) = [path for path in self.segment_files() if path.stat().st_size > N_PLACES_AT]
        with path.open("rb") as segment:
            segment.seek(N_PLACES_AT)
            return int.from_bytes(segment.read(8), sys.byteorder)

    def most_places(self):
        """Return how many places suffice: each worker's, one of a dead worker for each, and each master's."""
        return len(self.ports) * (2 * WORKERS + 1)

    def logs(self):
        """Return what the masters have said."""
        return "".join(path.read_text() for path in self.place.glob("home-*/log"))


def default_segments():
    """Return what a process would have made that does not know of the place."""
    return {*Path("/dev/shm").glob("promring.*"), *Path(f"/dev/shm/promring-{os.getuid()}").glob("*lives*")}


def name(pid):
    """Return what a process calls itself; nothing if it has ended."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def memory_kib(pid):
    """Return a process's memory of its own, without what it shares of the segment."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon:"))


def measure(masters, lives):
    """Return a row of what should stay as it is; print it."""
    times = []
    for _ in range(SCRAPES):
        started = time.perf_counter()
        page = fetch(masters.page)
        times.append(time.perf_counter() - started)
    segment = sum(path.stat().st_blocks // 2 for path in masters.segment_files())
    row = {
        "segment": segment,
        "places": masters.places(),
        "memory": memory_kib(masters.aggregator()),
        "files": masters.files(),
        "descriptors": masters.descriptors(),
        "scrape": statistics.median(times),
        "least": min(times),
    }
    lines = page.count("\n")
    times = f"{row['scrape'] * 1e6:9.0f} {row['least'] * 1e6:9.0f}"
    print(
        f"{lives:7} {times} {lines:6} {row['memory']:11} {segment:12} {row['places']:7} {len(row['files']):6}"
        f" {row['descriptors']:12}",
        flush=True,
    )
    return row


def expected(lives):
    """Return what the page must show after so many lives."""
    wanted = {("lives_work_total", f"kind {kind}"): UNITS * len(range(kind, lives, 5)) for kind in range(5)}
    wanted["lives_seconds_count",] = lives
    wanted["lives_seconds_sum",] = sum(number % 5 / 4 for number in range(lives))
    wanted["lives_busy",] = 0  # nobody who has begun lives
    wanted["lives_highest",] = lives - 1
    wanted["gunicorn_requests_total", "200", "GET"] = lives
    return wanted


def wear_out(masters, lives):
    """Have every life lived; return what was wrong."""
    rows, wrong, begun, spent = [], [], 0, 0
    print("  lives scrape us  least us  lines  memory KiB  segment KiB  places  files  descriptors")
    with ThreadPoolExecutor(2 * len(masters.ports)) as pool:
        for row in range(1, ROWS + 1):
            until = lives * row // ROWS
            answers = list(pool.map(masters.live, range(begun, until)))
            spent += sum(had == 1 for _, had in answers)
            begun = until
            rows.append(measure(masters, until))
    if spent != lives:
        wrong.append(f"{lives - spent} workers had more than one request")
    wanted = expected(lives)
    try:
        wait_until("the totals", lambda: wanted.items() <= masters.samples().items(), 30)
    except DemoError:
        found = masters.samples()
        wrong += [
            f"{key}: {found.get(key)} instead of {value}" for key, value in wanted.items() if found.get(key) != value
        ]
    first, last = rows[0], rows[-1]
    added = last["places"] - first["places"]
    if last["segment"] > first["segment"] + added * PLACE_KIB + (added > 0) * 2 * STEP_KIB:
        wrong.append(f"the segment went from {first['segment']} to {last['segment']} KiB by {added} places")
    if last["places"] > masters.most_places():
        wrong.append(f"{last['places']} places were handed out, {masters.most_places()} suffice")
    if last["files"] != first["files"]:
        wrong.append(f"other files: {sorted(map(str, last['files'] ^ first['files']))}")
    if last["descriptors"] > first["descriptors"] + SLACK_DESCRIPTORS:
        wrong.append(f"{last['descriptors']} descriptors are open, {first['descriptors']} were at first")
    if last["memory"] > first["memory"] + SLACK_KIB:
        wrong.append(f"the aggregator's memory went from {first['memory']} to {last['memory']} KiB")
    median, least = (last[key] / first[key] for key in ("scrape", "least"))
    print(f"scrape, last to first: {median:.2f} (median), {least:.2f} (least)")
    return wrong


def main():
    """Run them and say what was wrong."""
    lives, number = (*map(int, sys.argv[1:]), 4)[:2]
    started = time.monotonic()
    adopt_orphans()
    before = default_segments()
    with tempfile.TemporaryDirectory(prefix="lives-", dir="/dev/shm") as place:
        masters = Masters(number, Path(place))
        try:
            wrong = wear_out(masters, lives)
        finally:
            wrong_ends = end_all(60)
        wrong += [f"did not end by SIGTERM: {line}" for line in wrong_ends]
        if said := masters.logs():
            wrong.append(f"the masters said: {said[-2000:]}")
    wrong += [f"left behind: {path}" for path in default_segments() - before]
    for line in wrong:
        print(line)
    print(f"{int(not wrong)} passed, {int(bool(wrong))} failed in {time.monotonic() - started:.1f}s")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
