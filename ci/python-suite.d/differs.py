"""Gives each test of prometheus_client's suite a fresh segment, and holds it to the list of what differs."""

from pathlib import Path

import promring
import pytest

pytest_plugins = ["promring.testing"]

# Before the tests are imported, as an app does it: they take functions of the library by name.
promring.install()

LIST = Path(__file__).with_name("differs.txt")


@pytest.fixture(autouse=True)
def _fresh(promring_segment):
    promring.install()


def pytest_collection_modifyitems(items):
    """Expect exactly the listed tests to fail: a test that is not there is an error, one that passes a failure."""
    listed = _listed()
    for item in items:
        reason = listed.pop(item.nodeid.removeprefix("tests/"), None)
        if reason:
            item.add_marker(pytest.mark.xfail(strict=True, reason=reason))
    if listed:
        raise pytest.UsageError(f"{LIST.name} lists what the suite does not have: {', '.join(listed)}")


def _listed():
    """Return reason by test: a line with a test's name belongs to the `# reason` above it."""
    listed, reason = {}, ""
    for line in LIST.read_text().splitlines():
        if line.startswith("# "):
            reason = line.removeprefix("# ")
        elif line:
            listed[line] = reason
    return listed
