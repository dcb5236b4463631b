"""FastAPI with prometheus-fastapi-instrumentator, as its README has it."""

import os

from fastapi import FastAPI
from prometheus_fastapi_instrumentator import Instrumentator

app = FastAPI()


@app.get("/work")
def work():
    """Answer who did it."""
    return os.getpid()


Instrumentator().instrument(app).expose(app)
