"""FastAPI with prometheus-fastapi-instrumentator, as its README has it."""

import os

from fastapi import FastAPI
from prometheus_client import Counter
from prometheus_fastapi_instrumentator import Instrumentator

DONE = Counter("app_done", "What the app counts itself.")
app = FastAPI()


@app.get("/work")
def work():
    """Answer who did it."""
    DONE.inc(exemplar={"trace_id": str(os.getpid())})
    return os.getpid()


Instrumentator().instrument(app).expose(app)
