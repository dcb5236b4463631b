"""Metrics through an unmodified prometheus_client: values, errors, private parts, what subclasses may rely on."""

import gc
import math
import weakref

import prometheus_client
import promring
import pytest
from conftest import in_worker, page, promtool, samples, value
from prometheus_client import Counter, Enum, Gauge, Histogram, Info, Summary, generate_latest, values
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics
from promring import _native, metrics


def test_counter(registry):
    counter = Counter("c", "A counter.", registry=registry)
    counter.inc()
    counter.inc(2.5)
    counter.inc(amount=3)
    assert value("c_total") == 6.5
    assert registry.get_sample_value("c_total") == 6.5
    assert counter._value.get() == 6.5


def test_counter_errors(registry):
    counter = Counter("c", "A counter.", registry=registry)
    with pytest.raises(ValueError, match=r"Counters can only be incremented by non-negative amounts\."):
        counter.inc(-1)
    with pytest.raises(TypeError):
        counter.inc("3")
    with pytest.raises(TypeError, match="unexpected keyword argument 'by'"):
        counter.inc(by=3)
    with pytest.raises(TypeError, match="multiple values for argument 'amount'"):
        counter.inc(3, amount=3)
    with pytest.raises(TypeError):
        counter.inc(1, {}, 3)
    assert value("c_total") == 0


def test_counter_is_exact_beyond_two_to_the_53(registry):
    counter = Counter("c", "A counter.", registry=registry)
    counter.inc(2**53)
    for _ in range(1000):
        counter.inc()
    assert value("c_total") == 2**53 + 1000


def test_counter_reset(registry):
    counter = Counter("c", "A counter.", registry=registry)
    counter.inc(5)
    created = counter._created
    counter.reset()
    assert value("c_total") == 0
    assert counter._created >= created
    counter.inc()
    assert value("c_total") == 1


def test_gauge(registry):
    gauge = Gauge("g", "A gauge.", registry=registry, multiprocess_mode="livesum")
    assert value("g") == 0
    gauge.inc()
    gauge.inc(amount=2)
    gauge.dec(0.5)
    assert value("g") == 2.5
    gauge.set("7")
    assert value("g") == 7
    gauge.set(value=8)
    gauge.dec()
    assert gauge._value.get() == 7
    gauge.set_to_current_time()
    assert value("g") > 1.7e9
    with gauge.track_inprogress():
        pass
    with gauge.time():
        pass
    assert 0 <= value("g") < 1


def test_gauge_errors(registry):
    gauge = Gauge("g", "A gauge.", registry=registry, multiprocess_mode="mostrecent")
    with pytest.raises(RuntimeError, match="inc must not be used with the mostrecent mode"):
        gauge.inc()
    with pytest.raises(RuntimeError, match="dec must not be used with the mostrecent mode"):
        gauge.dec()
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'value'"):
        gauge.set()
    with pytest.raises(ValueError, match="could not convert string to float"):
        gauge.set("seven")
    with pytest.raises(ValueError, match="Invalid multiprocess mode"):
        Gauge("h", "A gauge.", registry=registry, multiprocess_mode="median")
    assert value("g") is None


def test_histogram(registry):
    histogram = Histogram("h", "A histogram.", registry=registry, buckets=[1, 2, 4])
    for observation in (0.5, 1, 1.5, 2, 4, 4.5, 100):
        histogram.observe(observation)
    expected = {"1.0": 2, "2.0": 4, "4.0": 5, "+Inf": 7}
    for bound, count in expected.items():
        assert value("h_bucket", le=bound) == count
        assert registry.get_sample_value("h_bucket", {"le": bound}) == count
    assert value("h_count") == registry.get_sample_value("h_count") == 7
    assert value("h_sum") == registry.get_sample_value("h_sum") == 113.5
    assert [bucket.get() for bucket in histogram._buckets] == [2, 2, 1, 2]
    assert histogram._sum.get() == 113.5


def test_a_histogram_below_zero_has_no_sum(registry):
    histogram = Histogram("h", "A histogram.", registry=registry, buckets=[-1, 1])
    histogram.observe(-3)
    assert registry.get_sample_value("h_bucket", {"le": "-1.0"}) == 1
    assert registry.get_sample_value("h_sum") is None
    assert value("h_sum") is None


@pytest.mark.parametrize("buckets", [[], [3, 1], [float("inf")]])
def test_histogram_errors(registry, buckets):
    with pytest.raises(ValueError):
        Histogram("h", "A histogram.", registry=registry, buckets=buckets)


def test_summary(registry):
    summary = Summary("s", "A summary.", registry=registry)
    summary.observe(2)
    summary.observe(amount=3.5)
    assert (value("s_count"), value("s_sum")) == (2, 5.5)
    assert registry.get_sample_value("s_sum") == 5.5
    assert (summary._count.get(), summary._sum.get()) == (2, 5.5)
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'amount'"):
        summary.observe()


def test_timers_and_decorators(registry):
    histogram = Histogram("h", "A histogram.", registry=registry)
    failures = Counter("f", "Failures.", registry=registry)

    @histogram.time()
    @failures.count_exceptions(KeyError)
    def fail():
        raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert (value("h_count"), value("f_total")) == (1, 1)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_refused_and_counted(registry, bad):
    counter = Counter("c", "A counter.", registry=registry)
    histogram = Histogram("h", "A histogram.", registry=registry)
    if bad == -math.inf:
        with pytest.raises(ValueError):
            counter.inc(bad)
    else:
        counter.inc(bad)
    histogram.observe(bad)
    counter.inc()
    histogram.observe(1)
    assert (value("c_total"), value("h_count"), value("h_sum")) == (1, 1, 1)
    refused = value("promring_refused_values_total", reason="not_finite")
    assert refused == (1 if bad == -math.inf else 2)
    promtool(page())


def test_a_gauge_may_be_infinite(registry):
    gauge = Gauge("g", "A gauge.", registry=registry, multiprocess_mode="max")
    gauge.set(math.inf)
    assert value("g") == math.inf
    gauge.set(math.nan)
    assert math.isnan(value("g"))


def test_info_and_enum_work_as_before(registry):
    info = Info("build", "Build.", registry=registry)
    info.info({"version": "1.2"})
    state = Enum("state", "State.", registry=registry, states=["up", "down"])
    state.state("down")
    assert registry.get_sample_value("build_info", {"version": "1.2"}) == 1
    assert registry.get_sample_value("state", {"state": "down"}) == 1


def test_exemplars_are_kept_for_openmetrics(registry):
    counter = Counter("c", "A counter.", ["l"], registry=registry)
    counter.labels("x").inc(2, {"trace": "a"})
    counter.labels("x").inc(exemplar={"trace": "b"})
    histogram = Histogram("h", "A histogram.", registry=registry, buckets=[1, 2])
    histogram.observe(1.5, exemplar={"trace": "c"})
    histogram.observe(0.5, {})
    text = openmetrics(registry).decode()
    assert 'c_total{l="x"} 3.0 # {trace="b"} 1.0 ' in text
    assert 'h_bucket{le="2.0"} 2.0 # {trace="c"} 1.5 ' in text
    with pytest.raises(ValueError, match="Exemplar labels have"):
        counter.labels("x").inc(1, {"trace": "x" * 200})


def test_created_is_when_the_app_first_made_it(registry):
    counter = Counter("c", "A counter.", ["l"], registry=registry)
    made = counter.labels("x")._created
    again = Counter("c", "A counter.", ["l"], registry=None)
    again.labels("x")._created = made + 100
    assert abs(registry.get_sample_value("c_created", {"l": "x"}) - made) < 5
    assert again.collect()[0].samples[1].value == pytest.approx(made, abs=5)
    prometheus_client.disable_created_metrics()
    try:
        assert registry.get_sample_value("c_created", {"l": "x"}) is None
    finally:
        prometheus_client.enable_created_metrics()


def test_created_of_a_series_that_another_worker_has_removed(registry):
    counter = Counter("c", "A counter.", ["l"], registry=registry)
    counter.labels("x")._created = 1.0
    in_worker(lambda: counter.remove("x"))
    counter.labels("x").inc()
    assert registry.get_sample_value("c_created", {"l": "x"}) > 1e9


def test_units_and_namespaces(registry):
    counter = Counter("jobs", "Jobs.", registry=registry, namespace="n", subsystem="s", unit="bytes")
    counter.inc()
    assert value("n_s_jobs_bytes_total") == 1
    assert "# UNIT n_s_jobs_bytes bytes" in openmetrics(registry).decode()


def test_two_objects_of_one_name_are_one_metric(registry):
    first = Counter("c", "A counter.", registry=registry)
    second = Counter("c", "A counter.", registry=None)
    first.inc()
    second.inc()
    assert first._value.get() == second._value.get() == 2


def test_a_second_registration_is_the_library_s_error(registry):
    Counter("c", "A counter.", registry=registry)
    with pytest.raises(ValueError, match="Duplicated timeseries in CollectorRegistry:"):
        Counter("c", "A counter.", registry=registry)


@pytest.mark.parametrize(
    "other",
    [
        lambda: Gauge("h", "Now a gauge.", registry=None),
        lambda: Histogram("h", "Other buckets.", registry=None, buckets=[1]),
        lambda: Histogram("h", "Other labels.", ["l"], registry=None),
    ],
)
def test_what_contradicts_the_app_counts_alone_and_says_so(registry, caplog, other):
    Histogram("h", "A histogram.", registry=registry).observe(1)
    metric = other()
    metric = metric.labels("x") if metric._labelnames else metric
    (metric.observe if hasattr(metric, "observe") else metric.set)(7)
    assert value("h_count") == 1
    assert [s.value for m in metric.collect() for s in m.samples if s.name in ("h", "h_sum")] == [7]
    assert len(caplog.records) == 1
    assert 'metric "h" is already registered as histogram' in caplog.text
    assert "counts in this process alone" in caplog.text
    promtool(page())


def test_names_that_are_not_legal(registry):
    for name, error in (("", ValueError), ("\ud800", ValueError)):
        with pytest.raises(error):
            Counter(name, "A counter.", registry=registry)
    for label in ("__x", "le\ud800"):
        with pytest.raises(ValueError):
            Counter("c", "A counter.", [label], registry=registry)
    with pytest.raises(ValueError, match="Reserved label"):
        Histogram("h", "A histogram.", ["le"], registry=registry)


@pytest.mark.parametrize("name", ["a.b", "né", "x" * 600, "a\0b", 'a"b\n'])
def test_odd_names_do_not_break_the_page(registry, name):
    Counter(name, "A \\ counter\nof \0 odd \ud800 names.", registry=registry).inc()
    Counter("fine", "A counter.", registry=registry).inc()
    assert value("fine_total") == 1
    promtool(page())


# ---------------------------------------------------------------------------------------------
# Private parts and subclasses


def test_objects_stay_the_library_s(registry):
    counter = Counter("c", "A counter.", ["l"], registry=registry)
    child = counter.labels("x")
    assert type(counter) is Counter and type(child) is Counter
    assert counter._metrics == {("x",): child}
    assert type(child.inc).__name__ == "builtin_function_or_method"
    assert values.ValueClass._multiprocess


def test_a_subclass_keeps_its_own_calls(registry):
    seen = []

    class Watched(Counter):
        def inc(self, amount=1, exemplar=None):
            seen.append(amount)
            super().inc(amount, exemplar)

    class WatchedHistogram(Histogram):
        def observe(self, amount, exemplar=None):
            seen.append(amount)
            super().observe(amount, exemplar)

    class WatchedLabels(Counter):
        def labels(self, *args, **kwargs):
            seen.append(args)
            return super().labels(*args, **kwargs)

    Watched("c", "A counter.", registry=registry).inc(3)
    WatchedHistogram("h", "A histogram.", registry=registry).observe(5, {"trace": "x"})
    WatchedLabels("l", "A counter.", ["l"], registry=registry).labels("x").inc()
    assert seen == [3, 5, ("x",)]
    assert (value("c_total"), value("h_count"), value("h_sum")) == (3, 1, 5)
    assert value("l_total", l="x") == 1


def test_a_value_class_of_the_app_is_respected(registry, monkeypatch):
    class Mine:
        def __init__(self, *args, **kwargs):
            self.value = 0

        def inc(self, amount):
            self.value += amount

        def get(self):
            return self.value

        def get_exemplar(self):
            return None

    monkeypatch.setattr(values, "ValueClass", Mine)
    counter = Counter("c", "A counter.", registry=registry)
    labelled = Counter("l", "A counter.", ["l"], registry=registry)
    counter.inc()
    labelled.labels("x").inc(2)
    assert type(counter._value) is Mine
    assert registry.get_sample_value("l_total", {"l": "x"}) == 2
    assert value("c_total") is None


def test_the_factory_of_value_classes(registry, monkeypatch):
    made = values.MultiProcessValue(process_identifier=lambda: 123)
    monkeypatch.setattr(values, "ValueClass", made)
    Counter("c", "A counter.", registry=registry).inc()
    assert value("c_total") == 1
    alone = made("counter", "d", "d_total", ("l",), ("x",), "Help.")
    alone.inc(3)
    assert alone.get() == value("d_total", l="x") == 3
    gauge = made("gauge", "g", "g", (), (), "Help.", multiprocess_mode="mostrecent")
    gauge.set(3, timestamp=2.0)
    gauge.set(4, timestamp=1.0)
    assert gauge.get_exemplar() is None
    summary = made("summary", "s", "s_sum", (), (), "Help.")
    summary.inc(2)
    assert summary.get() == 2
    made.close_all_files()


def test_metrics_can_be_collected_by_the_garbage_collector():
    counter = Counter("c", "A counter.", ["l"], registry=None)
    counter.labels(l="x").inc()
    gone = weakref.ref(counter)
    del counter
    gc.collect()
    assert gone() is None


# ---------------------------------------------------------------------------------------------
# install and uninstall


def test_install_after_metrics_exist_takes_their_counts_along(registry):
    promring.uninstall()
    counter = Counter("c", "A counter.", ["l"], registry=registry)
    child = counter.labels("x")
    child.inc(3)
    gauge = Gauge("g", "A gauge.", registry=registry, multiprocess_mode="sum")
    gauge.set(4)
    histogram = Histogram("h", "A histogram.", registry=registry, buckets=[1, 2, 4])
    for observation in (0.25, 1.5, 1.75, 3, 9, 27):
        histogram.observe(observation)
    early = histogram.observe
    summary = Summary("s", "A summary.", registry=registry)
    summary.observe(3)
    summary.observe(4)
    function = Gauge("f", "A function.", registry=registry)
    function.set_function(lambda: 42)
    promring.install()
    promring.install()
    assert counter.labels("x") is child
    child.inc()
    early(9)
    assert (value("c_total", l="x"), value("g")) == (4, 4)
    assert [value("h_bucket", le=le) for le in ("1.0", "2.0", "4.0", "+Inf")] == [1, 3, 4, 7]
    assert value("h_sum") == pytest.approx(0.25 + 1.5 + 1.75 + 3 + 9 + 27 + 9)
    assert (value("s_count"), value("s_sum")) == (2, 7)
    assert registry.get_sample_value("f") == 42


def test_uninstall_gives_the_library_back(registry):
    init, ours = Counter._metric_init, generate_latest
    counter = Counter("c", "A counter.", ["l"], registry=registry)
    counter.labels("x").inc(3)
    histogram = Histogram("h", "A histogram.", registry=registry, buckets=[1, 2])
    histogram.observe(1.5)
    promring.uninstall()
    try:
        assert Counter._metric_init is not init
        assert values.ValueClass is values.MutexValue
        assert "labels" not in vars(counter)
        counter.labels("x").inc()
        histogram.observe(0.5)
        assert registry.get_sample_value("c_total", {"l": "x"}) == 4
        assert registry.get_sample_value("h_sum") == 2
        assert [bucket.get() for bucket in histogram._buckets] == [1, 1, 0]
        promring.uninstall()
    finally:
        promring.install()
    assert ours is generate_latest


def test_reset_starts_from_zero_and_objects_live_on(registry):
    counter = Counter("c", "A counter.", ["l"], registry=registry)
    child, inc = counter.labels(l="x"), counter.labels("x").inc
    child.inc(5)
    path = promring.testing.reset()
    assert path.parent.exists()
    assert value("c_total", l="x") == 0
    inc()
    counter.labels(l="x").inc()
    child.inc()
    assert value("c_total", l="x") == 3
    assert len(list(path.parent.parent.glob("promring-test-*"))) >= 1


def test_configuration_comes_first(registry):
    Counter("c", "A counter.", registry=registry).inc()
    with pytest.raises(RuntimeError, match="configure it before the first metric is made"):
        promring.configure(listen="off")
    with pytest.raises(promring.Error, match="expected one of segment") as refused:
        promring.configure(colour="red")
    assert refused.value.code == "setting"


def test_the_page_has_each_family_once(registry):
    for name in ("a", "b"):
        Gauge(name, "A gauge.", ["l"], registry=registry).labels("x").set(1)
    heads = [line for line in page().splitlines() if line.startswith("# TYPE")]
    assert len(heads) == len(set(heads))
    assert samples(page())
    assert metrics.declared == {"a", "b"}


PROTOBUF = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"


@pytest.mark.parametrize(("native", "schema"), [(True, 3), (5, 5), (0, 0), (-2, -2)])
def test_a_native_histogram_has_exponential_buckets_in_protobuf(registry, native, schema):
    histogram = Histogram("h", "A histogram.", ["l"], registry=registry, buckets=[1, 2], native=native)
    in_worker(lambda: histogram.labels("x").observe(1.5))
    assert isinstance(histogram.labels("x"), Histogram)
    assert registry.get_sample_value("h_bucket", {"l": "x", "le": "2.0"}) == 1
    body = _native.scrape(PROTOBUF)[1]
    field = b"\x28" + bytes([2 * schema if schema >= 0 else -2 * schema - 1])  # sint32 schema = 5
    zero_threshold = b"\x31"  # double zero_threshold = 6 stands right behind it
    assert field + zero_threshold in body


def test_a_histogram_is_classic_unless_told_otherwise(registry):
    Histogram("h", "A histogram.", registry=registry, buckets=[1, 2]).observe(1.5)
    Histogram("not", "A histogram.", registry=registry, buckets=[1, 2], native=False).observe(1.5)
    Histogram("resolved", "A histogram.", registry=registry, buckets=[1, 2], native=4).observe(1.5)
    assert _native.scrape(PROTOBUF)[1].count(b"\x31\x00\x00\x00\x00\x00\x00") == 1


def test_a_schema_that_there_is_not_counts_in_its_process_alone(registry, caplog):
    histogram = Histogram("h", "A histogram.", registry=registry, native=9)
    histogram.observe(1)
    assert "schema that is not from -4 to 8" in caplog.text
    assert registry.get_sample_value("h_count") == 1
