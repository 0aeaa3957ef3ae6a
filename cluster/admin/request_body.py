"""JSON from a client (RFC 8259), read without mercy: no key twice, no NaN, no depth beyond reason. Pure."""

from __future__ import annotations

import json
from typing import Any, Final, NoReturn

from cluster.admin.problem import UNREADABLE, ApiError

BODY_BYTES_MAX: Final = 64 << 10


def json_of(body: bytes) -> Any:
    """The value in a body. Raises ApiError (400), naming the place."""
    try:
        return json.loads(body.decode(), object_pairs_hook=_unique, parse_constant=_refuse)
    except UnicodeDecodeError as error:
        raise ApiError(UNREADABLE, f"the body is not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise ApiError(
            UNREADABLE, f"the body is no JSON: line {error.lineno}, column {error.colno}: {error.msg}"
        ) from None
    except RecursionError:
        raise ApiError(UNREADABLE, "the body is nested too deeply") from None
    except ValueError as error:
        raise ApiError(UNREADABLE, f"the body is no JSON: {str(error)[:100]}") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object has a key twice")
    return found


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number")
