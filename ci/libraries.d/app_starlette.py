"""Starlette with starlette-exporter, every request with an exemplar."""

import os

from prometheus_client import Counter
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette_exporter import PrometheusMiddleware, handle_openmetrics

DONE = Counter("app_done", "What the app counts itself.")


async def work(request):
    """Answer who did it."""
    DONE.inc(exemplar={"trace_id": str(os.getpid())})
    return PlainTextResponse(str(os.getpid()))


app = Starlette(routes=[Route("/work", work), Route("/metrics", handle_openmetrics)])
app.add_middleware(PrometheusMiddleware, exemplars=lambda: {"trace_id": str(os.getpid())})
