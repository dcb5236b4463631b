"""Request metrics, the same behind gunicorn's logger and the middlewares: how many, how long, how many under way."""

import weakref
from collections.abc import Callable
from time import perf_counter
from typing import Any, Generic, TypeVar

from promring import _native, metrics

# Whatever a client sends as a method must not make a series each.
_METHODS = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"})
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_MOST_CALLS = 10_000

# An app of WSGI or ASGI, and what it is asked with: environ or scope.
_App = TypeVar("_App")
_Asked = TypeVar("_Asked")

# Every one of this process.
_made: "weakref.WeakSet[RequestMetrics]" = weakref.WeakSet()


class RequestMetrics:
    """The metrics, as calls of C by label values. `label_names` are what a request has beyond method and code."""

    def __init__(self, prefix: str, *label_names: str) -> None:
        self._prefix = prefix
        self._label_names = label_names
        self.register()
        _made.add(self)

    def register(self) -> None:
        """Register the families in the segment that is configured now."""
        prefix, more = self._prefix, self._label_names
        self._total = _native.family(
            "counter", f"{prefix}_requests_total", "Requests answered.", ("method", "code", *more)
        )
        self._seconds = _native.family(
            "histogram",
            f"{prefix}_request_duration_seconds",
            "Time from the request's head to the end of the answer.",
            ("method", *more),
            unit="seconds",
            buckets=_BUCKETS,
        )
        under_way = _native.family(
            "gauge",
            f"{prefix}_requests_in_progress",
            "Requests being answered now.",
            mode="livesum",
        ).series(())
        self.begun, self.ended = under_way.bound("inc"), under_way.bound("dec")
        self._inc: dict[tuple[str, ...], Callable[..., None]] = {}
        self._observe: dict[tuple[str, ...], Callable[..., None]] = {}

    def answered(self, method: str, code: int, seconds: float, *more: str) -> None:
        """Count one request; `more` are the values of its other labels."""
        method = method if method in _METHODS else "other"
        counted, timed = (method, str(code), *more), (method, *more)
        if len(self._inc) >= _MOST_CALLS:
            self._inc.clear()
            self._observe.clear()
        inc = self._inc.get(counted)
        if inc is None:
            inc = self._inc[counted] = self._total.series(counted).bound("inc")
        inc()
        observe = self._observe.get(timed)
        if observe is None:
            observe = self._observe[timed] = self._seconds.series(timed).bound("observe")
        observe(seconds)


class Recorder:
    """What a middleware tells of its requests. Never raises: the answer is worth more than its metrics."""

    def __init__(self, prefix: str, route: Callable[[Any], str]) -> None:
        self._route = route
        self._failed = False
        self._metrics: RequestMetrics | None = None
        try:
            self._metrics = RequestMetrics(prefix, "path")
        except _native.Error:
            self._say_once("no request metrics")

    def begin(self) -> float:
        """Count a request as under way; return when it began."""
        if self._metrics is not None:
            self._metrics.begun()
        return perf_counter()

    def route(self, request: Any) -> str:
        """Return the route that the framework has found for a request by now."""
        try:
            return self._route(request)
        except Exception:
            self._say_once("a request's route is not known")
            return ""

    def end(self, begun: float, method: str, code: int, path: str) -> None:
        """Count a request as answered."""
        try:
            if self._metrics is not None:
                self._metrics.ended()
                self._metrics.answered(method, code, perf_counter() - begun, path)
            _native.tick()
        except Exception:
            self._say_once("a request was not counted")

    def _say_once(self, what: str) -> None:
        if not self._failed:
            self._failed = True
            metrics.log.exception("promring: %s", what)


class MiddlewareOf(Generic[_App, _Asked]):
    """What the middlewares of WSGI and ASGI have in common: how they are made."""

    _make_page: Callable[[], _App]
    """Returns the app that answers with the page."""
    _framework_route: Callable[[_Asked], str]
    """Returns the route that the framework has found."""

    def __init__(
        self,
        app: _App,
        metrics: str | None = None,
        route: Callable[[_Asked], str] | None = None,
        prefix: str = "http_server",
    ) -> None:
        self._app = app
        self._path = metrics
        self._metrics = self._make_page()
        self._recorder = Recorder(prefix, route or self._framework_route)


def start_afresh() -> None:
    """Count in the segment that is configured now; for tests."""
    for made in list(_made):
        made.register()
