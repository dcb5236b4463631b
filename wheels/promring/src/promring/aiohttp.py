"""GET /metrics as a handler of aiohttp: `app.router.add_get("/metrics", promring.aiohttp.make_aiohttp_handler())`."""

from collections.abc import Awaitable, Callable

from aiohttp import hdrs, web
from prometheus_client import REGISTRY
from prometheus_client.registry import CollectorRegistry

from promring import _native
from promring.install import install
from promring.page import app_page


def make_aiohttp_handler(registry: CollectorRegistry = REGISTRY) -> Callable[[web.Request], Awaitable[web.Response]]:
    """Return a handler that answers with the metrics of all workers.

    Installs promring. `registry` may hold custom collectors: they run in the worker that answers.
    """
    install()

    async def metrics(request: web.Request) -> web.Response:
        _native.tick()
        content_type, body = app_page(",".join(request.headers.getall(hdrs.ACCEPT, [])), registry)
        return web.Response(body=body, headers={hdrs.CONTENT_TYPE: content_type})

    return metrics
