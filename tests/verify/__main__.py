"""`python -m tests.verify`: the last line is `N checkpoints of M programs, D differences`."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from tests.verify.pair import pair
from tests.verify.programs import PROGRAMS, Program


def main() -> int:
    """Verify all programs; the exit status says whether there was no difference."""
    parser = argparse.ArgumentParser(prog="make verify ARGS=...", description=__doc__)
    parser.add_argument("--checkpoints", type=int, default=1000, help="of each program (default: 1000)")
    parser.add_argument("--only", default="", help="programs whose name contains this")
    options = parser.parse_args()
    programs = [program for program in PROGRAMS if options.only in program.name]
    counted = differences = 0
    for program in programs:
        found = verify_program(program, options.checkpoints)
        differences += found
        counted += options.checkpoints
        sys.stdout.write(f"{program.name}: {options.checkpoints} checkpoints, {found} differences\n")
        sys.stdout.flush()
    sys.stdout.write(f"{counted} checkpoints of {len(programs)} programs, {differences} differences\n")
    return 0 if not differences else 1


def verify_program(program: Program, checkpoints: int) -> int:
    """Take and compare so many checkpoints; gives the number of pages and mappings that differed."""
    differences = 0
    with (
        tempfile.TemporaryDirectory(prefix=f"kgm-{os.getpid()}-verify-") as directory,
        pair(program, Path(directory)) as both,
    ):
        for number in range(checkpoints):
            result = both.next() if number else both.first()
            for line in (*map(str, result.differences[:5]), *result.mappings[:5]):
                sys.stdout.write(f"{program.name}, checkpoint {number + 1}: {line}\n")
            differences += len(result.differences) + len(result.mappings)
    return differences


if __name__ == "__main__":
    sys.exit(main())
