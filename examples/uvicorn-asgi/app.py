"""An ASGI app on an unmodified prometheus_client: /work counts, /metrics shows what all workers have counted."""

import os
import time
from urllib.parse import parse_qs

import promring
from prometheus_client import Counter, Histogram

WORK = Counter("demo_work_total", "Units of work done.", ["kind"])
SECONDS = Histogram("demo_work_seconds", "Time that a request's work took.")

metrics = promring.make_asgi_app()


async def app(scope, receive, send):
    """Answer /work?n=UNITS&kind=KIND and /metrics."""
    if scope["type"] != "http" or scope["path"] == "/metrics":
        await metrics(scope, receive, send)
    elif scope["path"] == "/work":
        await answer(send, 200, work(parse_qs(scope["query_string"].decode())))
    else:
        await answer(send, 404, "there are /work?n=UNITS&kind=KIND and /metrics\n")


def work(query):
    """Do units of work, one increment each."""
    units, kind = int(query.get("n", ["1"])[0]), query.get("kind", ["a"])[0]
    started = time.perf_counter()
    for _ in range(units):
        WORK.labels(kind=kind).inc()
    SECONDS.observe(time.perf_counter() - started)
    return f"{units} units of kind {kind} done by {os.getpid()}\n"


async def answer(send, status, text):
    """Answer with a line of text."""
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(text)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text.encode()})
