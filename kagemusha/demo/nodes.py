"""The demo's machines: some nodes and a client, each in namespaces of its own, joined by a bridge.

    bridge namespace:   br0 --- a      br0 --- b      br0 --- client
                                |             |              |
    each its own:            eth0          eth0           eth0
                          10.77.0.1     10.77.0.2      10.77.0.3      (the program's address: 10.77.0.100/32)

A node has its own network, mount, IPC and time namespace: its clocks are shifted, /tmp and /dev/shm are its own, and
the directories `data` and `node` have the same path on every node and different contents. What a mirror has, it got
through the network.

A run holds a lock on its directory. A directory whose lock is free belongs to a run that crashed: the next run clears
it away, with every process in the namespaces that bear its name.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import subprocess
import sys
from pathlib import Path
from typing import IO

from kagemusha.demo.errors import DemoError
from kagemusha.demo.namespace import NetworkNamespace, named_namespaces, run

RUNS = Path("/run/kagemusha-demo")
PREFIX = "kgm-demo-"
ADDRESS = "10.77.0.100"
PREFIX_LENGTH = 24
INTERFACE = "eth0"
CLOCK_SHIFTS_S = {"a": 1_000_000, "b": 3_000_000, "c": 5_000_000}
CHECKOUT = Path(__file__).resolve().parents[2]

# Arguments: the node's own directory, `node`, `data`, the directory of all nodes; then what lies under /tmp and must
# stay visible.
_FURNISH = """
set -e
own=$1 node=$2 data=$3 nodes=$4; shift 4
mount --bind "$own" "$node"
mount -t tmpfs -o mode=0700 data "$data"
mount -t tmpfs -o mode=0755 none "$nodes"
[ ! -d /dev/shm ] || mount -t tmpfs -o mode=1777 shm /dev/shm
for path; do mkdir -p "$node/kept$path"; mount --bind "$path" "$node/kept$path"; done
mount -t tmpfs -o mode=1777 tmp /tmp
for path; do mkdir -p "$path"; mount --move "$node/kept$path" "$path"; done
echo $$
exec cat
"""


class Directory:
    """The directory of one run, locked for as long as the run lives."""

    def __init__(self, run_id: str, root: Path = RUNS) -> None:
        self.run_id = run_id
        self.path = root / run_id
        for part in (self.nodes, self.node, self.data, self.logs):
            part.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(self.path)
        if self._lock is None:
            raise DemoError(f"{self.path} is in use by another run")

    @property
    def nodes(self) -> Path:
        """Where each node's own directory lies, as seen from outside."""
        return self.path / "nodes"

    @property
    def node(self) -> Path:
        """The node's own directory, as every node sees its own."""
        return self.path / "node"

    @property
    def data(self) -> Path:
        """The program's working directory: the same path on every node, a file system of each node's own."""
        return self.path / "data"

    @property
    def logs(self) -> Path:
        """Where everything that is started writes its log."""
        return self.path / "logs"

    def close(self, *, keep: bool) -> None:
        """Give the lock back and remove the directory; with `keep` only what is secret in it."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None
        if keep:
            (self.path / "lock").unlink(missing_ok=True)
            for keys in self.nodes.glob("*/pki"):
                shutil.rmtree(keys, ignore_errors=True)
        else:
            shutil.rmtree(self.path, ignore_errors=True)


def _lock(path: Path) -> IO[str] | None:
    """None: somebody else has it, or the directory is gone already."""
    try:
        file = (path / "lock").open("w")
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def clear_crashed_runs(root: Path = RUNS) -> list[str]:
    """Remove what crashed runs have left behind; returns their ids. Leaves what lives, or was kept on purpose."""
    cleared = []
    for path in sorted(root.glob("*/lock")):
        lock = _lock(path.parent)
        if lock is None:
            continue
        for namespace in named_namespaces(f"{PREFIX}{path.parent.name}-"):
            namespace.delete()
        shutil.rmtree(path.parent, ignore_errors=True)
        lock.close()
        cleared.append(path.parent.name)
    _clear_namespaces()
    return cleared


def _clear_namespaces() -> None:
    """Those of runs whose process is gone: who is killed while it clears up after itself has given its lock back."""
    for namespace in named_namespaces(PREFIX):
        pid = namespace.name.removeprefix(PREFIX).partition("-")[0]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists():
            namespace.delete()


class Machine:
    """A namespace with an eth0 on the bridge: what the client is, and what a node is more than."""

    def __init__(self, run_id: str, name: str, host_number: int) -> None:
        self.name = name
        self.port = f"to-{name}"
        self.address = f"10.77.0.{host_number}"
        self.hardware_address = f"02:00:0a:4d:00:{host_number:02x}"
        self.is_cut = False
        self.network = NetworkNamespace.create(f"{PREFIX}{run_id}-{name}")
        self._bridge = NetworkNamespace(f"{PREFIX}{run_id}-bridge")

    def attach(self) -> None:
        """Plug the machine into the bridge and give it its own address. A machine that boots has the card it had: with
        another one it would not be reached until all others had forgotten the old one."""
        card = f"{INTERFACE} address {self.hardware_address}"
        self.network.ip(f"link add {card} type veth peer name {self.port} netns {self._bridge.name}")
        self._bridge.ip(f"link set dev {self.port} master br0 up")
        self.network.ip(f"addr add {self.address}/{PREFIX_LENGTH} dev {INTERFACE}", f"link set {INTERFACE} up")

    def detach(self) -> None:
        """Take its plug away, on both ends."""
        self._bridge.ip(f"link del dev {self.port}")

    def cut(self) -> None:
        """Pull the cable: nothing leaves or reaches the machine, and nobody is told."""
        self._bridge.ip(f"link set dev {self.port} down")
        self.is_cut = True

    def heal(self) -> None:
        """Put the cable back."""
        self.is_cut = False
        self._bridge.ip(f"link set dev {self.port} up")

    def command(self, *argv: str) -> list[str]:
        """The command line that runs `argv` on this machine; it becomes the command itself, its pid is the child's."""
        return ["nsenter", f"--net={self.network.path}", "--", *argv]

    def close(self) -> None:
        """Kill every process of the machine and remove it."""
        self.network.delete()


class Node(Machine):
    """A machine with a mount, an IPC and a time namespace of its own."""

    def __init__(self, directory: Directory, name: str, host_number: int) -> None:
        super().__init__(directory.run_id, name, host_number)
        self.directory = directory
        self.own = directory.nodes / name
        self.own.mkdir(exist_ok=True)
        self._holder = self._hold(CLOCK_SHIFTS_S[name])
        self._holder_pid = self._furnished()

    def _hold(self, shift_s: int) -> subprocess.Popen[str]:
        """The process that keeps the namespaces; it ends with its standard input, so also when this process dies."""
        directory = self.directory
        places = (self.own, directory.node, directory.data, directory.nodes, *_kept_under_tmp())
        unshare = ["unshare", "--mount", "--ipc", "--propagation", "private", "--fork"]
        unshare += ["--time", "--monotonic", str(shift_s), "--boottime", str(shift_s)]
        with (directory.logs / f"node-{self.name}.log").open("w") as log:
            return subprocess.Popen(
                [*super().command(*unshare, "sh", "-c", _FURNISH, "furnish", *map(str, places))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )

    def _furnished(self) -> int:
        assert self._holder.stdout is not None
        line = self._holder.stdout.readline()
        if not line.strip().isdigit():
            log = self.directory.logs / f"node-{self.name}.log"
            said = " ".join(log.read_text().split())
            self.close()
            raise DemoError(f"node {self.name} can't be furnished: {said}", hint="the demo needs root, CAP_SYS_ADMIN")
        return int(line)

    def command(self, *argv: str) -> list[str]:
        """The command line that runs `argv` on this node; its pid is the child's."""
        spaces = ["--mount", "--ipc", "--time"]
        return ["nsenter", "--target", str(self._holder_pid), f"--net={self.network.path}", *spaces, "--", *argv]

    def own_path(self, name: str) -> tuple[Path, Path]:
        """A path in the node's own directory: (as this process sees it, as the node sees it)."""
        return self.own / name, self.directory.node / name

    def kill(self) -> int:
        """The power goes: SIGKILL to every process of the node. Returns how many there were."""
        return self.network.kill_all()

    def boot(self) -> None:
        """The power is back, after `kill`: a kernel that remembers nothing, the same disk, the cable plugged in."""
        # A network namespace goes some moments after its last process; its plug would still be in the way.
        self.detach()
        self.network.delete()
        self._leave_namespaces()
        self.network = NetworkNamespace.create(self.network.name)
        self.is_cut = False
        self._holder = self._hold(CLOCK_SHIFTS_S[self.name])
        self._holder_pid = self._furnished()
        self.attach()

    def close(self) -> None:
        """Kill every process of the node and remove it."""
        super().close()
        self._leave_namespaces()

    def _leave_namespaces(self) -> None:
        for pipe in (self._holder.stdin, self._holder.stdout):
            if pipe is not None:
                pipe.close()
        self._holder.wait(timeout=10)


def _kept_under_tmp() -> list[Path]:
    """What lies under /tmp and must stay visible on a node: this checkout and this Python."""
    wanted = {CHECKOUT, Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve()}
    under = {path for path in wanted if path.is_relative_to("/tmp")}
    return sorted(path for path in under if not any(other != path and path.is_relative_to(other) for other in under))


class Machines:
    """Some nodes, the client and the bridge between them. `close` removes all of it; also after half a start."""

    def __init__(self, directory: Directory, names: tuple[str, ...] = ("a", "b")) -> None:
        """names: of nodes; CLOCK_SHIFTS_S has those that there are."""
        self.directory = directory
        self._names = names
        self.nodes: dict[str, Node] = {}
        self._all: list[Machine] = []
        self._bridge = NetworkNamespace(f"{PREFIX}{directory.run_id}-bridge")
        try:
            self._build()
        except BaseException:
            self.close()
            raise

    def _build(self) -> None:
        self._bridge = NetworkNamespace.create(self._bridge.name)
        # Without spanning tree a port forwards at once; snooping would hold back nothing here but costs memory.
        self._bridge.ip("link add name br0 type bridge stp_state 0 mcast_snooping 0", "link set br0 up")
        for number, name in enumerate(self._names, start=1):
            self.nodes[name] = Node(self.directory, name, number)
            self._all.append(self.nodes[name])
        self.client = Machine(self.directory.run_id, "client", len(self.nodes) + 1)
        self._all.append(self.client)
        for machine in self._all:
            machine.attach()
        # Connections that come and go for minutes would use up the client's ports.
        settings = "echo 1 > ipv4/tcp_tw_reuse; echo 10000 65000 > ipv4/ip_local_port_range"
        run(*self.client.command("sh", "-ec", f"cd /proc/sys/net; {settings}"))

    def other(self, name: str) -> Node:
        """The node that is not `name`."""
        return next(node for other, node in self.nodes.items() if other != name)

    def close(self) -> None:
        """Kill every process of every machine and remove them."""
        for namespace in named_namespaces(f"{PREFIX}{self.directory.run_id}-"):
            namespace.delete()
        for machine in self._all:
            machine.close()
        self._all.clear()


def new_run_id() -> str:
    """A name for this run that no other has, and that says which process it is."""
    return f"{os.getpid()}-{secrets.token_hex(2)}"
