"""WSGI: GET /metrics as an app, where any worker answers for all of them, and a middleware that counts requests."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from prometheus_client import REGISTRY
from prometheus_client.registry import CollectorRegistry

from promring import _native
from promring.install import install
from promring.page import app_page
from promring.requests import MiddlewareOf

ALLOW = "GET, HEAD"
NOT_ALLOWED = b"405: GET and HEAD are answered\n"


App = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def make_wsgi_app(registry: CollectorRegistry = REGISTRY) -> App:
    """Return a WSGI app that answers any path with the metrics of all workers.

    Installs promring. `registry` may hold custom collectors: they run in the worker that answers.
    """
    install()

    def metrics(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        _native.tick()
        method = environ["REQUEST_METHOD"]
        if method not in ("GET", "HEAD"):
            headers = [("Allow", ALLOW), ("Content-Length", str(len(NOT_ALLOWED)))]
            start_response("405 Method Not Allowed", [("Content-Type", "text/plain"), *headers])
            return [NOT_ALLOWED]
        content_type, body = app_page(environ.get("HTTP_ACCEPT", ""), registry)
        headers = [("Content-Type", content_type), ("Content-Length", str(len(body)))]
        start_response("200 OK", headers)
        return [body] if method == "GET" else []

    return metrics


def _route(environ: dict[str, Any]) -> str:
    """Return the rule that Werkzeug, and so Flask, has found."""
    rule = getattr(environ.get("werkzeug.request"), "url_rule", None)
    return "" if rule is None else str(rule.rule)


class Middleware(MiddlewareOf[App, dict[str, Any]]):
    """Counts an app's requests: `http_server_requests_total{method,code,path}`, their duration, and those under way.

    `path` is the route's template where the framework tells it (Flask and all of Werkzeug do), else empty: what
    clients ask for must not make a series each. A function of environ in place of `route` may tell it otherwise.
    With `metrics`, a path, GET of it is answered with the page, and is not counted.
    """

    _make_page = staticmethod(make_wsgi_app)
    _framework_route = staticmethod(_route)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request."""
        if self._path is not None and environ.get("PATH_INFO") == self._path:
            return self._metrics(environ, start_response)
        code, path = 500, ""
        begun = self._recorder.begin()

        def start(status: str, *args: Any, **kwargs: Any) -> Any:
            nonlocal code, path
            path = self._recorder.route(environ)  # Flask takes it out of environ before the body is sent
            code = int(status[:3]) if status[:3].isdigit() else 0
            return start_response(status, *args, **kwargs)

        def end(code: int) -> None:
            self._recorder.end(begun, environ.get("REQUEST_METHOD", ""), code, path)

        try:
            body = self._app(environ, start)
        except BaseException:
            end(500)
            raise
        # Servers look at what is no stream for its length, or hand it to the kernel: it stays what it is.
        file_wrapper = environ.get("wsgi.file_wrapper")
        if isinstance(body, list | tuple) or (isinstance(file_wrapper, type) and isinstance(body, file_wrapper)):
            end(code)
            return body
        return _Body(body, lambda failed: end(500 if failed else code))


class _Body:
    """A stream that tells when it has been sent."""

    def __init__(self, body: Iterable[bytes], end: Callable[[bool], None]) -> None:
        self._body = body
        self._end: Callable[[bool], None] | None = end

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._body
        except Exception:
            self._ended(failed=True)
            raise

    def close(self) -> None:
        """Close it, as the server does in the end, whatever has happened."""
        try:
            close = getattr(self._body, "close", None)
            if close is not None:
                close()
        finally:
            self._ended(failed=False)

    def _ended(self, *, failed: bool) -> None:
        end, self._end = self._end, None
        if end is not None:
            end(failed)
