"""What stands behind prometheus_client's metrics: a family of the core, a series, and calls of C planted on objects.

A metric object stays what it was – its class, its private attributes, its errors – but its value
object is a series of the segment, and `inc`, `dec`, `set`, `observe` and `labels` are attributes
of the object that go straight there. What the core refuses (a name that another process of the app
uses for something else) counts in this process alone, as the library does it, and one line says so.
"""

import gc
import logging
import time
import weakref
from collections.abc import Iterator, Sequence
from typing import Any

from prometheus_client import metrics as library
from prometheus_client import values
from prometheus_client.metrics import Counter, Gauge, Histogram, MetricWrapperBase, Summary
from prometheus_client.samples import Exemplar
from prometheus_client.validation import _validate_exemplar

from promring import _native

log = logging.getLogger("promring")

# Sample weights are 32-bit floats, whole up to here.
_MOST_WEIGHT = 1 << 24

# By everything that makes a family: what the core made of it, None if it refused.
_families: dict[tuple[object, ...], _native.Family | None] = {}
# Names of the families that this process has declared, and of those that were refused.
declared: set[str] = set()
contradicted: set[str] = set()
# Every metric object that counts into the segment, and gauges that a function answers for.
adopted: "weakref.WeakSet[Any]" = weakref.WeakSet()
functions: "weakref.WeakSet[Any]" = weakref.WeakSet()


class _Part:
    """A number of a histogram or summary, in place of a value object of the library.

    The library's own `observe` – of a subclass, or bound before `install()` – adds to `_sum` once an
    observation: that is the observation, and what it does to the other parts follows from it.
    """

    __slots__ = ("_index", "_series")

    def __init__(self, series: _native.Series, index: int = 0) -> None:
        self._series = series
        self._index = index

    def inc(self, amount: float) -> None:
        """Follows from the sum's."""

    def set(self, value: float, timestamp: float | None = None) -> None:
        """Follows from the sum's."""

    def get_exemplar(self) -> Any:
        """Return the last exemplar of any process."""
        return self._series.get_exemplar(self._index)

    def set_exemplar(self, exemplar: Exemplar) -> None:
        """Keep an exemplar, in the bucket that its value lies in."""
        self._series.set_exemplar(exemplar)


class _Sum(_Part):
    __slots__ = ()

    def inc(self, amount: float) -> None:
        self._series.observe(amount)

    def get(self) -> float:
        return float(self._series.get()[1])


class _Count(_Part):
    __slots__ = ()

    def get(self) -> float:
        return float(self._series.get()[0])


class _Bucket(_Part):
    __slots__ = ()

    def get(self) -> float:
        return float(self._series.get()[0][self._index])


def family_name(metric: Any) -> str:
    """Return the name under which a metric's family stands in the segment."""
    name: str = metric._name
    return name + "_total" if metric._type == "counter" else name


def family_of(metric: Any) -> _native.Family | None:
    """Return the family of a metric, registered now if it is new; None if the core refuses it."""
    name = family_name(metric)
    mode = getattr(metric, "_multiprocess_mode", "")
    buckets = tuple(getattr(metric, "_upper_bounds", ())[:-1])
    native = getattr(metric, "_promring_native", None)
    what = (metric._type, name, metric._labelnames, metric._unit, mode, buckets, native)
    if what in _families:
        return _families[what]
    family = None
    try:
        family = _native.family(
            metric._type,
            name,
            metric._documentation,
            metric._labelnames,
            unit=metric._unit,
            mode=mode,
            buckets=buckets,
            native=native,
        )
        declared.add(name)
    except _native.Error as error:
        contradicted.add(name)
        log.warning("promring: %s; it counts in this process alone", error)
    _families[what] = family
    return family


def refused(metric: Any) -> bool:
    """Tell whether a metric of ours to be counts in this process alone."""
    return isinstance(metric, KINDS) and not hasattr(metric, "_promring_family")


def adopt_parent(metric: Any) -> None:
    """Plant `labels` on a metric that has label names."""
    family = family_of(metric)
    if family is None:
        return
    metric._promring_family = family
    adopted.add(metric)
    if type(metric).labels is not MetricWrapperBase.labels:
        return
    try:
        table = _native.Labels(metric, metric._labelnames, _labels)
    except TypeError:  # label names of a subclass of str
        return
    metric._promring_labels = table
    metric.labels = table.bound()


def _labels(parent: Any, *labelvalues: object, **labelkwargs: object) -> Any:
    """Find or make a child, as the library does; one that was removed elsewhere begins anew."""
    child: Any = MetricWrapperBase.labels(parent, *labelvalues, **labelkwargs)
    series = getattr(child, "_promring", None)
    if series is not None and not series.is_live:
        child._created = time.time()
    return child


def adopt(metric: Any) -> bool:
    """Put a series behind a metric without labels or a child; False if the core refuses the family."""
    family = family_of(metric)
    if family is None:
        return False
    series = getattr(metric, "_promring", None)
    if series is None:
        series = family.series(metric._labelvalues, getattr(values.ValueClass, "_promring_identifier", None))
    else:
        series.rebind(family)
    metric._promring = series
    metric._promring_family = family
    adopted.add(metric)
    metric.__dict__.setdefault("_created", time.time())
    _ATTACH[metric._type](metric, series)
    return True


def _attach_counter(metric: Any, series: _native.Series) -> None:
    metric._value = series
    _plant(metric, series, Counter, "inc")


def _attach_gauge(metric: Any, series: _native.Series) -> None:
    metric._value = series
    _plant(metric, series, Gauge, "set")
    # In these modes inc and dec are errors, and a gauge that nobody has set is not shown.
    if metric._multiprocess_mode not in Gauge._MOST_RECENT_MODES:
        _plant(metric, series, Gauge, "inc", "dec")
        series.inc(0.0)  # a gauge is there, at 0, from its construction on


def _attach_summary(metric: Any, series: _native.Series) -> None:
    metric._count, metric._sum = _Count(series), _Sum(series)
    _plant(metric, series, Summary, "observe")


def _attach_histogram(metric: Any, series: _native.Series) -> None:
    metric._sum = _Sum(series)
    metric._buckets = [_Bucket(series, index) for index in range(len(metric._upper_bounds))]
    _plant(metric, series, Histogram, "observe")


_ATTACH = {
    "counter": _attach_counter,
    "gauge": _attach_gauge,
    "histogram": _attach_histogram,
    "summary": _attach_summary,
}
KINDS = (Counter, Gauge, Histogram, Summary)
_PLANTED = ("dec", "inc", "labels", "observe", "set")


def _plant(metric: Any, series: _native.Series, owner: type, *calls: str) -> None:
    """Plant calls, but none that a subclass has made its own, and none where each call is to ask whose it is."""
    if series.is_identified:
        return
    for call in calls:
        if getattr(type(metric), call) is getattr(owner, call):
            setattr(metric, call, series.bound(call))


def keep_exemplar(series: _native.Series, amount: float, exemplar: Any) -> None:
    """Keep the exemplar that an increment or observation came with for all workers, after the library's checks."""
    _validate_exemplar(exemplar)
    series.share_exemplar(exemplar, amount, time.time())


def answer_by_function(gauge: Any) -> None:
    """Take a gauge whose value a function gives out of the segment: its other calls do nothing."""
    series = vars(gauge).pop("_promring", None)
    if series is not None:
        gauge._promring_family.remove(gauge._labelvalues)
        _uproot(gauge)
        gauge._value = values.MutexValue(gauge._type, gauge._name, gauge._name, (), (), "")
        adopted.discard(gauge)
    functions.add(gauge)


def _uproot(metric: Any) -> None:
    for name in (*_PLANTED, "_promring", "_promring_labels"):
        vars(metric).pop(name, None)


# ---------------------------------------------------------------------------------------------
# Metrics that are there already


def existing() -> list[Any]:
    """Return every metric object of this process, parents before children."""
    # By type, not isinstance: that would ask lazy objects for a class they then go and make.
    found = [thing for thing in gc.get_objects() if issubclass(type(thing), MetricWrapperBase)]
    ours: list[Any] = [metric for metric in found if isinstance(metric, KINDS)]
    return sorted(ours, key=lambda metric: bool(metric._labelvalues))


def take_over(metric: Any) -> None:
    """Put a metric that was made before `install()` on the ring, with what it has counted so far."""
    if metric._is_parent():
        adopt_parent(metric)
    elif "_child_samples" in vars(metric):  # Gauge.set_function
        family = family_of(metric)
        if family is not None:
            metric._promring_family = family
            functions.add(metric)
    else:
        counted = _counted(metric)
        if adopt(metric):
            _count_again(metric, counted)


def let_go(metric: Any) -> None:
    """Give a metric back to the library, with what the app has counted so far."""
    vars(metric).pop("_promring_family", None)
    if metric._is_parent():
        _uproot(metric)
        return
    counted = None if metric in functions else _counted(metric)
    _uproot(metric)
    if counted is not None:
        type(metric)._metric_init(metric)
        for part, value in zip(_parts(metric), counted, strict=True):
            part.set(value)


def _parts(metric: Any) -> list[Any]:
    names = [name for name in ("_value", "_count", "_sum") if hasattr(metric, name)]
    return [getattr(metric, name) for name in names] + list(getattr(metric, "_buckets", ()))


def _counted(metric: Any) -> list[float]:
    return [float(part.get()) for part in _parts(metric)]


def _count_again(metric: Any, counted: list[float]) -> None:
    series: _native.Series = metric._promring
    if metric._type == "counter":
        series.inc(counted[0])
    elif metric._type == "gauge":
        if counted[0]:
            series.set(counted[0])
    elif metric._type == "summary":
        count, total = counted
        if count:
            _observe_often(series, total / count, int(count))
    else:
        total, *counts = counted
        for value, count in zip(_spread(metric._upper_bounds, counts, total), counts, strict=True):
            _observe_often(series, value, int(count))


def _observe_often(series: _native.Series, value: float, times: int) -> None:
    while times > 0:
        weight = min(times, _MOST_WEIGHT)
        series.observe(value, weight)
        times -= weight


def _spread(bounds: Sequence[float], counts: Sequence[float], total: float) -> Iterator[float]:
    """Yield one value of each bucket, so that they make up the total when taken that many times."""
    finite = bounds[:-1]
    lows = [min(0.0, finite[0] - 1.0), *finite] if finite[0] <= 0 else [0.0, *finite]
    least = sum(low * count for low, count in zip(lows, counts, strict=True))
    # Of the last bucket, which has no end, a value that reaches the total if all else is least.
    end = finite[-1] + max(1.0, abs(finite[-1]), (total - least) / (counts[-1] or 1.0))
    highs = [*finite, end]
    spans = [high - low for low, high in zip(lows, highs, strict=True)]
    span = sum(size * count for size, count in zip(spans, counts, strict=True))
    share = min(max((total - least) / span, 1e-9), 1.0) if span else 1.0
    for low, size in zip(lows, spans, strict=True):
        yield low + share * size


def start_afresh() -> None:
    """Bind every metric to the segment that is configured now; for tests."""
    _families.clear()
    declared.clear()
    contradicted.clear()
    for metric in sorted(adopted, key=lambda metric: bool(metric._labelvalues)):
        if not metric._is_parent():
            vars(metric).pop("_created", None)
            adopt(metric)
        elif (family := family_of(metric)) is not None:
            metric._promring_family = family
    for gauge in functions:
        if (family := family_of(gauge)) is not None:
            gauge._promring_family = family


def use_created() -> bool:
    """Tell whether `_created` samples are wanted."""
    return bool(library._use_created)
