"""The command line as a person meets it: what is printed where, and the exit code."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from agent.errors import KernelError, LaunchError
from kagemusha import command_line
from kagemusha.command_line import app, run
from kagemusha.exit_codes import MEANINGS, ExitCode, exit_code_of
from tests.unprivileged import run_as_nobody
from transport.errors import ConfigError, ControlError, KagemushaError

ROOT = Path(__file__).resolve().parent.parent.parent
EXAMPLE = str(ROOT / "examples" / "redis" / "program.toml")
SMALL = '[program]\nid = "sleep"\ncommand = ["/bin/sleep", "1000"]\n'

Printed = pytest.CaptureFixture[str]


@pytest.fixture
def small(tmp_path: Path) -> str:
    """The path of a small program.toml that can be mirrored."""
    file = tmp_path / "program.toml"
    file.write_text(SMALL)
    return str(file)


def complaint(printed: Printed) -> list[str]:
    """The lines on stderr, when nothing went to stdout."""
    output = printed.readouterr()
    assert output.out == ""
    return output.err.splitlines()


def test_without_a_command_there_is_help(capsys: Printed) -> None:
    assert run([]) == ExitCode.USAGE
    output = capsys.readouterr()
    assert "preflight" in output.out + output.err
    assert "hint" not in output.err


COMMANDS = [command.name for command in app.registered_commands if command.name] + ["config", "pki"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys: Printed) -> None:
    assert run([command, "--help"]) == ExitCode.OK
    assert "Usage" in capsys.readouterr().out.replace("usage", "Usage")


@pytest.mark.parametrize(
    ("arguments", "line", "hint"),
    [
        (["preflihgt"], "No such command 'preflihgt'. Did you mean 'preflight'?", "kagemusha --help"),
        (["preflight"], "Missing argument 'config'.", "kagemusha preflight --help"),
        (
            ["status", "--controll", "x"],
            "No such option: --controll",
            "kagemusha status --help",
        ),
        (["preflight", EXAMPLE, "--pid", "x"], "Invalid value for '--pid': ", "kagemusha preflight --help"),
        (["preflight", EXAMPLE, "--facts", "--json"], "Invalid value: --facts stands alone", "kagemusha"),
    ],
)
def test_a_wrong_command_line(arguments: list[str], line: str, hint: str, capsys: Printed) -> None:
    assert run(arguments) == ExitCode.USAGE
    found = complaint(capsys)
    assert len(found) == 2
    assert found[0].startswith(line)
    assert found[1].startswith(f"hint: {hint}")


@pytest.mark.parametrize("command", [["config", "check"], ["preflight"]])
def test_a_file_that_does_not_exist(command: list[str], tmp_path: Path, capsys: Printed) -> None:
    assert run([*command, str(tmp_path / "none.toml")]) == ExitCode.CONFIG
    assert complaint(capsys)[0] == f"{tmp_path}/none.toml: does not exist"


def test_all_mistakes_of_a_file(tmp_path: Path, capsys: Printed) -> None:
    file = tmp_path / "program.toml"
    file.write_text(SMALL + "[mirror]\ninterval = 50\ncodec = 1\n")
    assert run(["config", "check", str(file)]) == ExitCode.CONFIG
    assert complaint(capsys) == [
        f'{file}: mirror.codec: must be "zstd" or "lz4", not 1',
        "hint: `kagemusha config reference` lists every key with its type and default",
        f"{file}: mirror.interval: unknown key",
        "hint: did you mean interval_ms?",
    ]


def test_the_examples_are_right(capsys: Printed) -> None:
    for file in sorted((ROOT / "examples").glob("*/program.toml")):
        assert run(["config", "check", str(file)]) == ExitCode.OK
        assert "is well defined" in capsys.readouterr().out


def test_preflight_of_a_program_that_can_be_mirrored(small: str, capsys: Printed) -> None:
    assert run(["preflight", small]) == ExitCode.OK
    output = capsys.readouterr()
    assert output.err == ""
    assert output.out.splitlines()[-1] == "sleep can be mirrored from and to this node"
    assert "NO" not in output.out


def test_preflight_of_one_that_can_not(tmp_path: Path, capsys: Printed) -> None:
    file = tmp_path / "program.toml"
    file.write_text(SMALL + "[mirror]\nmemory_mib_max = 16777216\n")
    assert run(["preflight", str(file)]) == ExitCode.PREFLIGHT
    output = capsys.readouterr()
    assert "NO  memory" in output.out
    assert "can be mirrored" not in output.out
    reason, hint = output.err.splitlines()
    assert reason.startswith(f"{file}: memory of this node: too little: ")
    assert hint.startswith("hint: free or add ")


def test_preflight_as_json(small: str, capsys: Printed) -> None:
    assert run(["preflight", small, "--json"]) == ExitCode.OK
    found = json.loads(capsys.readouterr().out)
    assert found["program"] == "sleep"
    assert found["can_be_mirrored"]
    assert found["facts"]["files"]


def test_two_nodes_are_compared(small: str, tmp_path: Path, capsys: Printed) -> None:
    assert run(["preflight", small, "--facts"]) == ExitCode.OK
    facts = json.loads(capsys.readouterr().out)
    other = tmp_path / "other.json"
    other.write_text(json.dumps({**facts, "node": "b"}))
    assert run(["preflight", small, "--compare", str(other)]) == ExitCode.OK
    capsys.readouterr()
    other.write_text(json.dumps({**facts, "node": "b", "kernel": "6.9"}))
    assert run(["preflight", small, "--compare", str(other)]) == ExitCode.PREFLIGHT
    assert capsys.readouterr().err.startswith(f"{small}: node b: the kernel release differs: ")


@pytest.mark.parametrize("content", [None, "{}", "no json"])
def test_a_comparison_with_no_fingerprint(small: str, content: str | None, tmp_path: Path, capsys: Printed) -> None:
    other = tmp_path / "other.json"
    if content is not None:
        other.write_text(content)
    assert run(["preflight", small, "--compare", str(other)]) == ExitCode.PREFLIGHT
    line, hint = complaint(capsys)
    assert line.startswith(f"{other}: ")
    assert hint.startswith("hint: ")


def test_an_agent_that_is_not_there(tmp_path: Path, capsys: Printed) -> None:
    assert run(["status", "--control", str(tmp_path / "control")]) == ExitCode.CONTROL
    assert complaint(capsys) == [f"{tmp_path}/control: No such file or directory", "hint: is the agent running?"]


@pytest.mark.parametrize("listen", ["here", "10.0.0.1", "10.0.0.1:0", "10.0.0.1:65536", "fd00::1:7000", "[10.0.0.1]:1"])
def test_an_endpoint_that_is_none(listen: str, small: str, capsys: Printed) -> None:
    options = ["--config", small, "--node", "a", "--directory", "/x", "--control", "/x", "--pki", "/x"]
    assert run(["agent", *options, "--listen", listen]) == ExitCode.CONFIG
    line, hint = complaint(capsys)
    assert line == f'"{listen}" is not an address and a port'
    assert hint == "hint: write 10.0.0.1:7000, or [fd00::1]:7000 for IPv6"


def test_an_agent_with_another_nodes_certificate(small: str, tmp_path: Path, capsys: Printed) -> None:
    authority, pki = str(tmp_path / "authority"), str(tmp_path / "pki")
    options = ["--config", small, "--directory", "/x", "--control", "/x", "--pki", pki, "--listen", "10.0.0.1:7000"]
    assert run(["agent", "--node", "a", *options]) == ExitCode.CONFIG
    assert complaint(capsys)[0] == f"{pki}/node.pem: No such file or directory"
    run(["pki", "init", authority])
    run(["pki", "issue", authority, "b", "--out", pki])
    capsys.readouterr()
    assert run(["agent", "--node", "a", *options]) == ExitCode.CONFIG
    assert complaint(capsys) == [
        f"{pki}/node.pem: is the certificate of node b, not of a",
        f"hint: kagemusha pki issue AUTHORITY a --out {pki}",
    ]


def test_certificates(tmp_path: Path, capsys: Printed) -> None:
    authority, node = tmp_path / "authority", tmp_path / "a"
    assert run(["pki", "init", str(authority)]) == ExitCode.OK
    assert run(["pki", "issue", str(authority), "a", "--out", str(node)]) == ExitCode.OK
    assert {"authority.pem", "node.pem", "node.key"} <= {path.name for path in node.iterdir()}
    assert (node / "node.key").stat().st_mode & 0o077 == 0
    capsys.readouterr()
    assert run(["pki", "init", str(authority)]) == ExitCode.CONFIG
    assert "exists" in complaint(capsys)[0]
    assert run(["pki", "issue", str(authority), "Node 1", "--out", str(node)]) == ExitCode.CONFIG
    assert complaint(capsys)[0] == "'Node 1' is no node id"
    assert run(["pki", "issue", str(tmp_path / "none"), "a", "--out", str(node)]) == ExitCode.CONFIG
    assert "none/authority.key: No such file" in complaint(capsys)[0]


def test_every_error_has_an_exit_code() -> None:
    assert exit_code_of(ConfigError("x")) == ExitCode.CONFIG
    assert exit_code_of(ControlError("x")) == ExitCode.CONTROL
    assert exit_code_of(LaunchError("x")) == ExitCode.LAUNCH
    assert exit_code_of(KernelError("x", "y", 1)) == ExitCode.KERNEL
    assert exit_code_of(KagemushaError("x")) == ExitCode.FAILED
    assert set(MEANINGS) == set(ExitCode)


def test_exit_codes_are_documented() -> None:
    text = (ROOT / "docs" / "exit-codes.md").read_text()
    for code, meaning in MEANINGS.items():
        assert f"| {code.value} | {meaning} |" in text


def test_without_root() -> None:
    """What takes root says so before it does anything."""
    everything = "from kagemusha.command_line import run\nrun(['demo', '--help'])"
    done = run_as_nobody(everything, "sys.exit(run(['demo']))")
    assert done.returncode == ExitCode.PRIVILEGE
    assert done.stderr.splitlines() == [
        "this takes root: the demo makes network namespaces and traces processes",
        "hint: run it with sudo",
    ]


def test_a_reader_that_goes_away_is_no_error(small: str) -> None:
    script = f"{sys.executable} -m kagemusha preflight {small} | head -n 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stderr == ""
    assert done.stdout.splitlines()[0].startswith("ok")


def test_a_bug_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(**_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(command_line, "app", broken)
    with pytest.raises(ZeroDivisionError):
        run([])
