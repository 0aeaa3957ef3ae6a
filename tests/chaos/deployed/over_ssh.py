"""A scene whose nodes can be reached by SSH, as the inventory of a cluster on real machines says it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import yaml

from kagemusha.demo.namespace import run
from kagemusha.demo.nodes import ADDRESS, CHECKOUT, Directory, new_run_id
from tests.chaos.programs import Setup
from tests.chaos.scene import Scene
from transport.pki import AUTHORITY_CERTIFICATE

CLUSTER_PREFIX = "demo-"
_SSHD = "/usr/sbin/sshd"
_PRIVILEGE_DIRECTORY = Path("/run/sshd")
"""sshd(8) does not start without it."""
_SETTINGS = """
Port 22
HostKey {host_key}
AuthorizedKeysFile {key}.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin prohibit-password
"""


class Reached:
    """inventory: the file. scene: what it describes."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.inventory = scene.directory.path / "inventory.yml"
        self.cluster = f"{CLUSTER_PREFIX}{scene.directory.run_id}"
        self._servers: list[subprocess.Popen[bytes]] = []

    async def open(self) -> None:
        """Until all is whole, and every node takes SSH."""
        path = self.scene.directory.path
        token = await self.scene.assemble()
        authority = path / "authority"
        authority.mkdir()
        certificate = self.scene.nodes["a"].own_path("pki")[0] / AUTHORITY_CERTIFICATE
        (authority / AUTHORITY_CERTIFICATE).write_bytes(certificate.read_bytes())
        (authority / "token").write_text(token)
        for name in ("key", "host_key"):
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path / name))
        (path / "sshd_config").write_text(_SETTINGS.format(key=path / "key", host_key=path / "host_key"))
        self._write_inventory(authority)
        _PRIVILEGE_DIRECTORY.mkdir(exist_ok=True)
        for node in self.scene.nodes.values():
            words = node.command(_SSHD, "-D", "-e", "-f", str(path / "sshd_config"))
            with (self.scene.directory.logs / f"sshd-{node.name}.log").open("wb") as log:
                self._servers.append(subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log))

    def _write_inventory(self, authority: Path) -> None:
        path = self.scene.directory.path
        options = f"-oIdentityFile={path / 'key'} -oIdentitiesOnly=yes -oUserKnownHostsFile=/dev/null"
        group = {
            "hosts": {name: {"ansible_host": node.address} for name, node in self.scene.nodes.items()},
            "vars": {
                "ansible_user": "root",
                "ansible_ssh_common_args": f"{options} -oStrictHostKeyChecking=no -oConnectionAttempts=10",
                "kagemusha_cluster": self.cluster,
                "kagemusha_authority": str(authority),
                "kagemusha_programs": [
                    {"id": "redis", "definition": f'[redirect]\ndriver = "address"\naddress = "{ADDRESS}/32"\n'}
                ],
            },
        }
        self.inventory.write_text(yaml.safe_dump({"kagemusha": group}))

    async def chaos(self, *words: str) -> tuple[int, str, str]:
        """`python -m tests.chaos --inventory ...` from the client's machine: exit status, output, what else it said."""
        process = await asyncio.create_subprocess_exec(
            *self.scene.machines.client.command(
                *(sys.executable, "-m", "tests.chaos", "--inventory", str(self.inventory), *words)
            ),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        )
        out, said = await process.communicate()
        return process.returncode or 0, out.decode(), said.decode()

    async def close(self) -> None:
        """Leave nothing."""
        await self.scene.close()
        for server in self._servers:
            server.wait()


@asynccontextmanager
async def reached() -> AsyncIterator[Reached]:
    """From its beginning to its end; what its processes said is kept nowhere."""
    directory = Directory(new_run_id())
    place = Reached(Scene(directory, Setup(), {}))
    try:
        await place.open()
        yield place
    finally:
        await place.close()
        directory.close(keep=False)
