"""Forks a process that counts in several threads, in every way Python has: forks.py FORKS SEGMENT.

Prints one row: children, threads, what was counted, what should have been, children that failed, that hung.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time

import promring
from promring import _native

# A child that takes longer is ended by its alarm and counts as hung: a watchdog, far from any work's time.
LONGEST_SECONDS = 120
EACH = 7
BURST = 200
FORKS, SEGMENT = int(sys.argv[1]), sys.argv[2]

done = _native.family("counter", "forks_done_total", "Units done.", ("who",))
made = _native.family("counter", "forks_made_total", "Units of series made on the way.", ("number",))


def count(who):
    """Count a child's share, in a handle of its own making: the look-up works after a fork, too."""
    series = done.series((who,))
    for _ in range(EACH):
        series.inc(1.0)


class Crowd:
    """Threads of the parent that are amid something whenever it forks: increments, new series, pages."""

    def __init__(self):
        self.counted, self.made = [0, 0], 0
        self._stop = False
        jobs = [(self._count, 0), (self._count, 1), (self._make,), (self._render,)]
        self.threads = [threading.Thread(target=job, args=args) for job, *args in jobs]
        for thread in self.threads:
            thread.start()

    def _count(self, number):
        series = done.series((f"thread {number}",))
        while not self._stop:
            for _ in range(BURST):
                series.inc(1.0)
            self.counted[number] += BURST
            time.sleep(0)

    def _make(self):
        while not self._stop:
            made.series((str(self.made % 1000),)).inc(1.0)
            self.made += 1
            time.sleep(0.001)

    def _render(self):
        while not self._stop:
            _native.scrape()

    def stop(self):
        """End them, and return what they have counted."""
        self._stop = True
        for thread in self.threads:
            thread.join()
        return sum(self.counted) + self.made


def sockets_of(pid):
    """Return the sockets that a process holds."""
    found = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):  # closed meanwhile
            found.add(os.readlink(f"/proc/{pid}/fd/{fd}"))
    return {link for link in found if link.startswith("socket:")}


def holds_nothing_of(listeners):
    """Fail if this child has inherited what the aggregator listens on."""
    if listeners & sockets_of("self"):
        sys.exit("a child holds the aggregator's listener")


# ---------------------------------------------------------------------------------------------
# What a child does. Each returns how much it and its own children count.


def plain(_):
    """Count."""
    count("plain")


def nested(_):
    """Count around a child of its own."""
    count("nested")
    pid = in_child(plain, None)
    count("nested")
    if os.waitpid(pid, 0)[1]:
        sys.exit("a nested child failed")


def daemon(_):
    """Leave the session and the parent, as daemons do, then count."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        signal.alarm(LONGEST_SECONDS)
        os.setsid()
        if os.fork() == 0:
            signal.alarm(LONGEST_SECONDS)
            count("daemon")
            os.write(writer, b"x")
        os._exit(0)
    os.wait()
    os.close(writer)
    if os.read(reader, 1) != b"x":
        sys.exit("a daemon failed")


def threads(_):
    """Count in threads of the child."""
    both = [threading.Thread(target=count, args=("threads",)) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()


def renders(listeners):
    """Count and render a page, whatever the parent's threads were at."""
    count("renders")
    if b"forks_done" not in _native.scrape()[1]:
        sys.exit("a child's page lacks the metrics")
    holds_nothing_of(listeners)


def in_child(work, listeners):
    """Fork a child that works and ends without a trace; return its pid."""
    pid = os.fork()
    if pid:
        return pid
    signal.alarm(LONGEST_SECONDS)
    code = 1
    try:
        work(listeners)
        code = 0
    except SystemExit as why:
        print(why, file=sys.stderr)
    finally:
        os._exit(code)


def by_fork(work):
    """Return a way to start a child."""

    def way(listeners):
        return os.waitpid(in_child(work, listeners), 0)[1]

    return way


def from_a_thread(listeners):
    """Fork in another thread than the main one."""
    status = []
    thread = threading.Thread(target=lambda: status.append(by_fork(plain)(listeners)))
    thread.start()
    thread.join()
    return status[0]


def by_exec(listeners):
    """Run another program (vfork and exec): it inherits nothing of ours."""
    listing = subprocess.run(["ls", "-l", "/proc/self/fd"], capture_output=True, text=True, timeout=LONGEST_SECONDS)
    inherited = SEGMENT in listing.stdout or any(link in listing.stdout for link in listeners)
    return listing.returncode or inherited


def by_spawn(_):
    """Run a fresh interpreter, which finds the segment by its name."""
    program = f"""if True:
        from promring import _native
        series = _native.family("counter", "forks_done_total", "Units done.", ("who",)).series(("spawned",))
        for _ in range({EACH}):
            series.inc(1.0)
    """
    return subprocess.run([sys.executable, "-c", program], timeout=LONGEST_SECONDS).returncode


# How a child is started, and how much it counts.
WAYS = [
    (by_fork(plain), EACH),
    (by_fork(nested), 3 * EACH),
    (by_fork(daemon), EACH),
    (by_fork(threads), 2 * EACH),
    (by_fork(renders), EACH),
    (from_a_thread, EACH),
    (by_exec, 0),
]
# Interpreters take their time to start.
SPAWN_EVERY = 50


def total():
    """Return the sum of everything on the page."""
    page = _native.scrape()[1].decode()
    lines = [line for line in page.splitlines() if line.startswith(("forks_done_total{", "forks_made_total{"))]
    return int(sum(float(line.rsplit(" ", 1)[1]) for line in lines))


def main():
    """Fork, and hold the page against the ledger."""
    sys.setswitchinterval(0.0005)
    aggregator = promring.start_aggregator()
    while not (listeners := sockets_of(aggregator)):
        time.sleep(0.01)
    crowd = Crowd()
    expected = failed = hung = 0
    for number in range(FORKS):
        way, share = (by_spawn, EACH) if number % SPAWN_EVERY == SPAWN_EVERY - 1 else WAYS[number % len(WAYS)]
        status = way(listeners)
        expected += share
        failed += status != 0
        hung += status == signal.SIGALRM
    # Python warns at each fork of a process with threads that it does not know: ours has none.
    unknown = len(os.listdir("/proc/self/task")) - threading.active_count()
    expected += crowd.stop()
    counted = total()
    promring.stop_aggregator()
    print(f"{FORKS:>10}{len(crowd.threads):>10}{counted:>14}{expected:>14}{failed + unknown:>8}{hung:>6}")
    return counted != expected or failed or hung or unknown


sys.exit(bool(main()))
