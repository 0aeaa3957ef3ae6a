"""Words, quotes, specifiers and variables, as systemd.service(5) and systemd.unit(5) have them. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from transport.errors import ConfigError

_ESCAPES: Final = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "s": " "}
_DIGITS: Final = {"x": (2, 16), "u": (4, 16), "U": (8, 16)}
_VARIABLE: Final = re.compile(r"\$(?:\$|\{([A-Za-z_][A-Za-z0-9_]*)\}|([A-Za-z_][A-Za-z0-9_]*))")
_NAME: Final = re.compile(r"\$([A-Za-z_][A-Za-z0-9_]*)")


def split(text: str) -> list[str]:
    """The words of a line. Raises ConfigError for a quote that does not end, or an escape that is none."""
    words: list[str] = []
    word: list[str] | None = None
    quote, at = "", 0
    while at < len(text):
        character = text[at]
        at += 1
        if character == "\\":
            piece, at = _unescaped(text, at)
            word = [*(word or []), piece]
        elif quote:
            if character == quote:
                quote = ""
            else:
                word = [*(word or []), character]
        elif character in "\"'" and word is None:
            quote, word = character, []
        elif character in "\"'":
            quote = character
        elif character.isspace():
            if word is not None:
                words.append("".join(word))
            word = None
        else:
            word = [*(word or []), character]
    if quote:
        raise ConfigError(f"a quote does not end: {text[:80]}")
    return [*words, "".join(word)] if word is not None else words


def _unescaped(text: str, at: int) -> tuple[str, int]:
    """What the escape after a backslash stands for, and where the text goes on."""
    character = text[at : at + 1]
    if character in _ESCAPES:
        return _ESCAPES[character], at + 1
    if character in _DIGITS:
        count, base = _DIGITS[character]
        digits = text[at + 1 : at + 1 + count]
        if re.fullmatch(f"[0-9a-fA-F]{{{count}}}", digits):
            return chr(int(digits, base)), at + 1 + count
    if re.match("[0-7]{3}", text[at:]):
        return chr(int(text[at : at + 3], 8)), at + 3
    if character in tuple("\\\"'") or character == "":
        return character or "\\", at + 1
    # systemd keeps what it does not know, backslash and all.
    return "\\" + character, at + 1


@dataclass(frozen=True, slots=True)
class Specifiers:
    """What `%` letters stand for. unit: the whole name. host: name of this node, which may be another on each."""

    unit: str
    host: str = ""

    def expand(self, text: str) -> str:
        """Raises ConfigError for a letter that is not known here."""
        return re.sub(r"%(.)", lambda found: self._of(found[1], text), text)

    def _of(self, letter: str, text: str) -> str:
        stem = self.unit.rpartition(".")[0]
        prefix, sign, instance = stem.partition("@")
        known = {
            "%": "%",
            "n": self.unit,
            "N": stem,
            "p": prefix,
            "P": unescape(prefix),
            "i": instance,
            "I": unescape(instance),
            "f": "/" + unescape(instance if sign else prefix).lstrip("/"),
            "j": prefix.rpartition("-")[2],
            "t": "/run",
            "S": "/var/lib",
            "C": "/var/cache",
            "L": "/var/log",
            "E": "/etc",
            "T": "/tmp",
            "V": "/var/tmp",
            "h": "/root",
            "u": "root",
            "U": "0",
            "g": "root",
            "G": "0",
        }
        if letter in "Hl" and self.host:
            return self.host
        if letter not in known:
            what = f"%{letter} in {text[:60]!r} is not known outside of systemd"
            raise ConfigError(what, hint="write what it stands for into a drop-in, and adopt again")
        return known[letter]


def unescape(name: str) -> str:
    """A part of a unit's name as systemd-escape(1) --unescape gives it."""
    return re.sub(r"\\x([0-9a-fA-F]{2})", lambda found: chr(int(found[1], 16)), name.replace("-", "/"))


def expand(words: list[str], environment: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """A command line with its variables replaced, and the names that have no value.

    `${NAME}` becomes its value; `$NAME` that is a word of its own becomes the words of its value; `$$` is a dollar.
    """
    found: list[str] = []
    missing: list[str] = []

    def value_of(name: str) -> str:
        if name not in environment:
            missing.append(name)
        return environment.get(name, "")

    def piece(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        return value_of(name) if name else "$"

    for place, word in enumerate(words):
        alone = _NAME.fullmatch(word)
        if place and alone is not None:
            found += split(value_of(alone[1]))
        else:
            found.append(_VARIABLE.sub(piece, word))
    return found, missing


def variables_of(text: str) -> dict[str, str]:
    """The variables of an EnvironmentFile. Lines that are none are passed over, as systemd does."""
    found: dict[str, str] = {}
    for line in re.sub(r"\\\n", "", text).splitlines():
        stripped = line.strip()
        name, sign, value = stripped.partition("=")
        if stripped.startswith(("#", ";")) or not sign or not re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", name.strip()):
            continue
        found[name.strip()] = _plain(value.strip())
    return found


def _plain(value: str) -> str:
    """A value without its quotes; in single ones nothing is escaped."""
    pieces = re.findall(r"'([^']*)'|\"((?:\\.|[^\"\\])*)\"|((?:\\.|[^'\"\\])+)", value)
    text = ""
    for single, double, bare in pieces:
        text += single or re.sub(r"\\([\"\\`$])", r"\1", double) or re.sub(r"\\(.)", r"\1", bare)
    return text
