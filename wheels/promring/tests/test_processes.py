"""Many processes, one page: exact through forks, spawns, SIGKILL, signal handlers and threads."""

import contextlib
import multiprocessing
import os
import pathlib
import random
import signal
import subprocess
import sys
import threading

import pytest
from conftest import (
    Worker,
    answers,
    environment,
    fetch,
    free_port,
    in_worker,
    page,
    run,
    samples,
    value,
    wait_until,
)
from prometheus_client import Counter, Gauge, Histogram, Summary
from promring import _native


def test_forked_workers_that_are_killed_lose_nothing(registry):
    counter = Counter("c", "A counter.", ["l"], registry=registry)
    histogram = Histogram("h", "A histogram.", registry=registry, buckets=[1, 2])
    dice, expected, observed = random.Random(1), {"a": 0, "b": 0}, 0
    for _ in range(20):
        times, label = dice.randint(1, 5000), dice.choice("ab")

        def work(times=times, label=label):
            child = counter.labels(l=label)
            for number in range(times):
                child.inc()
                histogram.observe(number % 3)

        worker = Worker(work)
        (worker.kill if dice.random() < 0.7 else worker.end)()
        expected[label] += times
        observed += times
    for label, count in expected.items():
        assert value("c_total", l=label) == count
    assert value("h_count") == observed


def test_an_acknowledged_increment_survives_a_kill_amid_work(registry, tmp_path):
    counter = Counter("c", "A counter.", registry=registry)
    acknowledged = 0
    for number in range(10):
        ledger, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            while True:
                counter.inc()
                os.write(write, b"1")
        os.close(write)
        for _ in range(100 * (number + 1)):
            acknowledged += len(os.read(ledger, 7))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        while read := os.read(ledger, 1 << 16):
            acknowledged += len(read)
        os.close(ledger)
    assert acknowledged <= value("c_total") <= acknowledged + 10


def _spawned(path, method, times):
    import promring
    from prometheus_client import CollectorRegistry, Counter, Gauge

    if method != "fork":
        promring.configure(segment=path, listen="off")
        promring.install()
    mine = CollectorRegistry()
    Gauge("g", "A gauge.", registry=mine, multiprocess_mode="sum").set(times)
    counter = Counter("c", "A counter.", ["how"], registry=mine)
    for _ in range(times):
        counter.labels(how=method).inc()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_multiprocessing(segment, method):
    _native.attach()  # a segment that everyone has left would be started afresh
    context = multiprocessing.get_context(method)
    processes = [context.Process(target=_spawned, args=(segment, method, n)) for n in (100, 2000, 3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert value("c_total", how=method) == 2103
    assert value("g") == 2103


def test_threads_of_forked_workers(registry):
    counter = Counter("c", "A counter.", ["l"], registry=registry)

    def work():
        def thread(number):
            for _ in range(2000):
                counter.labels(l=str(number)).inc()

        threads = [threading.Thread(target=thread, args=(number,)) for number in range(4)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()

    workers = [Worker(work), Worker(work)]
    for worker in workers:
        worker.kill()
    assert [value("c_total", l=str(number)) for number in range(4)] == [4000] * 4


def test_signal_handlers_increment_too(registry):
    counter = Counter("c", "A counter.", ["l"], registry=registry)
    caught = 0

    def handler(*_):
        nonlocal caught
        caught += 1
        counter.labels(l="handler").inc()

    old = signal.signal(signal.SIGPROF, handler)
    signal.setitimer(signal.ITIMER_PROF, 0.0005, 0.0005)
    try:
        done = 0
        while caught < 100:
            counter.labels(l="main").inc()
            done += 1
            if done % 1000 == 0:
                page()
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, old)
    assert value("c_total", l="main") == done
    assert value("c_total", l="handler") == caught


def test_a_scrape_in_a_thread_while_others_count_and_fork(registry):
    counter = Counter("c", "A counter.", registry=registry)
    stop = threading.Event()

    def scrape():
        while not stop.is_set():
            page()

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        for _ in range(30):
            counter.inc()
            # The scrape in the child would hang if a fork could copy a lock that the thread holds.
            in_worker(lambda: (counter.inc(), page()))
    finally:
        stop.set()
        thread.join()
    assert value("c_total") == 60


# ---------------------------------------------------------------------------------------------
# Gauges

MERGED = {
    # mode: while both workers live, after the second was killed
    "sum": (5, 5),
    "livesum": (5, 2),
    "max": (3, 3),
    "livemax": (3, 2),
    "min": (2, 2),
    "livemin": (2, 2),
    "mostrecent": (3, 3),
    "livemostrecent": (3, 2),
}


@pytest.mark.parametrize("mode", sorted(MERGED))
def test_gauge_modes_with_one_result(mode, registry):
    def work(number):
        Gauge("g", "A gauge.", registry=None, multiprocess_mode=mode).set(number)

    first = Worker(lambda: work(2))
    second = Worker(lambda: work(3))
    alive, after = MERGED[mode]
    assert value("g") == alive
    second.kill()
    assert value("g") == after
    first.end()
    assert value("g") == (None if mode.startswith("live") else after)


@pytest.mark.parametrize("mode", ["all", "liveall"])
def test_gauge_modes_with_a_result_for_each_worker(mode, registry):
    gauge = Gauge("g", "A gauge.", ["l"], registry=registry, multiprocess_mode=mode)
    workers = [Worker(lambda number=number: gauge.labels("x").set(number)) for number in (2, 3)]
    pids = [str(worker.pid) for worker in workers]
    assert [value("g", l="x", pid=pid) for pid in pids] == [2, 3]
    assert {s.labels["pid"] for s in gauge.collect()[0].samples} == set(pids)
    workers[1].kill()
    assert value("g", l="x", pid=pids[0]) == 2
    assert value("g", l="x", pid=pids[1]) == (3 if mode == "all" else None)
    workers[0].kill()


def test_a_gauge_that_only_this_process_has_set_looks_as_ever(registry):
    gauge = Gauge("g", "A gauge.", registry=registry)
    gauge.set(3)
    assert registry.get_sample_value("g") == 3
    worker = Worker(lambda: gauge.set(4))
    assert registry.get_sample_value("g") is None
    assert registry.get_sample_value("g", {"pid": str(os.getpid())}) == 3
    assert registry.get_sample_value("g", {"pid": str(worker.pid)}) == 4
    assert gauge._value.get() == 3
    worker.kill()


def test_summaries_with_quantiles_over_all_workers(segment):
    code = """
import os, promring
promring.configure(summary_quantiles="took_*=0.5/0.99", summary_window="3600")
promring.install()
from prometheus_client import REGISTRY, Summary
took = Summary("took_seconds", "How long it took.", ["path"])
size = Summary("size", "How large it was.")
for number in range(4):
    pid = os.fork()
    if pid == 0:
        for value in range(number, 1000, 4):
            took.labels("/").observe((value + 1) / 1000)
        os._exit(0)
    os.waitpid(pid, 0)
size.observe(1)
assert REGISTRY.get_sample_value("took_seconds_count", {"path": "/"}) == 1000
print(promring._native.scrape()[1].decode())
"""
    out, _ = run(code, environment(segment.parent / "other"))
    found = samples(out)
    for quantile in ("0.5", "0.99"):
        value = found["took_seconds", (("path", "/"), ("quantile", quantile))]
        assert value == pytest.approx(float(quantile), rel=0.045)
    assert found["took_seconds_count", (("path", "/"),)] == 1000
    assert [name for name, labels in found if "size" in name and labels] == []


def test_a_stable_number_in_place_of_the_pid(segment):
    code = """
import os, promring
promring.configure(gauge_label="worker")
promring.install()
from prometheus_client import Gauge
gauge = Gauge("g", "A gauge.")
for number in range(3):
    pid = os.fork()
    if pid == 0:
        gauge.set(number)
        os._exit(0)
    os.waitpid(pid, 0)
print(promring._native.scrape()[1].decode())
"""
    out, _ = run(code, environment(segment.parent / "other"))
    found = {labels for name, labels in samples(out) if name == "g"}
    assert found <= {(("worker", str(number)),) for number in range(4)}
    assert len(found) >= 2


# ---------------------------------------------------------------------------------------------
# Across processes


def test_children_and_counts_of_other_workers_are_seen(registry):
    counter = Counter("c", "A counter.", ["l"], registry=registry)
    summary = Summary("s", "A summary.", ["l"], registry=registry)
    in_worker(lambda: (counter.labels("theirs").inc(3), summary.labels("theirs").observe(4)))
    counter.labels("mine").inc()
    assert registry.get_sample_value("c_total", {"l": "theirs"}) == 3
    assert registry.get_sample_value("c_total", {"l": "mine"}) == 1
    assert registry.get_sample_value("s_sum", {"l": "theirs"}) == 4
    assert registry.get_sample_value("c_created", {"l": "theirs"}) > 0
    assert list(counter._metrics) == [("mine",)]


def test_removals_hold_in_all_workers(registry):
    counter = Counter("c", "A counter.", ["a", "b"], registry=registry)
    for a in "xyz":
        counter.labels(a, "1").inc(5)
        counter.labels(a, "2").inc(5)
    in_worker(lambda: counter.remove("x", "1"))
    in_worker(lambda: counter.remove_by_labels({"a": "y"}))
    left = {(label["a"], label["b"]) for label in (s.labels for s in counter.collect()[0].samples)}
    assert left == {("x", "2"), ("z", "1"), ("z", "2")}
    # This worker had the child in hand and in its table: it comes back, from zero.
    counter.labels("x", "1").inc()
    assert value("c_total", a="x", b="1") == 1
    in_worker(counter.clear)
    assert not [key for key in samples(page()) if key[0] == "c_total"]


def test_counts_of_a_removed_series_do_not_come_back(registry):
    counter = Counter("c", "A counter.", ["l"], registry=registry)
    workers = [Worker(lambda: counter.labels("x").inc(7)) for _ in range(3)]
    counter.remove("x")
    assert value("c_total", l="x") is None
    for worker in workers:
        worker.kill()
    counter.labels("x").inc()
    assert value("c_total", l="x") == 1


def test_a_spawned_process_joins_by_configuration_alone(segment, registry):
    code = "import promring; promring.install(); from prometheus_client import *; Counter('c', 'A counter.').inc(5)"
    Counter("c", "A counter.", registry=registry).inc(2)
    run(code, environment(segment))
    assert value("c_total") == 7


def test_the_default_segment_is_named_after_the_app(tmp_path):
    code = "import promring; print(promring.segment_path())"
    env = environment("", PROMRING_SEGMENT="")
    out, _ = run(code, env, cwd=tmp_path)
    assert out.startswith(f"/dev/shm/promring-{os.geteuid()}/{tmp_path.name}-")
    directory = tmp_path / "multi"
    directory.mkdir()
    default = pathlib.Path(out.strip()).parent
    for file in default.glob(f"{tmp_path.name}-*"):
        file.unlink()
    with contextlib.suppress(OSError):  # it may hold segments of other apps
        default.rmdir()
    out, _ = run(code, env | {"PROMETHEUS_MULTIPROC_DIR": str(directory)}, cwd=tmp_path)
    assert out.startswith(str(directory / "promring"))


def test_the_aggregator_is_a_child_that_ends_with_its_master(segment):
    port = free_port()
    code = f"""
import promring, sys
promring.configure(listen="127.0.0.1:{port}")
promring.install()
from prometheus_client import Counter
Counter("c", "A counter.").inc(3)
print(promring.start_aggregator() == promring.start_aggregator(), flush=True)
sys.stdin.read()
"""
    env = environment(segment)
    process = subprocess.Popen([sys.executable, "-c", code], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with process:
        assert process.stdout.readline() == b"True\n"
        url = f"http://127.0.0.1:{port}"
        wait_until("the aggregator", lambda: answers(url + "/-/ready"))
        assert "c_total 3" in fetch(url + "/metrics")[2].splitlines()
        process.kill()
    wait_until("its end", lambda: not answers(url + "/-/ready"))
