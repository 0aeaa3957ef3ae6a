"""`kagemusha before-shutdown` and `after-boot`, against a served API and a systemctl of the test's."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cluster.admin.app import Settings, contexts_of
from cluster.raft.errors import NoQuorum
from kagemusha import client
from kagemusha.command_line import run
from kagemusha.commands import boot
from kagemusha.exit_codes import ExitCode
from tests.cluster.admin.fake_cluster import FakeCluster, program_view
from tests.cluster.admin.served import served
from transport.pki import Authority


class Machine:
    """Node a, with a systemctl that says what the test wants."""

    def __init__(self, cluster: FakeCluster, directory: Path, port: int) -> None:
        self.cluster = cluster
        self.mark = directory / boot.MARK
        self._systemctl = directory / "bin" / "systemctl"
        self._file = directory / "node.toml"
        ends = f'address = "127.0.0.1:1"\nraft = "127.0.0.1:2"\nadmin = "127.0.0.1:{port}"\n'
        self._file.write_text(
            f'[node]\nid = "a"\ndata = "{directory}"\npki = "{directory}/pki"\n'
            f'[cluster]\nid = "test"\n[[nodes]]\nid = "a"\n{ends}'
        )

    def is_in_state(self, state: str) -> None:
        """What `systemctl is-system-running` says."""
        self._systemctl.parent.mkdir(exist_ok=True)
        self._systemctl.write_text(f"#!/bin/sh\necho {state}\n")
        self._systemctl.chmod(0o755)

    def asked(self) -> list[str]:
        """What the cluster was asked to change."""
        return [what for what, _ in self.cluster.asked if what in ("drain", "undrain", "switchover")]

    async def run(self, command: str) -> int:
        """Exit code of one of the two commands."""
        return await asyncio.to_thread(run, [command, "--config", str(self._file)])


@pytest.fixture
async def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Machine]:
    Authority.create("test").issue("a").save(tmp_path / "pki")
    cluster = FakeCluster()
    settings = Settings("a", "127.0.0.1", 0, *contexts_of(tmp_path / "pki"))
    async with served(tmp_path, cluster, settings) as api:
        monkeypatch.setenv("KAGEMUSHA_TOKEN", api.tokens["admin"])
        monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
        assert api.api.port is not None
        made = Machine(cluster, tmp_path, api.api.port)
        made.is_in_state("stopping")
        yield made


async def test_a_machine_that_goes_off_is_empty_and_comes_back_as_it_was(machine: Machine) -> None:
    assert await machine.run("before-shutdown") == ExitCode.OK
    assert machine.asked() == ["drain", "switchover"]
    assert machine.cluster.drained == {"a"}
    machine.is_in_state("running")
    assert await machine.run("after-boot") == ExitCode.OK
    assert (machine.cluster.drained, machine.mark.exists()) == (set(), False)


async def test_a_unit_that_is_stopped_on_a_machine_that_stays_moves_nothing(machine: Machine) -> None:
    machine.is_in_state("running")
    assert await machine.run("before-shutdown") == ExitCode.OK
    assert machine.asked() == []
    assert await machine.run("after-boot") == ExitCode.OK
    assert machine.asked() == []


async def test_a_drain_that_a_person_asked_for_outlives_the_boot(machine: Machine) -> None:
    machine.cluster.drained.add("a")
    assert await machine.run("before-shutdown") == ExitCode.OK
    assert await machine.run("after-boot") == ExitCode.OK
    assert machine.cluster.drained == {"a"}


async def test_a_program_that_can_not_be_handed_over_leaves_no_other_behind(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.cluster.all["failed"] = program_view("failed", "/etc/kagemusha/failed.toml")
    assert await machine.run("before-shutdown") != ExitCode.OK
    assert machine.asked() == ["drain", "switchover", "switchover"]
    said = capsys.readouterr().err
    assert "failed@a stays: failed@a is failed: no memory\n" in said
    assert "redis@b serves; redis@a let go\n" in said


async def test_a_boot_waits_for_a_majority(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boot, "AGAIN_S", 0.01)
    monkeypatch.setattr(
        client.AsyncClient.__init__, "__kwdefaults__", {"token": "", "authority": "", "patience_s": 0.0}
    )
    machine.mark.touch()
    machine.cluster.failure = NoQuorum(1, 3, ["b", "c"], {"b": "no link"})
    waiting = asyncio.create_task(machine.run("after-boot"))
    while "undrain" not in machine.asked():
        await asyncio.sleep(0)
    assert machine.mark.exists()
    machine.cluster.failure = None
    assert await waiting == ExitCode.OK
    assert not machine.mark.exists()
