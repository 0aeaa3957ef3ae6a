"""A process that runs for long does not depend on the signals that whoever started it had blocked or ignored."""

from __future__ import annotations

import signal


def hear_all() -> None:
    """Block nothing, and be told of ended children: both are inherited (execve(2)), and a daemon to which SIGCHLD is
    not delivered waits for ever for the commands that it runs."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
