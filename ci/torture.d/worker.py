"""A worker of the torture in Python: counts for ever, the ledger follows each call (see core/tests/torture.rs)."""

import mmap
import os

from promring import _native

me, at = os.environ["PROMRING_TORTURE_WORKER"], int(os.environ["PROMRING_TORTURE_AT"])
with open(os.environ["PROMRING_TORTURE_LEDGER"], "r+b") as file:
    words = memoryview(mmap.mmap(file.fileno(), 0)).cast("Q")[at // 8 : at // 8 + 4]
inc = _native.family("counter", "torture_total", "torture_total", ("worker",)).series((me,)).inc
sizes = _native.family("histogram", "torture_sizes", "torture_sizes", ("worker",), buckets=(1.0, 2.0, 4.0))
observe = sizes.series((me,)).observe
while True:
    words[0] += 1
    inc(1.0)
    words[1] += 1
    words[2] += 1
    observe(3.0)
    words[3] += 1
