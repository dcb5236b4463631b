"""Exact Prometheus metrics for all workers of an app, behind an unmodified prometheus_client.

`install()` puts prometheus_client's metrics on the ring, those that exist and those to come.
`make_wsgi_app()` and `make_asgi_app()` do that too, and answer with one page for all workers.
"""

from promring._native import Error, __version__, segment_path, tick
from promring.asgi import make_asgi_app
from promring.install import configure, install, start_aggregator, stop_aggregator, uninstall
from promring.wsgi import make_wsgi_app

__all__ = [
    "Error",
    "__version__",
    "configure",
    "install",
    "make_asgi_app",
    "make_wsgi_app",
    "segment_path",
    "start_aggregator",
    "stop_aggregator",
    "tick",
    "uninstall",
]
