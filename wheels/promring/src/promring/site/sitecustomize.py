"""Puts prometheus_client on the ring as an interpreter starts, if PROMRING_AUTO=1; for PYTHONPATH."""

import importlib.machinery
import importlib.util
import os
import sys

_HERE = os.path.dirname(os.path.abspath(__file__))


def _install() -> None:
    try:
        from promring import install

        install()
    except Exception as error:  # the server is worth more than its metrics
        print(f"promring: not installed in this interpreter: {error!r}", file=sys.stderr)


def _run_the_next() -> None:
    """Run the sitecustomize that this one stands before."""
    path = [entry for entry in sys.path if os.path.abspath(entry or ".") != _HERE]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", path)
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


if os.environ.get("PROMRING_AUTO") == "1":
    _install()
_run_the_next()
