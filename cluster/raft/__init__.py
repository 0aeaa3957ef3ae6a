"""Agreement: one Raft member per node, built on pysyncobj, which nothing outside of this room may import.

`member.Member` is what others use. See docs/raft.md.
"""

import socket

# On import pysyncobj replaces these two of the standard library, for the whole process, with ones for Windows.
_ours = socket.inet_pton, socket.inet_ntop
import pysyncobj  # noqa: E402, F401

socket.inet_pton, socket.inet_ntop = _ours
