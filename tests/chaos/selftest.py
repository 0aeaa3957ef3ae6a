"""`python -m tests.chaos.selftest [EVIDENCE]`: is each checker able to fail? On the evidence of a real run.

Without an argument the run is made first: twenty seconds, with faults that cost nothing. Then a second one is made, in
which promises are really broken: who looks on must see it. Exit status: 0 every planted violation is found and the
first run itself is good; 1 one is not; 4 there is no good run to plant anything in.
"""

from __future__ import annotations

import asyncio
import copy
import shutil
import sys
from pathlib import Path

from tests.chaos.checkers.all import violations
from tests.chaos.checkers.validity import why_invalid
from tests.chaos.evidence import Evidence
from tests.chaos.plan import Plan, Step, Strike
from tests.chaos.planted import INVALID, PLANTED
from tests.chaos.run import carry_out
from tests.chaos.sabotage import FOUND_BY, SABOTAGE

STEPS = (
    Step((Strike("program-killed", "primary"),), 1.0, 1.0),
    Step((Strike("switched-over", "mirror"),), 1.0, 1.0),
)
_BROKEN_STEPS = (
    Step((Strike("write-stolen", "primary"),), 1.0, 1.0),
    Step((Strike("orphan-left", "mirror"),), 1.0, 1.0),
    Step((Strike("isolated", "primary"),), 2.0, 1.0),
)


def main() -> int:
    """See above."""
    evidence = Evidence()
    is_made = len(sys.argv) == 1
    if is_made:
        outcome = asyncio.run(carry_out(Plan(0, STEPS), _say))
        evidence, broken = outcome.evidence, [outcome.broken] if outcome.broken else []
    else:
        broken = []
        evidence.add(Path(sys.argv[1]))
    wrong = [*broken, *(one.what for one in violations(evidence)), *why_invalid(evidence)]
    if wrong:
        _say(f"the run itself is not good: {'; '.join(wrong)}")
        return 4
    found = [*_planted(evidence), *(_sabotaged() if is_made else ())]
    _say(f"{sum(found)} of {len(found)} are found")
    return 0 if all(found) else 1


def _planted(evidence: Evidence) -> list[bool]:
    """What is planted in what was seen."""
    found = []
    for planted in PLANTED:
        spoilt = copy.deepcopy(evidence)
        planted.plant(spoilt)
        is_found = planted.invariant in {one.invariant for one in planted.checker(spoilt)}
        found.append(_told(is_found, f"{planted.what} ({planted.invariant}, {planted.checker.__name__})"))
    for what, spoil in INVALID.items():
        spoilt = copy.deepcopy(evidence)
        spoil(spoilt)
        found.append(_told(bool(list(why_invalid(spoilt))), f"{what} (invalid)"))
    return found


def _sabotaged() -> list[bool]:
    """What is really done."""
    outcome = asyncio.run(carry_out(Plan(0, _BROKEN_STEPS), _say, more=SABOTAGE))
    if outcome.broken:
        _say(f"promises could not be broken: {outcome.broken}")
    seen = {one.invariant for one in outcome.violations}
    found = [_told(invariant in seen, f"{what} ({invariant}, on real nodes)") for what, invariant in FOUND_BY.items()]
    if all(found):
        shutil.rmtree(outcome.kept_in)
    else:
        _say(f"what was seen is in {outcome.kept_in}")
    return found


def _told(is_found: bool, what: str) -> bool:
    _say(f"{'found' if is_found else 'NOT FOUND'}: {what}")
    return is_found


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
