"""`python -m kagemusha` and the entry point `kagemusha`."""

from __future__ import annotations

import sys

from kagemusha.command_line import run


def main() -> None:
    """Run the command line and end with its exit code."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
