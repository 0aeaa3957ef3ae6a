"""What it takes to cut a program off and to lead clients elsewhere, in network namespaces of its own.

`python -m tests.bench.fence [--runs N] [--json]`: the parts of a fence (barrier, address deleted, 16 busy processes
frozen), the watchdog's delay after a lease's end, and a client's longest gap by driver when the old node is cut off and
the new one claims. The last line is one JSON object. Everything but the deciding and the program's own takeover is in
the gap.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from ipaddress import ip_interface
from pathlib import Path
from typing import Final

from agent.network.address import ServiceAddress
from cluster.fencing.addresses import Addresses
from cluster.fencing.cgroup import ProgramCgroup
from cluster.fencing.guard import Guard
from cluster.fencing.hands import Hands
from cluster.fencing.lease_file import LeaseFile, Watched
from cluster.redirect.address import AddressDriver
from cluster.redirect.carrier import LocalCarrier
from cluster.redirect.driver import Driver
from cluster.redirect.keepalived import KeepalivedDriver
from cluster.redirect.redirection import Redirection
from tests.agent.lan import Lan
from tests.cluster.redirect.keepalived import Client, Echo, RealKeepalived
from transport.track_file import TrackFile

ADDRESS: Final = "10.91.0.100/24"
IP: Final = ip_interface(ADDRESS).ip
PROCESSES: Final = 16
WATCHDOG: Final = (sys.executable, "-m", "kagemusha", "watchdog")
ROOT: Final = Path(__file__).resolve().parents[2]


class Figures:
    """Named lists of microseconds."""

    def __init__(self) -> None:
        self.values_us: dict[str, list[float]] = {}

    def timed(self, name: str, call: Callable[[], object]) -> None:
        """Measure a call."""
        begun = time.perf_counter()
        call()
        self.add(name, (time.perf_counter() - begun) * 1e6)

    def add(self, name: str, value_us: float) -> None:
        """One more."""
        self.values_us.setdefault(name, []).append(value_us)

    def summary(self) -> dict[str, dict[str, float]]:
        """p50, p99 and max of each."""
        found = {}
        for name, values in self.values_us.items():
            values.sort()
            p99 = values[min(len(values) - 1, int(len(values) * 0.99))]
            found[name] = {"n": len(values), "p50_us": values[len(values) // 2], "p99_us": p99, "max_us": values[-1]}
        return found


def busy_program(stack: ExitStack) -> tuple[int, ProgramCgroup]:
    """A program whose processes never wait, in a cgroup of its own."""
    cgroup = ProgramCgroup.create(f"kgm-{os.getpid()}/bench")
    script = "set -e\n" + "while :; do :; done &\n" * PROCESSES + "wait\n"
    process = subprocess.Popen(["sh", "-c", script])
    cgroup.add(process.pid)

    def end() -> None:
        cgroup.kill()
        process.wait()
        while cgroup.directory.exists():
            cgroup.remove()
            time.sleep(0.01)
        cgroup.directory.parent.rmdir()

    stack.callback(end)
    return process.pid, cgroup


def fence_parts(lan: Lan, figures: Figures, runs: int) -> None:
    """Each step of a fence by itself."""
    with ExitStack() as stack:
        _, cgroup = busy_program(stack)
        with lan.inside("first"):
            hands, addresses = Hands(), Addresses()
            stack.callback(hands.close)
            stack.callback(addresses.close)
            watched = Watched("bench", 1, 0, ADDRESS, "eth0", "", "bench@first")
            hands.barriers.stage("bench@first", IP)
            for _ in range(runs):
                addresses.add(ADDRESS, "eth0")
                figures.timed("barrier", lambda: hands.barriers.put("bench@first", IP))
                figures.timed("delete", lambda: addresses.drop(ADDRESS))

                def freeze() -> None:
                    cgroup.freeze()
                    cgroup.await_frozen(time.monotonic() + 5)

                figures.timed("freeze", freeze)
                cgroup.thaw()
                hands.barriers.lift("bench@first", IP)
                addresses.add(ADDRESS, "eth0")
                figures.timed("cut_off", lambda: hands.cut_off(watched))
                figures.timed("lift", lambda: hands.barriers.lift("bench@first", IP))
                time.sleep(0.01)


async def watchdog_delay(directory: Path, figures: Figures, runs: int) -> None:
    """From the end of a lease until the program is cut off, and until it was read back that it is still, too."""
    os.environ["PYTHONPATH"] = str(ROOT)
    with ExitStack() as stack:
        pid, cgroup = busy_program(stack)
        guard = Guard(directory / "leases", WATCHDOG, directory / "watchdog.log")
        await guard.start()
        try:
            for token in range(1, runs + 1):
                deadline_s = time.clock_gettime(time.CLOCK_BOOTTIME) + 0.1
                watched = Watched("bench", token, pid, ADDRESS, "lo", str(cgroup.directory), "bench@first")
                guard.watch(watched, deadline_s)
                while (answer := guard.fencing("bench")) is None:
                    await asyncio.sleep(0.005)
                figures.add("watchdog_frozen", answer.at_ns / 1e3 - deadline_s * 1e6)
                await guard.unwatch("bench")
                cgroup.thaw()
            log = (directory / "watchdog.log").read_text()
            for ended_us, cut_off_us in re.findall(r"ended (\d+) us ago, cut off (\d+) us ago", log):
                figures.add("watchdog_cut_off", int(ended_us) - int(cut_off_us))
        finally:
            guard.close()
            os.kill(LeaseFile(directory / "leases").watchdog_pid, signal.SIGTERM)
            hands = Hands()
            hands.barriers.remove("bench@first")
            hands.close()


async def gaps(lan: Lan, directory: Path, figures: Figures, runs: int, *, with_keepalived: bool) -> None:
    """A client's longest gap while the address goes to and fro, the old node cut off each time."""
    name = "keepalived" if with_keepalived else "address"
    said = Redirection("keepalived", ADDRESS, "eth0", 51)
    with ExitStack() as stack:
        drivers: dict[str, Driver] = {}
        agents: dict[str, ServiceAddress] = {}
        hands: dict[str, Hands] = {}
        tracks: dict[str, TrackFile] = {}
        for node in ("first", "second"):
            keepalived = RealKeepalived(lan, node, directory / name)
            track = tracks[node] = TrackFile(directory / name / node / "track")
            with lan.inside(node):
                carrier = LocalCarrier(f"bench@{node}", ADDRESS, "eth0")
                agents[node], hands[node] = ServiceAddress([ADDRESS], "eth0"), Hands()
                if with_keepalived:
                    stack.callback(keepalived.close)
                    keepalived.start()
                    await keepalived.until_it_says("no configuration to run")
                    await keepalived.host.install("redis", said, track.path)
                    await keepalived.until_it_says("entering FAULT state")
                    drivers[node] = KeepalivedDriver("redis", carrier, track)
                else:
                    drivers[node] = AddressDriver("redis", carrier)
            for one in (carrier, agents[node], hands[node], Echo(lan, node)):
                stack.callback(one.close)
        client = Client(lan, ADDRESS)
        stack.callback(client.close)
        old, new = "second", "first"
        for token in range(1, runs + 2):
            client.forget()
            track_path = str(tracks[old].path) if with_keepalived else ""
            if token > 1:
                hands[old].cut_off(Watched("bench", token, 0, ADDRESS, "eth0", "", f"bench@{old}", track_path))
            begun = time.perf_counter()
            hands[new].barriers.lift(f"bench@{new}", IP)
            agents[new].claim()
            if token > 1:
                figures.add(f"claim_{name}", (time.perf_counter() - begun) * 1e6)
            with lan.inside(new):
                await drivers[new].claim(token)
            await client.until_answered_by(new, 300)
            if token > 1:
                figures.add(f"gap_{name}", client.gap_ms() * 1000)
            old, new = new, old
        for node in ("first", "second"):
            agents[node].drop()
            hands[node].barriers.remove(f"bench@{node}")


async def main() -> int:
    """Measure everything."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--json", action="store_true", help="nothing but the last line")
    options = parser.parse_args()
    figures = Figures()
    with tempfile.TemporaryDirectory(prefix="kgm-fence-") as name, Lan() as lan:
        directory = Path(name)
        fence_parts(lan, figures, options.runs)
        await watchdog_delay(directory, figures, options.runs)
        for with_keepalived in (False, True):
            await gaps(lan, directory, figures, options.runs, with_keepalived=with_keepalived)
    summary = figures.summary()
    if not options.json:
        for what, values in summary.items():
            parts = ", ".join(f"{key} {value:.0f}" for key, value in values.items())
            sys.stdout.write(f"{what}: {parts}\n")
    sys.stdout.write(json.dumps(summary) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
