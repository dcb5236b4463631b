"""Serves the app by gunicorn with warnings as errors, and compares its pages byte for byte."""

import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

WORKERS, REQUESTS, LIFE = 3, 120, 15
# CPython drops its warning at a fork beside a thread where it would be an error: that one is to be shown instead.
STRICT = ["-W", "error", "-W", "always:This process:DeprecationWarning"]
PAGE = f"""\
# HELP shop_orders_total Orders taken.
# TYPE shop_orders_total counter
shop_orders_total{{kind="pen"}} {REQUESTS // 2}
shop_orders_total{{kind="book"}} {REQUESTS // 2}
# HELP shop_weight What an order weighs.
# TYPE shop_weight histogram
shop_weight_bucket{{le="1.0"}} {REQUESTS // 2}
shop_weight_bucket{{le="2.0"}} {REQUESTS * 3 // 4}
shop_weight_bucket{{le="+Inf"}} {REQUESTS}
shop_weight_sum {REQUESTS * 3 // 2}
shop_weight_count {REQUESTS}
# HELP shop_highest The highest that any worker says.
# TYPE shop_highest gauge
shop_highest 7
# HELP shop_build_info What runs.
# TYPE shop_build_info gauge
shop_build_info{{version="1"}} 1
# HELP shop_state How it is.
# TYPE shop_state gauge
shop_state{{shop_state="open"}} 1
shop_state{{shop_state="shut"}} 0
"""
WAYS = {
    "loaded by each worker": [],
    "preloaded": ["--preload"],
    "preloaded, threads": ["--preload", "--threads", "2"],
}


def wait_until(what, condition, seconds=60):
    """Wait for a true value of ``condition()``."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds} s for {what}")
        time.sleep(0.02)


def free_port():
    """Return a port of the loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def fetch(port, path):
    """Return the text of an answer; nothing while nobody listens."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as answer:
            return answer.read().decode()
    except OSError:
        return None


def shop(page):
    """Return what a page says of the app."""
    return "".join(line for line in (page or "").splitlines(keepends=True) if "shop_" in line)


def ask(port):
    """Make the requests; return how many were not answered."""
    wait_until("the server", lambda: fetch(port, "/metrics") is not None)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda number: fetch(port, f"/?{number}"), range(REQUESTS)))
    return answers.count(None)


class Server:
    """gunicorn with warnings as errors, whose workers are short-lived."""

    def __init__(self, port, app, options, env=None):
        command = [sys.executable, *STRICT, "-m", "gunicorn", "-w", str(WORKERS), "-b", f"127.0.0.1:{port}"]
        command += ["--max-requests", str(LIFE), "--log-level", "warning", "--no-control-socket", *options, app]
        self._log = Path(f"log-{port}")
        with self._log.open("wb") as out:
            self._process = subprocess.Popen(command, env=os.environ | (env or {}), stdout=out, stderr=out)

    def end(self):
        """End it; return the kinds of lines that it has said."""
        self._process.terminate()
        self._process.wait(60)
        return {re.sub(r"[0-9]+", "N", line) for line in self._log.read_text().splitlines()}


def own_warnings():
    """Return what gunicorn warns of by itself: sockets that its workers leave open."""
    port = free_port()
    server = Server(port, "bare:app", ["--preload"])
    try:
        ask(port)
    finally:
        said = server.end()
    return {line for line in said if "This process" not in line}  # without its control socket it has no thread


def wrong_of(number, options, accepted):
    """Serve in one way; return what was wrong."""
    port, aggregator, wrong = free_port(), free_port(), []
    env = {"PROMRING_SEGMENT": f"/dev/shm/served-{number}/segment", "PROMRING_LISTEN": f"127.0.0.1:{aggregator}"}
    server = Server(port, "app:app", ["--logger-class", "promring.gunicorn.Logger", *options], env)
    try:
        wait_until("the aggregator", lambda: fetch(aggregator, "/metrics"))
        if lost := ask(port):
            wrong.append(f"{lost} requests were not answered")
        for who in (port, aggregator):
            try:
                wait_until("the page", lambda who=who: shop(fetch(who, "/metrics")) == PAGE, 10)
            except TimeoutError:
                wrong.append(f"another page:\n{shop(fetch(who, '/metrics'))}")
    except TimeoutError as error:
        wrong.append(str(error))
    finally:
        said = server.end()
    return wrong + sorted(said - accepted)


def main():
    """Serve in every way; a row each."""
    failed, started = 0, time.monotonic()
    release = Path("/etc/debian_version").read_text().strip()
    accepted = own_warnings()
    for number, (name, options) in enumerate(WAYS.items()):
        wrong = wrong_of(number, options, accepted)
        failed += bool(wrong)
        print(
            f"Debian {release}, CPython {sys.version.split()[0]}, {name}: {'WRONG' if wrong else 'exact, no warning'}",
            flush=True,
        )
        for line in wrong:
            print(f"    {line}", flush=True)
    print(f"{len(WAYS) - failed} passed, {failed} failed in {time.monotonic() - started:.1f}s", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
