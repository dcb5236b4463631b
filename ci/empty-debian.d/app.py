"""An app that counts in each kind of metric; /metrics is answered by any of its workers."""

import promring
from prometheus_client import Counter, Enum, Gauge, Histogram, Info

ORDERS = Counter("shop_orders", "Orders taken.", ["kind"])
KINDS = "pen", "book"
for kind in KINDS:
    ORDERS.labels(kind)  # shown in the order in which they are made
WEIGHT = Histogram("shop_weight", "What an order weighs.", buckets=(1, 2))
HIGHEST = Gauge("shop_highest", "The highest that any worker says.", multiprocess_mode="max")
Info("shop_build", "What runs.").info({"version": "1"})
Enum("shop_state", "How it is.", states=["open", "shut"]).state("open")
METRICS = promring.make_wsgi_app()


def app(environ, start_response):
    """Take an order, or show how many were taken."""
    if environ["PATH_INFO"] == "/metrics":
        return METRICS(environ, start_response)
    number = int(environ["QUERY_STRING"])
    ORDERS.labels(KINDS[number % 2]).inc()
    WEIGHT.observe(number % 4)
    HIGHEST.set(7)
    start_response("200 OK", [("Content-Length", "0")])
    return []
