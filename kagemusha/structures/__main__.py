"""`python -m kagemusha.structures PROGRAM [ARGUMENT ...]` or `... -m MODULE`: run a program that knows nothing of this.

Its structures are those that the agent names by their paths (`exchange.engine:BOOK`, `__main__:BOOK`).
"""

from __future__ import annotations

import runpy
import sys

from kagemusha import structures


def main() -> None:
    """Connect, and become the program."""
    arguments = sys.argv[1:]
    if not arguments or arguments == ["-m"]:
        raise SystemExit("usage: python -m kagemusha.structures PROGRAM [ARGUMENT ...] | -m MODULE [ARGUMENT ...]")
    structures.start()
    if arguments[0] == "-m":
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = arguments
        runpy.run_path(arguments[0], run_name="__main__")


if __name__ == "__main__":
    main()
