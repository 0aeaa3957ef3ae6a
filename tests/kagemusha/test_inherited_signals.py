"""What is inherited is undone; in processes of their own, because a mask and a disposition are theirs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CODE = """
import asyncio, signal, sys
if sys.argv[1] == "blocked":
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
else:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
from kagemusha.inherited_signals import hear_all
hear_all()
print(signal.pthread_sigmask(signal.SIG_BLOCK, ()), int(signal.getsignal(signal.SIGCHLD)))
import uvloop
async def run():
    child = await asyncio.create_subprocess_exec("false")
    print(await child.wait())
uvloop.run(run())
"""


@pytest.mark.parametrize("how", ["blocked", "ignored"])
def test_children_are_heard_of(how: str) -> None:
    command = [sys.executable, "-c", CODE, how]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60).stdout
    assert said.split("\n")[:2] == ["set() 0", "1"]
