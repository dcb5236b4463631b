"""Gunicorn without code: `--logger-class promring.gunicorn.Logger`.

The logger is the one class of the user's choice that gunicorn makes in the master before it loads the app, and that
it calls after each request in the worker. So it puts prometheus_client on the ring, has the master start the
aggregator, and counts requests.
"""

import functools
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from gunicorn import glogging

from promring import _native
from promring.install import install, start_aggregator, stop_aggregator
from promring.requests import RequestMetrics


class Logger(glogging.Logger):  # type: ignore[misc]
    """gunicorn's logger, which also counts."""

    _requests: RequestMetrics | None = None
    _failed = False

    def setup(self, cfg: Any) -> None:
        """Set up logging for a configuration – the first, and that of each reload – and put hooks into it."""
        super().setup(cfg)
        try:
            install()
            if self._requests is None:
                self._requests = RequestMetrics("gunicorn")
        except Exception:
            self._say_once("no request metrics")
        if cfg.statsd_host:
            self.warning("promring: statsd_host has no effect with this logger class")
        # Not in __init__: a reload brings a new cfg to the same logger. The same cfg may come twice.
        for name, compose in _HOOKS.items():
            hook = getattr(cfg, name)
            if not hasattr(hook, "_promring"):
                composed = compose(self, hook)
                composed._promring = True
                cfg.settings[name].value = composed

    @property
    def access_log_enabled(self) -> bool:
        """True: some workers call `access` only if there is a log; whether to write one is asked in there."""
        return True

    def access(self, resp: Any, req: Any, environ: dict[str, Any], request_time: timedelta) -> None:
        """Count a request, and log it if there is a log."""
        try:
            if self._requests is not None:
                method = environ.get("REQUEST_METHOD", "")
                self._requests.answered(method, _code(resp), request_time.total_seconds())
            _native.tick()
        except Exception:
            self._say_once("a request was not counted")
        if _logs_access(self):
            super().access(resp, req, environ, request_time)

    def _say_once(self, what: str) -> None:
        if not self._failed:
            self._failed = True
            self.exception("promring: %s", what)

    def begin_request(self) -> None:
        """Count a request as under way."""
        if self._requests is not None:
            self._requests.begun()

    def end_request(self) -> None:
        """Count a request as not under way any more."""
        if self._requests is not None:
            self._requests.ended()

    def begin_aggregator(self) -> None:
        """Have the master start its aggregator, unless it has one."""
        try:
            start_aggregator()
        except Exception:
            self._say_once("no aggregator; the app's own /metrics goes on answering")


def _logs_access(logger: Logger) -> bool:
    """Ask gunicorn's own logger whether there is a log; an old one asks itself in `access`."""
    enabled: Any = vars(glogging.Logger).get("access_log_enabled")
    return enabled is None or bool(enabled.fget(logger))


def _code(resp: Any) -> int:
    """Return the status code: workers have it as `200 OK`, as bytes or as a number."""
    status = resp.status
    if isinstance(status, int):
        return status
    text = status.decode("latin-1") if isinstance(status, bytes) else status
    code = int(text.split(None, 1)[0])
    return code if 100 <= code <= 999 else 0


# ---------------------------------------------------------------------------------------------
# Hooks: each calls the user's, with the same arguments


def _ready(logger: Logger, hook: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(hook)
    def composed(server: Any) -> None:
        logger.begin_aggregator()
        hook(server)

    return composed


def _exit(logger: Logger, hook: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(hook)
    def composed(server: Any) -> None:
        try:
            hook(server)
        finally:
            stop_aggregator()

    return composed


def _pre_request(logger: Logger, hook: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(hook)
    def composed(worker: Any, req: Any) -> None:
        logger.begin_request()
        hook(worker, req)

    return composed


def _post_request(logger: Logger, hook: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(hook)
    def composed(worker: Any, req: Any, environ: Any, resp: Any) -> None:
        logger.end_request()
        hook(worker, req, environ, resp)

    return composed


_HOOKS: dict[str, Callable[[Logger, Callable[..., Any]], Any]] = {
    "when_ready": _ready,
    "on_reload": _ready,
    "on_exit": _exit,
    "pre_request": _pre_request,
    "post_request": _post_request,
}
