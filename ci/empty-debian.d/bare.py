"""An app without promring: what gunicorn warns of then is not ours."""


def app(environ, start_response):
    """Answer nothing."""
    start_response("200 OK", [("Content-Length", "0")])
    return []
