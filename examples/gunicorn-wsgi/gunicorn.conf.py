"""All that gunicorn needs: prometheus_client on the ring, request metrics, and the aggregator on PROMRING_LISTEN."""

logger_class = "promring.gunicorn.Logger"
