"""labels(): every way to call it, the library's errors, hostile values, removals."""

import pytest
from conftest import page, promtool, samples, value
from prometheus_client import Counter, Gauge, Histogram

NASTY = {
    "quote": 'a"b',
    "backslash": "a\\b\\",
    "newline": "a\nb\r",
    "nul": "a\0b",
    "surrogate": "a\ud800b",
    "braces": '"} 1\nevil_total{x="',
    "astral": "\U0001d4b3\u202e\ufeff",
    "empty": "",
    "megabyte": "m" * (1 << 20),
}


@pytest.fixture
def counter(registry):
    """A counter with two labels."""
    return Counter("c", "A counter.", ["method", "path"], registry=registry)


def test_every_way_to_call_it_finds_the_same_child(counter):
    child = counter.labels("GET", "/")
    for _ in range(3):  # the first time it is looked up, then remembered
        assert counter.labels(method="GET", path="/") is child
        assert counter.labels(path="/", method="GET") is child
        assert counter.labels(**{"path": "/", "method": "GET"}) is child
        assert counter.labels(*["GE" + "T", "/"]) is child
    assert counter.labels("/", "GET") is not child
    assert counter.labels(method="/", path="GET") is counter.labels("/", "GET")


def test_values_are_made_text(counter):
    class Odd(str):
        __slots__ = ()

        def __str__(self):
            return "odd"

    counter.labels(1, None).inc()
    counter.labels(method="1", path="None").inc()
    counter.labels(Odd("x"), 2.5).inc()
    assert value("c_total", method="1", path="None") == 2
    assert value("c_total", method="odd", path="2.5") == 1


def test_many_call_sites_and_many_children(counter):
    calls = [
        eval(f"lambda c, {a}, {b}: c.labels({a}={a}, {b}={b})")
        for _ in range(10)
        for a, b in (("method", "path"), ("path", "method"))
    ]
    for round_ in range(3):
        for number in range(1000):
            call = calls[(number + round_) % len(calls)]
            call(counter, **{"method": f"m{number}", "path": f"p{number % 7}"}).inc()
    found = {key: n for key, n in samples(page()).items() if key[0] == "c_total"}
    assert len(found) == 1000
    assert set(found.values()) == {3}


def test_errors_are_the_library_s(counter, registry):
    for _ in range(2):
        with pytest.raises(ValueError, match="Incorrect label count"):
            counter.labels("GET")
        with pytest.raises(ValueError, match="Incorrect label names"):
            counter.labels(method="GET", way="/")
        with pytest.raises(ValueError, match="Incorrect label names"):
            counter.labels(method="GET")
        with pytest.raises(ValueError, match=r"Can't pass both \*args and \*\*kwargs"):
            counter.labels("GET", path="/")
        with pytest.raises(ValueError, match="already has labels set"):
            counter.labels("GET", "/").labels("GET", "/")
    with pytest.raises(ValueError, match="No label names were set"):
        Counter("d", "A counter.", registry=registry).labels("x")
    with pytest.raises(ValueError, match="counter metric is missing label values"):
        counter.inc()
    with pytest.raises(ValueError, match="histogram metric is missing label values"):
        Histogram("h", "A histogram.", ["l"], registry=registry).observe(1)


@pytest.mark.parametrize("kind", [Counter, Gauge, Histogram])
def test_hostile_values_do_not_break_the_page(kind, registry):
    metric = kind("m", "A metric.", ["l"], registry=registry)
    for number, text in enumerate(NASTY.values()):
        child = metric.labels(text)
        (child.observe if kind is Histogram else child.inc)(number + 1)
    found = samples(page())
    suffix = {Counter: "_total", Gauge: "", Histogram: "_sum"}[kind]
    mine = {dict(labels).get("l"): n for (name, labels), n in found.items() if name == "m" + suffix}
    for number, (name, text) in enumerate(NASTY.items()):
        # A surrogate cannot stand in a page, and what is too long goes to the overflow series.
        seen = {"surrogate": "a\ufffd\ufffd\ufffdb", "megabyte": None}.get(name, text)
        assert mine[seen] == number + 1, name
    promtool(page())
    assert any(metric.collect()[0].samples)
    for sample in metric.collect()[0].samples:
        "".join(sample.labels.values()).encode()


def test_beyond_the_cap_the_sum_stays_exact(registry):
    counter = Counter("c", "A counter.", ["l"], registry=registry)
    for number in range(10_050):
        counter.labels(str(number)).inc()
    found = {dict(labels).get("l"): n for (name, labels), n in samples(page()).items() if name == "c_total"}
    assert found[None] == 50
    assert sum(found.values()) == 10_050
    assert value("promring_family_overflowed_total", family="c_total") == 50


# ---------------------------------------------------------------------------------------------
# Removals


def test_remove(counter):
    counter.labels("GET", "/").inc(3)
    counter.labels("POST", "/").inc(4)
    counter.remove("GET", "/")
    assert value("c_total", method="GET", path="/") is None
    assert value("c_total", method="POST", path="/") == 4
    counter.labels("GET", "/").inc()
    assert value("c_total", method="GET", path="/") == 1


def test_remove_by_labels_and_clear(counter, recwarn, monkeypatch):
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "/dev/shm")
    for method in ("GET", "POST"):
        for path in ("/", "/a"):
            counter.labels(method, path).inc()
    counter.remove_by_labels({"path": "/a"})
    assert {key[1][0][1] for key in samples(page()) if key[0] == "c_total"} == {"GET", "POST"}
    assert value("c_total", method="GET", path="/a") is None
    counter.remove_by_labels({})
    counter.clear()
    assert not [key for key in samples(page()) if key[0] == "c_total"]
    assert counter._metrics == {}
    assert not recwarn.list


def test_removal_errors_are_the_library_s(counter, registry):
    with pytest.raises(ValueError, match=r"Incorrect label count \(expected 2, got \('GET',\)\)"):
        counter.remove("GET")
    with pytest.raises(ValueError, match="Unknown label names"):
        counter.remove_by_labels({"way": "/"})
    with pytest.raises(TypeError, match="labels must be a dict"):
        counter.remove_by_labels("GET")
    plain = Counter("d", "A counter.", registry=registry)
    with pytest.raises(ValueError, match="No label names were set"):
        plain.remove("x")
    plain.clear()


def test_a_child_that_was_kept_over_a_removal_brings_its_series_back_at_zero(counter):
    child = counter.labels("GET", "/")
    child.inc(5)
    counter.remove("GET", "/")
    child.inc(2)
    assert value("c_total", method="GET", path="/") == 2
    counter.labels("GET", "/").inc()
    assert value("c_total", method="GET", path="/") == 3
