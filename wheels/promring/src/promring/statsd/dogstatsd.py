"""The client of the package datadog, which counts what that one sends."""

import os
import re
from collections.abc import Callable, Iterable
from time import perf_counter
from typing import Any

from promring.install import install
from promring.statsd import calls
from promring.statsd.timer import timed

_KINDS: dict[str, calls.Kind] = {"c": "count", "g": "gauge", "ms": "time", "h": "observe", "d": "observe", "s": "set"}
# What the environment says that every client's tags are to tell.
_TAGS_OF_ENVIRONMENT = {
    "DD_ENTITY_ID": "dd.internal.entity_id",
    "DD_ENV": "env",
    "DD_SERVICE": "service",
    "DD_VERSION": "version",
}
# What a tag cannot hold.
_INVALID = re.compile(r"[^\w\-:/.]")

Tags = Iterable[str] | None


class Calls:
    """What a client is asked for. `sample_rate` and `cardinality` are taken and not needed: see `calls`."""

    namespace: str | None
    constant_tags: list[str]
    use_ms: bool
    _enabled: bool

    def increment(
        self,
        metric: str,
        value: float = 1,
        tags: Tags = None,
        sample_rate: float | None = None,
        cardinality: Any = None,
    ) -> None:
        """Add to a counter."""
        self._report(metric, "c", value, tags, sample_rate)

    def decrement(
        self,
        metric: str,
        value: float = 1,
        tags: Tags = None,
        sample_rate: float | None = None,
        cardinality: Any = None,
    ) -> None:
        """Add the negative: Prometheus' counters do not fall, so it is refused and counted, as by statsd_exporter."""
        self._report(metric, "c", -value if value else value, tags, sample_rate)

    def count(
        self, metric: str, value: float, tags: Tags = None, sample_rate: float | None = None, cardinality: Any = None
    ) -> None:
        """Add to a counter."""
        self._report(metric, "c", value, tags, sample_rate)

    def count_with_timestamp(
        self,
        metric: str,
        value: float,
        timestamp: int = 0,
        tags: Tags = None,
        sample_rate: float | None = None,
        cardinality: Any = None,
    ) -> None:
        """Add to a counter, now."""
        self._report(metric, "c", value, tags, sample_rate)

    def gauge(
        self, metric: str, value: float, tags: Tags = None, sample_rate: float | None = None, cardinality: Any = None
    ) -> None:
        """Set a gauge."""
        self._report(metric, "g", value, tags, sample_rate)

    def gauge_with_timestamp(
        self,
        metric: str,
        value: float,
        timestamp: int,
        tags: Tags = None,
        sample_rate: float | None = None,
        cardinality: Any = None,
    ) -> None:
        """Set a gauge, now."""
        self._report(metric, "g", value, tags, sample_rate)

    def histogram(
        self, metric: str, value: float, tags: Tags = None, sample_rate: float | None = None, cardinality: Any = None
    ) -> None:
        """Observe a value as it is."""
        self._report(metric, "h", value, tags, sample_rate)

    def distribution(
        self, metric: str, value: float, tags: Tags = None, sample_rate: float | None = None, cardinality: Any = None
    ) -> None:
        """Observe a value as it is."""
        self._report(metric, "d", value, tags, sample_rate)

    def timing(
        self, metric: str, value: float, tags: Tags = None, sample_rate: float | None = None, cardinality: Any = None
    ) -> None:
        """Observe milliseconds as seconds."""
        self._report(metric, "ms", value, tags, sample_rate)

    def timed(
        self,
        metric: str | None = None,
        tags: Tags = None,
        sample_rate: float | None = None,
        use_ms: bool | None = None,
    ) -> "Timed":
        """Time a block or a function in seconds, whatever unit the protocol would have been given."""
        return Timed(self, metric, tags, use_ms, lambda name, elapsed: self.timing(name, elapsed * 1000.0, tags))

    def distributed(
        self,
        metric: str | None = None,
        tags: Tags = None,
        sample_rate: float | None = None,
        use_ms: bool | None = None,
    ) -> "Timed":
        """Time a block or a function in seconds, or in the milliseconds that the client is told to use."""
        made: Timed = Timed(
            self, metric, tags, use_ms, lambda name, elapsed: self.distribution(name, made.in_unit(elapsed), tags)
        )
        return made

    def set(
        self, metric: str, value: object, tags: Tags = None, sample_rate: float | None = None, cardinality: Any = None
    ) -> None:
        """Add a value to a set, whose gauge shows about how many different ones the last while has brought."""
        self._report(metric, "s", value, tags, sample_rate)

    def event(self, title: str, message: str, *args: Any, **kwargs: Any) -> None:
        """Refuse, and count: Prometheus has no events."""
        calls.refuse("event")

    def service_check(self, check_name: str, status: int, *args: Any, **kwargs: Any) -> None:
        """Refuse, and count: Prometheus has no service checks."""
        calls.refuse("service_check")

    def _report(
        self,
        metric: str,
        metric_type: str,
        value: Any,
        tags: Tags,
        sample_rate: float | None,
        timestamp: int = 0,
        sampling: bool = True,
        cardinality: Any = None,
    ) -> bool:
        """Count a call; one that has been sampled before, as the package's aggregation does it, by its weight."""
        if value is None or self._enabled is not True:
            return True
        kind = _KINDS.get(metric_type)
        if kind is None:
            calls.refuse("call")
            return True
        name = f"{self.namespace}.{metric}" if self.namespace else metric
        weight = 1.0 if sampling or not sample_rate else 1.0 / sample_rate
        constant = self.constant_tags
        if tags or constant:
            calls.count(kind, name, value, _normal((*(tags or ()), *constant)), weight)
        else:
            calls.count(kind, name, value, (), weight)
        return True


def _normal(tags: tuple[str, ...]) -> tuple[str, ...]:
    """Return tags as the package sends them, with `_` for what they cannot hold."""
    if any(_INVALID.search(tag) for tag in tags):
        return tuple(_INVALID.sub("_", tag) for tag in tags)
    return tags


class DogStatsd(Calls):
    """`datadog.dogstatsd.DogStatsd`, without the package: what it is asked for is counted."""

    OK, WARNING, CRITICAL, UNKNOWN = range(4)
    _enabled = True

    def __init__(
        self,
        host: str | None = None,
        port: int | None = None,
        *,
        namespace: str | None = None,
        constant_tags: list[str] | None = None,
        use_ms: bool = False,
        default_sample_rate: float = 1,
        **transport: Any,
    ) -> None:
        install()
        self.namespace = namespace
        self.use_ms = use_ms
        self.default_sample_rate = default_sample_rate
        self.constant_tags = [*(constant_tags or ()), *_environment_tags()]

    def __enter__(self) -> "DogStatsd":
        return self

    def __exit__(self, *exception: object) -> None:
        """Do nothing: every call has been counted."""

    def _nothing(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: there is no socket, no buffer and no thread."""

    open_buffer = close_buffer = flush = flush_buffered_metrics = flush_aggregated_metrics = _nothing
    enable_aggregation = disable_aggregation = enable_telemetry = disable_telemetry = _nothing
    enable_background_sender = disable_background_sender = wait_for_pending = _nothing
    close_socket = set_socket_timeout = pre_fork = post_fork_parent = post_fork_child = stop = _nothing


def _environment_tags() -> list[str]:
    given = [tag for tag in os.environ.get("DATADOG_TAGS", "").split(",") if tag]
    return given + [f"{tag}:{os.environ[name]}" for name, tag in _TAGS_OF_ENVIRONMENT.items() if os.environ.get(name)]


class Timed:
    """A context manager and a decorator, as the package datadog has it."""

    def __init__(
        self, statsd: Calls, metric: str | None, tags: Tags, use_ms: bool | None, record: Callable[[str, float], None]
    ) -> None:
        self.statsd = statsd
        self.metric = metric
        self.tags = tags
        self.use_ms = use_ms
        self.elapsed: float | None = None
        self._record = record
        self._started = 0.0

    def in_unit(self, seconds: float) -> float:
        """Return seconds in the unit of the client's timers: rounded milliseconds, or seconds."""
        use_ms = self.statsd.use_ms if self.use_ms is None else self.use_ms
        return round(seconds * 1000) if use_ms else seconds

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Time each call of a function or coroutine; its name is the metric's unless there is one."""
        self.metric = self.metric or f"{function.__module__}.{function.__name__}"
        return timed(function, self._end)

    def __enter__(self) -> "Timed":
        if not self.metric:
            raise TypeError("Cannot used timed without a metric!")
        self._started = perf_counter()
        return self

    def __exit__(self, *exception: object) -> None:
        self._end(perf_counter() - self._started)

    def start(self) -> None:
        """Begin."""
        self.__enter__()

    def stop(self) -> None:
        """End, and count it."""
        self.__exit__()

    def _end(self, seconds: float) -> None:
        self.elapsed = self.in_unit(seconds)
        self._record(self.metric or "", seconds)
