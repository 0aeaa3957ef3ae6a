"""Units are read as systemd reads them: systemd.syntax(7), systemd.service(5)."""

from __future__ import annotations

import pytest

from kagemusha.unit.text import Unit, read
from kagemusha.unit.values import INFINITY, limit, number, seconds
from kagemusha.unit.words import Specifiers, expand, split, unescape, variables_of
from transport.errors import ConfigError


def unit_of(text: str) -> Unit:
    """A unit with this text."""
    unit = Unit("web.service")
    read(unit, text, "web.service")
    return unit


def test_lines_go_on_and_comments_are_left_out() -> None:
    unit = unit_of(
        "# first\n[Service]\nExecStart=/bin/web \\\n  --port 80 \\\n# in between\n; and this\n  --fast\nUser = web \n\n"
        "[Install]\nWantedBy=multi-user.target\n"
    )
    assert split(unit.last("ExecStart")) == ["/bin/web", "--port", "80", "--fast"]
    assert unit.last("User") == "web"
    assert unit.last("WantedBy", "Install") == "multi-user.target"
    assert unit.last("WantedBy") == ""


def test_an_empty_assignment_takes_away_those_before_it() -> None:
    unit = unit_of("[Service]\nExecStart=/bin/old\nExecStart=\nExecStart=/bin/new\nCapabilityBoundingSet=\n")
    assert unit.all("ExecStart") == ["/bin/new"]
    assert unit.is_emptied("CapabilityBoundingSet")
    assert not unit.is_emptied("ExecStart")
    assert unit.names() == ["ExecStart"]


@pytest.mark.parametrize(("value", "is_yes"), [("true", True), ("strict", True), ("0", False), ("no", False)])
def test_yes_and_no(value: str, is_yes: bool) -> None:
    assert unit_of(f"[Service]\nProtectSystem={value}\n").says("ProtectSystem") is is_yes


@pytest.mark.parametrize("text", ["User=x\n", "[Service]\nwhat is this\n", "#!/bin/sh\necho\n"])
def test_what_is_no_unit(text: str) -> None:
    with pytest.raises(ConfigError, match="neither a section nor an assignment"):
        unit_of(text)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("/bin/a  b\tc", ["/bin/a", "b", "c"]),
        ("a 'b c' \"d  e\"", ["a", "b c", "d  e"]),
        ("a '' b", ["a", "", "b"]),
        (r"a\x20b \u00e4 \101 c\sd", ["a b", "ä", "A", "c d"]),
        (r'"a\"b" \n', ['a"b', "\n"]),
        (r"C:\new\qq", ["C:\new\\qq"]),
        ("it'is'one", ["itisone"]),
        ("", []),
    ],
)
def test_words(line: str, words: list[str]) -> None:
    assert split(line) == words


def test_a_quote_that_does_not_end() -> None:
    with pytest.raises(ConfigError, match="a quote does not end"):
        split("a 'b")


def test_variables_of_a_command_line() -> None:
    environment = {"ONE": "1 2", "NAME": "x"}
    words, missing = expand(["/bin/a", "$ONE", "${ONE}", "-p$NAME", "$$HOME", "$NONE", "${NONE}"], environment)
    assert words == ["/bin/a", "1", "2", "1 2", "-px", "$HOME", ""]
    assert missing == ["NONE", "NONE"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("A=1\n# no\n; no\n B = two words \nno equals\n1X=no\n", {"A": "1", "B": "two words"}),
        ("A=\"a b\" \nB='c $x' \nC=\nD=a\\\nb\n", {"A": "a b", "B": "c $x", "C": "", "D": "ab"}),
        ('A="say \\"hi\\" \\$x"\nB=a\\ b\n', {"A": 'say "hi" $x', "B": "a b"}),
    ],
)
def test_files_of_variables(text: str, found: dict[str, str]) -> None:
    assert variables_of(text) == found


def test_specifiers() -> None:
    of = Specifiers("postgresql@15-main.service", "alpha").expand
    assert of("%i %I %n %N %p %% %t %S %L %E %H") == (
        "15-main 15/main postgresql@15-main.service postgresql@15-main postgresql % /run /var/lib /var/log /etc alpha"
    )
    assert unescape(r"a-b\x2dc") == "a/b-c"
    with pytest.raises(ConfigError, match="%m in"):
        of("--id %m")


@pytest.mark.parametrize(("text", "value"), [("64", 64), ("64K", 65536), ("1 G", 1 << 30), ("infinity", INFINITY)])
def test_numbers(text: str, value: int) -> None:
    assert number(text) == value
    assert limit(f"16:{text}") == (16, value)
    assert limit(text) == (value, value)


@pytest.mark.parametrize(
    ("text", "value"),
    [("5", 5), ("1h", 3600), ("1min 30s", 90), ("250ms", 0.25), ("0", None), ("infinity", None), ("2min 4.5", 124.5)],
)
def test_times(text: str, value: float | None) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["", "soon", "5 parsecs"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(ConfigError):
        seconds(text)
    with pytest.raises(ConfigError):
        number(text)
