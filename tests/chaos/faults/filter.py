"""Rules on the bridge between the nodes: what they drop is counted. No node knows of them (nft(8), family bridge)."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Sequence

from kagemusha.demo.namespace import NetworkNamespace, run


class Filter:
    """One table on the bridge. rules: of nft; each must count what it takes."""

    def __init__(self, bridge: NetworkNamespace, name: str, rules: Sequence[str]) -> None:
        self._name = name
        self._rules = rules
        self._enter = ("nsenter", f"--net={bridge.path}", "--", "nft")

    async def add(self) -> None:
        """From here on they hold."""
        chain = "\n".join(("chain f {", "type filter hook forward priority 0;", *self._rules, "}"))
        await asyncio.to_thread(run, *self._enter, f"table bridge {self._name} {{\n{chain}\n}}\n")

    async def delete(self) -> None:
        """They do not hold any more."""
        await asyncio.to_thread(run, *self._enter, "delete", "table", "bridge", self._name)

    async def taken(self) -> int:
        """How many packets the rules have taken."""
        words = (*self._enter, "-j", "list", "table", "bridge", self._name)
        said = await asyncio.to_thread(subprocess.run, words, capture_output=True, check=False)
        if said.returncode:
            return 0
        rules = [one["rule"]["expr"] for one in json.loads(said.stdout)["nftables"] if "rule" in one]
        return sum(part["counter"]["packets"] for expression in rules for part in expression if "counter" in part)


def ports(names: Sequence[str]) -> str:
    """A set of ports, for a rule."""
    return "{ " + ", ".join(f'"{name}"' for name in names) + " }"
