"""Python code run as the user nobody, who has no capability, from a checkout that only root may be able to read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_NOBODY = 65534
_PR_SET_DUMPABLE = 4
# A process that changed its user may not look at itself or its children until it is dumpable again.
_DROP = f"""
import ctypes, os, sys
os.setgroups([])
os.setresgid({_NOBODY}, {_NOBODY}, {_NOBODY})
os.setresuid({_NOBODY}, {_NOBODY}, {_NOBODY})
ctypes.CDLL(None).prctl({_PR_SET_DUMPABLE}, 1, 0, 0, 0)
"""


def run_as_nobody(imports: str, code: str) -> subprocess.CompletedProcess[str]:
    """Run `imports` as root and then `code` as nobody, in a process of their own."""
    command = [sys.executable, "-c", f"{imports}\n{_DROP}\n{code}"]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    return subprocess.run(command, capture_output=True, text=True, cwd="/", env=environment, timeout=60, check=False)
