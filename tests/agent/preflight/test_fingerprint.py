"""Fingerprints: made, carried, compared."""

from __future__ import annotations

import dataclasses
import json
import os

import pytest

from agent.preflight.fingerprint import Fingerprint, differences, fingerprint
from transport.errors import PreflightError

HERE = Fingerprint(
    node="a",
    program="redis",
    definition="d" * 64,
    kernel="6.18.1",
    kernel_build="#1 SMP",
    machine="x86_64",
    cpu_model="A CPU",
    cpu_flags=("avx", "sse2"),
    xstate_bytes=2432,
    page_bytes=4096,
    files={"/bin/x": "1" * 64, "/lib/y": "2" * 64},
)
THERE = dataclasses.replace(HERE, node="b", cpu_model="Another name")


def only(**changes: object) -> str:
    """The only difference that a change on the other node makes, as a line."""
    found = differences(HERE, dataclasses.replace(THERE, **changes))  # type: ignore[arg-type]
    assert len(found) == 1
    assert found[0].remedy
    return str(found[0])


def test_this_node_has_one() -> None:
    found = fingerprint("redis", "d" * 64, 2432, ["/bin/sh"])
    assert found.kernel == os.uname().release
    assert "fpu" in found.cpu_flags
    assert len(found.files["/bin/sh"]) == 64
    assert differences(found, found) == []


def test_it_survives_the_way() -> None:
    assert Fingerprint.from_json(HERE.to_json(), "a") == HERE


def test_equal_nodes() -> None:
    assert differences(HERE, THERE) == []


def test_each_difference_is_one_line() -> None:
    assert only(kernel="6.9") == "node b: the kernel release differs: 6.18.1 here, 6.9 there"
    assert only(kernel_build="#2") == "node b: the build of the kernel differs: #1 SMP here, #2 there"
    assert only(definition="e" * 64) == "node b: the program.toml differs: dddddddddddd here, eeeeeeeeeeee there"
    assert only(xstate_bytes=832) == "node b: the size of the extended registers differs: 2432 here, 832 there"
    assert only(cpu_flags=("sse2",)) == "node b: CPU features that are only here: avx"
    assert only(cpu_flags=("avx", "avx512f", "sse2")) == "node b: CPU features that are only there: avx512f"
    assert only(files={"/bin/x": "1" * 64}) == "node b: /lib/y is used only here"
    assert only(files={**HERE.files, "/lib/z": "3" * 64}) == "node b: /lib/z is used only there"
    assert (
        only(files={**HERE.files, "/bin/x": "9" * 64})
        == "node b: /bin/x differs: SHA-256 111111111111 here, 999999999999 there"
    )


def test_the_nodes_may_have_names() -> None:
    other = dataclasses.replace(THERE, kernel="6.9", cpu_flags=("sse2",))
    found = [reason.what for reason in differences(HERE, other, "on node x", "on node y")]
    assert found == [
        "the kernel release differs: 6.18.1 on node x, 6.9 on node y",
        "CPU features that are only on node x: avx",
    ]


def test_another_program_is_compared_no_further() -> None:
    assert only(program="nginx", kernel="6.9") == "node b: the fingerprint is of program nginx, not of redis"


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(PreflightError, match=r"^/none: can't be read: No such file"):
        fingerprint("x", "", 0, ["/none"])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"format": 2}',
        '{"format": 1}',
        json.dumps({**json.loads(HERE.to_json()), "more": 1}),
        json.dumps({**json.loads(HERE.to_json()), "xstate_bytes": "2432"}),
        json.dumps({**json.loads(HERE.to_json()), "cpu_flags": 5}),
    ],
)
def test_what_is_no_fingerprint(text: str) -> None:
    with pytest.raises(PreflightError, match=r"^facts\.json: is no fingerprint: "):
        Fingerprint.from_json(text, "facts.json")
