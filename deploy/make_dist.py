"""`make dist`: all that a node needs of Python, in one directory and one archive, to be installed without a network.

    dist/kagemusha-VERSION/kagemusha-VERSION-py3-none-any.whl   the product
    dist/kagemusha-VERSION/*.whl                                what it needs at run time, nothing of the tests
    dist/kagemusha-VERSION/requirements.lock                    name, version and hash of each of these files
    dist/kagemusha-VERSION/manifest.json                        version, release (it has the lock's hash), Python
    dist/kagemusha-VERSION.tar.gz                               the same, for the way to a node

Versions come from the project's own requirements.lock, and whatever is fetched has a hash that stands there. Packages
that come as source are built here, so that no node needs a compiler; the hash of what was built is what its lock says.
The wheels are for the Python and the processor that run this: `--python` names another Python of the same machine.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements.lock"
CACHE = ROOT / "build" / "dist"
PROJECT = ROOT / "pyproject.toml"
PACKAGES = ("agent", "cluster", "kagemusha", "transport")
_VERSION = re.compile(r'^version = "([^"]+)"$', re.MULTILINE)
_ZIP_EPOCH_S = 315_532_800
"""1980-01-01, the first moment that a wheel can name."""
_NAME = re.compile(r"[A-Za-z0-9._-]+")


def canonical(name: str) -> str:
    """A package's name as indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def stanzas(lock: str) -> dict[str, str]:
    """The entries of a lock by package: the line with the version, and its hashes."""
    found: dict[str, str] = {}
    name = ""
    for line in lock.splitlines():
        if match := re.match(r"([A-Za-z0-9._-]+)==", line):
            name = canonical(match[1])
            found[name] = line
        elif name and line.lstrip().startswith("--hash="):
            found[name] += "\n" + line
    return {package: text.rstrip().rstrip("\\").rstrip() for package, text in found.items()}


def needed_at_run_time(project: str = "kagemusha") -> list[str]:
    """The packages that the product needs here, and those that they need; from what is installed in this
    environment."""
    from packaging.requirements import Requirement

    wanted: list[tuple[str, frozenset[str]]] = [(canonical(project), frozenset())]
    seen: set[tuple[str, frozenset[str]]] = set()
    while wanted:
        name, extras = item = wanted.pop()
        if item in seen:
            continue
        seen.add(item)
        for text in metadata.requires(name) or []:
            need = Requirement(text)
            if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in (extras or {""})):
                wanted.append((canonical(need.name), frozenset(need.extras)))
    return sorted({name for name, _ in seen} - {canonical(project)})


def locked(names: Iterable[str], lock: str) -> str:
    """The part of a lock that has these packages. Raises SystemExit, naming one that is missing."""
    entries = stanzas(lock)
    missing = [name for name in names if name not in entries]
    if missing:
        raise SystemExit(f"{', '.join(missing)}: not in {LOCK.name}\nhint: make lock, then make setup")
    return "\n".join(entries[name] for name in names) + "\n"


def build(python: str, version: str, directory: Path) -> None:
    """Fill `directory` with the wheels, their lock and a manifest. The same sources give the same release."""
    os.environ.setdefault("SOURCE_DATE_EPOCH", str(_ZIP_EPOCH_S))
    pip = [python, "-m", "pip", "--disable-pip-version-check", "--no-input", "wheel", "--quiet", "--no-deps"]
    pip.append("--no-build-isolation")
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    abi = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.strip()
    with tempfile.TemporaryDirectory() as scratch:
        sources = Path(scratch, "sources")
        sources.mkdir()
        for package in PACKAGES:
            shutil.copytree(ROOT / package, sources / package, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "README.md", sources)
        (sources / PROJECT.name).write_text(_VERSION.sub(f'version = "{version}"', PROJECT.read_text(), count=1))
        for wheel in needed_wheels(pip, abi).glob("*.whl"):
            shutil.copy(wheel, directory)
        subprocess.run([*pip, "--wheel-dir", str(directory), str(sources)], check=True, cwd=scratch)
    lock = "".join(map(lock_line, sorted(directory.glob("*.whl"))))
    (directory / LOCK.name).write_text(lock)
    release = f"{version}-{hashlib.sha256(lock.encode()).hexdigest()[:8]}"
    manifest = {"version": version, "release": release, "python": abi, "machine": platform.machine()}
    (directory / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")


def needed_wheels(pip: list[str], abi: str) -> Path:
    """A directory with the wheels of what is needed at run time; fetched once for each content of the lock."""
    lock = locked(needed_at_run_time(), LOCK.read_text())
    directory = CACHE / f"wheels-{abi}-{hashlib.sha256(lock.encode()).hexdigest()[:16]}"
    if directory.is_dir():
        return directory
    unfinished = directory.with_name(f"{directory.name}.{os.getpid()}")
    unfinished.mkdir(parents=True)
    (unfinished / LOCK.name).write_text(lock)
    from_lock = ["--require-hashes", "--requirement", str(unfinished / LOCK.name)]
    subprocess.run([*pip, "--wheel-dir", str(unfinished), *from_lock], check=True)
    unfinished.rename(directory)
    return directory


def lock_line(wheel: Path) -> str:
    """What the lock of the nodes says of a wheel (its name has package and version first: PEP 427)."""
    name, version = wheel.name.split("-")[:2]
    return f"{canonical(name)}=={version} --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n"


def main() -> None:
    """Make `dist/kagemusha-VERSION` and its archive anew; the archive's path goes to stdout."""
    own = _VERSION.search(PROJECT.read_text())
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--python", default=sys.executable, help="the Python whose wheels are collected")
    parser.add_argument("--version", default=own[1] if own else "0", help="of the product; pyproject.toml has it")
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="directory for both")
    given = parser.parse_args()
    if not _NAME.fullmatch(given.version):
        parser.error(f"{given.version} is no version")
    directory = given.out / f"kagemusha-{given.version}"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    build(given.python, given.version, directory)
    archive = directory.with_name(f"{directory.name}.tar.gz")
    with tarfile.open(archive, "w:gz", compresslevel=1) as file:
        file.add(directory, arcname=".", filter=_belongs_to_root)
    sys.stdout.write(f"{archive}\n")


def _belongs_to_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    entry.mode = 0o755 if entry.isdir() else 0o644
    return entry


if __name__ == "__main__":
    main()
