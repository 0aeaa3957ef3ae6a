"""This node's keepalived: our files in its configuration, whether it reads them, and whether it is alive."""

from __future__ import annotations

import asyncio
import glob
import os
import signal
import stat
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cluster.config import KeepalivedSettings
from cluster.redirect.driver import RedirectError
from cluster.redirect.keepalived_text import conflicts, includes, instance_text, vrrp_instances
from cluster.redirect.redirection import Redirection

CHECK_S: Final = 5.0
STILL_S: Final = 0.9
_SAID_CHARS_MAX: Final = 300
_FILES_MAX: Final = 1000


class KeepalivedHost:
    """run: the node's directory that a boot empties. own, peers: addresses of this node and the others, without ports.

    Our files are in `run`, as the track files are: keepalived takes an instance whose track file's directory is missing
    for one that may have its address. A file that outlived a boot would be read before anybody has made the directory.
    """

    def __init__(self, settings: KeepalivedSettings, run: str, own: str, peers: Sequence[str]) -> None:
        self._settings = settings
        self._directory = Path(run) / "keepalived"
        self._own = own
        self._peers = tuple(peers)
        self._lock = asyncio.Lock()
        self._switches: dict[int, int] = {}
        self._switches_at_s = 0.0
        self._still = False

    async def check(self, program: str, said: Redirection) -> None:
        """Raise RedirectError unless keepalived could carry the program's address here."""
        settings = self._settings
        if not os.access(settings.command, os.X_OK):
            raise RedirectError(
                f"keepalived is not installed: there is no {settings.command}", hint="apt-get install keepalived"
            )
        await asyncio.to_thread(self._check_files, program, said)
        running = self._processes()
        if not running:
            raise RedirectError(
                f"keepalived is not running: {settings.pid_file} names no process of it",
                hint="systemctl start keepalived",
            )

    async def install(self, program: str, said: Redirection, track: Path) -> None:
        """Write the program's file, have it checked, and let keepalived read it; nothing where it is so already.

        Raises RedirectError: nothing has changed then.
        """
        path = self._file(program)
        text = instance_text(program, said, track, self._own, self._peers)
        async with self._lock:
            before = _content(path)
            if before == text:
                return
            try:
                path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
                _write(path, text)
                await self._test()
            except BaseException as error:
                _put_back(path, before)
                if isinstance(error, OSError):
                    raise RedirectError(f"{path}: {error.strerror}") from None
                raise
            self._reload()

    async def remove(self, program: str) -> None:
        """Take the program's file away, and let keepalived know."""
        async with self._lock:
            try:
                self._file(program).unlink()
            except OSError:
                return
            self._reload()

    def trouble(self, program: str, said: Redirection) -> str:
        """Why keepalived does not carry the address here, "" when nothing speaks against it.

        Call it about once a second: that it hangs is seen by its doing nothing meanwhile.
        """
        processes = self._processes()
        if not processes:
            self._still = False
        missing = self._absence(processes, program, said)
        return missing or ("keepalived hangs" if self._hangs(processes) else "")

    def absence(self, program: str, said: Redirection) -> str:
        """Why keepalived could not carry the address here, "" when nothing is known to speak against it.

        For a node whose keepalived carries nothing: that it hangs can't be told from its having nothing to do.
        """
        return self._absence(self._processes(), program, said)

    def _absence(self, processes: list[int], program: str, said: Redirection) -> str:
        if not processes:
            return "keepalived is not running"
        try:
            self._check_files(program, said)
        except RedirectError as error:
            return error.what
        return "keepalived is stopped by a signal" if any(_state(pid) in "Tt" for pid in processes) else ""

    def _hangs(self, processes: list[int]) -> bool:
        """Its process for VRRP wakes ten times a second while it carries an address."""
        now_s = time.monotonic()
        if now_s - self._switches_at_s < STILL_S:
            return self._still
        before, self._switches = self._switches, {pid: _switches(pid) for pid in processes}
        self._switches_at_s = now_s
        self._still = len(processes) > 1 and before == self._switches
        return self._still

    def _file(self, program: str) -> Path:
        return self._directory / f"{program}.conf"

    def _check_files(self, program: str, said: Redirection) -> None:
        """Raises RedirectError: our files are not read, or others are in the way."""
        settings = self._settings
        try:
            files = _all_files(Path(settings.config), self._file(program))
        except OSError as error:
            raise RedirectError(f"{settings.config}: {error.strerror}", hint=f"it must say: {self._wish}") from None
        if self._file(program) not in files:
            raise RedirectError(
                f"{settings.config} does not include {self._directory}/*.conf", hint=f"add the line: {self._wish}"
            )
        for path, text in files.items():
            if path != self._file(program):
                found = conflicts(program, said, vrrp_instances(text))
                if found:
                    raise RedirectError(f"{path}: {found[0]}", hint="take it out there, or choose another")

    @property
    def _wish(self) -> str:
        return f"include {self._directory}/*.conf"

    async def _test(self) -> None:
        """Raises RedirectError when keepalived refuses its configuration."""
        settings = self._settings
        try:
            process = await asyncio.create_subprocess_exec(
                settings.command,
                "--config-test",
                "--use-file",
                settings.config,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
        except OSError as error:
            raise RedirectError(f"{settings.command}: {error.strerror}", hint="apt-get install keepalived") from None
        try:
            async with asyncio.timeout(CHECK_S):
                output, _ = await process.communicate()
        except TimeoutError:
            process.kill()
            await process.wait()
            raise RedirectError(f"{settings.command} does not check its configuration within {CHECK_S:g} s") from None
        if process.returncode:
            said = " ".join(output.decode(errors="replace").split())[:_SAID_CHARS_MAX]
            raise RedirectError(
                f"keepalived refuses its configuration: {said}", hint=f"keepalived -t -f {settings.config}"
            )

    def pid(self) -> int:
        """Of keepalived; 0 while it does not run."""
        return next(iter(self._processes()), 0)

    def _processes(self) -> list[int]:
        """keepalived and its children; empty when it does not run."""
        try:
            pid = int(Path(self._settings.pid_file).read_text())
            if Path(f"/proc/{pid}/comm").read_text().strip() != "keepalived" or _state(pid) in "ZX":
                return []
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        except (OSError, ValueError):
            return []
        return [pid, *map(int, children)]

    def _reload(self) -> None:
        for pid in self._processes()[:1]:
            try:
                os.kill(pid, signal.SIGHUP)
            except ProcessLookupError:
                pass


def _all_files(config: Path, ours: Path) -> dict[Path, str]:
    """A configuration with all that it includes; `ours` is there if it is included, or would be if it were there."""
    found: dict[Path, str] = {}
    ahead = [config]
    while ahead and len(found) < _FILES_MAX:
        path = ahead.pop()
        if path in found:
            continue
        found[path] = _content(path) if path != config else path.read_text(errors="replace")
        for pattern in includes(found[path]):
            whole = pattern if pattern.startswith("/") else str(path.parent / pattern)
            ahead += map(Path, glob.glob(whole))
            if ours.match(whole):
                ahead.append(ours)
    return found


def _content(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _write(path: Path, text: str) -> None:
    fresh = path.with_suffix(".fresh")
    fresh.write_text(text)
    fresh.chmod(stat.S_IRUSR | stat.S_IWUSR | stat.S_IRGRP | stat.S_IROTH)
    fresh.rename(path)


def _put_back(path: Path, before: str) -> None:
    try:
        if before:
            _write(path, before)
        else:
            path.unlink(missing_ok=True)
    except OSError:
        pass


def _state(pid: int) -> str:
    """Its state as a letter, proc_pid_stat(5); "X" when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def _switches(pid: int) -> int:
    """How often it has gone to sleep or was put aside, proc_pid_status(5)."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if "ctxt_switches" in line)
