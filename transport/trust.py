"""Whether what root is to run, or to be told by, can be written by somebody else. Pure."""

from __future__ import annotations

import os
import stat
from typing import Literal

Writer = Literal["", "its owner", "everybody", "its group"]


def other_writer(status: os.stat_result) -> Writer:
    """Who but root can write a file of this status; "" for nobody."""
    if status.st_uid != 0:
        return "its owner"
    if status.st_mode & stat.S_IWOTH:
        return "everybody"
    if status.st_mode & stat.S_IWGRP and status.st_gid != 0:
        return "its group"
    return ""
