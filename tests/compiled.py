"""C programs for tests, each compiled once in a run, into a directory that everybody may read."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path


@functools.cache
def directory() -> Path:
    """Where they are. It goes with this process; what a killed one leaves, the next run removes (`tests.leftovers`)."""
    path = Path(tempfile.mkdtemp(prefix=f"kgm-{os.getpid()}-programs-"))
    path.chmod(0o755)
    atexit.register(_remove, path, os.getpid())
    return path


def _remove(path: Path, owner: int) -> None:
    # Forked children of the tests may come to their end in order, too.
    if os.getpid() == owner:
        shutil.rmtree(path, ignore_errors=True)


@functools.cache
def compiled(source: Path, *options: str) -> Path:
    """The executable (or, with "-shared", the library) of one C file."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    assert compiler is not None, "these tests need a C compiler"
    # It bears its source's name, by which a program knows itself; files of one name are in several directories.
    place = directory() / "-".join([source.parent.name, *(option.strip("-") for option in options)])
    place.mkdir(exist_ok=True)
    place.chmod(0o755)
    target = place / source.stem
    warnings = ["-Wall", "-Wextra", "-Wno-unused-parameter", "-Werror"]
    command = [compiler, *warnings, "-pthread", *options, "-o", str(target), str(source), "-lm"]
    subprocess.run(command, check=True)
    return target
