"""From what a program's file says to the driver that does it; a new driver is named here and nowhere else."""

from __future__ import annotations

from pathlib import Path

from cluster.redirect.address import AddressDriver
from cluster.redirect.carrier import LocalCarrier
from cluster.redirect.driver import Driver
from cluster.redirect.exec import ExecDriver
from cluster.redirect.keepalived import KeepalivedDriver
from cluster.redirect.proxy import ProxyDriver
from cluster.redirect.redirection import Redirection
from transport.track_file import TrackFile


def make_driver(program: str, node: str, said: Redirection, track: Path) -> Driver | None:
    """None: the program has no redirect. track: where keepalived looks. Raises KagemushaError."""
    carrier = LocalCarrier(f"{program}@{node}", said.address, said.interface) if said.address else None
    match said.driver:
        case "address" if carrier is not None:
            return AddressDriver(program, carrier)
        case "keepalived" if carrier is not None:
            return KeepalivedDriver(program, carrier, TrackFile(track))
        case "proxy":
            return ProxyDriver(program, said.listen, said.forward)
        case "exec":
            return ExecDriver(program, node, said, carrier)
        case _:
            return None
