"""The command line: `promring` and `python -m promring`, the same as the gem's, and `promring run`."""

import sys

from promring import _native
from promring.run import run


def main() -> int:
    """Run it with this process's arguments; return the exit status."""
    if sys.argv[1:2] == ["run"]:
        return run(sys.argv[2:])
    return _native.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
