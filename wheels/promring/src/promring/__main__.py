"""The command line: `promring` and `python -m promring`, the same as the gem's."""

import sys

from promring import _native


def main() -> int:
    """Run it with this process's arguments; return the exit status."""
    return _native.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
