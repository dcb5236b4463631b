"""What the wheel allocates and does not free: each call many times, and the heap in use before and after.

Prints a row for each call; exit status 1 when one of them grows. Python's own objects are in that heap, too:
PYTHONMALLOC=malloc.
"""

import ctypes
import gc
import math
import os
import sys

os.environ["PROMRING_LISTEN"] = "off"
os.environ["PROMRING_MAX_SERIES"] = "1000"

import prometheus_client as client
import promring
from promring import _native

promring.install()

TIMES = 4000
# Bytes per call that are no leak: a table that has doubled, the collector's own. Malloc hands out no fewer than 24.
NOISE = 4.0


class Mallinfo(ctypes.Structure):
    """glibc's own account of the heap."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
    ]


mallinfo2 = ctypes.CDLL(None).mallinfo2
mallinfo2.restype = Mallinfo


def in_use():
    """Return the bytes that are allocated, in all arenas and in mappings of their own."""
    gc.collect()
    info = mallinfo2()
    return info.uordblks + info.hblkhd


def refused(call, *arguments, **named):
    """Make a call that is to be refused."""
    try:
        call(*arguments, **named)
    except (TypeError, ValueError):
        return
    raise AssertionError(f"{call} refused nothing")


counter = client.Counter("leak_total", "Help.", ["path"])
gauge = client.Gauge("leak_level", "Help.", ["path"])
times = client.Histogram("leak_seconds", "Help.", ["path"], buckets=(0.5, 1.0))
sizes = client.Summary("leak_bytes", "Help.", ["path"])
native = _native.family("counter", "leak_native_total", "Help.", ("path",))
series = native.series(("/",))
numbers = iter(range(10**9))

CALLS = {
    "look up": lambda: counter.labels("/"),
    "look up, by name": lambda: counter.labels(path="/"),
    "look up, native": lambda: native.series(("/",)),
    "look up, too many labels": lambda: native.series((f"/{next(numbers)}",)),
    "look up, wrong number of labels": lambda: refused(counter.labels, "/", "/"),
    "increment": lambda: counter.labels("/").inc(),
    "increment, refused": lambda: refused(counter.labels("/").inc, -2),
    "increment, no number": lambda: counter.labels("/").inc(math.nan),
    "set": lambda: gauge.labels("/").set(2.5),
    "observe": lambda: times.labels("/").observe(0.7),
    "observe, summary": lambda: sizes.labels("/").observe(0.7),
    "exemplar": lambda: counter.labels("/").inc(1, {"trace_id": "abc"}),
    "share an exemplar": lambda: series.share_exemplar({"trace_id": "abc"}, 1.0),
    "read": lambda: (series.get(), times.labels("/")._sum.get()),
    "time": lambda: times.labels("/").time().__enter__(),
    "register anew": lambda: _native.family("counter", "leak_native_total", "Help.", ("path",)),
    "register, conflict": lambda: refused(_native.family, "gauge", "leak_native_total", "Help."),
    "register, bad name": lambda: refused(_native.family, "counter", "a\0b", "Help."),
    "remove, look up": lambda: (native.remove(("/",)), native.series(("/",)).inc(1.0)),
    "collect": lambda: native.collect(),
    "families": lambda: _native.families(),
    "tick": lambda: _native.tick(),
    "increment, wrong keyword": lambda: refused(counter.labels("/").inc, amounts=1),
    "observe, a text": lambda: refused(times.labels("/").observe, "text"),
}
FORMATS = {
    "page, text": "",
    "page, OpenMetrics": "application/openmetrics-text",
    "page, protobuf": "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
}


def growth(call, times):
    """Return the bytes by which the heap grows per call, once all that is kept is there."""
    for _ in range(times):
        call()
    before = in_use()
    for _ in range(times):
        call()
    return (in_use() - before) / times


def main():
    """Measure each call; again and again what seems to grow, since a table doubles only once."""
    failed = 0
    calls = [(name, call, TIMES) for name, call in CALLS.items()]
    calls += [(name, lambda accept=accept: _native.scrape(accept), TIMES // 40) for name, accept in FORMATS.items()]
    for name, call, times in calls:
        grown = growth(call, times)
        for _ in range(3):
            grown = grown if grown <= NOISE else growth(call, times)
        leaks = grown > NOISE
        failed += leaks
        print(f"python  {name:<34} {grown:10.2f} bytes a call{'   LEAKS' if leaks else ''}")
    return failed != 0


sys.exit(main())
