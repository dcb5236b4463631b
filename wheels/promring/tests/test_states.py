"""Info and Enum across processes."""

import prometheus_client
import promring
import pytest
from conftest import in_worker, page, samples, value
from prometheus_client import CollectorRegistry, Counter, Enum, Info, multiprocess
from promring import testing
from promring.page import app_page


def test_what_one_worker_says_all_show(registry, default_registry):
    build = Info("build", "What runs.", registry=registry)
    state = Enum("state", "Of the task.", states=["starting", "running"], registry=registry)
    assert (value("state", state="starting"), value("state", state="running")) == (1, 0)

    def in_another():
        build.info({"version": "1.2", "host": "a"})
        state.state("running")
        Info("theirs", "Of another worker.", ["l"], registry=None).labels("x").info({"k": "v"})

    in_worker(in_another)
    assert registry.get_sample_value("build_info", {"version": "1.2", "host": "a"}) == 1
    assert registry.get_sample_value("state", {"state": "running"}) == 1
    assert registry.get_sample_value("state", {"state": "starting"}) == 0
    assert registry.get_sample_value("build_info", {}) is None
    collected = CollectorRegistry()
    multiprocess.MultiProcessCollector(collected)
    for text in (app_page()[1], prometheus_client.generate_latest(collected), app_page(registry=registry)[1]):
        found = samples(text.decode())
        assert found["build_info", (("host", "a"), ("version", "1.2"))] == 1
        assert found["state", (("state", "running"),)] == 1
        assert found["theirs_info", (("k", "v"), ("l", "x"))] == 1


def test_the_default_registry_shows_it_once_with_the_library_s_types(default_registry):
    Counter("c", "A counter.")
    Info("build", "What runs.")
    Enum("state", "Of the task.", ["l"], states=["starting", "running"])

    def in_another():
        Info("build", "What runs.", registry=None).info({"version": "1"})
        Enum("state", "", ["l"], states=["starting", "running"], registry=None).labels("x").state("running")

    in_worker(in_another)
    found = {metric.name: metric for metric in default_registry.collect()}
    assert (found["build"].type, found["state"].type) == ("info", "stateset")
    assert "build_info" not in found
    assert [(s.name, s.labels, s.value) for s in found["build"].samples] == [("build_info", {"version": "1"}, 1)]
    assert [(s.labels, s.value) for s in found["state"].samples] == [
        ({"l": "x", "state": "starting"}, 0),
        ({"l": "x", "state": "running"}, 1),
    ]
    text = prometheus_client.generate_latest(default_registry).decode()
    assert samples(text)["build_info", (("version", "1"),)] == 1
    assert text.count("# TYPE build_info ") == 1


def test_a_later_word_replaces_an_earlier_one_of_any_worker(registry):
    build = Info("build", "What runs.", ["part"], registry=registry)
    build.labels("web").info({"version": "1"})
    build.labels("jobs").info({"version": "1"})
    in_worker(lambda: build.labels("web").info({"version": "2"}))
    assert page().count('build_info{part="web"') == 1
    assert value("build_info", part="web", version="2") == 1
    assert value("build_info", part="jobs", version="1") == 1
    build.labels("web").info({"version": "1"})
    assert (value("build_info", part="web", version="1"), value("build_info", part="web", version="2")) == (1, None)
    state = Enum("state", "", states=["a", "b", "c"], registry=registry)
    state.state("b")
    in_worker(lambda: Enum("state", "", states=["a", "b", "c"], registry=None))
    assert value("state", state="b") == 1, "a new worker's first state replaces nothing"


def test_removals_hold_in_all_workers(registry):
    build = Info("build", "What runs.", ["part", "zone"], registry=registry)
    for part in ("web", "jobs", "cron"):
        build.labels(part, "a").info({"version": "1"})
    in_worker(lambda: build.remove("web", "a"))
    in_worker(lambda: build.remove_by_labels({"part": "jobs"}))
    assert page().count("build_info{") == 1
    in_worker(build.clear)
    assert page().count("build_info{") == 0
    build.labels("web", "a").info({"version": "2"})
    assert value("build_info", part="web", zone="a", version="2") == 1
    with pytest.raises(ValueError, match="Incorrect label count"):
        build.remove("web")


def test_other_names_for_what_is_said_stay_in_their_process(registry, caplog):
    build = Info("build", "What runs.", registry=registry)
    build.info({"version": "1"})
    build.info({"version": "1", "host": "a"})
    assert registry.get_sample_value("build_info", {"version": "1", "host": "a"}) == 1
    assert "says so in this process alone" in caplog.text
    text = app_page(registry=registry)[1].decode()
    assert text.count("# TYPE build_info") == 1


def test_errors_are_the_library_s(registry):
    build = Info("build", "", ["version"], registry=registry)
    with pytest.raises(ValueError, match="Overlapping labels"):
        build.labels("x").info({"version": "1"})
    with pytest.raises(ValueError, match="None"):
        build.labels("x").info({"k": None})
    state = Enum("state", "", ["l"], states=["a"], registry=registry)
    with pytest.raises(ValueError, match="missing label values"):
        state.state("a")
    with pytest.raises(ValueError, match="not in"):
        state.labels("x").state("b")
    assert value("state", l="x", state="a") == 1


def test_install_takes_them_over_uninstall_and_reset_keep_what_they_say(registry):
    promring.uninstall()
    build = Info("build", "", registry=registry)
    state = Enum("state", "", states=["a", "b"], registry=registry)
    build.info({"version": "1"})
    state.state("b")
    promring.install()
    assert (value("build_info", version="1"), value("state", state="b")) == (1, 1)
    testing.reset()
    assert (value("build_info", version="1"), value("state", state="b")) == (1, 1)
    promring.uninstall()
    assert registry.get_sample_value("state", {"state": "b"}) == 1
    assert type(build).info.__module__ == "prometheus_client.metrics"
    promring.install()
