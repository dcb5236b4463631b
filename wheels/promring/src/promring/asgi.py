"""GET /metrics as an ASGI app: any worker answers for all of them."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from prometheus_client import REGISTRY
from prometheus_client.registry import CollectorRegistry

from promring import _native
from promring.install import install
from promring.page import app_page
from promring.wsgi import ALLOW, NOT_ALLOWED

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


def make_asgi_app(
    registry: CollectorRegistry = REGISTRY,
) -> Callable[[Message, Receive, Send], Awaitable[None]]:
    """Return an ASGI app that answers any path with the metrics of all workers.

    Installs promring. `registry` may hold custom collectors: they run in the worker that answers.
    """
    install()

    async def metrics(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
            return
        if scope["type"] != "http":
            raise ValueError(f"/metrics is asked by http, not {scope['type']}")
        _native.tick()
        status, content_type, body = 405, "text/plain", NOT_ALLOWED
        if scope["method"] in ("GET", "HEAD"):
            status = 200
            content_type, body = app_page(_accept(scope), registry)
        headers = [
            (b"content-type", content_type.encode()),
            (b"content-length", str(len(body)).encode()),
        ]
        if status == 405:
            headers.append((b"allow", ALLOW.encode()))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        body = b"" if scope["method"] == "HEAD" else body
        await send({"type": "http.response.body", "body": body})

    return metrics


def _accept(scope: Message) -> str:
    values = [value for name, value in scope["headers"] if name.lower() == b"accept"]
    return b",".join(values).decode("latin-1")


async def _live(receive: Receive, send: Send) -> None:
    """Answer a server that has this app alone for its start and its end."""
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return
