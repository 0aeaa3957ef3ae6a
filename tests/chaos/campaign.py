"""Many runs, one seed after the other: which seeds, what is said of each, and of all of them (pure).

A run is known by its figures, see `run.Outcome.figures`, with what its campaign adds: how long it was meant to take
(`seconds`), of which version of the code it was (`commit`), how busy the machine was (`load_average`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

Figures = Mapping[str, Any]
VERDICTS: Final = ("kept", "violated", "invalid", "broken")
SAYS_SOMETHING: Final = ("kept", "violated")
_EXIT_CODES: Final = {"violated": 1, "broken": 4, "invalid": 3}
"""The worst first."""
_SEEDS: Final = re.compile(r"(\d+)(?:-(\d+))?")
_SEEDS_MAX: Final = 10_000
_KNOWN_BY: Final = ("seed", "seconds", "program", "driver")


class SeedsError(Exception):
    """Not a list of seeds."""


def seeds_of(text: str) -> list[int]:
    """ "7", "1-5" or "1-5,9": each once, in this order. Raises SeedsError."""
    found: dict[int, None] = {}
    for part in text.split(","):
        match = _SEEDS.fullmatch(part.strip())
        if match is None:
            raise SeedsError(f"{part!r} is no seed and no range of seeds: write 7, 1-5 or 1-5,9")
        first, last = int(match[1]), int(match[2] or match[1])
        if not first <= last < first + _SEEDS_MAX:
            raise SeedsError(f"{part!r} is no range of at most {_SEEDS_MAX} seeds that ends behind its beginning")
        found.update(dict.fromkeys(range(first, last + 1)))
    return list(found)


def left_to_do(seeds: Sequence[int], wanted: Figures, done: Iterable[Figures]) -> list[int]:
    """Those that no run is known of. wanted: what the runs have in common."""
    there = {_key(one) for one in done}
    return [seed for seed in seeds if _key({**wanted, "seed": seed}) not in there]


def of_seeds(seeds: Sequence[int], wanted: Figures, done: Iterable[Figures]) -> list[Figures]:
    """The newest run of each seed, in the order of the seeds."""
    newest = {_key(one): one for one in done}
    keys = (_key({**wanted, "seed": seed}) for seed in seeds)
    return [newest[key] for key in keys if key in newest]


def _key(one: Figures) -> tuple[Any, ...]:
    return tuple(one.get(name) for name in _KNOWN_BY)


def line_of(one: Figures) -> str:
    """One run in one line."""
    words = [f"seed {one['seed']}: {one['verdict']}"]
    if faults := one.get("faults"):
        names = ", ".join(kind if times == 1 else f"{kind} x{times}" for kind, times in faults.items())
        words.append(f"{sum(faults.values())} faults ({names})")
    if one.get("writes_acknowledged"):
        lost = "?" if one["writes_lost"] is None else one["writes_lost"]
        words.append(f"{one['writes_acknowledged']} writes acknowledged, {lost} lost, {one['unanswered']} unanswered")
        words.append(f"whole again within {max(one['whole_again_s'], default=0.0):.1f} s")
    took_s = sum(one.get("took_s", {}).values())
    words.append(f"took {took_s:.0f} s, load {one.get('load_average', 0.0):.1f}")
    words += [f"{violation['invariant']}: {violation['what']}" for violation in one.get("violations", ())[:1]]
    words += [f"invalid: {why}" for why in one.get("invalid", ())[:1]]
    words += [one["broken"]] if one.get("broken") else []
    words += [f"see {one['kept_in']}"] if one.get("kept_in") else []
    return "; ".join(words)


@dataclass(slots=True)
class Kind:
    """What is known of one kind of fault. silent_s: the longest without an answer to anybody, where it was done alone.
    whole_again_s: the longest until all was whole again."""

    times: int = 0
    without_effect: int = 0
    silent_s: float = 0.0
    whole_again_s: float = 0.0


@dataclass(slots=True)
class Summary:
    """Of all runs. kinds: of the runs that say something."""

    runs: Sequence[Figures]
    kinds: dict[str, Kind] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for one in self.telling:
            for fault in one["struck"]:
                kind = self.kinds.setdefault(fault["kind"], Kind())
                kind.times += 1
                kind.without_effect += not fault["had_effect"]
                if fault["loses"] != "everything":
                    kind.silent_s = max(kind.silent_s, fault["silent_s"])
                kind.whole_again_s = max(kind.whole_again_s, fault["whole_again_s"] or 0.0)

    @property
    def telling(self) -> list[Figures]:
        """The runs that say something of the product."""
        return [one for one in self.runs if one["verdict"] in SAYS_SOMETHING]

    def seeds(self, verdict: str) -> list[int]:
        """Those whose run had this verdict."""
        return [one["seed"] for one in self.runs if one["verdict"] == verdict]

    def total(self, name: str) -> int:
        """Of one figure, over the runs that say something."""
        return sum(one[name] or 0 for one in self.telling)

    @property
    def exit_code(self) -> int:
        """As of one run; the worst counts."""
        verdicts = {one["verdict"] for one in self.runs}
        return next((code for verdict, code in _EXIT_CODES.items() if verdict in verdicts), 0)

    def lines(self) -> list[str]:
        """For people: the kinds of faults, and what came of all."""
        width = max(map(len, self.kinds), default=0)
        table = [f"{'fault':{width}}  times  no effect  nobody served  whole again within"] if self.kinds else []
        for name, kind in sorted(self.kinds.items()):
            times_s = f"{kind.silent_s:12.1f} s {kind.whole_again_s:17.1f} s"
            table.append(f"{name:{width}} {kind.times:6} {kind.without_effect:10} {times_s}")
        counts = Counter(one["verdict"] for one in self.runs)
        faults = sum(kind.times for kind in self.kinds.values())
        of_all = ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS)
        table.append(f"{len(self.runs)} runs: {of_all}; {faults} faults of {len(self.kinds)} kinds")
        names = ("writes_acknowledged", "writes_lost", "unanswered")
        acknowledged, lost, unanswered = map(self.total, names)
        table.append(f"{acknowledged} writes acknowledged, {lost} lost, {unanswered} questions unanswered")
        for verdict in VERDICTS[1:]:
            if seeds := self.seeds(verdict):
                table.append(f"{verdict}: seeds {', '.join(map(str, seeds))}")
        return table

    def document(self) -> dict[str, Any]:
        """As one JSON object."""
        counts = Counter(one["verdict"] for one in self.runs)
        return {
            "runs": len(self.runs),
            **{verdict: counts[verdict] for verdict in VERDICTS},
            "seeds": {verdict: self.seeds(verdict) for verdict in VERDICTS},
            "commits": sorted({one.get("commit", "") for one in self.runs}),
            "writes_acknowledged": self.total("writes_acknowledged"),
            "writes_lost": self.total("writes_lost"),
            "unanswered": self.total("unanswered"),
            "kinds": {
                name: {
                    "times": kind.times,
                    "without_effect": kind.without_effect,
                    "silent_s_max": kind.silent_s,
                    "whole_again_s_max": kind.whole_again_s,
                }
                for name, kind in sorted(self.kinds.items())
            },
            "violations": [
                {"seed": one["seed"], **violation} for one in self.runs for violation in one.get("violations", ())
            ],
        }
