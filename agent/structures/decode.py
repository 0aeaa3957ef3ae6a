"""The bytes of a structure as plain Python data, by its layout. Pure.

A record becomes a dict, an array a list, an enumeration the name of its value; an array of char is text up to its NUL,
one of unsigned char is bytes. What is excluded, or only means something in its own process, is None.
"""

from __future__ import annotations

import math
import struct
from typing import Final, TypeAlias

import numpy as np

from agent.structures.layout import Array, Enumeration, Layout, Member, Opaque, Record, Scalar

Value: TypeAlias = bool | int | float | complex | str | bytes | list["Value"] | dict[str, "Value"] | None

_FLOATS: Final = {2: "<e", 4: "<f", 8: "<d"}
_KINDS: Final = {"signed": "i", "unsigned": "u", "float": "f", "boolean": "?"}
_UTF: Final = {1: "utf-8", 2: "utf-16-le", 4: "utf-32-le"}
_X87_BIAS: Final = 16383


def decode(layout: Layout, content: bytes | memoryview, most: int | None = None) -> Value:
    """The value that `content` holds. most: only so many elements of each array, the first ones.

    Raises ValueError for content of any other size than the layout's.
    """
    view = memoryview(content).cast("B")
    if len(view) != layout.size:
        raise ValueError(f"{len(view)} bytes for a layout of {layout.size}")
    return _decode(layout, view, most)


def _decode(layout: Layout, view: memoryview, most: int | None) -> Value:
    if isinstance(layout, Record):
        return _record(layout, view, most)
    if isinstance(layout, Array):
        return _array(layout, view, most)
    if isinstance(layout, Enumeration):
        return _named(layout, int.from_bytes(view, "little", signed=layout.is_signed))
    if isinstance(layout, Scalar):
        return _scalar(layout, view)
    return bytes(view[:most]) if isinstance(layout, Opaque) else None


def _record(layout: Record, view: memoryview, most: int | None) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for member in layout.members:
        value = _member(member, view, most)
        if member.name:
            found[member.name] = value
        elif isinstance(value, dict):
            found.update(value)
    return found


def _member(member: Member, view: memoryview, most: int | None) -> Value:
    if member.bits is None:
        return _decode(member.type, view[member.offset : member.offset + member.type.size], most)
    first, width = member.bits
    whole = int.from_bytes(view[member.offset : member.offset + (first + width + 7) // 8], "little")
    bits = whole >> first & (1 << width) - 1
    layout = member.type
    is_signed = layout.is_signed if isinstance(layout, Enumeration) else _is_signed(layout)
    value = bits - (1 << width) if is_signed and bits >> (width - 1) else bits
    if isinstance(layout, Enumeration):
        return _named(layout, value)
    return bool(value) if isinstance(layout, Scalar) and layout.encoding == "boolean" else value


def _is_signed(layout: Layout) -> bool:
    return isinstance(layout, Scalar) and layout.encoding in ("signed", "text")


def _named(layout: Enumeration, number: int) -> Value:
    return next((name for name, value in layout.values if value == number), number)


def _array(layout: Array, view: memoryview, most: int | None) -> Value:
    element = layout.element
    count = layout.count if most is None else min(layout.count, most)
    if isinstance(element, Scalar):
        if element.encoding == "text" and element.size in _UTF:
            return _text(view, element.size)
        view = view[: count * element.size]
        if (element.encoding, element.size) == ("unsigned", 1):
            return bytes(view)
        kind = _KINDS.get(element.encoding)
        if kind is not None and (element.size in _FLOATS if kind == "f" else element.size in (1, 2, 4, 8)):
            wide = kind if kind == "?" else f"<{kind}{element.size}"
            # A bool that was overwritten with another number than 1 is true all the same.
            numbers = np.frombuffer(view, np.uint8) != 0 if kind == "?" else np.frombuffer(view, wide)
            found: list[Value] = numbers.tolist()
            return found
    size = element.size
    return [_decode(element, view[at * size : (at + 1) * size], most) for at in range(count)]


def _scalar(layout: Scalar, view: memoryview) -> Value:
    match layout.encoding:
        case "signed":
            return int.from_bytes(view, "little", signed=True)
        case "unsigned":
            return int.from_bytes(view, "little")
        case "boolean":
            return any(view)
        case "text" if layout.size in _UTF:
            return _text(view, layout.size)
        case "float":
            return _float(layout, view)
        case "complex":
            half = Scalar("float", layout.size // 2, layout.name)
            real, imaginary = _float(half, view[: half.size]), _float(half, view[half.size :])
            if isinstance(real, float) and isinstance(imaginary, float):
                return complex(real, imaginary)
    return bytes(view)


def _text(view: memoryview, size: int) -> str:
    """Up to the first NUL; what is no character is shown as its bytes."""
    content = bytes(view)
    end = next((at for at in range(0, len(content), size) if not any(content[at : at + size])), len(content))
    return content[:end].decode(_UTF[size], "backslashreplace")


def _float(layout: Scalar, view: memoryview) -> float | bytes:
    if layout.size in _FLOATS:
        value: float = struct.unpack(_FLOATS[layout.size], view)[0]
        return value
    if "long double" in layout.name and layout.size == 16:
        return _x87(view)
    return bytes(view)


def _x87(view: memoryview) -> float:
    """The 80 bits of a long double (Intel SDM 4.2.2), as near as a float comes to them."""
    mantissa, head = struct.unpack("<QH", view[:10])
    sign = -1.0 if head & 0x8000 else 1.0
    exponent = head & 0x7FFF
    if exponent == 0x7FFF:
        return sign * float("inf") if mantissa << 1 & (1 << 64) - 1 == 0 else float("nan")
    try:
        return sign * math.ldexp(mantissa, exponent - _X87_BIAS - 63)
    except OverflowError:
        return sign * float("inf")
