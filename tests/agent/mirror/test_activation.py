"""A program is killed and goes on in its shadow; it judges for itself."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from agent.launch.spawner import Spawner
from agent.mirror import activation
from tests.agent.plain_copy import Original, await_line, build, built, launch, pump, pump_for_turns, take_over

COMMANDS = [("threads",), ("signals",), ("timers",), ("process",), ("process", "65534"), ("parent",)]


def moved(original: Original, output: Path) -> Original:
    """Copy the stopped program into a shadow, kill it, and let the shadow go on; gives what runs now."""
    image = original.image()
    shadow = build(original.spawner, image)
    try:
        original.kill()
        take_over(shadow, image, output)
    except BaseException:
        shadow.destroy()
        raise
    shadow.close()
    return Original(original.spawner, shadow.pid, shadow.init, seized=set(shadow.threads.values()))


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("times", [1, 3])
def test_a_program_goes_on(command: tuple[str, ...], times: int, spawner: Spawner, place: Path) -> None:
    name, *arguments = command
    path, go, output = built(name), place / "go", place / "output"
    program = launch(spawner, path, str(go), *arguments, output=output)
    try:
        await_line(output, "ready")
        for _ in range(times):
            program.stop()
            program = moved(program, output)
            pump_for_turns(20)
        go.touch()
        assert await_line(output, "PASS", "FAIL") == "PASS", output.read_text()
        ended = pump(lambda ended: program.pid in ended)
        assert os.waitstatus_to_exitcode(ended[program.pid]) == 7
    finally:
        program.kill()


def test_the_time_line_has_every_step(spawner: Spawner, place: Path) -> None:
    path, output = built("process"), place / "output"
    program = launch(spawner, path, str(place / "go"), output=output)
    try:
        await_line(output, "ready")
        program.stop()
        image = program.image()
        shadow = build(spawner, image)
        program.kill()
        names = [step.name for step in take_over(shadow, image, output)]
        shadow.close()
        program = Original(spawner, shadow.pid, shadow.init, seized=set(shadow.threads.values()))
        assert names == [
            "prepare", "descriptors, rows", "descriptors", "children", "threads", "address", "announcement",
            "connections", "trampoline", "registers", "go",
        ]  # fmt: skip
    finally:
        program.kill()


def test_nothing_is_prepared_twice(spawner: Spawner, place: Path) -> None:
    path, output = built("threads"), place / "output"
    program = launch(spawner, path, str(place / "go"), output=output)
    try:
        await_line(output, "ready")
        program.stop()
        image = program.image()
        shadow = build(spawner, image)
        try:
            runs: list[object] = []
            execute = shadow.execute

            def counted(starts: Mapping[int, int]) -> None:
                runs.append(starts)
                execute(starts)

            shadow.execute = counted  # type: ignore[method-assign]
            activation.prepare(shadow, image.records)
            assert runs == []
        finally:
            shadow.destroy()
    finally:
        program.kill()
