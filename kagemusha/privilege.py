"""Root: asked for before anything is done, so that nothing is half done without it."""

from __future__ import annotations

import os

from kagemusha.exit_codes import NotPermitted


def require_root(because: str) -> None:
    """Raise NotPermitted unless this process is root; `because` says what root is needed for."""
    if os.geteuid() != 0:
        raise NotPermitted(f"this takes root: {because}", hint="run it with sudo")
