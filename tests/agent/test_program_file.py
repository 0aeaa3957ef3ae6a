"""Every mistake that a program.toml can have, and the line that a person gets to read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.program_file import load_definition, mistakes_in
from transport.errors import ConfigError
from transport.settings_file import FILE_BYTES_MAX

SMALLEST = '[program]\nid = "redis"\ncommand = ["/usr/bin/redis-server"]\n'
REDIRECT = '[redirect]\ndriver = "address"\ninterface = "eth0"\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where a program.toml may be written."""
    return tmp_path / "program.toml"


def the_mistake(file: Path) -> tuple[str, str]:
    """The only mistake in the file, without the file's name, and its hint."""
    found = mistakes_in(file)
    assert len(found) == 1, [str(mistake) for mistake in found]
    line = str(found[0])
    assert line.startswith(f"{file}: ")
    assert "\n" not in line
    assert found[0].hint
    return line.removeprefix(f"{file}: "), found[0].hint


def test_a_good_file_is_loaded(file: Path) -> None:
    file.write_text(SMALLEST)
    assert mistakes_in(file) == []
    assert load_definition(file).program.id == "redis"


STRUCTURES = SMALLEST + '[mirror]\nmode = "structures"\n'


@pytest.mark.parametrize(
    ("text", "line", "hint"),
    [
        ("", "program: missing", "add it"),
        ("program", "not TOML: Expected '=' after a key in a key/value pair (at end of document)", "need quotes"),
        ('[program]\nid = "redis', "not TOML: Unterminated string (at end of document)", "need quotes"),
        ("program = 1", "program: must be a table, not 1", "[program]"),
        ('[program]\nid = "redis"', "program.command: missing", "add it"),
        (SMALLEST + "[mirorr]\n", "mirorr: unknown key", "did you mean mirror?"),
        (SMALLEST + "[mirror]\ninterval = 50", "mirror.interval: unknown key", "did you mean interval_ms?"),
        (SMALLEST + "codec = 1", "program.codec: unknown key", "codec belongs to [mirror]"),
        (SMALLEST + "zzz = 1", "program.zzz: unknown key", "config reference"),
        (
            SMALLEST + '[mirror]\ninterval_ms = "50ms"',
            'mirror.interval_ms: must be a whole number, not "50ms"',
            "millis",
        ),
        (SMALLEST + "[mirror]\ninterval_ms = true", "mirror.interval_ms: must be a whole number, not true", "millis"),
        (SMALLEST + "[mirror]\ninterval_ms = 50.0", "mirror.interval_ms: must be a whole number, not 50.0", "millis"),
        (SMALLEST + "[mirror]\ninterval_ms = 9", "mirror.interval_ms: must be at least 10, not 9", "milliseconds"),
        (SMALLEST + "[mirror]\ninterval_ms = 1001", "mirror.interval_ms: must be at most 1000, not 1001", "millisec"),
        (
            SMALLEST + "[mirror]\ninterval_ms = 20\ndeadline_ms = 30",
            "mirror: deadline_ms = 30 is longer than interval_ms = 20, so the program could stand still all the time",
            "20 at most",
        ),
        (
            SMALLEST + '[[structures]]\npython = "engine:BOOK"',
            'python of structure book needs mode = "structures"',
            "write mode",
        ),
        (
            SMALLEST + '[[structures]]\nsymbol = "book"\nindependent = true',
            "independent of structure book means nothing without interval_ms",
            "give it one shorter than that of [mirror], 50, or leave independent out",
        ),
        (
            SMALLEST + '[[structures]]\nsymbol = "book"\nconsistency = "none"',
            "consistency of structure book means nothing without interval_ms",
            "leave consistency out",
        ),
        (
            SMALLEST + '[[structures]]\nsymbol = "book"\ninterval_ms = 50\nindependent = true',
            "interval_ms = 50 of structure book is not shorter than that of [mirror], 50",
            "leave it out: the structure is in each checkpoint",
        ),
        (
            SMALLEST + '[[structures]]\nsymbol = "book"\ninterval_ms = 4',
            "structures[1].interval_ms: must be at least 5, not 4",
            "milliseconds",
        ),
        (
            STRUCTURES + '[[structures]]\nsymbol = "book"\nindependent = true',
            'independent of structure book needs mode = "process"',
            "leave it out: in this mode each structure is",
        ),
        (SMALLEST + '[hooks]\non_promote_signal = "SIGHUP"', '[hooks] needs mode = "structures"', "leave it out"),
        (
            STRUCTURES + '[hooks]\non_demote_signal = "SIGKILL"',
            'hooks.on_demote_signal: "SIGKILL" is no signal that a program could be told by',
            '"SIGUSR1"',
        ),
        (
            STRUCTURES + '[hooks]\non_promote = ["notify"]',
            'hooks.on_promote: the executable must be an absolute path, not "notify"',
            "begin it with /",
        ),
        (
            STRUCTURES + '[[structures]]\nsymbol = "book"\n[[structures]]\npython = "exchange:BOOK"',
            "structures: two structures are called book",
            "give one of them a name",
        ),
        (
            STRUCTURES + '[[structures]]\nfile = "book"',
            'structures[1].file: file must be an absolute path, not "book"',
            "begin it with /",
        ),
        (SMALLEST + '[mirror]\nguarantee = "sync"', 'mirror.guarantee: "sync" comes later', '"async"'),
        (SMALLEST + '[mirror]\ncodec = "zst"', 'mirror.codec: must be "zstd" or "lz4", not "zst"', 'mean "zstd"?'),
        (SMALLEST + "[mirror]\npid = 1", "mirror.pid: must be at least 2, not 1", "config reference"),
        (SMALLEST + "files = 1", "program.files: unknown key", "config reference"),
        (SMALLEST + '[files]\npath = "/x"', "files: must be a list, not a table", "[[files]]"),
        (SMALLEST + '[[files]]\npath = "/x"', "files[1].rule: missing", "add it"),
        (
            SMALLEST + '[[files]]\npath = "x"\nrule = "local"',
            'files[1].path: the path must be an absolute path, not "x"',
            "/",
        ),
        (
            SMALLEST + '[[files]]\npath = "/x"\nrule = "local"\n[[files]]\npath = "/y"\nrule = "mirror"',
            'files[2].rule: "mirror" comes later',
            '"shared" and "local" and "discard"',
        ),
        (SMALLEST + REDIRECT, 'redirect: driver = "address" needs address', 'address = "10.0.0.100/24"'),
        (SMALLEST + REDIRECT + "address = '10.0.0.1'", 'redirect.address: "10.0.0.1" has no prefix length', "/24"),
        (
            SMALLEST + REDIRECT + "address = '10.0.0/24'",
            'redirect.address: "10.0.0/24" is no IPv4 or IPv6 address',
            "say",
        ),
        (
            SMALLEST + REDIRECT + "address = '127.0.0.1/8'",
            'redirect.address: "127.0.0.1/8" can\'t move from node to node',
            "free address",
        ),
        (
            SMALLEST + REDIRECT.replace("address", "keepalived") + "address = '10.0.0.1/24'",
            'redirect: driver = "keepalived" needs router_id',
            "router_id = 51",
        ),
        (
            SMALLEST + REDIRECT + "address = '10.0.0.1/24'\nrouter_id = 51",
            'redirect: router_id means nothing to driver = "address"',
            '"keepalived"',
        ),
        (
            SMALLEST + '[redirect]\ndriver = "proxy"\nlisten = "127.0.0.1:1"\nforward = "localhost:2"',
            'redirect.forward: "localhost:2" is not an address and a port',
            "127.0.0.1:6379",
        ),
        (
            SMALLEST + '[redirect]\ndriver = "proxy"\nlisten = "127.0.0.1:1"\nforward = "127.0.0.1:1"',
            "redirect: listen and forward are the same",
            "port of its own",
        ),
        (
            SMALLEST + '[redirect]\ndriver = "exec"\nclaim = ["/bin/true"]',
            'redirect: driver = "exec" needs release',
            "release = ",
        ),
        (
            SMALLEST + '[redirect]\ndriver = "exec"\nclaim = ["true"]\nrelease = ["/bin/true"]',
            'redirect.claim: the executable must be an absolute path, not "true"',
            "begin it with /",
        ),
        (
            SMALLEST + '[redirect]\ndriver = "exec"\nclaim = ["/bin/true"]\nrelease = ["/bin/true"]\ninterface = "e0"',
            "redirect: address and interface belong together",
            "both, or neither",
        ),
        (SMALLEST + '[[health]]\nkind = "tcp"', 'health[1]: kind = "tcp" needs port', "port = "),
        (SMALLEST + '[[health]]\nkind = "exec"', 'health[1]: kind = "exec" needs command', "command = "),
        (SMALLEST + '[[health]]\nkind = "exchange"\nport = 1', 'health[1]: kind = "exchange" needs expect', "+PONG"),
        (
            SMALLEST + '[[health]]\nkind = "tcp"\nport = 1\n[[health]]\nkind = "exec"\ncommand = ["ping"]',
            'health[2]: the executable must be an absolute path, not "ping"',
            "begin it with /",
        ),
        (
            SMALLEST + '[[health]]\nkind = "tcp"\nport = 1\ntimeout_ms = 1000',
            "health[1]: timeout_ms = 1000 is not less than interval_ms = 1000",
            "before the next",
        ),
        (
            SMALLEST + '[[health]]\nkind = "tcp"\nport = 1\ncommand = ["/bin/true"]',
            'health[1]: command means nothing to kind = "tcp"',
            'kind = "exec"',
        ),
        (
            SMALLEST + '[[health]]\nkind = "exchange"\nport = 1\nexpect = "\u20ac"',
            "health[1].expect: a character above \\u00ff is not one byte",
            "one by one",
        ),
        (
            SMALLEST + '[[health]]\nkind = "http"\nport = 1\npath = "ping"',
            "health[1].path: 'ping' is no path of a request",
            "%XX",
        ),
        (SMALLEST + '[health]\nkind = "tcp"\nport = 1', "health: must be a list, not a table", "[[health]] with kind"),
        (
            SMALLEST + '[[health]]\nkind = "tcp"\nport = 1\n' * 17,
            "health: has 17 entries, at most 16",
            "config reference",
        ),
        (SMALLEST + "[limits]\nopen_files = -1", "limits.open_files: must be at least 0, not -1", "config reference"),
        (
            SMALLEST + "[failover]\nrestart = 1",
            'failover.restart: must be "always", "on-failure" or "never", not 1',
            "",
        ),
        (SMALLEST.replace('"redis"', '"Redis 1"'), 'program.id: "Redis 1" does not match ^[a-z0-9-]{1,63}$', "63"),
        (
            SMALLEST.replace('["/usr/bin/redis-server"]', '"redis-server"'),
            'program.command: must be a list, not "redis-server"',
            "[",
        ),
        (SMALLEST.replace('["/usr/bin/redis-server"]', "[]"), "program.command: must not be empty", "config reference"),
        (
            SMALLEST.replace("]\n", ", 1]\n").replace("program, 1]", "program]"),
            "program.command[2]: must be a string in quotes, not 1",
            "",
        ),
        (
            SMALLEST.replace("/usr/bin/", ""),
            'program.command: the executable must be an absolute path, not "redis-server"',
            "begin it with /",
        ),
        (SMALLEST + 'umask = "9"', 'program.umask: "9" does not match ^0?[0-7]{3}$', "octal"),
        (SMALLEST + "umask = 22", "program.umask: must be a string in quotes, not 22", ""),
        (
            SMALLEST + 'directory = "tmp"',
            'program.directory: the working directory must be an absolute path, not "tmp"',
            "",
        ),
        (SMALLEST + "environment = { A = 1 }", "program.environment.A: must be a string in quotes, not 1", ""),
        (SMALLEST + "environment = { 'A=B' = 'x' }", "program.environment: 'A=B' can't be passed", "has no ="),
        (SMALLEST + 'environment = "A=B"', 'program.environment: must be a table, not "A=B"', ""),
    ],
)
def test_a_mistake_is_one_line_with_a_remedy(file: Path, text: str, line: str, hint: str) -> None:
    file.write_text(text)
    found, remedy = the_mistake(file)
    assert found == line
    assert hint in remedy


def test_a_long_value_is_cut(file: Path) -> None:
    file.write_text(SMALLEST + f'[mirror]\ncodec = "{"z" * 500}"')
    line, _ = the_mistake(file)
    assert len(line) < 150


def test_all_mistakes_are_found_and_the_first_is_raised(file: Path) -> None:
    file.write_text(SMALLEST + "[mirror]\ninterval = 50\ncodecs = 1\n")
    assert len(mistakes_in(file)) == 2
    with pytest.raises(ConfigError) as raised:
        load_definition(file)
    assert raised.value.what == f"{file}: mirror.interval: unknown key"
    assert raised.value.hint == f"did you mean interval_ms? (1 more: kagemusha config check {file})"


def test_a_missing_file(file: Path) -> None:
    assert the_mistake(file)[0] == "does not exist"


def test_a_directory(tmp_path: Path) -> None:
    assert the_mistake(tmp_path)[0] == "is not a regular file"


def test_a_pipe_is_not_waited_for(file: Path) -> None:
    os.mkfifo(file)
    assert the_mistake(file)[0] == "is not a regular file"


def test_bytes_that_are_no_text(file: Path) -> None:
    file.write_bytes(b"\x80")
    assert the_mistake(file)[0] == "not TOML: byte 0 is not UTF-8"


def test_a_huge_file(file: Path) -> None:
    file.write_bytes(b"#" * (FILE_BYTES_MAX + 1))
    assert the_mistake(file)[0] == f"is longer than {FILE_BYTES_MAX} bytes"


def test_a_file_that_everybody_can_write(file: Path) -> None:
    file.write_text(SMALLEST)
    file.chmod(0o666)
    line, hint = the_mistake(file)
    assert line == "can be written by everybody, who could make root start anything"
    assert hint == f"chmod go-w {file}"


def test_a_file_that_a_group_can_write(file: Path) -> None:
    file.write_text(SMALLEST)
    os.chown(file, 0, 1)
    file.chmod(0o664)
    assert the_mistake(file)[0] == "can be written by its group, who could make root start anything"


def test_a_file_of_somebody_else(file: Path) -> None:
    file.write_text(SMALLEST)
    os.chown(file, 65534, 0)
    line, hint = the_mistake(file)
    assert line == "belongs to the user with the number 65534, who could make root start anything"
    assert hint == f"chown root {file}"
