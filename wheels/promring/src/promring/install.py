"""Puts the core behind prometheus_client in place, and takes it away again.

Replaced are the constructor's two hooks (what a metric is made of), the reads (what a registry
shows) and removals; classes, registries and everything built on them stay the library's.
"""

import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import prometheus_client
from prometheus_client import exposition, multiprocess, openmetrics, values
from prometheus_client.metrics import Enum, Gauge, Histogram, Info, MetricWrapperBase
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import CollectorRegistry, RestrictedRegistry
from prometheus_client.samples import Sample

from promring import _native, collect, metrics, page, states

# A bucket of a native histogram is 9 % wide.
_USUAL_SCHEMA = 3
# (object, attribute): the library's own.
_originals: dict[tuple[Any, str], Any] = {}


def configure(**settings: object) -> None:
    """Set options by their names in the README's table, before the first metric is made."""
    if not _native.configure(settings):
        raise RuntimeError(
            "promring has attached to its segment already: configure it before the first metric is "
            "made, or by the environment (PROMRING_*)"
        )


def install() -> None:
    """Put prometheus_client's metrics on the ring: those that exist, and those to come.

    Does nothing the second time. A metric that exists brings what it has counted so far.
    """
    if _originals:
        return
    found = metrics.existing()
    _native.on_exemplar(metrics.keep_exemplar)
    for owner, name, replacement in _replacements():
        _originals[owner, name] = getattr(owner, name)
        setattr(owner, name, replacement)
    for metric in found:
        metrics.take_over(metric)
    for metric in states.existing():
        states.take_over(metric)


def uninstall() -> None:
    """Give prometheus_client back as it was; metrics go on from what the app has counted so far."""
    for (owner, name), original in _originals.items():
        setattr(owner, name, original)
    _originals.clear()
    for metric in [*metrics.adopted, *metrics.functions]:
        metrics.let_go(metric)
    metrics.adopted.clear()
    metrics.functions.clear()
    states.let_go()


def is_installed() -> bool:
    """Tell whether `install()` is in force."""
    return bool(_originals)


def start_aggregator() -> int | None:
    """Start the aggregator as a child of this process; return its pid, None if there is nothing to start.

    It listens on PROMRING_LISTEN, ends with this process, and stands by while another one runs.
    Under gunicorn, promring.gunicorn.Logger does this.
    """
    return _native.start_aggregator()


def stop_aggregator() -> None:
    """End the aggregator that this process has started."""
    _native.stop_aggregator()


def _replacements() -> Iterator[tuple[Any, str, Any]]:
    yield MetricWrapperBase, "__init__", _init
    yield Histogram, "__init__", _init_histogram
    for kind in metrics.KINDS:
        yield kind, "_metric_init", _metric_init(kind)
        yield kind, "_child_samples", _child_samples(kind)
    for state_kind in states.KINDS:
        yield state_kind, "_child_samples", _state_samples(state_kind)
    yield Enum, "__init__", _init_enum
    yield Enum, "state", _state
    yield Info, "info", _info
    yield MetricWrapperBase, "_multi_samples", _multi_samples
    yield MetricWrapperBase, "remove", _remove
    yield MetricWrapperBase, "remove_by_labels", _remove_by_labels
    yield MetricWrapperBase, "clear", _clear
    yield Gauge, "set_function", _set_function
    yield CollectorRegistry, "collect", collect.collect_registry
    yield RestrictedRegistry, "collect", _collect_restricted
    yield MultiProcessCollector, "__init__", _init_collector
    yield MultiProcessCollector, "collect", lambda self: collect.app_metrics()
    yield multiprocess, "mark_process_dead", _mark_process_dead
    yield values, "ValueClass", Value
    yield values, "MultiProcessValue", _multi_process_value
    for module in (exposition, prometheus_client):
        yield module, "generate_latest", _generate_latest
    yield openmetrics.exposition, "generate_latest", _generate_open_metrics


def _vanilla(owner: Any, name: str) -> Any:
    return _originals.get((owner, name)) or getattr(owner, name)


# ---------------------------------------------------------------------------------------------
# Metrics


def _init(self: Any, *args: Any, **kwargs: Any) -> None:
    _vanilla(MetricWrapperBase, "__init__")(self, *args, **kwargs)
    if not _is_our_value(values.ValueClass):
        return
    if self._is_parent() and isinstance(self, metrics.KINDS):
        metrics.adopt_parent(self)
    elif isinstance(self, Info):
        states.adopt(self)


def _metric_init(kind: type) -> Callable[[Any], None]:
    def _metric_init(self: Any) -> None:
        if not _is_our_value(values.ValueClass) or not metrics.adopt(self):
            _vanilla_metric_init(kind, self)

    return _metric_init


def _vanilla_metric_init(kind: type, metric: Any) -> None:
    """Give a metric values of the library's, or of a class that the app has put in its place."""
    ours = values.ValueClass
    values.ValueClass = values.MutexValue if _is_our_value(ours) else ours
    try:
        _vanilla(kind, "_metric_init")(metric)
    finally:
        values.ValueClass = ours


def _child_samples(kind: type) -> Callable[[Any], Iterable[Sample]]:
    def _child_samples(self: Any) -> Iterable[Sample]:
        if "_promring" in vars(self):
            return collect.child_samples(self)
        return _vanilla(kind, "_child_samples")(self)  # type: ignore[no-any-return]

    return _child_samples


def _init_histogram(self: Any, *args: Any, native: bool | int | None = None, **kwargs: Any) -> None:
    """Take `native`: exponential buckets beside the classic ones, of that schema, or of the usual one if True."""
    if native is not None and native is not False:
        self._promring_native = _USUAL_SCHEMA if native is True else native
    _vanilla(Histogram, "__init__")(self, *args, **kwargs)


def _init_enum(self: Any, *args: Any, **kwargs: Any) -> None:
    _vanilla(Enum, "__init__")(self, *args, **kwargs)
    if _is_our_value(values.ValueClass):
        states.adopt(self)


def _state(self: Any, state: str) -> None:
    _vanilla(Enum, "state")(self, state)
    if _is_our_value(values.ValueClass):
        states.publish(self)


def _info(self: Any, val: dict[str, str]) -> None:
    _vanilla(Info, "info")(self, val)
    if _is_our_value(values.ValueClass):
        states.publish(self)


def _state_samples(kind: type) -> Callable[[Any], Iterable[Sample]]:
    def _child_samples(self: Any) -> Iterable[Sample]:
        return states.samples(self) or _vanilla(kind, "_child_samples")(self)

    return _child_samples


def _multi_samples(self: Any) -> Iterator[Sample]:
    if isinstance(self, states.KINDS):
        return iter(states.samples(self) or _vanilla(MetricWrapperBase, "_multi_samples")(self))
    if "_promring_family" in vars(self):
        return collect.multi_samples(self)
    return _vanilla(MetricWrapperBase, "_multi_samples")(self)  # type: ignore[no-any-return]


def _set_function(self: Any, f: Callable[[], float]) -> None:
    _vanilla(Gauge, "set_function")(self, f)
    if "_promring_family" in vars(self):
        metrics.answer_by_function(self)


# ---------------------------------------------------------------------------------------------
# Removals: in all processes, and without the library's warning that they do not work there


def _shared_family(metric: Any) -> _native.Family | None:
    """Return the family of a metric with labels, if it stands in the segment."""
    if not metric._is_parent():
        return None
    return states.family_of(metric) if isinstance(metric, states.KINDS) else vars(metric).get("_promring_family")


def _forget(parent: Any) -> None:
    table = vars(parent).get("_promring_labels")
    if table is not None:
        table.forget()


def _remove(self: Any, *labelvalues: Any) -> None:
    family = _shared_family(self)
    if family is None:
        _vanilla(MetricWrapperBase, "remove")(self, *labelvalues)
        return
    if len(labelvalues) != len(self._labelnames):
        expected = len(self._labelnames)
        raise ValueError(f"Incorrect label count (expected {expected}, got {labelvalues})")
    texts = tuple(str(value) for value in labelvalues)
    with self._lock:
        self._metrics.pop(texts, None)
    _forget(self)
    family.remove_matching(dict(zip(self._labelnames, texts, strict=True)))


def _remove_by_labels(self: Any, labels: dict[str, str]) -> None:
    family = _shared_family(self)
    if family is None:
        _vanilla(MetricWrapperBase, "remove_by_labels")(self, labels)
        return
    if not isinstance(labels, dict):
        raise TypeError("labels must be a dict of {label_name: label_value}")
    if not labels:
        return
    unknown = [name for name in labels if name not in self._labelnames]
    if unknown:
        raise ValueError(f"Unknown label names: {unknown}; expected {self._labelnames}")
    wanted = {name: str(value) for name, value in labels.items()}
    places = {self._labelnames.index(name): value for name, value in wanted.items()}
    with self._lock:
        for texts in list(self._metrics):
            if all(texts[place] == value for place, value in places.items()):
                self._metrics.pop(texts, None)
    _forget(self)
    family.remove_matching(wanted)


def _clear(self: Any) -> None:
    family = _shared_family(self)
    if family is None:
        _vanilla(MetricWrapperBase, "clear")(self)
        return
    with self._lock:
        self._metrics = {}
    _forget(self)
    family.clear()


# ---------------------------------------------------------------------------------------------
# Reads


def _collect_restricted(self: Any) -> Iterator[Metric]:
    own = _vanilla(RestrictedRegistry, "collect")(self)
    if self._registry is not prometheus_client.REGISTRY:
        yield from own
    else:
        foreign = list(collect.foreign_metrics())
        fleet = {metric.name for metric in foreign if metric.name.startswith("process_")}
        yield from (metric for metric in own if metric.name not in fleet)
        for metric in foreign:
            restricted = metric._restricted_metric(self._name_set)
            if restricted:
                yield restricted


def _init_collector(self: Any, registry: Any, path: str | None = None) -> None:
    """Take any path, or none: the segment is the configuration's, and there are no files."""
    self._path = path or os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if registry:
        registry.register(self)


def _mark_process_dead(pid: int, path: str | None = None) -> None:
    """End a worker that this process plays by a `process_identifier`. Who else lives is the kernel's word."""
    if isinstance(pid, int) and 0 <= pid < 1 << 64:
        _native.end_worker(pid)


def _generate_latest(
    registry: Any = prometheus_client.REGISTRY, escaping: str = openmetrics.exposition.UNDERSCORES
) -> bytes:
    if escaping == openmetrics.exposition.UNDERSCORES:
        text = page.registry_page(registry)
        if text is not None:
            return text
    return _vanilla(exposition, "generate_latest")(registry, escaping)  # type: ignore[no-any-return]


def _generate_open_metrics(
    registry: Any, escaping: str = openmetrics.exposition.UNDERSCORES, version: str = "1.0.0"
) -> bytes:
    if escaping == openmetrics.exposition.UNDERSCORES and version == "1.0.0":
        text = page.registry_page(registry, f"{page.OPEN_METRICS};version=1.0.0")
        if text is not None:
            return text
    return _vanilla(openmetrics.exposition, "generate_latest")(registry, escaping, version)  # type: ignore[no-any-return]


# ---------------------------------------------------------------------------------------------
# Value classes


class Value:
    """The contract of `values.ValueClass`, for who makes value objects by themselves.

    A counter's or gauge's is a series of the segment. The parts of a histogram or summary are one
    event there, which nobody can make part by part: alone, such a value is this process's.
    """

    _multiprocess = True
    _promring = True
    _promring_identifier: Callable[[], object] | None = None

    def __new__(
        cls,
        typ: str,
        metric_name: str,
        name: str,
        labelnames: Iterable[str],
        labelvalues: Iterable[str],
        help_text: str,
        multiprocess_mode: str = "",
        **kwargs: Any,
    ) -> Any:
        """Return what holds the value."""
        if typ in ("counter", "gauge"):
            family = _native.family(typ, name, help_text, labelnames, mode=multiprocess_mode)
            return family.series(labelvalues, cls._promring_identifier)
        return values.MutexValue(typ, metric_name, name, labelnames, labelvalues, help_text)

    @classmethod
    def close_all_files(cls) -> None:
        """Do nothing: there are no files."""


def _multi_process_value(process_identifier: Callable[[], object] = os.getpid) -> type[Value]:
    """Return a value class; what its objects count is that worker's whose number the identifier returns."""
    _warn_of_lower_case()
    identifier = None if process_identifier is os.getpid else staticmethod(process_identifier)
    return type("Value", (Value,), {"_promring_identifier": identifier})


def _warn_of_lower_case() -> None:
    """Move the directory to its present name and say so, as the library does."""
    if "prometheus_multiproc_dir" in os.environ and "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = os.environ["prometheus_multiproc_dir"]
        warnings.warn(
            "prometheus_multiproc_dir variable has been deprecated in favor of the upper case naming "
            "PROMETHEUS_MULTIPROC_DIR",
            DeprecationWarning,
            stacklevel=3,
        )


def _is_our_value(value_class: Any) -> bool:
    """Tell whether the app has left the choice of values to us: our class, or one of the library's own."""
    ours = getattr(value_class, "_promring", False) is True
    return ours or value_class.__module__ == values.__name__
