"""GET /metrics as a WSGI app: any worker answers for all of them."""

from collections.abc import Callable, Iterable
from typing import Any

from prometheus_client import REGISTRY
from prometheus_client.registry import CollectorRegistry

from promring import _native
from promring.install import install
from promring.page import app_page

ALLOW = "GET, HEAD"
NOT_ALLOWED = b"405: GET and HEAD are answered\n"


def make_wsgi_app(registry: CollectorRegistry = REGISTRY) -> Callable[..., Iterable[bytes]]:
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
