"""Cuts ways between machines on the bridge that joins them, each for itself, and counts what it drops."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Collection

from kagemusha.demo.namespace import NetworkNamespace
from kagemusha.demo.nodes import PREFIX
from tests.partitions.faults import Way


class Switchboard:
    """The bridge of one run."""

    def __init__(self, run_id: str) -> None:
        self.network = NetworkNamespace(f"{PREFIX}{run_id}-bridge")
        self._nft(
            "add table bridge partition\nadd chain bridge partition cut { type filter hook forward priority 0 ; }\n"
        )

    def cut(self, ways: Collection[Way]) -> None:
        """Cut these, and no others, in one step; frames of all kinds."""
        rules = "".join(
            f'add rule bridge partition cut iifname "to-{sender}" oifname "to-{receiver}" counter drop\n'
            for sender, receiver in sorted(ways)
        )
        self._nft(f"flush chain bridge partition cut\n{rules}")

    def heal(self) -> None:
        """Everybody sees everybody."""
        self._nft("flush chain bridge partition cut")

    def dropped(self) -> dict[Way, int]:
        """How many frames each way has swallowed since it was cut."""
        rows = json.loads(self._nft("", "-j", "list", "chain", "bridge", "partition", "cut"))["nftables"]
        found: dict[Way, int] = {}
        for rule in (row["rule"] for row in rows if "rule" in row):
            sender, receiver = (one["match"]["right"].removeprefix("to-") for one in rule["expr"] if "match" in one)
            found[sender, receiver] = next(one["counter"]["packets"] for one in rule["expr"] if "counter" in one)
        return found

    def _nft(self, script: str, *words: str) -> str:
        command = ["nsenter", f"--net={self.network.path}", "--", "nft", *(words or ("-f", "-"))]
        done = subprocess.run(command, input=script, capture_output=True, text=True, check=True)
        return done.stdout
