"""Consolidated reads: the segment's families as prometheus_client's Metric and Sample objects."""

import os
from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from prometheus_client import REGISTRY
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import CollectorRegistry
from prometheus_client.samples import Sample
from prometheus_client.utils import floatToGoString

from promring import _native, metrics, states

_PER_WORKER = ("all", "liveall")
_OVERFLOW = {"promring_overflow": "true"}


def _parts(family: _native.Family, value: Any) -> Iterator[tuple[str, dict[str, str], float, int | None]]:
    """Yield suffix, further labels, value and bucket (if it can have an exemplar) of each sample of a series."""
    kind = family.metric_type
    if kind == "counter":
        yield "_total", {}, value, 0
    elif kind == "gauge":
        yield "", {}, value, None
    elif kind == "summary":
        yield "_count", {}, value[0], None
        yield "_sum", {}, value[1], None
    else:
        yield from _histogram_parts(family.buckets, *value)


def _histogram_parts(
    bounds: list[float], counts: list[float], total: float
) -> Iterator[tuple[str, dict[str, str], float, int | None]]:
    so_far = 0.0
    for bucket, (bound, count) in enumerate(zip([*bounds, float("inf")], counts, strict=True)):
        so_far += count
        yield "_bucket", {"le": floatToGoString(bound)}, so_far, bucket
    yield "_count", {}, so_far, None
    if bounds[0] >= 0:
        yield "_sum", {}, total, None


def series_samples(
    family: _native.Family, labels: dict[str, str], value: Any, created: float | None, exemplar_of: Callable[[int], Any]
) -> Iterator[Sample]:
    """Yield the samples of one series, named by their suffixes."""
    for suffix, more, number, bucket in _parts(family, value):
        exemplar = None if bucket is None else exemplar_of(bucket)
        yield Sample(suffix, labels | more, number, None, exemplar)
    if created is not None and family.metric_type != "gauge":
        yield Sample("_created", labels, created, None, None)


def family_samples(
    family: _native.Family, children: dict[tuple[str, ...], Any], *, as_library: bool
) -> Iterator[Sample]:
    """Yield the samples of all series, whichever process has made them.

    `as_library`: as a registry in one process has them: with `_created`, and of a gauge that only
    this process has set just the value, without the label that tells workers apart. Else as
    MultiProcessCollector has them.
    """
    names, rows = family.label_names, family.collect()
    per_worker = family.mode in _PER_WORKER
    label = _worker_label(names) if per_worker else ""
    tally = Tally(row[0] for row in rows) if per_worker else Tally()
    me = str(os.getpid())
    created_wanted = as_library and metrics.use_created()
    for label_values, worker, value, created, overflow, exemplars in rows:
        labels = dict(_OVERFLOW) if overflow else dict(zip(names, label_values, strict=True))
        alone = as_library and worker == me and tally[label_values] == 1
        if worker is not None and not alone:
            labels[label] = worker
        # Made here before it came onto the ring?
        created = min(created, getattr(children.get(label_values), "_created", created))
        samples = series_samples(family, labels, value, created if created_wanted else None, exemplars.get)
        if family.metric_type == "histogram" and not as_library:
            # MultiProcessCollector has the sum first.
            samples = iter(sorted(samples, key=lambda sample: sample.name != "_sum"))
        yield from samples


def _worker_label(names: Iterable[str]) -> str:
    label = _native.gauge_label()
    while label in names:
        label = "promring_" + label
    return label


def multi_samples(parent: Any) -> Iterator[Sample]:
    """Yield what a metric with labels shows: all children, also those of other processes."""
    with parent._lock:
        children = dict(parent._metrics)
    yield from family_samples(parent._promring_family, children, as_library=True)
    for label_values, child in children.items():
        if child in metrics.functions:
            labels = dict(zip(parent._labelnames, label_values, strict=True))
            for sample in child._samples():
                yield sample._replace(labels=labels | sample.labels)


def child_samples(metric: Any) -> tuple[Sample, ...]:
    """Return what a metric without labels, or a child by itself, shows."""
    family, series = metric._promring_family, metric._promring
    if not metric._labelvalues:
        return tuple(family_samples(family, {(): metric}, as_library=True))
    created = metric._created if metrics.use_created() else None
    return tuple(series_samples(family, {}, series.get(), created, series.get_exemplar))


def family_metric(family: _native.Family, *, as_library: bool) -> Metric:
    """Return a family with all its samples."""
    name, kind = family.name, family.metric_type
    if kind == "counter":
        if name.endswith("_total"):
            name = name[: -len("_total")]
        else:
            kind = "unknown"  # of another language: this library would append _total to it
    metric: Any = Metric(name, family.documentation, kind, family.unit)
    metric._multiprocess_mode = family.mode
    for sample in family_samples(family, {}, as_library=as_library):
        suffix = "" if kind == "unknown" else sample.name
        metric.samples.append(sample._replace(name=name + suffix))
    return metric  # type: ignore[no-any-return]


def app_metrics() -> Iterator[Metric]:
    """Yield every family of the app: what MultiProcessCollector collects."""
    return (family_metric(family, as_library=False) for family in _native.families())


def add_function_samples(metric: Metric, gauge: Any) -> None:
    """Add what a gauge shows whose value a function gives."""
    labels = dict(zip(gauge._labelnames, gauge._labelvalues, strict=False))
    for sample in gauge._samples():
        metric.add_sample(gauge._name, labels | sample.labels, sample.value)


def gives_way(collector: object) -> bool:
    """Tell whether a collector describes one process by the names that the segment has for the whole fleet."""
    if not isinstance(collector, ProcessCollector) or collector._prefix != "process_":
        return False
    return any(family.name == "process_cpu_seconds_total" for family in _native.families())


def foreign_metrics() -> Iterator[Metric]:
    """Yield the families that only other processes have declared."""
    for family in _native.families():
        if family.name not in metrics.declared | metrics.contradicted:
            yield family_metric(family, as_library=True)


# ---------------------------------------------------------------------------------------------
# Registries


class Contents:
    """What a registry holds, sorted by who answers for it."""

    def __init__(self, registry: CollectorRegistry) -> None:
        with registry._lock:
            self.collectors: list[Any] = list(registry._collector_to_names)
            self.target_info = registry._target_info_metric() if registry._target_info else None
        self.has_everything = any(isinstance(c, MultiProcessCollector) for c in self.collectors)

    def covers_segment(self) -> bool:
        """Tell whether all that this process has declared is in here."""
        mine = {metrics.family_name(metric) for metric in self.collectors if is_ours(metric)}
        said = {states.family_name(metric) for metric in self.collectors if isinstance(metric, states.KINDS)}
        return metrics.declared <= mine | said

    def has_others(self, wanted: Callable[[Any], bool]) -> bool:
        """Tell whether `collect` has anybody to ask."""
        return self.target_info is not None or any(map(wanted, self.collectors))

    def collect(self, wanted: Callable[[Any], bool]) -> Iterator[Metric]:
        """Collect from the collectors that are wanted, in order of registration."""
        if self.target_info is not None:
            yield self.target_info
        for collector in self.collectors:
            if wanted(collector):
                yield from collector.collect()


def is_ours(collector: object) -> bool:
    """Tell whether a collector is a metric that counts into the segment."""
    return hasattr(collector, "_promring_family") and not isinstance(collector, states.KINDS)


def collect_registry(registry: CollectorRegistry) -> Iterator[Metric]:
    """Yield what a registry collects, over all processes."""
    contents = Contents(registry)
    # With a MultiProcessCollector every metric of the app is there once already.
    whole = contents.has_everything or registry is REGISTRY

    def is_wanted(collector: Any) -> bool:
        there = contents.has_everything and (is_ours(collector) or states.stands_in_segment(collector))
        return not there and not (whole and gives_way(collector))

    yield from contents.collect(is_wanted)
    if registry is REGISTRY and not contents.has_everything:
        yield from foreign_metrics()
