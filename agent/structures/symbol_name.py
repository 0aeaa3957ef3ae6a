"""The names of C++ variables as their source has them (Itanium C++ ABI, 5.1 "External Names"). Pure.

Only plain nested names are read: those of templates and of functions' own variables stay as they are.
"""

from __future__ import annotations

import re
from typing import Final

_ANONYMOUS: Final = "_GLOBAL__N_1"
_NESTED: Final = re.compile(r"_ZL?N(.+)E")
_PLAIN: Final = re.compile(r"_ZL?(\d.+)")
_SIZE: Final = re.compile(r"L?(\d+)")


def readable(name: str) -> str:
    """ "_ZN8exchange4bookE" -> "exchange::book"; any other name as it is."""
    found = _NESTED.fullmatch(name) or _PLAIN.fullmatch(name)
    if found is None:
        return name
    words: list[str] = []
    rest = found[1]
    while rest:
        size = _SIZE.match(rest)
        if size is None:
            return name
        begin, end = size.end(), size.end() + int(size[1])
        if end > len(rest):
            return name
        word = rest[begin:end]
        words.append("(anonymous namespace)" if word == _ANONYMOUS else word)
        rest = rest[end:]
    return "::".join(words)
