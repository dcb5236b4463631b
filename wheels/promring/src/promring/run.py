"""`promring run COMMAND...`: a server whose interpreters all have promring installed before the app is imported."""

import os
import sys
from pathlib import Path

from promring import _native

SITE = Path(__file__).with_name("site")
USAGE = "usage: promring run COMMAND [ARGUMENT...]"


def run(command: list[str]) -> int:
    """Start the aggregator and become the server; return an exit status if that is not possible."""
    if not command or command[0].startswith("-"):
        print(USAGE, file=sys.stderr)
        return 2
    try:
        _native.attach()
        _native.start_aggregator()
    except _native.Error as error:
        print(f"promring: no aggregator: {error}", file=sys.stderr)
    try:
        # The server takes this process's place: signals, exit status and supervisor are its own.
        os.execvpe(command[0], command, environment())
    except OSError as error:
        print(f"promring: cannot run {command[0]}: {error.strerror}", file=sys.stderr)
        return 127


def environment() -> dict[str, str]:
    """Return this process's environment with what makes every interpreter install promring, on one segment."""
    env = dict(os.environ, PROMRING_AUTO="1")
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(SITE), env.get("PYTHONPATH")]))
    segment = _native.segment_path()
    if segment is not None:
        # The setting is the path without the suffix of the layout version, which every process appends by itself.
        env["PROMRING_SEGMENT"] = str(segment.with_suffix(""))
    return env
