"""The content of a structure as JSON, for a person or a program that looks at it. Pure.

Bytes are hexadecimal text, complex numbers text, and so are the floats that JSON does not have.
"""

from __future__ import annotations

import json
import math

from agent.structures.decode import Value, decode
from agent.structures.layout import Layout
from transport.structure_view import CONTENT_BYTES_MAX


def shown(layout: Layout, content: bytes, elements: int) -> tuple[str, str]:
    """The first `elements` of each array, as JSON, and why nothing is shown ("" when something is)."""
    text = json.dumps(_plain(decode(layout, content, elements)), ensure_ascii=False, allow_nan=False)
    size = len(text.encode(errors="replace"))
    if size > CONTENT_BYTES_MAX:
        return "", f"{size} bytes of JSON are too many to be shown: ask for fewer elements"
    return text, ""


def _plain(value: Value) -> object:
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, bytes):
        return f"0x{value.hex()}"
    if isinstance(value, complex) or (isinstance(value, float) and not math.isfinite(value)):
        return str(value)
    if isinstance(value, str):
        # Text of another process may hold anything; what travels is UTF-8.
        return value.encode(errors="replace").decode()
    return value
