"""`promring run`: servers that spawn or fork their workers are exact, without a word of promring in the app."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import Server, answers, environment, fetch, free_port, run, samples, wait_until

BIN = Path(sys.executable).parent
PROMRING_RUN = [str(BIN / "promring"), "run"]
APP = """
import os
import time
from prometheus_client import Counter

WORK = Counter("work", "Units of work.", ["pid"])
SUM = Counter("units", "Units of work.")

def work():
    WORK.labels(str(os.getpid())).inc()
    SUM.inc(7)
    time.sleep(0.02)  # busy: the other worker takes the next one

async def asgi(scope, receive, send):
    if scope["type"] != "http":
        return
    work()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"connection", b"close")]})
    await send({"type": "http.response.body", "body": b"done"})

def wsgi(environ, start_response):
    work()
    start_response("200 OK", [("Content-Length", "4")])
    return [b"done"]
"""
# The command of a server with two workers, and in how many processes the work must have been seen: more than
# two where workers are recycled.
SERVERS = {
    "uvicorn": ("uvicorn --workers 2 --port {port} --lifespan off app:asgi", 2),
    "hypercorn": ("hypercorn -w 2 -b 127.0.0.1:{port} app:asgi", 2),
    "granian": ("granian --interface asgi --workers 2 --host 127.0.0.1 --port {port} app:asgi", 2),
    "granian-wsgi": ("granian --interface wsgi --workers 2 --host 127.0.0.1 --port {port} app:wsgi", 2),
    # Without promring, too, one stop in dozens waits for a worker's whole grace: it is idle in gevent's hub.
    "gunicorn-gevent": (
        "gunicorn -k gevent -w 2 --max-requests 10 --graceful-timeout 5 -b 127.0.0.1:{port} app:wsgi",
        4,
    ),
    "gunicorn-uvicorn": ("gunicorn -k uvicorn_worker.UvicornWorker -w 2 -b 127.0.0.1:{port} app:asgi", 2),
    "uwsgi": (
        f"uwsgi --master --processes 2 --max-requests 10 --die-on-term --virtualenv {sys.prefix} --need-app"
        " --http-socket 127.0.0.1:{port} --module app:wsgi",
        4,
    ),
}
TASKS = """
import os
from celery import Celery
from prometheus_client import Counter

WORK = Counter("work", "Units of work.", ["pid"])
SUM = Counter("units", "Units of work.")
app = Celery("tasks", broker="filesystem://")
app.conf.broker_transport_options = {"data_folder_in": "queue", "data_folder_out": "queue", "control_folder": "control"}
app.conf.worker_hijack_root_logger = False

@app.task
def work(units):
    WORK.labels(str(os.getpid())).inc()
    SUM.inc(units)
"""
POOL = """
import multiprocessing
import os
import sys
from prometheus_client import Counter, generate_latest

SUM = Counter("units", "Units of work.")

def work(units):
    SUM.inc(units)
    return os.getpid()

if __name__ == "__main__":
    with multiprocessing.get_context(sys.argv[1]).Pool(2, maxtasksperchild=5) as pool:
        pids = set(pool.map(work, [7] * 40, chunksize=1))
    assert len(pids) > 2 and os.getpid() not in pids
    SUM.inc()
    print(generate_latest().decode())
"""


@pytest.fixture
def server(tmp_path, segment):
    """Make a server under `promring run` that ends with the test; its aggregator's page is its `page`."""
    made = []

    def make(*command):
        aggregator = free_port()
        env = environment(segment.with_name("run"), PYTHONPATH=str(tmp_path), HOME=str(tmp_path))
        env["PROMRING_LISTEN"] = f"127.0.0.1:{aggregator}"
        command = [*PROMRING_RUN, str(BIN / command[0]), *command[1:]]
        made.append(Server(command, env, tmp_path, tmp_path / "log"))
        made[0].page = f"http://127.0.0.1:{aggregator}/metrics"
        wait_until("the aggregator", lambda: answers(made[0].page))
        return made[0]

    yield make
    for one in made:
        one.end()
        assert not answers(one.page)


def counted(server):
    """Return the processes that have worked, the calls that they have counted, and the units."""
    found = samples(fetch(server.page)[2])
    calls = {labels: number for (name, labels), number in found.items() if name == "work_total"}
    return len(calls), sum(calls.values()), found.get(("units_total", ()), 0)


@pytest.mark.parametrize("kind", SERVERS)
def test_workers_count_exactly_and_nothing_is_left(tmp_path, server, kind):
    (tmp_path / "app.py").write_text(APP)
    command, processes = SERVERS[kind]
    port = free_port()
    one = server(*command.format(port=port).split())
    url = f"http://127.0.0.1:{port}/"
    asked = 0

    def all_have_worked():
        nonlocal asked
        with ThreadPoolExecutor(8) as pool:  # at once: one worker alone would take them one by one
            asked += sum(pool.map(answers, [url] * 8))
        return counted(one)[0] >= processes

    try:
        wait_until("work of all workers", all_have_worked)
        assert counted(one)[1:] == (asked, 7 * asked)
    except AssertionError:
        print((tmp_path / "log").read_text()[-3000:])
        raise


def test_celery_counts_exactly_through_recycled_workers(tmp_path, server):
    for folder in ("queue", "control"):
        (tmp_path / folder).mkdir()
    (tmp_path / "tasks.py").write_text(TASKS)
    one = server(*"celery -A tasks worker -P prefork -c 2 --max-tasks-per-child 5 --without-gossip".split())
    env = environment(tmp_path / "unused", PYTHONPATH=str(tmp_path))
    run("from tasks import work\nfor _ in range(40): work.delay(7)", env, tmp_path)
    wait_until("the work", lambda: counted(one)[1] == 40)
    processes, _, units = counted(one)
    assert units == 280
    assert processes >= 40 // 5


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_pool_of_multiprocessing_is_exact(tmp_path, segment, method):
    (tmp_path / "pool.py").write_text(POOL)
    env = environment(segment.with_name("pool"))
    done = subprocess.run(
        [*PROMRING_RUN, sys.executable, str(tmp_path / "pool.py"), method], env=env, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert samples(done.stdout)["units_total", ()] == 7 * 40 + 1


def test_the_app_s_own_sitecustomize_runs_too_and_arguments_arrive(tmp_path, segment):
    (tmp_path / "sitecustomize.py").write_text("import builtins\nbuiltins.seen = 1\n")
    env = environment(segment.with_name("own"), PYTHONPATH=str(tmp_path))
    code = "import sys; i = sys.modules['promring.install']; print(seen, i.is_installed(), sys.argv[1:]); sys.exit(3)"
    command = [*PROMRING_RUN, sys.executable, "-c", code, "--help"]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (3, "1 True ['--help']\n"), done.stderr


def test_the_variable_is_the_switch_of_what_stands_on_the_path(segment):
    site = run("import promring.run; print(promring.run.SITE)", environment(segment))[0].strip()
    ask = "import sys; i = sys.modules.get('promring.install'); print(i is not None and i.is_installed())"
    for setting, installed in (("1", "True"), ("0", "False"), ("", "False")):
        env = environment(segment.with_name("auto"), PYTHONPATH=site, PROMRING_AUTO=setting)
        assert run(ask, env)[0].strip() == installed


def test_what_cannot_be_run_is_said_once(segment):
    env = environment(segment.with_name("no"))
    for arguments, status, words in (
        ([], 2, "usage: promring run"),
        (["nowhere-at-all"], 127, "cannot run nowhere-at-all"),
    ):
        done = subprocess.run([*PROMRING_RUN, *arguments], env=env, capture_output=True, text=True)
        assert done.returncode == status
        assert words in done.stderr
        assert len(done.stderr.splitlines()) == 1
