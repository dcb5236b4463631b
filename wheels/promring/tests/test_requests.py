"""Middlewares and endpoints in real frameworks and servers: requests told by route, exact over workers."""

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import promring.asgi
import promring.wsgi
import pytest
from conftest import Server, environment, fetch, free_port, page, promtool, run, samples, value, wait_until

FLASK = """
import flask, promring.wsgi
app = flask.Flask(__name__)
app.wsgi_app = promring.wsgi.Middleware(app.wsgi_app, metrics="/metrics")

@app.get("/items/<int:item>")
def items(item):
    return f"item {item}"

@app.get("/stream/<name>")
def stream(name):
    return iter(["a", name])

@app.get("/broken")
def broken():
    raise LookupError
"""

FASTAPI = """
import fastapi, promring.asgi
from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles
app, sub = FastAPI(), FastAPI()
app.add_middleware(promring.asgi.Middleware, metrics="/metrics")
router = fastapi.APIRouter(prefix="/api")

@router.get("/items/{item}")
async def items(item: int):
    return item

@sub.get("/inner/{name}")
def inner(name):
    return name

@app.get("/broken")
def broken():
    raise LookupError

app.include_router(router)
app.mount("/sub/{tenant}", sub)
app.mount("/static/{version}", StaticFiles(directory="."))
"""

DJANGO = """
import django, os
from django.conf import settings
from django.http import HttpResponse
from django.urls import path
settings.configure(
    ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="s", LOGGING_CONFIG=None,
    MIDDLEWARE=["promring.django.Middleware"],
)
django.setup()

def broken(request):
    raise LookupError

urlpatterns = [
    path("items/<int:item>/", lambda request, item: HttpResponse(str(item))),
    path("broken/", broken),
]
"""


def served(tmp_path, segment, server, code, work):
    """Serve an app by two workers, have `work` ask it by a function of paths, and return its page."""
    port = free_port()
    (tmp_path / "served.py").write_text(code)
    commands = {
        "gunicorn": ["gunicorn", "-w", "2", "-b", f"127.0.0.1:{port}", "served:app"],
        "uvicorn": ["uvicorn", "--workers", "2", "--port", str(port), "served:app"],
    }
    name, *options = commands[server]
    env = environment(segment.with_name("server"), HOME=str(tmp_path), PYTHONPATH=str(tmp_path))
    process = Server([str(Path(sys.executable).with_name(name)), *options], env, tmp_path, tmp_path / "log")

    def ask(path, **more):
        return fetch(f"http://127.0.0.1:{port}{path}", **more)

    def is_up():
        try:
            return ask("/metrics")[0] == 200
        except OSError:
            return False

    try:
        wait_until(server, is_up)
        with ThreadPoolExecutor(4) as pool:
            work(ask, pool)
        # A worker ends its part of a request after the client has its answer.
        wait_until("the end of the requests", lambda: counted(ask("/metrics")[2])["in_progress"] == 0)
        text = ask("/metrics")[2]
        promtool(text)
        assert ask("/metrics", method="POST")[0] == 405
        return samples(text)
    finally:
        process.end()


def counted(text):
    """Return (method, code, path) -> requests, and how many are under way."""
    found = samples(text) if isinstance(text, str) else text
    requests = {"in_progress": found["http_server_requests_in_progress", ()]}
    for (name, labels), number in found.items():
        if name == "http_server_requests_total":
            labels = dict(labels)
            requests[labels["method"], labels["code"], labels["path"]] = number
    return requests


def test_flask_by_gunicorn(tmp_path, segment):
    def work(ask, pool):
        assert {a[2] for a in pool.map(lambda n: ask(f"/items/{n}"), range(40))} == {f"item {n}" for n in range(40)}
        assert [a[2] for a in pool.map(lambda n: ask(f"/stream/{n}"), range(5))] == [f"a{n}" for n in range(5)]
        assert {a[0] for a in pool.map(lambda n: ask(f"/nowhere/{n}"), range(7))} == {404}
        assert ask("/broken")[0] == 500
        assert ask("/items/1", method="BREW")[0] == 405

    found = served(tmp_path, segment, "gunicorn", FLASK, work)
    assert counted(found) == {
        "in_progress": 0,
        ("GET", "200", "/items/<int:item>"): 40,
        ("GET", "200", "/stream/<name>"): 5,
        ("GET", "404", ""): 7,
        ("GET", "500", "/broken"): 1,
        ("other", "405", ""): 1,
    }
    assert found["http_server_request_duration_seconds_count", (("method", "GET"), ("path", "/items/<int:item>"))] == 40


def test_fastapi_by_uvicorn(tmp_path, segment):
    def work(ask, pool):
        assert {a[2] for a in pool.map(lambda n: ask(f"/api/items/{n}"), range(40))} == {str(n) for n in range(40)}
        assert {a[0] for a in pool.map(lambda n: ask(f"/sub/{n}/inner/x"), range(5))} == {200}
        assert {a[0] for a in pool.map(lambda n: ask(f"/static/{n}/served.py"), range(3))} == {200}
        assert {a[0] for a in pool.map(lambda n: ask(f"/nowhere/{n}"), range(7))} == {404}
        assert ask("/broken")[0] == 500

    found = served(tmp_path, segment, "uvicorn", FASTAPI, work)
    assert counted(found) == {
        "in_progress": 0,
        ("GET", "200", "/api/items/{item}"): 40,
        ("GET", "200", "/sub/{tenant}/inner/{name}"): 5,
        ("GET", "200", "/static/{version}"): 3,
        ("GET", "404", ""): 7,
        ("GET", "500", "/broken"): 1,
    }


SYNC = """
from django.test import Client
client = Client(raise_request_exception=False)
for path in ("/items/1/", "/items/2/", "/broken/", "/nowhere/"):
    client.get(path)
assert client.post("/metrics").status_code == 405
answer = client.get("/metrics", headers={"accept": "text/plain"})
"""
ASYNC = """
import asyncio
from django.test import AsyncClient
async def ask():
    client = AsyncClient(raise_request_exception=False)
    for path in ("/items/1/", "/items/2/", "/broken/", "/nowhere/"):
        await client.get(path)
    return await client.get("/metrics")
answer = asyncio.run(ask())
"""


@pytest.mark.parametrize("work", [SYNC, ASYNC], ids=["sync", "async"])
def test_django(segment, work):
    show = "assert answer.status_code == 200; print(answer.content.decode())"
    out, _ = run(DJANGO + work + show, environment(segment.with_name("django")))
    assert counted(out) == {
        "in_progress": 0,
        ("GET", "200", "/items/<int:item>/"): 2,
        ("GET", "500", "/broken/"): 1,
        ("GET", "404", ""): 1,
    }


def test_aiohttp(registry):
    from aiohttp import ClientSession, web
    from prometheus_client import Counter
    from promring.aiohttp import make_aiohttp_handler

    Counter("c", "A counter.", registry=registry).inc(3)

    async def ask(accept):
        app = web.Application()
        app.router.add_get("/metrics", make_aiohttp_handler(registry))
        runner = web.AppRunner(app)
        await runner.setup()
        try:
            port = free_port()
            await web.TCPSite(runner, "127.0.0.1", port).start()
            async with (
                ClientSession() as session,
                session.get(f"http://127.0.0.1:{port}/metrics", headers={"Accept": accept}) as answer,
            ):
                return answer.status, answer.headers["Content-Type"], await answer.text()
        finally:
            await runner.cleanup()

    status, content_type, text = asyncio.run(ask("text/plain"))
    assert (status, content_type.partition(";")[0]) == (200, "text/plain")
    assert samples(text)["c_total", ()] == 3
    assert asyncio.run(ask("application/openmetrics-text"))[1].startswith("application/openmetrics-text")


# ---------------------------------------------------------------------------------------------
# What no framework shows


def ask(middleware, path="/"):
    """Ask a WSGI app as a server does, and close its body."""
    body = middleware({"REQUEST_METHOD": "GET", "PATH_INFO": path}, lambda *args: None)
    try:
        return list(body)
    finally:
        if hasattr(body, "close"):
            body.close()


def test_a_stream_is_under_way_until_it_is_closed():
    closed = []

    def app(environ, start_response):
        try:
            start_response("206 Partial Content", [])
            yield b"a"
            yield b"b"
        finally:
            closed.append(True)

    middleware = promring.wsgi.Middleware(app, route=lambda environ: "/r")
    body = middleware({"REQUEST_METHOD": "GET", "PATH_INFO": "/r"}, lambda *args: None)
    assert next(iter(body)) == b"a"
    assert value("http_server_requests_in_progress") == 1
    body.close()
    body.close()
    assert closed and value("http_server_requests_in_progress") == 0
    assert value("http_server_requests_total", method="GET", code="206", path="/r") == 1


def test_what_is_no_stream_stays_what_it_is():
    whole = [b"whole"]

    def app(environ, start_response):
        start_response("200 OK", [])
        return whole

    assert promring.wsgi.Middleware(app)({"REQUEST_METHOD": "GET", "PATH_INFO": "/"}, lambda *args: None) is whole
    assert value("http_server_requests_total", method="GET", code="200", path="") == 1


def test_what_fails_is_counted_as_500_and_goes_on():
    def stream():
        yield b"a"
        raise LookupError

    def late(environ, start_response):
        start_response("200 OK", [])
        return stream()

    def soon(environ, start_response):
        raise LookupError

    async def later(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise LookupError

    async def send(message):
        pass

    for app in (late, soon):
        with pytest.raises(LookupError):
            ask(promring.wsgi.Middleware(app))
    with pytest.raises(LookupError):
        scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
        asyncio.run(promring.asgi.Middleware(later)(scope, None, send))
    assert value("http_server_requests_total", method="GET", code="500", path="") == 3
    assert value("http_server_requests_in_progress") == 0


def test_our_own_troubles_hurt_no_request(caplog):
    def app(environ, start_response):
        start_response("200 OK", [])
        return [b"fine"]

    def route(environ):
        raise LookupError("no route")

    middleware = promring.wsgi.Middleware(app, route=route)
    assert ask(middleware) == ask(middleware) == [b"fine"]
    promring._native.family("gauge", "other_requests_total", "Something else.")
    middleware = promring.wsgi.Middleware(app, prefix="other")
    assert ask(middleware) == [b"fine"]
    assert [record.message for record in caplog.records] == [
        "promring: a request's route is not known",
        "promring: no request metrics",
    ]


def test_reset_begins_from_zero(segment):
    import promring.testing

    def app(environ, start_response):
        start_response("200 OK", [])
        return []

    middleware = promring.wsgi.Middleware(app)
    ask(middleware)
    promring.testing.reset()
    assert "http_server_requests_total{" not in page()
    ask(middleware)
    assert value("http_server_requests_total", method="GET", code="200", path="") == 1
