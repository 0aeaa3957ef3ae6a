"""A run of the tests that is killed in the middle of everything breaks no later one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests import leftovers

ROOT = Path(__file__).resolve().parents[1]
DEADLINE_S = 20.0

RUN = """
import os, socket, subprocess, sys, tempfile, time
from pathlib import Path
from agent.launch.start import start
from agent.launch.spawn_request import Launch
from agent.launch.spawner import Spawner
from cluster.fencing.cgroup import ProgramCgroup
from kagemusha.demo.nodes import Directory, Machines, new_run_id
from tests import leftovers
from tests.agent.lan import Lan
from tests.compiled import directory

leftovers.enter_cgroup()
directory()
lan = Lan().__enter__()
machines = Machines(Directory(new_run_id(), leftovers.DEMO_RUNS), ("a",))
pid = os.getpid()
subprocess.run(["ip", "link", "add", f"kgm{pid}", "type", "veth", "peer", "name", f"kgm{pid}p"], check=True)
with Spawner() as spawner:
    words = ("/bin/sleep", "1000")
    in_namespace = start(spawner, Launch(words[0], words, {"A": "b"}, output=f"{directory()}/output"))
    frozen = subprocess.Popen(words, env={}, start_new_session=True)
    cgroup = ProgramCgroup.create(f"kagemusha/kgm-{pid}-a/counter")
    cgroup.add(frozen.pid)
    cgroup.freeze()
    assert cgroup.await_frozen(time.monotonic() + 20)
    print(in_namespace.pid, in_namespace.init, frozen.pid, flush=True)
    time.sleep(1000)
"""


def of_run(pid: int) -> list[str]:
    """Everything on this machine that bears the name of a run."""
    name = f"kgm-{pid}"
    places = [Path("/run/netns"), Path(tempfile.gettempdir()), leftovers.DEMO_RUNS, *leftovers._hierarchies()]
    places += [root / "kagemusha" for root in leftovers._hierarchies()]
    found = [str(path) for place in places for path in place.glob(f"{name}*")]
    found += [str(path) for path in leftovers.DEMO_RUNS.glob(f"{pid}-*")]
    found += [str(path) for path in Path("/run/netns").glob(f"kgm-demo-{pid}-*")]
    return found + [path.name for path in Path("/sys/class/net").glob(f"kgm{pid}*")]


def is_there(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_what_a_killed_run_has_left_is_cleared_and_nothing_else() -> None:
    with subprocess.Popen([sys.executable, "-c", RUN], cwd=ROOT, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        programs = list(map(int, run.stdout.readline().split()))
        assert len(programs) == 3
        before = of_run(run.pid)
        leftovers.clear()
        assert of_run(run.pid) == before, "it lives"
        assert all(map(is_there, programs))
        run.send_signal(signal.SIGKILL)
        run.wait()
    assert {Path(path).parent.name for path in before} >= {"netns", "tmp", "kagemusha"}
    leftovers.clear()
    assert of_run(run.pid) == []
    limit_s = time.monotonic() + DEADLINE_S
    while any(map(is_there, programs)):  # what has left its cgroup is about to go
        assert time.monotonic() < limit_s
        time.sleep(0.001)


def test_only_names_of_the_tests_are_known() -> None:
    gone = subprocess.Popen(["/bin/true"])
    gone.wait()
    for name in (f"kgm-{gone.pid}", f"kgm{gone.pid}p", f"kgm-{gone.pid}-first", f"kgm-{gone.pid}-66ad-a"):
        assert leftovers.is_left(name)
    for name in ("kgm", "kgm-demo-1-a", "kgm-git.lock", f"xkgm-{gone.pid}", f"kgm-{os.getpid()}-first"):
        assert not leftovers.is_left(name)


ORDERLY = """
import os, subprocess
from tests import leftovers
cgroup = leftovers.enter_cgroup()
assert cgroup is not None
left = subprocess.Popen(("/bin/sleep", "1000"), start_new_session=True)
leftovers.leave_cgroup(cgroup)
print(left.wait(20), cgroup.exists())
"""


def test_a_run_that_ends_takes_with_it_what_its_tests_have_left() -> None:
    done = subprocess.run([sys.executable, "-c", ORDERLY], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(-signal.SIGKILL), "False"]
