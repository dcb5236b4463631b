"""What the tests share: a fresh segment for each, forked workers, servers that are started and ended."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import promring
import pytest
from prometheus_client import CollectorRegistry, exposition
from prometheus_client.parser import text_string_to_metric_families

pytest_plugins = ["promring.testing"]

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def segment(promring_segment):
    """promring, installed, with a fresh segment."""
    promring.install()
    return promring_segment


@pytest.fixture
def registry():
    """A registry of the test's own: names of one test do not meet those of another."""
    return CollectorRegistry()


@pytest.fixture
def default_registry(monkeypatch):
    """REGISTRY, without what earlier tests have registered in it."""
    from prometheus_client import REGISTRY

    monkeypatch.setattr(REGISTRY, "_collector_to_names", {})
    monkeypatch.setattr(REGISTRY, "_names_to_collectors", {})
    return REGISTRY


def wait_until(what, condition, seconds=60):
    """Wait for a true value of `condition()` and return it."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.01)
    return value


def page():
    """Return the core's page of the segment."""
    return promring._native.scrape()[1].decode()


def samples(text):
    """Return (name, labels) -> value of a page, read by prometheus_client's own parser."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = sample.name, tuple(sorted(sample.labels.items()))
            assert key not in found, f"{key} is there twice"
            found[key] = sample.value
    return found


def value(name, **labels):
    """Return a value of the core's page, None if it is not there."""
    return samples(page()).get((name, tuple(sorted(labels.items()))))


def promtool(text):
    """Have Prometheus' own checker judge a page, where there is one."""
    tool = os.environ.get("PROMTOOL")
    if tool:
        done = subprocess.run([tool, "check", "metrics"], input=text.encode(), capture_output=True)
        # 3: it would like other names; what it cannot read is 1.
        assert done.returncode in (0, 3), done.stderr.decode()


class Worker:
    """A forked worker: it works, says so, and waits to be killed or told to end."""

    def __init__(self, work):
        told, tell = os.pipe()
        hold, self._let_go = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            status = 1
            try:
                os.close(self._let_go)
                work()
                os.write(tell, b"!")
                os.read(hold, 1)
                status = 0
            finally:
                os._exit(status)
        os.close(tell)
        os.close(hold)
        assert os.read(told, 1) == b"!", "the worker has failed"
        os.close(told)

    def kill(self):
        """End it by SIGKILL."""
        os.kill(self.pid, signal.SIGKILL)
        self._reap()

    def end(self):
        """Let it end by itself."""
        self._reap(expected=0)

    def _reap(self, expected=None):
        os.close(self._let_go)
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        assert expected is None or status == expected


def in_worker(work):
    """Run `work` in a forked worker that is killed when it is done."""
    Worker(work).kill()


def environment(segment, **more):
    """Return an environment for a process of the app with this segment."""
    env = {name: text for name, text in os.environ.items() if "PROM" not in name.upper() or name == "PROMTOOL"}
    env |= {"PROMRING_SEGMENT": str(segment), "PROMRING_LISTEN": "off", "PYTHONDONTWRITEBYTECODE": "1"}
    return env | more


def run(code, env, cwd="/"):
    """Run a Python program to its end; return what it wrote to stdout and to stderr."""
    done = subprocess.run([sys.executable, "-c", code], env=env, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def free_port():
    """Return a port of the loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def fetch(url, method="GET", headers=None):
    """Return status, headers and text of an answer."""
    request = urllib.request.Request(url, method=method, headers=headers or {})
    try:
        with _direct.open(request, timeout=30) as answer:
            return answer.status, answer.headers, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read().decode()


def answers(url):
    """Tell whether a GET of `url` succeeds."""
    try:
        return fetch(url)[0] == 200
    except OSError:
        return False


def children(pid):
    """Return the pids of the children of `pid`."""
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return {int(word) for word in path.read_text().split()} if path.exists() else set()


def is_there(pid):
    """Tell whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


class Server:
    """A server of several processes, ended with all of them."""

    def __init__(self, command, env, cwd, log):
        self.log = log
        with open(log, "ab") as out:
            self.process = subprocess.Popen(command, env=env, cwd=cwd, stdout=out, stderr=out, stdin=subprocess.DEVNULL)
        self.pid = self.process.pid

    def end(self):
        """End the master, and what is left of its descendants."""
        known = self._descendants(self.pid)
        self.process.terminate()
        try:
            self.process.wait(120)
        finally:
            for pid in known:
                try:
                    wait_until(f"the end of {pid}", lambda pid=pid: not is_there(pid), 20)
                except AssertionError:
                    os.kill(pid, signal.SIGKILL)
                    raise

    def _descendants(self, pid):
        found = set(children(pid))
        for child in list(found):
            found |= self._descendants(child)
        return found


def vanilla_text(metrics):
    """Render metrics as the library does without promring."""

    class Gathered:
        def collect(self):
            return metrics

    return exposition.generate_latest(Gathered(), escaping="underscores").decode()
