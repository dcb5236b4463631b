"""Starlette with starlette-exporter, every request with an exemplar."""

import os

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette_exporter import PrometheusMiddleware, handle_openmetrics


async def work(request):
    """Answer who did it."""
    return PlainTextResponse(str(os.getpid()))


app = Starlette(routes=[Route("/work", work), Route("/metrics", handle_openmetrics)])
app.add_middleware(PrometheusMiddleware, exemplars=lambda: {"trace_id": str(os.getpid())})
