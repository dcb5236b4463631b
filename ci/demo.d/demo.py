"""The main job, end to end: three pre-fork servers are loaded, killed at, upgraded, and count exactly.

Called by ci/demo, which builds and installs what is run here.
"""

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import compare
from processes import DemoError, adopt_orphans, end_all
from prometheus import Prometheus
from servers import WORKERS, Gunicorn, Puma, Unicorn, last_lines

LONGEST_SECONDS = 600
STARTED = time.monotonic()


class Place:
    """Where this run keeps things; all of it is removed at the end."""

    def __init__(self):
        self.root = Path(__file__).resolve().parents[2]
        self.env = {name: value for name, value in os.environ.items() if name.startswith("DEMO_")}
        self.work = Path(tempfile.mkdtemp(prefix="promring-demo-"))
        self.segments = Path(tempfile.mkdtemp(prefix="promring-demo-", dir="/dev/shm"))
        self.logs = self.work / "logs"
        self.logs.mkdir()

    def remove(self):
        """Remove the directories."""
        shutil.rmtree(self.work, ignore_errors=True)
        shutil.rmtree(self.segments)


def tell(who, what):
    """Print a progress line."""
    print(f"{time.monotonic() - STARTED:6.1f} s  {who:<10}  {what}", flush=True)


def story(servers, prometheus):
    """Start, load, kill, replace, kill again, and end the load."""
    for server in servers:
        server.start()
    for server in servers:
        server.wait_ready()
        tell(server.name, f"{WORKERS} workers, {server.in_app} and {server.aggregator}/metrics answer")
    prometheus.start()
    tell("prometheus", f"scrapes the three every second, {prometheus.url}")
    for server in servers:
        server.load.start()
    act(servers, lambda server: server.kill_busy_worker())
    act(servers, lambda server: server.kill_worker_after_answer())
    act(servers, lambda server: server.replace())
    act(servers, lambda server: server.kill_worker_after_answer())
    more(servers, 400)
    for server in servers:
        server.load.stop()
        ledger = server.load.ledger
        tell(server.name, f"load ended: {ledger.answered} requests answered, {ledger.doubtful} got no answer")
    prometheus.wait_for_scrapes(servers)


def more(servers, requests):
    """Let the load go on for a while."""
    for server in servers:
        server.load.more(requests)


def act(servers, what):
    """Let the load go on for a while, then do something to each server amid it."""
    more(servers, 400)
    for server in servers:
        tell(server.name, what(server))


def report(servers, prometheus):
    """Print the table; return what differs, a line each."""
    wrong = []
    print("\nWhat the clients counted, and what each view of the metrics shows of it:\n")
    heads = ("answered", "in doubt", *compare.VIEWS)
    print(f"{'':<28}" + "".join(f"{head:>12}" for head in heads))
    for server in servers:
        for what, certain, doubt, seen, verdict in compare.rows(server, prometheus):
            numbers = "".join(f"{number:>12}" for number in (certain, doubt or "", *seen))
            print(f"{server.name:<10}{what:<18}{numbers}   {verdict}")
            if verdict == "WRONG":
                wrong.append(f"{server.name}: {what}: {certain} answered, {doubt} in doubt, seen {seen}")
        wrong += other_faults(server, prometheus)
        print()
    print("In doubt is what was asked by requests without an answer: their worker was killed under them, or Puma")
    print("closed the connection as it replaced the worker. Kind b is asked for around these alone; a has no doubt.")
    print("within: all views agree, and no more than what is in doubt is on top.\n")
    return wrong


def other_faults(server, prometheus):
    """Print the lines below a server's numbers; return what is wrong about them."""
    wrong, ledger = [], server.load.ledger
    resets, series = compare.resets(server, prometheus)
    scrapes, failed = prometheus.scrapes(server.name)
    print(
        f"{'':<10}{resets} resets in {series} counter series; {scrapes} scrapes, {failed} failed; "
        f"{ledger.never_sent} connections refused"
    )
    if resets or not series:
        wrong.append(f"{server.name}: {resets} resets in {series} counter series")
    if ledger.refused:
        wrong.append(f"{server.name}: {len(ledger.refused)} requests refused, first: {ledger.refused[0]}")
    if ledger.doubtful_units["a"]:
        wrong.append(f"{server.name}: requests broke though none of their workers was killed or replaced")
    return wrong


def keep_up(servers, prometheus):
    """Leave everything running until Ctrl-C."""
    print(f"\nPrometheus  {prometheus.url}/graph?g0.expr=sum%20by%20(job)%20(rate(demo_work_total%5B10s%5D))&g0.tab=0")
    for server in servers:
        print(f"{server.name:<10}  {server.in_app}  {server.aggregator}/metrics  PROMRING_SEGMENT={server.segment}")
    print("Ctrl-C ends everything.", flush=True)
    try:
        while True:
            signal.pause()
    except (KeyboardInterrupt, SystemExit):
        print()


def run(place, keep):
    """Run the story and the comparison; return what differs."""
    servers = [Puma(place), Unicorn(place), Gunicorn(place)]
    prometheus = Prometheus(place, servers)
    try:
        story(servers, prometheus)
        wrong = report(servers, prometheus)
    except DemoError as error:
        print(*(last_lines(server) for server in servers if server.log.exists()), sep="\n")
        return [str(error)]
    if keep:
        signal.alarm(0)
        keep_up(servers, prometheus)
    return wrong


def interrupted(number, _frame):
    """Turn a signal into an orderly end."""
    if number == signal.SIGALRM:
        raise DemoError(f"took longer than {LONGEST_SECONDS} s")
    sys.exit(128 + number)


def main():
    """Run it all, leave nothing behind, and say in the last line what came of it."""
    options = argparse.ArgumentParser(prog="ci/demo", description=__doc__.splitlines()[0])
    options.add_argument("--keep", action="store_true", help="leave it up, with the addresses, until Ctrl-C")
    keep = options.parse_args().keep
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGALRM):
        signal.signal(number, interrupted)
    signal.alarm(LONGEST_SECONDS)
    adopt_orphans()
    place, wrong = Place(), ["interrupted"]
    try:
        wrong = run(place, keep)
    finally:
        signal.alarm(0)
        wrong += [f"did not end by itself: {line}" for line in end_all()]
        place.remove()
        print("\n".join([*wrong, "demo: differs"]) if wrong else "demo: exact", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
