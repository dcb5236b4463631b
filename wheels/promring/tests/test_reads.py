"""What registries, MultiProcessCollector and generate_latest show, and from whose hands the bytes come."""

import os
import pathlib

import prometheus_client
import pytest
from conftest import environment, in_worker, page, promtool, run, samples, vanilla_text
from prometheus_client import CollectorRegistry, Counter, Enum, Gauge, Histogram, Info, multiprocess
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.openmetrics import exposition as openmetrics_exposition
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics_families
from promring import _native
from promring.page import app_page


@pytest.fixture
def scrapes(monkeypatch):
    """Count the core's pages."""
    made = []

    def scrape(accept=""):
        made.append(accept)
        return real(accept)

    real = _native.scrape
    monkeypatch.setattr(_native, "scrape", scrape)
    return made


class Custom:
    """A custom collector."""

    def collect(self):
        yield GaugeMetricFamily("custom_pid", "Who answers.", os.getpid())
        family = CounterMetricFamily("custom", "A custom counter.", labels=["l"])
        family.add_metric(["x"], 7)
        yield family


def in_other_worker():
    """Declare a family that this process does not know."""
    theirs = Counter("theirs", "Of another worker.", ["l"], registry=None)
    theirs.labels("x").inc(3)


def test_the_default_registry_shows_families_of_other_workers(default_registry, scrapes):
    Counter("mine", "Of this worker.").inc()
    in_worker(in_other_worker)
    assert default_registry.get_sample_value("theirs_total", {"l": "x"}) == 3
    text = prometheus_client.generate_latest(default_registry).decode()
    assert samples(text)["theirs_total", (("l", "x"),)] == 3
    assert samples(text)["mine_total", ()] == 1
    assert len(scrapes) == 1
    restricted = default_registry.restricted_registry(["theirs_total", "mine_total"])
    assert samples(prometheus_client.generate_latest(restricted).decode()) == {
        ("theirs_total", (("l", "x"),)): 3,
        ("mine_total", ()): 1,
    }
    promtool(text)


def test_the_text_that_is_not_asked_for_by_name_is_the_core_s(default_registry, scrapes):
    Counter("c", "A counter.").inc()
    encoder, content_type = choose_encoder("text/plain;version=0.0.4")
    assert content_type.startswith("text/plain")
    assert b"c_total 1\n" in encoder(default_registry)
    assert scrapes
    encoder, content_type = choose_encoder("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert b"c_total 1\n" in encoder(default_registry)
    assert encoder(default_registry).endswith(b"# EOF\n")


def test_a_registry_of_the_app_s_own_shows_what_is_in_it(registry, default_registry, scrapes):
    counter = Counter("c", "A counter.", ["l"], registry=registry)
    Counter("other", "In another registry.")
    in_worker(lambda: (in_other_worker(), counter.labels("x").inc()))
    assert samples(prometheus_client.generate_latest(registry).decode()).keys() == {
        ("c_total", (("l", "x"),)),
        ("c_created", (("l", "x"),)),
    }
    # REGISTRY does not hold `c`, which this process has declared elsewhere.
    assert default_registry.get_sample_value("c_total", {"l": "x"}) is None
    assert "c_total" not in prometheus_client.generate_latest(default_registry).decode()
    assert default_registry.get_sample_value("theirs_total", {"l": "x"}) == 3
    assert not scrapes
    default_registry.unregister(default_registry._names_to_collectors["other"])
    assert default_registry.get_sample_value("other_total") is None


@pytest.mark.parametrize("path", ["", "/dev/shm", "/nowhere"])
def test_multi_process_collector_shows_everything(registry, default_registry, scrapes, path, monkeypatch):
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", path)
    histogram = Histogram("h", "A histogram.", ["l"], buckets=[1, 2])
    histogram.labels("x").observe(1.5)
    gauge = Gauge("g", "A gauge.", registry=registry)  # in the collector's registry, too
    gauge.set(4)
    in_worker(in_other_worker)
    multiprocess.MultiProcessCollector(registry, path=path or None)
    found = {metric.name: metric for metric in registry.collect()}
    assert [(s.name, s.labels.get("le"), s.value) for s in found["h"].samples] == [
        ("h_sum", None, 1.5),
        ("h_bucket", "1.0", 0),
        ("h_bucket", "2.0", 1),
        ("h_bucket", "+Inf", 1),
        ("h_count", None, 1),
    ]
    assert found["g"]._multiprocess_mode == "all"
    assert [s.labels for s in found["g"].samples] == [{"pid": str(os.getpid())}]
    assert registry.get_sample_value("theirs_total", {"l": "x"}) == 3
    assert len([m for m in registry.collect() if m.name == "g"]) == 1
    text = prometheus_client.generate_latest(registry).decode()
    assert len(scrapes) == 1
    assert samples(text)["theirs_total", (("l", "x"),)] == 3
    promtool(text)


def test_users_of_multiprocess_mode_need_no_files(tmp_path):
    code = """
import os
import promring
promring.install()
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess, values
assert values.ValueClass._multiprocess
counter = Counter("c", "A counter.", ["l"])
for number in range(3):
    if (pid := os.fork()) == 0:
        counter.labels("x").inc(5)
        Gauge("g", "A gauge.", multiprocess_mode="liveall").set(number)
        os._exit(0)
    os.waitpid(pid, 0)
    multiprocess.mark_process_dead(pid)
counter.remove("y")
registry = CollectorRegistry()
multiprocess.MultiProcessCollector(registry)
print(generate_latest(registry).decode())
"""
    env = environment("", PROMETHEUS_MULTIPROC_DIR=str(tmp_path)) | {"PROMRING_SEGMENT": ""}
    out, _ = run(code, env)
    assert samples(out)["c_total", (("l", "x"),)] == 15
    assert not list(tmp_path.glob("*.db"))
    assert list(tmp_path.glob("promring*"))


def test_mixed_registries(default_registry, scrapes):
    Counter("c", "A counter.").inc(2)
    default_registry.register(Custom())
    Info("build", "Build.").info({"version": "1"})
    Enum("state", "State.", states=["up", "down"]).state("down")
    default_registry.set_target_info({"env": "test"})
    text = prometheus_client.generate_latest(default_registry).decode()
    found = samples(text)
    assert len(scrapes) == 1
    assert found["c_total", ()] == 2
    assert found["custom_total", (("l", "x"),)] == 7
    assert found["custom_pid", ()] == os.getpid()
    assert found["build_info", (("version", "1"),)] == 1
    assert found["state", (("state", "down"),)] == 1
    assert found["target_info", (("env", "test"),)] == 1
    assert {m.name for m in default_registry.collect()} == {"target", "c", "custom", "custom_pid", "build", "state"}
    promtool(text)


def test_a_metric_that_contradicts_the_app_is_not_there_twice(default_registry, scrapes):
    Counter("c", "A counter.").inc()
    in_worker(lambda: Histogram("h", "Of another worker.", registry=None).observe(1))
    Gauge("h", "Something else.").set(7)
    text = prometheus_client.generate_latest(default_registry).decode()
    assert text.count("# TYPE h ") == 1
    assert samples(text)["h_count", ()] == 1
    assert len(scrapes) == 1
    assert default_registry.get_sample_value("h") == 7
    promtool(text)


def test_a_gauge_s_function_runs_in_the_process_that_answers(default_registry):
    plain = Gauge("plain", "Who answers.")
    plain.set_function(os.getpid)
    labelled = Gauge("labelled", "Two of them.", ["l"], multiprocess_mode="livesum")
    labelled.labels("function").set_function(lambda: 42)
    labelled.labels("set").set(7)
    plain.set(3)  # does nothing, as in the library
    plain.inc()
    text = prometheus_client.generate_latest(default_registry).decode()
    found = samples(text)
    assert found["plain", ()] == os.getpid()
    assert found["labelled", (("l", "function"),)] == 42
    assert found["labelled", (("l", "set"),)] == 7
    assert text.count("# TYPE plain gauge") == text.count("# TYPE labelled gauge") == 1
    assert default_registry.get_sample_value("plain") == os.getpid()
    assert default_registry.get_sample_value("labelled", {"l": "function"}) == 42
    promtool(text)
    in_worker(lambda: samples(app_page()[1].decode())["plain", ()] == os.getpid() or os._exit(9))


def test_the_app_s_page_leaves_out_what_describes_one_process():
    content_type, body = app_page()
    assert content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert b"process_cpu_seconds_total" not in body
    assert b"promring_workers" in body


PROCESS_PAGES = """
import promring
from prometheus_client import REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
promring.install()
before = generate_latest(REGISTRY).decode()
assert before.count("# TYPE process_cpu_seconds_total ") == 1, before
promring.tick()
both = CollectorRegistry()
MultiProcessCollector(both)
for registry in REGISTRY, both:
    page = generate_latest(registry).decode()
    names = [m.name for m in registry.collect() if m.name.startswith("process_")]
    for name in ("cpu_seconds_total", "resident_memory_bytes", "open_fds", "start_time_seconds"):
        assert page.count(f"# TYPE process_{name} ") == EXPECTED[registry is REGISTRY], page
    assert len(names) == len(set(names))
restricted = REGISTRY.restricted_registry(["process_open_fds", "process_cpu_seconds_total", "python_info"])
print(generate_latest(restricted).decode())
"""


@pytest.mark.parametrize("setting", ["on", "off"])
def test_the_fleet_s_process_metrics_take_the_place_of_one_process_s(segment, setting):
    env = environment(segment.with_name("process"), PROMRING_PROCESS_METRICS=setting)
    expected = {True: 1, False: int(setting == "on")}
    out, _ = run(f"EXPECTED = {expected}\n" + PROCESS_PAGES, env)
    found = samples(out)  # fails if one is there twice
    assert {name for name, _ in found} >= {"process_open_fds", "process_cpu_seconds_total", "python_info"}
    assert ("of the running processes" in out or "running processes have" in out) == (setting == "on")


OPEN_METRICS = "application/openmetrics-text; version=1.0.0"


@pytest.mark.parametrize("local", ["nothing", "function", "collector", "exemplar"])
def test_an_open_metrics_page_is_whole_with_what_only_this_process_has(registry, local, monkeypatch, scrapes):
    from promring import metrics

    monkeypatch.setattr(metrics, "functions", type(metrics.functions)())
    counter = Counter("c", "A counter.", ["l"], registry=None)
    counter.labels("x").inc(2)
    if local == "function":
        gauge = Gauge("g", "Who answers.", registry=None)
        gauge.set_function(lambda: 42)
    elif local == "collector":
        registry.register(Custom())
    elif local == "exemplar":
        counter.labels("x").inc(1, {"trace_id": "abc"})
    in_worker(in_other_worker)
    content_type, body = app_page(OPEN_METRICS, registry)
    assert content_type.startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n") and body.count(b"# EOF") == 1
    found = {
        s.name: s for m in open_metrics_families(body.decode()) for s in m.samples if not s.name.startswith("promring_")
    }
    assert found["theirs_total"].value == 3
    assert found["c_total"].value == (3 if local == "exemplar" else 2)
    assert (found["c_total"].exemplar is not None) == (local == "exemplar")
    assert ("g" in found) == (local == "function")
    assert ("custom_total" in found) == (local == "collector")
    assert len(scrapes) == 1


def count_with_exemplars():
    counter = Counter("traced", "A counter.", ["l"], registry=None)
    counter.labels("x").inc(2, exemplar={"trace_id": "abc"})
    histogram = Histogram("sizes", "A histogram.", registry=None, buckets=[1, 2])
    histogram.observe(1.5, {"trace_id": "def"})
    histogram.observe(3, exemplar={"trace_id": 'a "b"'})


def exemplars_of(families):
    """Return labels and value of each exemplar, by sample and bucket."""
    samples = (s for family in families for s in family.samples if s.exemplar)
    return {(s.name, s.labels.get("le") or s.labels.get("l")): (s.exemplar.labels, s.exemplar.value) for s in samples}


TRACED = {
    ("traced_total", "x"): ({"trace_id": "abc"}, 2),
    ("sizes_bucket", "2.0"): ({"trace_id": "def"}, 1.5),
    ("sizes_bucket", "+Inf"): ({"trace_id": 'a "b"'}, 3),
}


def test_exemplars_of_a_dead_worker_are_on_every_kind_of_page(default_registry, scrapes):
    Counter("mine", "Of this worker.")
    in_worker(count_with_exemplars)
    collected = CollectorRegistry()
    multiprocess.MultiProcessCollector(collected)
    encode, _ = choose_encoder(OPEN_METRICS)
    pages = [
        app_page(OPEN_METRICS)[1],
        encode(default_registry),
        encode(collected),
        openmetrics_exposition.generate_latest(default_registry),
    ]
    assert len(scrapes) == len(pages), "from Rust"
    for text in pages:
        assert text.endswith(b"# EOF\n")
        assert exemplars_of(open_metrics_families(text.decode())) == TRACED
    assert exemplars_of(default_registry.collect()) == TRACED
    mine = CollectorRegistry()
    Histogram("sizes", "A histogram.", registry=mine, buckets=[1, 2])
    assert b'# {trace_id="def"} 1.5 ' in openmetrics_exposition.generate_latest(mine)
    assert len(scrapes) == len(pages), "only a part of the segment is in that one"


def test_a_mixed_registry_has_one_open_metrics_page(default_registry):
    Counter("mine", "Of this worker.")
    in_worker(count_with_exemplars)
    default_registry.register(Custom())
    Gauge("now", "A function's.", unit="seconds").set_function(lambda: 42)
    text = openmetrics_exposition.generate_latest(default_registry).decode()
    families = list(open_metrics_families(text))  # strict: one end, and UNIT before the samples
    assert exemplars_of(families) == TRACED
    found = {s.name: s.value for family in families for s in family.samples}
    assert (found["custom_total"], found["now_seconds"]) == (7, 42)
    assert text.count("# EOF") == 1


def test_what_the_core_does_not_speak_is_the_library_s(default_registry, scrapes):
    Counter("c", "A counter.").inc()
    for how in ({"version": "2.0.0"}, {"escaping": "allow-utf-8"}):
        text = openmetrics_exposition.generate_latest(default_registry, **how)
        assert b"c_total 1.0\n" in text
    assert not scrapes


def test_a_protobuf_page_gives_way_to_text_for_a_custom_collector(registry):
    registry.register(Custom())
    accept = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
    content_type, body = app_page(accept, registry)
    assert content_type.startswith("text/plain")
    assert samples(body.decode())["custom_total", (("l", "x"),)] == 7


def test_a_collector_that_fails_fails_as_in_the_library(default_registry):
    class Failing:
        def collect(self):
            raise OSError("no database")
            yield

    Counter("c", "A counter.").inc()
    default_registry._collector_to_names[Failing()] = []
    with pytest.raises(OSError, match="no database"):
        prometheus_client.generate_latest(default_registry)


def test_a_registry_pushes_and_writes_what_it_shows(registry, tmp_path):
    Counter("c", "A counter.", registry=registry).inc(3)
    prometheus_client.write_to_textfile(str(tmp_path / "page.prom"), registry)
    assert "c_total 3.0\n" in pathlib.Path(tmp_path / "page.prom").read_text()


def test_families_of_another_language_keep_their_names(registry):
    family = _native.family("counter", "jobs", "Jobs, without _total.", ["queue"])
    family.series(["x"]).inc(3)
    collected = CollectorRegistry()
    multiprocess.MultiProcessCollector(collected)
    assert collected.get_sample_value("jobs", {"queue": "x"}) == 3
    text = vanilla_text(list(collected.collect()))
    assert samples(text)["jobs", (("queue", "x"),)] == 3
    assert 'jobs{queue="x"} 3\n' in page()
