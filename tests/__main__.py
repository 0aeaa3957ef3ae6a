"""`make test`: every test but the long ones, in two processes at once.

One has the tests that take something of the machine (namespaces, cgroups, processes under ptrace), one after the other;
the other those that change nothing on it (`tests.conftest.PURE`), and waits for the first wherever both want a
processor: what is timed is in that. What the second says is shown when both are done, all of it where something failed.
Arguments are pytest's, for both.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from typing import NoReturn

NONE_COLLECTED = 5
"""pytest's exit status: of what was asked for nothing is in that part."""


def _terminated(number: int, _: object) -> NoReturn:
    sys.exit(128 + number)


def main(arguments: list[str]) -> int:
    """Run both; gives the exit status of the first that did not succeed."""
    signal.signal(signal.SIGTERM, _terminated)
    command = [sys.executable, "-m", "pytest", *arguments]
    with tempfile.TemporaryFile("w+") as said:
        pure = subprocess.Popen(
            ["nice", "-n10", *command, "--part=pure"], stdin=subprocess.DEVNULL, stdout=said, stderr=said
        )
        machine = subprocess.Popen([*command, "--part=machine"])
        try:
            statuses = [machine.wait(), pure.wait()]
        except KeyboardInterrupt:
            # Whoever typed it said it to all three.
            statuses = [machine.wait(), pure.wait()]
        finally:
            for process in (machine, pure):
                process.terminate()
                process.wait()
            said.seek(0)
            lines = said.readlines()
            # What failed shall stand last.
            sys.stdout.writelines(lines[-1:] if pure.returncode == 0 else lines)
    failed = [status for status in statuses if status not in (0, NONE_COLLECTED)]
    return failed[0] if failed else min(statuses)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
