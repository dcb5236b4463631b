"""Real gunicorn and uvicorn: exact through kills, reloads and upgrades; and the WSGI and ASGI apps by themselves."""

import asyncio
import os
import re
import signal
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import promring
import pytest
from conftest import (
    REPOSITORY,
    Server,
    answers,
    children,
    environment,
    fetch,
    free_port,
    is_there,
    promtool,
    samples,
    wait_until,
)
from prometheus_client import Counter

WSGI = REPOSITORY / "examples" / "gunicorn-wsgi"
ASGI = REPOSITORY / "examples" / "uvicorn-asgi"
WORKERS = 3


class Gunicorn(Server):
    """gunicorn with the example app."""

    def __init__(self, tmp_path, segment, *options, conf=None, **env):
        self.port, self.aggregator = free_port(), free_port()
        command = [str(Path(sys.executable).with_name("gunicorn")), "-w", str(WORKERS), "--graceful-timeout", "5"]
        command += ["-c", str(conf or WSGI / "gunicorn.conf.py"), "-b", f"127.0.0.1:{self.port}", *options, "app:app"]
        env = environment(segment.with_name("server"), HOME=str(tmp_path), **env)
        env["PROMRING_LISTEN"] = f"127.0.0.1:{self.aggregator}"
        super().__init__(command, env, WSGI, tmp_path / "log")
        try:
            wait_until("gunicorn", lambda: self.ready(self.pid))
        except BaseException:
            self.end()
            print(self.text())
            raise

    def ready(self, master):
        """Tell whether a master has its workers and both addresses answer."""
        url = f"http://127.0.0.1:{self.aggregator}/-/ready"
        return len(self.workers(master)) == WORKERS and self.has_answered() and answers(url)

    def has_answered(self):
        return answers(f"http://127.0.0.1:{self.port}/metrics")

    def workers(self, master=None):
        """Return the workers of a master: what it has forked that names itself as it does."""
        command = Path(f"/proc/{self.pid}/cmdline")
        own = command.read_bytes() if command.exists() else b""
        found = set()
        for pid in children(master or self.pid):
            try:
                if Path(f"/proc/{pid}/comm").read_text() != "promring\n" and is_there(pid):
                    line = Path(f"/proc/{pid}/cmdline").read_bytes()
                    found |= {pid} if line == own else set()
            except OSError:
                continue  # it has ended meanwhile
        return found

    def text(self):
        """Return the log."""
        return self.log.read_text(errors="replace")

    def work(self, requests, units=7, kind="a"):
        """Ask for work; return the pids that did it."""
        url = f"http://127.0.0.1:{self.port}/work?n={units}&kind={kind}"
        with ThreadPoolExecutor(4) as pool:
            done = list(pool.map(lambda _: fetch(url), range(requests)))
        assert {status for status, _, _ in done} == {200}
        return {int(re.search(r"by (\d+)", text)[1]) for _, _, text in done}

    def views(self):
        """Return the samples that the app itself and the aggregator show."""
        pages = [fetch(f"http://127.0.0.1:{port}/metrics")[2] for port in (self.port, self.aggregator)]
        for page in pages:
            promtool(page)
        return [samples(page) for page in pages]

    def shows(self, name, expected, **labels):
        """Wait until both views show a value (the aggregator's page may be 100 ms old) and check it is no more."""
        key = name, tuple(sorted(labels.items()))
        wait_until(f"{expected} of {key} in {self.log}", lambda: all(v.get(key, 0) >= expected for v in self.views()))
        assert [view[key] for view in self.views()] == [expected, expected]


@pytest.fixture
def gunicorn(tmp_path, segment):
    """Make a gunicorn that ends with the test."""
    made = []

    def make(*options, **more):
        made.append(Gunicorn(tmp_path, segment, *options, **more))
        return made[-1]

    yield make
    for server in made:
        server.end()
        assert "Traceback" not in server.text(), server.text()


@pytest.mark.parametrize("kind", ["sync", "gthread"])
def test_gunicorn_counts_exactly_through_kills(gunicorn, kind):
    server = gunicorn("-k", kind, "--threads", "4" if kind == "gthread" else "1")
    units = requests = 0
    for _ in range(3):
        server.work(40)
        units, requests = units + 40 * 7, requests + 40
        victim = max(server.workers())
        os.kill(victim, signal.SIGKILL)
        wait_until("a new worker", lambda victim=victim: victim not in (w := server.workers()) and len(w) == WORKERS)
    server.work(10)
    server.shows("demo_work_total", units + 70, kind="a")
    server.shows("demo_work_seconds_count", requests + 10)
    view = server.views()[0]
    assert view["demo_workers_busy", ()] == 0
    assert view["gunicorn_requests_total", (("code", "200"), ("method", "GET"))] >= requests + 10
    assert view["gunicorn_request_duration_seconds_count", (("method", "GET"),)] >= requests + 10
    assert view["gunicorn_requests_in_progress", ()] == 1  # this very request


def test_gunicorn_s_metrics_tell_methods_and_codes(gunicorn):
    server = gunicorn()
    url = f"http://127.0.0.1:{server.port}"
    assert fetch(url + "/nowhere")[0] == 404
    assert fetch(url + "/metrics", "POST")[0] == 405
    assert fetch(url + "/work", "BREW")[0] == 200
    assert fetch(url + "/metrics", "HEAD")[2] == ""
    server.shows("gunicorn_requests_total", 1, method="GET", code="404")
    server.shows("gunicorn_requests_total", 1, method="POST", code="405")
    server.shows("gunicorn_requests_total", 1, method="other", code="200")
    server.shows("gunicorn_requests_total", 1, method="HEAD", code="200")


def test_gunicorn_reloads_and_keeps_the_user_s_hooks(gunicorn, tmp_path):
    conf = tmp_path / "conf.py"
    conf.write_text(
        "logger_class = 'promring.gunicorn.Logger'\n"
        "def when_ready(server): server.log.info('user when_ready')\n"
        "def on_reload(server): server.log.info('user on_reload')\n"
        "def pre_request(worker, req): worker.log.info('user pre_request')\n"
        "def post_request(worker, req, environ): worker.log.info('user post_request')\n"
        "def child_exit(server, worker): server.log.info('user child_exit')\n"
        "def on_exit(server): server.log.info('user on_exit')\n"
    )
    server = gunicorn(conf=conf)
    server.work(10)
    for number in (1, 2):
        old = server.workers()
        os.kill(server.pid, signal.SIGHUP)
        wait_until("new workers", lambda old=old: len(now := server.workers()) == WORKERS and not now & old)
        wait_until("its answers", server.has_answered)
        server.work(10)
        server.shows("demo_work_total", 70 * (number + 1), kind="a")
    view = server.views()[0]
    answered = view["gunicorn_requests_total", (("code", "200"), ("method", "GET"))]
    assert server.text().count("user pre_request") == answered + 1
    for hook in ("when_ready", "on_reload", "post_request", "child_exit"):
        assert f"user {hook}" in server.text()
    assert view["gunicorn_requests_in_progress", ()] == 1
    server.end()
    assert server.text().count("user on_exit") == 1


def test_gunicorn_is_upgraded_in_place(gunicorn):
    server = gunicorn()
    old = server.pid
    server.work(20)
    os.kill(old, signal.SIGUSR2)
    new = wait_until(
        "the new master",
        lambda: next((pid for pid in children(old) if len(server.workers(pid)) == WORKERS), None),
    )
    server.work(20)
    server.shows("demo_work_total", 280, kind="a")
    os.kill(old, signal.SIGTERM)
    server.process.wait(30)
    server.pid = new
    try:
        wait_until("its aggregator", lambda: answers(f"http://127.0.0.1:{server.aggregator}/-/ready"))
        server.work(20)
        server.shows("demo_work_total", 420, kind="a")
    finally:
        left = server._descendants(new) | {new}
        os.kill(new, signal.SIGTERM)
        for pid in left:
            wait_until(f"the end of {pid}", lambda pid=pid: not is_there(pid))


def test_the_aggregator_that_is_killed_is_replaced(gunicorn):
    server = gunicorn()
    aggregator = next(p for p in children(server.pid) if Path(f"/proc/{p}/comm").read_text() == "promring\n")
    server.work(5)
    os.kill(aggregator, signal.SIGKILL)
    url = f"http://127.0.0.1:{server.aggregator}/-/ready"
    wait_until("its end", lambda: not answers(url))

    asked = 0

    def noticed():
        nonlocal asked
        if asked < 150:  # not so many that a worker's ring fills: who drains would notice, too
            asked += 1
            server.work(1, units=0)
            time.sleep(0.02)
        return answers(url)

    wait_until("another aggregator", noticed)
    server.shows("demo_work_total", 35, kind="a")
    successor = [p for p in Path("/proc").iterdir() if p.name.isdigit() and _serves(p, server)]
    server.end()
    wait_until("its successor's end", lambda: not any(is_there(path.name) for path in successor))
    assert successor


def _serves(process, server):
    try:
        mine = f"PROMRING_LISTEN=127.0.0.1:{server.aggregator}".encode()
        return (process / "comm").read_text() == "promring\n" and mine in (process / "environ").read_bytes()
    except OSError:
        return False


def test_gunicorn_preloads_and_recycles_its_workers(gunicorn):
    server = gunicorn("--preload", "--max-requests", "5", "--access-logfile", "-")
    seen = set()
    for _ in range(10):
        seen |= server.work(10)
    server.shows("demo_work_total", 700, kind="a")
    assert len(seen) > WORKERS
    assert '"GET /work?n=7&kind=a HTTP/1.1" 200' in server.text()


def test_gunicorn_without_a_segment_boots_and_says_so(tmp_path, segment, gunicorn):
    (segment.with_name("server.v1")).mkdir()
    server = gunicorn("--preload")
    server.work(10)
    assert server.text().count("only this process and its forks share one /metrics") == 1
    server.shows("demo_work_total", 70, kind="a")


def test_a_taken_port_is_said_and_the_app_answers(tmp_path, segment):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code = f"gunicorn -w 1 -b 127.0.0.1:{free_port()} app:app --logger-class promring.gunicorn.Logger".split()
        env = environment(segment.with_name("taken"), HOME=str(tmp_path), PROMRING_LISTEN=f"127.0.0.1:{port}")
        command = [str(Path(sys.executable).with_name("gunicorn")), *code[1:]]
        server = Server(command, env, WSGI, tmp_path / "log")
        try:
            url = f"http://{code[4]}/metrics"
            wait_until("the app", lambda: answers(url))
            wait_until("the line", lambda: f"cannot listen on 127.0.0.1:{port}" in server.log.read_text())
            assert answers(url)
        finally:
            server.end()


# ---------------------------------------------------------------------------------------------
# uvicorn


def test_uvicorn_with_spawned_workers(tmp_path, segment):
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "--workers", "3", "--port", str(port), "app:app"]
    server = Server(command, environment(segment.with_name("uvicorn")), ASGI, tmp_path / "log")
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until("uvicorn", lambda: answers(url + "/metrics"))
        pids = set()
        requests = 0

        def ask():
            nonlocal requests
            requests += 1
            pids.add(int(re.search(r"by (\d+)", fetch(url + "/work?n=3&kind=a")[2])[1]))
            return len(pids) >= 3

        wait_until("answers of three workers", ask)
        victim = pids.pop()
        os.kill(victim, signal.SIGKILL)
        wait_until("its end", lambda: not is_there(victim))
        wait_until("the others", lambda: answers(url + "/metrics"))
        for _ in range(20):
            ask()
        status, headers, text = fetch(url + "/metrics")
        assert status == 200 and headers["content-type"].startswith("text/plain; version=0.0.4")
        found = samples(text)
        assert found["demo_work_total", (("kind", "a"),)] == 3 * requests
        assert found["demo_work_seconds_count", ()] == requests
        assert fetch(url + "/metrics", "HEAD")[2] == ""
        status, headers, _ = fetch(url + "/metrics", "DELETE")
        assert (status, headers["allow"]) == (405, "GET, HEAD")
        promtool(text)
    finally:
        server.end()


# ---------------------------------------------------------------------------------------------
# The endpoints by themselves


def test_the_wsgi_app(registry):
    app = promring.make_wsgi_app(registry)
    Counter("c", "A counter.", registry=registry).inc(3)
    answered = {}

    def start_response(status, headers):
        answered["status"], answered["headers"] = status, dict(headers)

    def ask(method):
        return b"".join(app({"REQUEST_METHOD": method, "PATH_INFO": "/any"}, start_response)).decode()

    text = ask("GET")
    assert samples(text)["c_total", ()] == 3
    assert answered["status"] == "200 OK"
    assert int(answered["headers"]["Content-Length"]) == len(text.encode())
    assert ask("HEAD") == ""
    assert answered["status"] == "200 OK" and int(answered["headers"]["Content-Length"]) > 0
    ask("PUT")
    assert answered["status"].startswith("405")
    assert answered["headers"]["Allow"] == "GET, HEAD"


def test_the_asgi_app(registry):
    app = promring.make_asgi_app(registry)
    Counter("c", "A counter.", registry=registry).inc(3)

    def ask(method, kind="http"):
        sent, coming = [], [{"type": f"{kind}.{what}"} for what in ("startup", "shutdown")]

        async def receive():
            return coming.pop(0)

        async def send(message):
            sent.append(message)

        scope = {"type": kind, "method": method, "path": "/any", "headers": [(b"Accept", b"text/plain")]}
        asyncio.run(app(scope, receive, send))
        return sent

    start, body = ask("GET")
    assert start["status"] == 200
    assert samples(body["body"].decode())["c_total", ()] == 3
    assert dict(start["headers"])[b"content-length"] == str(len(body["body"])).encode()
    assert ask("HEAD")[1]["body"] == b""
    assert ask("POST")[0]["status"] == 405
    assert [m["type"] for m in ask("", "lifespan")] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    with pytest.raises(ValueError, match="not websocket"):
        ask("", "websocket")
