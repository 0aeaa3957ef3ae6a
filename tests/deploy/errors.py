"""What can go wrong with the trial itself, and what it finds wrong with the deployment."""

from __future__ import annotations

from transport.errors import KagemushaError


class TrialError(KagemushaError):
    """A step did not do what it must, or the machines for it can't be had."""
