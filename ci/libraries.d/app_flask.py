"""Flask with prometheus-flask-exporter, as its README has it."""

import os

from flask import Flask
from prometheus_client import Counter
from prometheus_flask_exporter import PrometheusMetrics

DONE = Counter("app_done", "What the app counts itself.")
app = Flask(__name__)
metrics = PrometheusMetrics(app)


@app.get("/work")
def work():
    """Answer who did it."""
    DONE.inc(exemplar={"trace_id": str(os.getpid())})
    return str(os.getpid())
