"""Several workers in one process: MultiProcessValue with a `process_identifier`."""

import warnings

import pytest
from conftest import in_worker, page, value
from prometheus_client import Counter, Gauge, Histogram, Summary, multiprocess, values

MODES = ["all", "liveall", "sum", "livesum", "max", "livemax", "min", "livemin", "mostrecent", "livemostrecent"]


@pytest.fixture
def play(monkeypatch):
    """Return what makes this process play the worker of a number."""
    playing = [0]

    def play(number):
        playing[0] = number

    monkeypatch.setattr(values, "ValueClass", values.MultiProcessValue(lambda: playing[0]))
    return play


def test_each_worker_has_gauges_of_its_own_until_it_is_marked_dead(play):
    gauges = [Gauge(f"g_{mode}", "A gauge.", ["l"], multiprocess_mode=mode, registry=None) for mode in MODES]
    for number in (123, 456):
        play(number)
        for gauge in gauges:
            gauge.labels("x").set(number)

    def shown():
        merged = {mode: value(f"g_{mode}", l="x") for mode in MODES[2:]}
        per_worker = {(m, p): value(f"g_{m}", l="x", pid=p) for m in ("all", "liveall") for p in ("123", "456")}
        return merged | per_worker

    both = {
        ("all", "123"): 123,
        ("all", "456"): 456,
        ("liveall", "123"): 123,
        ("liveall", "456"): 456,
        "sum": 579,
        "livesum": 579,
        "max": 456,
        "livemax": 456,
        "min": 123,
        "livemin": 123,
        "mostrecent": 456,
        "livemostrecent": 456,
    }
    assert shown() == both
    in_worker(lambda: multiprocess.mark_process_dead(456))
    assert shown() == both, "of another process's workers the kernel alone decides"
    multiprocess.mark_process_dead(456)
    dead = {("liveall", "456"): None, "livesum": 123, "livemax": 123, "livemin": 123, "livemostrecent": 123}
    assert shown() == both | dead


def test_what_they_count_is_one_sum(play):
    counter = Counter("c", "A counter.", registry=None)
    summary = Summary("s", "A summary.", registry=None)
    histogram = Histogram("h", "A histogram.", registry=None, buckets=[1, 2])
    for number in (1, 2):
        play(number)
        counter.inc(number, {"trace": str(number)})
        summary.observe(number)
        histogram.observe(number)
        multiprocess.mark_process_dead(number)
    assert (value("c_total"), value("s_sum"), value("h_bucket", le="1.0"), value("h_count")) == (3, 3, 1, 2)
    assert counter._value.get_exemplar().labels == {"trace": "2"}
    with pytest.raises(ValueError, match="non-negative"):
        counter.inc(-1)


@pytest.mark.parametrize("identifier", ["uwsgi-1", -1, None, 1 << 64])
def test_what_is_no_number_counts_as_the_process_s_own(monkeypatch, identifier):
    monkeypatch.setattr(values, "ValueClass", values.MultiProcessValue(lambda: identifier))
    Gauge("g", "A gauge.", registry=None).set(3)
    multiprocess.mark_process_dead(identifier)
    assert page().count("g{pid=") == 1
    assert value("promring_workers") == 1


def test_the_process_s_own_id_is_the_fast_way(monkeypatch):
    monkeypatch.setattr(values, "ValueClass", values.MultiProcessValue())
    assert "inc" in vars(Counter("c", "A counter.", registry=None)), "planted"


def test_the_directory_s_old_name_is_moved_with_the_library_s_warning(monkeypatch):
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "to be restored")
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR")
    monkeypatch.setenv("prometheus_multiproc_dir", "/somewhere")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        values.get_value_class()
        values.get_value_class()
    assert [w.category for w in caught] == [DeprecationWarning]
    assert values.os.environ["PROMETHEUS_MULTIPROC_DIR"] == "/somewhere"
