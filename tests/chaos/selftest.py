"""`python -m tests.chaos.selftest [EVIDENCE]`: is each checker able to fail? On the evidence of a real run.

Without an argument the run is made first: twenty seconds, with faults that cost nothing. Exit status: 0 every planted
violation is found and the run itself is good; 1 one is not; 4 there is no good run to plant anything in.
"""

from __future__ import annotations

import asyncio
import copy
import sys
from pathlib import Path

from tests.chaos.checkers.all import violations
from tests.chaos.checkers.validity import why_invalid
from tests.chaos.evidence import Evidence
from tests.chaos.plan import Plan, Step, Strike
from tests.chaos.planted import INVALID, PLANTED
from tests.chaos.run import carry_out

STEPS = (
    Step((Strike("program-killed", "primary"),), 1.0, 1.0),
    Step((Strike("switched-over", "mirror"),), 1.0, 1.0),
)


def main() -> int:
    """See above."""
    evidence = Evidence()
    if len(sys.argv) > 1:
        evidence.add(Path(sys.argv[1]))
    else:
        evidence = asyncio.run(carry_out(Plan(0, STEPS), _say)).evidence
    wrong = [*(one.what for one in violations(evidence)), *why_invalid(evidence)]
    if wrong:
        _say(f"the run itself is not good: {'; '.join(wrong)}")
        return 4
    found = 0
    for planted in PLANTED:
        spoilt = copy.deepcopy(evidence)
        planted.plant(spoilt)
        is_found = planted.invariant in {one.invariant for one in planted.checker(spoilt)}
        found += is_found
        _say(
            f"{'found' if is_found else 'NOT FOUND'}: {planted.what} ({planted.invariant}, {planted.checker.__name__})"
        )
    for what, spoil in INVALID.items():
        spoilt = copy.deepcopy(evidence)
        spoil(spoilt)
        is_found = bool(list(why_invalid(spoilt)))
        found += is_found
        _say(f"{'found' if is_found else 'NOT FOUND'}: {what} (invalid)")
    _say(f"{found} of {len(PLANTED) + len(INVALID)} are found")
    return 0 if found == len(PLANTED) + len(INVALID) else 1


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
