"""What is done on a node over SSH: to its own processes alone, and undone there whoever is gone meanwhile."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from kagemusha.demo.nodes import Node

SCRIPT = (Path(__file__).parent / "node.sh").read_text()
DEADLINE_S = 30.0
AGENT = (sys.executable, "-c", "import time; time.sleep(600)", "kagemusha", "agent", "--config", "none")


def attempt(node: Node, *words: str, script: str = SCRIPT) -> subprocess.CompletedProcess[str]:
    """One thing, as it is done over SSH."""
    command = node.command("sh", "-s", "--", *words)
    return subprocess.run(command, input=script, text=True, capture_output=True, check=False)


def do(node: Node, *words: str) -> list[str]:
    """The same; it must succeed."""
    done = attempt(node, *words)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def until(is_so: Callable[[], bool]) -> None:
    """Wait for it."""
    limit_s = time.monotonic() + DEADLINE_S
    while not is_so():
        assert time.monotonic() < limit_s


def state(process: subprocess.Popen[bytes]) -> str:
    """The letter of proc(5)."""
    return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0]


@contextmanager
def agents(node: Node) -> Iterator[tuple[subprocess.Popen[bytes], subprocess.Popen[bytes]]]:
    """One on the node, and one elsewhere that was started in the same way."""
    with subprocess.Popen(node.command(*AGENT)) as here, subprocess.Popen(AGENT) as elsewhere:
        try:
            until(lambda: do(node, "state", str(here.pid)) == ["S"] and b"nsenter" not in cmdline(here))
            yield here, elsewhere
        finally:
            here.kill()
            elsewhere.kill()


def cmdline(process: subprocess.Popen[bytes]) -> bytes:
    """How it was started."""
    return Path(f"/proc/{process.pid}/cmdline").read_bytes()


def test_what_stands_still_goes_on_when_it_is_told_or_by_itself(node: Node) -> None:
    with agents(node) as (here, elsewhere):
        assert do(node, "stop", "kgm_chaos_test_1", "600", "agent") == [str(here.pid)]
        until(lambda: state(here) == "T")
        do(node, "undo", "kgm_chaos_test_1")
        until(lambda: state(here) == "S")
        do(node, "undo", "kgm_chaos_test_1")

        do(node, "stop", "kgm_chaos_test_2", "1", "agent")
        until(lambda: state(here) == "T")
        until(lambda: state(here) == "S")
        assert state(elsewhere) == "S"


def test_a_process_elsewhere_is_not_killed(node: Node) -> None:
    with agents(node) as (here, elsewhere):
        assert do(node, "kill", "agent") == [str(here.pid)]
        assert here.wait(DEADLINE_S) == -9
        assert do(node, "kill-pid", str(elsewhere.pid)) == []
        assert elsewhere.poll() is None
        assert do(node, "kill", "agent") == []


def test_who_is_cut_off_is_reached_again_when_it_is_told_or_by_itself(node: Node) -> None:
    tables = node.command("nft", "list", "tables")

    def is_there() -> bool:
        return "kgm_chaos" in subprocess.run(tables, capture_output=True, text=True, check=True).stdout

    for seconds, number in (("600", "3"), ("1", "4")):
        do(node, "cut", f"kgm_chaos_test_{number}", seconds, "counter drop", "counter drop")
        if seconds == "600":
            assert is_there()
            assert do(node, "taken", "kgm_chaos_test_3") == ["0"]
            do(node, "undo-all", "kgm_chaos_test_")
            assert not is_there()
    until(lambda: not is_there())


def test_a_watchdog_that_stands_by_is_counted_where_it_is_alone(node: Node) -> None:
    watchdog = (*AGENT[:4], "watchdog")
    with subprocess.Popen(node.command(*watchdog, "--stand-by", "leases")) as standing_by:
        until(lambda: do(node, "census")[:2] == ["watchdog", "1"])
        with subprocess.Popen(node.command(*watchdog, "leases")) as working:
            until(lambda: b"nsenter" not in cmdline(working))
            assert do(node, "census")[:2] == ["watchdog", "1"]
            with subprocess.Popen(node.command(*watchdog, "leases")) as another:
                until(lambda: do(node, "census")[:2] == ["watchdog", "2"])
                another.kill()
            working.kill()
        standing_by.kill()


def test_what_can_not_be_done_leaves_nothing(node: Node) -> None:
    assert attempt(node, "cut", "kgm_chaos_test_5", "600", "no rule", "").returncode
    assert attempt(node, "stop", "kgm_chaos_test_6", "600", "watchdog").returncode
    assert attempt(node, "what").returncode
    assert not list(Path("/run/kagemusha-chaos").glob("kgm_chaos_test_[56]*"))


def test_clock_power_and_disk_that_are_everybodys_are_left_alone(node: Node) -> None:
    assert "container" in do(node, "probe", "/")
    # Were they not, this machine would be none the worse for it.
    harmless = SCRIPT.replace("/proc/sysrq-trigger", "/dev/null").replace("date -s", "true").replace("dd if", "true if")
    assert all(word in SCRIPT for word in ("/proc/sysrq-trigger", "date -s", "dd if"))
    for words in (("set-clock", "id", "600", "3600"), ("lose-power",), ("fill", "id", "600", "/var")):
        done = attempt(node, *words, script=harmless)
        assert done.returncode
        assert "not the node's own" in done.stderr
