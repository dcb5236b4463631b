"""Flask with prometheus-flask-exporter, as its README has it."""

import os

from flask import Flask
from prometheus_flask_exporter import PrometheusMetrics

app = Flask(__name__)
metrics = PrometheusMetrics(app)


@app.get("/work")
def work():
    """Answer who did it."""
    return str(os.getpid())
