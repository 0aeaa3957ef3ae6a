"""The command: what a person can get wrong, and that an interrupted run leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kagemusha.demo.command import main
from kagemusha.demo.errors import DemoError
from kagemusha.demo.namespace import named_namespaces
from kagemusha.demo.nodes import CHECKOUT, PREFIX, RUNS
from kagemusha.exit_codes import ExitCode

_RUN = """
import sys
from kagemusha.demo.pair import agents
agents.COMMAND = ("-m", "tests.kagemusha.demo.pair.plain_agent")
from kagemusha.command_line import run
sys.exit(run(["demo", "--pair", "--memory-mib", "1"]))
"""


@pytest.mark.parametrize(
    ("option", "value", "complaint"),
    [
        ("--memory-mib", "0", "--memory-mib must be from 1 to 65536, not 0"),
        ("--interval-ms", "5", "--interval-ms must be from 10 to 1000, not 5"),
        ("--rounds", "-1", "--rounds must be from 0 to 1000, not -1"),
        ("--load", "1.5", "--load must be from 0.01 to 1.0, not 1.5"),
    ],
)
def test_numbers_out_of_range_are_refused_before_anything_starts(option: str, value: str, complaint: str) -> None:
    with pytest.raises(DemoError) as refused:
        main([option, value])
    assert refused.value.what == complaint


def test_an_unknown_option_is_a_mistake_of_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--jsno"]) == ExitCode.USAGE
    assert "--jsno" in capsys.readouterr().err


def test_help_tells_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == ExitCode.OK
    said = capsys.readouterr().out
    for option in ("--pair", "--json", "--memory-mib", "--interval-ms", "--rounds", "--load", "--record", "--keep"):
        assert option in said


def _leaves_nothing_behind(script: str, line: str, namespaces: int, number: signal.Signals) -> None:
    """Run it until it has said this line, end it by the signal, and look."""
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        assert any(line in said for said in process.stdout)
        assert len(named_namespaces(f"{PREFIX}{process.pid}-")) == namespaces
        process.send_signal(number)
        said = process.stdout.read()
    assert process.returncode == ExitCode.INTERRUPTED
    assert "interrupted; everything was cleaned up" in said
    assert not named_namespaces(f"{PREFIX}{process.pid}-")
    assert not list(RUNS.glob(f"{process.pid}-*"))
    assert not list(Path("/sys/fs/cgroup").glob(f"**/kagemusha/demo-{process.pid}-*"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_nothing_behind(number: signal.Signals) -> None:
    _leaves_nothing_behind(_RUN, "redis-server under the agent", 4, number)


def test_an_interrupted_run_of_a_cluster_leaves_nothing_behind() -> None:
    script = _RUN.replace('"--pair", ', "")
    _leaves_nothing_behind(script, "create_mirrored_instance", 5, signal.SIGINT)


def test_what_fails_leaves_only_its_logs(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    script = _RUN.replace('("-m", "tests.kagemusha.demo.pair.plain_agent")', '("-c", "raise SystemExit(7)")')
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == ExitCode.FAILED
    complaint, hint = done.stderr.splitlines()
    assert complaint == "the agent of node a ended with status 7: it said nothing"
    log = Path(hint.removeprefix("hint: see "))
    assert log.exists()
    run = log.parents[1]
    assert run.parent == RUNS
    assert not named_namespaces(f"{PREFIX}{run.name}-")
    subprocess.run(["rm", "-r", "--", str(run)], check=True)
