"""An app that boots, forks workers that count, and serves a page, wherever it is put: app.py WORKERS UNITS SERIES.

Prints what its page shows and what was counted. APP_UID: whom it runs as, from before its first metric on;
WORKER_UID: whom its workers run as.
"""

import os
import sys

import promring
from promring import _native

workers, units, n_series = map(int, sys.argv[1:])


def become(name):
    """Drop to the user of a setting."""
    if uid := os.environ.get(name):
        os.setgroups([])
        os.setgid(int(uid))
        os.setuid(int(uid))


def work(number):
    """Count units, and units of series of one's own."""
    total = _native.family("counter", "hostile_units_total", "Units.").series(())
    seconds = _native.family("histogram", "hostile_seconds", "Times.", buckets=(0.5, 1.0)).series(())
    visits = _native.family("counter", "hostile_visits_total", "Visits.", ("path",))
    for _ in range(units):
        total.inc(1.0)
        seconds.observe(0.75)
    for path in range(n_series):
        visits.series((f"/{number}/{path}/{'x' * 50}",)).inc(1.0)


def crowd():
    """Run the workers, all of them alive at a time; return how many failed."""
    pids, (ready, let_go), (begun, tell) = [], os.pipe(), os.pipe()
    for number in range(workers):
        if (pid := os.fork()) == 0:
            code = 1
            try:
                os.close(let_go)
                become("WORKER_UID")
                work(number)
                os.write(tell, b"x")
                os.read(ready, 1)
                code = 0
            finally:
                os._exit(code)
        pids.append(pid)
    os.close(tell)
    for _ in pids:
        os.read(begun, 1)
    os.close(let_go)
    return sum(os.waitpid(pid, 0)[1] != 0 for pid in pids)


def main():
    """Count, and read the page."""
    become("APP_UID")
    promring.install()
    _native.attach()
    failed = crowd()
    shown = {"hostile_units_total": 0.0, "hostile_seconds_count": 0.0, "hostile_visits_total": 0.0}
    for line in _native.scrape()[1].decode().splitlines():
        name = line.split(" ")[0].split("{")[0]
        if name in shown:
            shown[name] += float(line.rsplit(" ", 1)[1])
    print(int(sum(shown.values())), workers * (2 * units + n_series), failed)
    return failed != 0


sys.exit(main())
