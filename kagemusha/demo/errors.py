"""The one error of the demo: a step that did not do what it must, and where to read more."""

from __future__ import annotations

from transport.errors import KagemushaError


class DemoError(KagemushaError):
    """The demo can't go on; `what` names the step, `hint` the logs or the remedy."""
