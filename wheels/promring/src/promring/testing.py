"""For tests of apps: a fresh segment for each test, and nothing left behind.

In conftest.py: `pytest_plugins = ["promring.testing"]`; a test asks for the fixture `promring_segment`,
or all do (`pytest.ini`: `usefixtures = promring_segment`).
"""

import atexit
import gc
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from promring import _native, metrics, requests, states
from promring.statsd import calls

_directory: tuple[int, str] | None = None


def reset() -> Path:
    """Start counting from zero in a segment of this process's own; return its path.

    Metric objects stay and count there from now on. A process that was forked before stays with the
    segment that it had.
    """
    fresh = tempfile.mkdtemp(prefix="promring-test-", dir=_memory())
    _native.detach_for_tests()
    segment = Path(fresh, "segment")
    _native.configure({"segment": segment, "listen": "off"})
    gc.collect()  # metrics that nobody can reach any more must not take names in the fresh segment
    metrics.start_afresh()
    states.start_afresh()
    calls.start_afresh()
    requests.start_afresh()
    _remove_old()
    _remember(fresh)
    return segment


def _memory() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def _remember(directory: str) -> None:
    global _directory
    if _directory is None or _directory[0] != os.getpid():
        atexit.register(_remove_old)
    _directory = os.getpid(), directory


def _remove_old() -> None:
    """Remove the last segment, if this process has made it: forked children inherit this memory."""
    if _directory is not None and _directory[0] == os.getpid():
        shutil.rmtree(_directory[1], ignore_errors=True)


try:
    import pytest
except ImportError:
    pass
else:

    @pytest.fixture
    def promring_segment() -> Iterator[Path]:
        """A fresh segment, and its path."""
        yield reset()
