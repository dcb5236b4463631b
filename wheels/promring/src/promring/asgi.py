"""ASGI: GET /metrics as an app, where any worker answers for all of them, and a middleware that counts requests."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from prometheus_client import REGISTRY
from prometheus_client.registry import CollectorRegistry

from promring import _native
from promring.install import install
from promring.page import app_page
from promring.requests import MiddlewareOf
from promring.wsgi import ALLOW, NOT_ALLOWED

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]


def make_asgi_app(registry: CollectorRegistry = REGISTRY) -> App:
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


def _route(scope: Message) -> str:
    """Return the template of the route that Starlette or FastAPI has found, behind where its app is mounted."""
    root_path = scope.get("root_path", "")
    mounted = root_path.removeprefix(scope.get("app_root_path", root_path))
    # Where a mount has parameters, this has their values.
    names = {str(value): f"{{{name}}}" for name, value in scope.get("path_params", {}).items()}
    mounted = "/".join(names.get(part, part) for part in mounted.split("/"))
    route = scope.get("route")
    if route is None or hasattr(route, "routes"):  # a mount, which is told by where it stands
        return mounted
    return f"{mounted}{route.path}"


class Middleware(MiddlewareOf[App, Message]):
    """Counts an app's requests: `http_server_requests_total{method,code,path}`, their duration, and those under way.

    `path` is the route's template where the framework tells it (Starlette and FastAPI do), else empty: what
    clients ask for must not make a series each. A function of the scope in place of `route` may tell it otherwise.
    With `metrics`, a path, GET of it is answered with the page, and is not counted.
    """

    _make_page = staticmethod(make_asgi_app)
    _framework_route = staticmethod(_route)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a request; what is no HTTP goes by."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if self._path is not None and scope["path"] == self._path:
            await self._metrics(scope, receive, send)
            return
        code = 500
        begun = self._recorder.begin()

        async def note(message: Message) -> None:
            nonlocal code
            if message["type"] == "http.response.start":
                code = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, note)
        except BaseException:
            code = 500
            raise
        finally:
            self._recorder.end(begun, scope["method"], code, self._recorder.route(scope))
