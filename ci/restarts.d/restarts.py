"""Upgrades, reloads and kills servers in loops under load: restarts.py [TIMES] [CASE...]. Called by ci/restarts."""

import os
import signal
import sys
import time

from compare import REQUESTS, UNITS, read_page
from demo import Place, interrupted
from processes import (
    DemoError,
    adopt_orphans,
    descendants,
    end_all,
    has_ended,
    holds,
    listening_inode,
    reap,
    send,
    wait_until,
)
from scrapers import Scraper
from servers import Gunicorn, Puma, Unicorn, answers, fetch, last_lines

# Requests that are answered between two restarts.
BETWEEN = 30


def aggregator_of(server):
    """Return the pid of the process that listens for the server's aggregator; None if there is none."""
    link = listening_inode(server.aggregator_port)
    return link and next((pid for pid in descendants(os.getpid()) if holds(pid, link)), None)


# ---------------------------------------------------------------------------------------------
# What is done to a server. Each returns a time to be shown, or None.


def replace(server):
    """Replace the workers, or the whole server, in the server's own way."""
    server.replace()


def replace_workers(number):
    """Return an act: a signal to the master, which replaces every worker."""
    return lambda server: server.replace_workers(number)


def kill_master(server):
    """SIGKILL the master; its workers and its aggregator go, and a new server takes up what they counted."""
    family = descendants(os.getpid()) - {os.getpid()}
    send(server.master, signal.SIGKILL)
    server.process.wait()
    wait_until("the end of what the master left", lambda: all(has_ended(pid) for pid in family), 120)
    if listening_inode(server.aggregator_port):
        raise DemoError("somebody still listens for the aggregator of a master that was killed")
    server.start()
    server.wait_ready()


def kill_aggregator(server):
    """SIGKILL the aggregator; return after how long another one answers. The app answers meanwhile."""
    old = wait_until("the aggregator", lambda: aggregator_of(server))
    send(old, signal.SIGKILL)
    started = time.monotonic()
    fetch(server.in_app)
    wait_until("another aggregator", lambda: answers(f"{server.aggregator}/-/ready"))
    return time.monotonic() - started


CASES = {
    "unicorn-upgrade": (Unicorn, replace),
    "gunicorn-upgrade": (Gunicorn, replace),
    "gunicorn-reload": (Gunicorn, replace_workers(signal.SIGHUP)),
    "puma-phased": (Puma, replace),
    "puma-hot": (Puma, replace_workers(signal.SIGUSR2)),
    "unicorn-master-killed": (Unicorn, kill_master),
    "gunicorn-master-killed": (Gunicorn, kill_master),
    "puma-master-killed": (Puma, kill_master),
    "unicorn-aggregator-killed": (Unicorn, kill_aggregator),
    "gunicorn-aggregator-killed": (Gunicorn, kill_aggregator),
    "puma-aggregator-killed": (Puma, kill_aggregator),
}


# ---------------------------------------------------------------------------------------------


def run(place, name, times):
    """Run a case; print its row, return what is wrong."""
    kind, act = CASES[name]
    server = kind(place)
    server.segment = server.env["PROMRING_SEGMENT"] = str(place.segments / name)
    server.log = place.logs / f"{name}.log"
    if act is kill_master:  # all of the app dies with it; elsewhere somebody is there all the time
        server.env["PROMRING_ADOPT_SECONDS"] = "600"
    began, took, wrong = time.monotonic(), [], []
    server.start()
    server.wait_ready()
    server.load.start()
    server.load.more(BETWEEN)
    scrapers = [Scraper(f"{server.aggregator}/metrics"), Scraper(server.in_app)]
    try:
        for _ in range(times):
            took.append(act(server))
            server.load.more(BETWEEN)
            reap_others(server)
        server.load.stop()
        wait_until("the aggregator", lambda: answers(f"{server.aggregator}/-/ready"))
        for scraper in scrapers:
            scraper.stop()
        wrong += compare(server)
    except DemoError as error:
        wrong += [str(error), last_lines(server)]
    wrong += [fault for scraper in scrapers for fault in scraper.faults[:5]]
    wrong += [f"refused: {text}" for text in server.load.ledger.refused[:3]]
    show(name, times, server, scrapers, took, time.monotonic() - began, wrong)
    for scraper in scrapers:
        scraper.stop()
    return wrong


def reap_others(server):
    """Take note of orphans that have ended, but leave the server's first process to its object."""
    if server.process.poll() is not None:
        reap()


def compare(server):
    """Hold both views against the ledger."""
    ledger, wrong = server.load.ledger, []
    for url in (f"{server.aggregator}/metrics", server.in_app):
        time.sleep(0.2)  # scrapes within 100 ms of each other may share a page
        sums = read_page(fetch(url))
        for key, certain, doubt in (
            (UNITS, ledger.answered_units.total(), ledger.doubtful_units.total()),
            (REQUESTS, ledger.answered, ledger.doubtful),
        ):
            if not certain <= sums[key] <= certain + doubt:
                wrong.append(f"{url}: {key} is {sums[key]}, not {certain} to {certain + doubt}")
    return wrong


def show(name, times, server, scrapers, took, seconds, wrong):
    """Print a row."""
    ledger = server.load.ledger
    pages, unanswered = sum(s.pages for s in scrapers), sum(s.unanswered for s in scrapers)
    units = ledger.answered_units.total()
    numbers = f"{times:>6}{pages:>8}{unanswered:>12}{ledger.answered:>10}{units:>10}{ledger.doubtful:>9}"
    back = sorted(t for t in took if t is not None)
    median, most = (f"{back[len(back) // 2]:.2f} s", f"{back[-1]:.2f} s") if back else ("", "")
    verdict = "WRONG" if wrong else "exact"
    print(
        f"{name:<27}{numbers}{median:>8}{most:>8}{seconds:>7.0f} s  {verdict:<6} ci/restarts {times} {name}", flush=True
    )
    for line in wrong:
        print("    | " + line.replace("\n", "\n    | "), flush=True)


def main():
    """Run the cases one after the other, and leave nothing behind."""
    arguments = sys.argv[1:]
    times = int(arguments.pop(0)) if arguments and arguments[0].isdigit() else 100
    if unknown := set(arguments) - set(CASES):
        sys.exit(f"there is no case {', '.join(unknown)}: {', '.join(CASES)}")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupted)
    adopt_orphans()
    place, wrong = Place(), []
    head = f"{'case':<27}{'times':>6}{'pages':>8}{'unanswered':>12}{'requests':>10}{'units':>10}{'broken':>9}"
    print(f"{head}{'back':>8}{'at most':>8}{'took':>9}", flush=True)
    try:
        for name in arguments or CASES:
            wrong += run(place, name, times)
            wrong += [f"{name}: did not end by itself: {line}" for line in end_all()]
    finally:
        end_all()
        place.remove()
    print("restarts: WRONG" if wrong else "restarts: exact", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
