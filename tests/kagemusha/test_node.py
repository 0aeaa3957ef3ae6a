"""`kagemusha node` with what can't be: one line, a hint, an exit code, and nothing started."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from kagemusha.exit_codes import ExitCode
from tests.cluster.cluster_of import free_ports
from transport.pki import Authority

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A node.toml of a cluster of one."""
    ports = free_ports(3)
    ends = "".join(
        f'{key} = "127.0.0.1:{port}"\n' for key, port in zip(("address", "raft", "admin"), ports, strict=True)
    )
    path = tmp_path / "node.toml"
    path.write_text(
        f'[node]\nid = "a"\ndata = "{tmp_path}/data"\nrun = "{tmp_path}/run"\npki = "{tmp_path}/pki"\n'
        f'[cluster]\nid = "test"\n[[nodes]]\nid = "a"\n{ends}'
    )
    Authority.create("test").issue("a").save(tmp_path / "pki")
    return path


def run(file: Path) -> tuple[int, list[str]]:
    """Its exit status, and what it says, but for its log."""
    words = [sys.executable, "-m", "kagemusha", "node", "--config", str(file)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == ""
    return done.returncode, [line for line in done.stderr.splitlines() if "level=" not in line]


def test_a_file_with_a_mistake(file: Path) -> None:
    file.write_text(file.read_text().replace('id = "a"', 'id = "b"', 1))
    status, said = run(file)
    assert status == ExitCode.CONFIG
    assert said == [f"{file}: [node] id = b is none of [[nodes]]", "hint: they are a"]
    assert run(file.with_name("none.toml"))[1][0] == f"{file.with_name('none.toml')}: does not exist"


def test_the_certificate_of_another_node(file: Path, tmp_path: Path) -> None:
    Authority.create("test").issue("c").save(tmp_path / "pki")
    status, said = run(file)
    assert status == ExitCode.CONFIG
    assert said[0] == f"{tmp_path}/pki/node.pem: is the certificate of node c, not of a"
    assert "pki issue" in said[1]
    assert not (tmp_path / "data").exists()
