"""Asks apps that are instrumented by others' libraries, and compares the sums: libraries.py REQUESTS [NAME...]."""

import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import namedtuple
from pathlib import Path

import grpc
from processes import DemoError, adopt_orphans, end_all, free_port, wait_until
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as text

HERE = Path(__file__).parent
WORKERS = 3
OPENMETRICS = "application/openmetrics-text;version=1.0.0"
ANYTHING = urllib.request.build_opener(urllib.request.ProxyHandler({}))

# What one request adds, as (sample, labels among others, times); `exemplar` is the library's sample that has one. Each
# app counts by itself, too, with an exemplar.
Library = namedtuple("Library", "app server counts exemplar", defaults=[None])
DONE = ("app_done_total", {}, 1)
ON_UVICORN = ["-k", "uvicorn_worker.UvicornWorker"]
GRPC = {"grpc_service": "Work", "grpc_method": "Do", "grpc_type": "UNARY"}
LIBRARIES = {
    "prometheus-fastapi-instrumentator": Library(
        "app_fastapi:app",
        ON_UVICORN,
        [
            ("http_requests_total", {"handler": "/work", "status": "2xx", "method": "GET"}, 1),
            ("http_request_duration_seconds_count", {"handler": "/work"}, 1),
        ],
    ),
    "starlette-exporter": Library(
        "app_starlette:app",
        ON_UVICORN,
        [
            ("starlette_requests_total", {"path": "/work", "status_code": "200"}, 1),
            ("starlette_request_duration_seconds_count", {"path": "/work"}, 1),
        ],
        "starlette_requests_total",
    ),
    "prometheus-flask-exporter": Library(
        "app_flask:app",
        [],
        [
            ("flask_http_request_total", {"method": "GET", "status": "200"}, 1),
            ("flask_http_request_duration_seconds_count", {"path": "/work"}, 1),
        ],
    ),
    "django-prometheus": Library(
        "app_django:app",
        [],
        [
            ("django_http_requests_total_by_view_transport_method_total", {"view": "work"}, 1),
            ("django_http_responses_total_by_status_view_method_total", {"view": "work", "status": "200"}, 1),
            ("django_http_requests_latency_seconds_by_view_method_count", {"view": "work"}, 1),
        ],
    ),
    "prometheus-async": Library(
        "app_async:app",
        ["-k", "aiohttp.GunicornWebWorker"],
        [("work_seconds_count", {}, 1), ("work_errors_total", {}, 1), ("work_busy", {}, 0)],
    ),
    "py-grpc-prometheus": Library(
        None,
        [],
        [
            ("grpc_server_started_total", GRPC, 1),
            ("grpc_server_handled_total", {**GRPC, "grpc_code": "OK"}, 1),
            ("grpc_server_handling_seconds_count", GRPC, 1),
        ],
    ),
}


def fetch(url, accept="text/plain"):
    """Return the body of an answer, and whether it is OpenMetrics."""
    with ANYTHING.open(urllib.request.Request(url, headers={"Accept": accept}), timeout=30) as answer:
        return answer.read().decode(), answer.headers["Content-Type"].startswith("application/openmetrics")


def answers(url):
    """Tell whether a GET succeeds."""
    try:
        return bool(fetch(url))
    except OSError:
        return False


def call(port):
    """Make one call on a connection of its own, so that any of the servers may take it; return what did it."""
    with grpc.insecure_channel(f"127.0.0.1:{port}", [("grpc.use_local_subchannel_pool", 1)]) as channel:
        return channel.unary_unary("/Work/Do")(b"", timeout=60, wait_for_ready=True).decode()


class App:
    """An app under `promring run`, with the pages of its library and of the aggregator."""

    def __init__(self, library, place):
        self.library, self.asked, self.workers = library, 0, set()
        self.port, aggregator, page = free_port(), free_port(), free_port()
        bin = Path(sys.executable).parent
        if library.app:
            page = self.port
            command = [bin / "gunicorn", "-w", WORKERS, "-b", f"127.0.0.1:{self.port}", *library.server, library.app]
        else:
            command = [sys.executable, "app_grpc.py", self.port, WORKERS, page]
        env = dict(os.environ, HOME=str(place), PROMRING_SEGMENT=str(place / "segment"))
        env["PROMRING_LISTEN"] = f"127.0.0.1:{aggregator}"
        self.log = place / "log"
        with open(self.log, "wb") as log:
            line = [bin / "promring", "run", *command]
            subprocess.Popen(list(map(str, line)), env=env, cwd=HERE, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.pages = [f"http://127.0.0.1:{port}/metrics" for port in (page, aggregator)]
        wait_until("both pages", lambda: all(map(answers, self.pages)))

    def ask(self):
        """Make one request; note which worker answered."""
        self.asked += 1
        work = f"http://127.0.0.1:{self.port}/work"
        self.workers.add(fetch(work)[0] if self.library.app else call(self.port))

    def sums(self, url):
        """Return what a page has of everything that the library counts."""
        page, is_openmetrics = fetch(url)
        samples = [s for family in (openmetrics if is_openmetrics else text)(page) for s in family.samples]
        return [
            sum(s.value for s in samples if s.name == name and labels.items() <= s.labels.items())
            for name, labels, _ in [*self.library.counts, DONE]
        ]

    def compare(self):
        """Return the sums of each page: those that were to be, or what they were after a while."""
        wanted = [self.asked * times for _, _, times in [*self.library.counts, DONE]]
        for page in self.pages:
            try:  # a server may answer before it counts, and the aggregator's page is up to 100 ms old
                wait_until("the sums", lambda page=page: self.sums(page) == wanted, 20)
            except DemoError:
                break
        return wanted, [self.sums(page) for page in self.pages]

    def exemplars(self):
        """Return the numbers of exemplars of each page, the app's and the library's, where the page may have any."""
        pages = [page for page, is_openmetrics in (fetch(page, OPENMETRICS) for page in self.pages) if is_openmetrics]
        found = [[s for family in openmetrics(page) for s in family.samples if s.exemplar] for page in pages]
        wanted = filter(None, [DONE[0], self.library.exemplar])
        return [sum(s.name == name for s in samples) for name in wanted for samples in found]


def check(name, requests, place):
    """Run one library's app; print its row and return whether it has passed."""
    started = time.monotonic()
    app = None
    try:
        app = App(LIBRARIES[name], place)
        while app.asked < requests or len(app.workers) < 2:
            app.ask()
        wanted, found = app.compare()
        exemplars = app.exemplars()
        passed = all(sums == wanted for sums in found) and bool(exemplars) and all(exemplars)
        counted = " ".join("/".join(f"{number:g}" for number in sums) for sums in found)
        shown = " ".join(map(str, exemplars))
        row = f"{app.asked:9} {len(app.workers):8}  {counted:28} {shown:>9}"
    except (DemoError, OSError, grpc.RpcError, KeyError, ValueError) as error:
        passed, row = False, f" {error!r}"
    stubborn = end_all()
    passed = passed and not stubborn
    print(f"{name:34}{row}  {time.monotonic() - started:5.1f} s  {'passed' if passed else 'FAILED'}", flush=True)
    if not passed:
        print(*stubborn, (place / "log").read_text()[-4000:], sep="\n", file=sys.stderr)
    return passed


def main():
    """Run the libraries that are named, or all."""
    arguments = sys.argv[1:]
    requests = int(arguments.pop(0)) if arguments and arguments[0].isdigit() else 400
    started = time.monotonic()
    adopt_orphans()
    print(f"{'library':34}{'requests':>9} {'workers':>8}  {'its page, the aggregator':28} {'exemplars':>9}")
    passed = []
    for name in arguments or LIBRARIES:
        with tempfile.TemporaryDirectory(prefix="promring-libraries-", dir="/dev/shm") as place:
            passed.append(check(name, requests, Path(place)))
    print(f"{sum(passed)} passed, {len(passed) - sum(passed)} failed in {time.monotonic() - started:.1f}s")
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
