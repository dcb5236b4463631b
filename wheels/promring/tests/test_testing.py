"""promring.testing as an app's tests have it: the plugin and its fixture, in a pytest of its own."""

import subprocess
import sys
from pathlib import Path

from conftest import environment

CONFTEST = 'pytest_plugins = ["promring.testing"]\n'
TESTS = """
import prometheus_client, promring, pytest
from promring.statsd import StatsClient
promring.install()
COUNTER = prometheus_client.Counter("c", "A counter.", ["kind"])
CHILD = COUNTER.labels(kind="early")
STATSD = StatsClient()

@pytest.mark.parametrize("run", range(3))
def test_from_zero(promring_segment, run):
    CHILD.inc()
    COUNTER.labels(kind="late").inc(2)
    STATSD.incr("n", 3)
    page = promring._native.scrape()[1].decode()
    assert 'c_total{kind="early"} 1\\n' in page and 'c_total{kind="late"} 2\\n' in page and "\\nn 3\\n" in page
    assert promring.segment_path().is_relative_to(promring_segment.parent)
    print("segment:", promring_segment.parent)
"""


def test_each_test_starts_from_zero_and_leaves_nothing(tmp_path, segment):
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_app.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "-s", str(tmp_path)]
    env = environment(segment.with_name("outer"))
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout
    segments = [Path(line.split()[-1]) for line in done.stdout.splitlines() if "segment:" in line]
    assert len(set(segments)) == 3
    assert not any(path.exists() for path in segments)
