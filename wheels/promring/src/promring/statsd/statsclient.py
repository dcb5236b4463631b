"""The client of the package statsd, which counts what that one sends."""

from collections.abc import Callable
from datetime import timedelta
from time import perf_counter
from typing import Any

from promring.install import install
from promring.statsd import calls
from promring.statsd.timer import timed

_KINDS: dict[str, calls.Kind] = {"c": "count", "ms": "time", "g": "gauge", "s": "set"}


class Calls:
    """What a client is asked for. `rate` is taken and not needed: see `calls`."""

    _prefix: str | None

    def incr(self, stat: str, count: float = 1, rate: float = 1) -> None:
        """Add to a counter."""
        self._count("count", stat, count)

    def decr(self, stat: str, count: float = 1, rate: float = 1) -> None:
        """Add the negative: Prometheus' counters do not fall, so it is refused and counted, as by statsd_exporter."""
        self.incr(stat, -count, rate)

    def timing(self, stat: str, delta: float | timedelta, rate: float = 1) -> None:
        """Observe milliseconds, or a timedelta, as seconds."""
        if isinstance(delta, timedelta):
            delta = delta.total_seconds() * 1000.0
        self._count("time", stat, delta)

    def timer(self, stat: str, rate: float = 1) -> "Timer":
        """Return a timer: a context manager and a decorator."""
        return Timer(self, stat, rate)

    def gauge(self, stat: str, value: float, rate: float = 1, delta: bool = False) -> None:
        """Set a gauge, or change it by a `delta`."""
        self._count("change" if delta else "gauge", stat, value)

    def set(self, stat: str, value: object, rate: float = 1) -> None:
        """Add a value to a set, whose gauge shows about how many different ones the last while has brought."""
        self._count("set", stat, value)

    def pipeline(self) -> "Pipeline":
        """Return a client whose calls count together, when it is told to send."""
        return Pipeline(self)

    def _count(self, kind: calls.Kind, stat: str, value: Any) -> None:
        calls.count(kind, f"{self._prefix}.{stat}" if self._prefix else stat, value)

    def _send_stat(self, stat: str, value: str, rate: float) -> None:
        """Count what a subclass' own call has put into words: `1|c`, `-2|g`."""
        number, _, letters = value.rpartition("|")
        if letters not in _KINDS:
            calls.refuse("call")
        else:
            signed = letters == "g" and number[:1] in ("+", "-")
            self._count("change" if signed else _KINDS[letters], stat, number)


class StatsClient(Calls):
    """`statsd.StatsClient`, without the package: what it is asked for is counted."""

    def __init__(
        self,
        host: str = "localhost",
        port: int = 8125,
        prefix: str | None = None,
        maxudpsize: int = 512,
        ipv6: bool = False,
    ) -> None:
        install()
        self._prefix = prefix

    def close(self) -> None:
        """Do nothing: there is no socket."""


class Pipeline(Calls):
    """Calls that count together: at the end of its block, or when it is told to send."""

    def __init__(self, client: Calls) -> None:
        self._client = client
        self._prefix = client._prefix
        self._waiting: list[tuple[calls.Kind, str, Any]] = []

    def __enter__(self) -> "Pipeline":
        return self

    def __exit__(self, *exception: object) -> None:
        self.send()

    def send(self) -> None:
        """Count what has been asked for since the last time."""
        waiting, self._waiting = self._waiting, []
        for kind, stat, value in waiting:
            super()._count(kind, stat, value)

    def _count(self, kind: calls.Kind, stat: str, value: Any) -> None:
        self._waiting.append((kind, stat, value))


class Timer:
    """Milliseconds between start and stop, as the package statsd has it."""

    def __init__(self, client: Calls, stat: str, rate: float = 1) -> None:
        self.client = client
        self.stat = stat
        self.rate = rate
        self.ms: float | None = None
        self._sent = False
        self._started: float | None = None

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Time each call of a function or coroutine."""
        return timed(function, lambda seconds: self.client.timing(self.stat, seconds * 1000.0, self.rate))

    def __enter__(self) -> "Timer":
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def start(self) -> "Timer":
        """Begin, also anew."""
        self.ms, self._sent, self._started = None, False, perf_counter()
        return self

    def stop(self, send: bool = True) -> "Timer":
        """End, and count it unless told not to."""
        if self._started is None:
            raise RuntimeError("Timer has not started.")
        self.ms = 1000.0 * (perf_counter() - self._started)
        if send:
            self.send()
        return self

    def send(self) -> None:
        """Count it."""
        if self.ms is None:
            raise RuntimeError("No data recorded.")
        if self._sent:
            raise RuntimeError("Already sent data.")
        self._sent = True
        self.client.timing(self.stat, self.ms, self.rate)
