"""Agents and daemons come and go; the program runs on, is mirrored again, and serves only with a lease."""

from __future__ import annotations

import asyncio
import os
import resource
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from cluster.agents.place import Place
from cluster.agents.record import InstanceRecord, start_ticks_of
from cluster.node.messages import (
    ActivateHere,
    DoesNotServe,
    Done,
    GetReadyHere,
    HeldAt,
    Hold,
    LetGo,
    MirrorFrom,
    ProgramRead,
    ReadProgram,
    ServeOn,
    Serves,
    Start,
    Stop,
    StopServing,
    Waits,
)
from cluster.redirect.probe import AddressInUse
from tests.cluster.agents.household import DEADLINE_S, PROGRAM, Home, counted, households
from transport.checkpoint import Version
from transport.errors import KagemushaError


async def serve_and_mirror(program: str, a: Home, b: Home) -> None:
    """Started on a, mirrored on b."""
    assert await a.supervisor.carry_out(Start(PROGRAM, program, 1)) == Serves(())
    assert a.state.stream
    await b.supervisor.carry_out(MirrorFrom(PROGRAM, program, "a", a.state.stream, 1))
    await b.until(lambda state: state.status == "mirrored")
    await a.until(lambda state: state.status == "mirrored")


def output(home: Home) -> Path:
    """Where the program writes."""
    return Place(home.config, PROGRAM).output


async def counts_on(path: Path) -> int:
    """Wait until more is written; gives the last number."""
    async with asyncio.timeout(DEADLINE_S):
        before = len(counted(path))
        while len(counted(path)) < before + 3:
            await asyncio.sleep(0.005)
    return counted(path)[-1]


def is_gapless(numbers: list[int]) -> bool:
    """Every number once, in order."""
    return numbers == list(range(1, len(numbers) + 1))


async def test_an_agent_that_dies_is_replaced_and_a_last_gasp_goes_on_elsewhere(tmp_path: Path) -> None:
    async with households(tmp_path) as (program, a, b):
        await serve_and_mirror(program, a, b)
        pid, first, incarnation = a.pid, a.agent_pid, a.state.incarnation
        os.kill(first, 9)
        await a.until(lambda state: state.incarnation not in (0, incarnation) and state.status == "running")
        # A mirror follows again: the leader sees another stream or incarnation, and says so.
        await b.supervisor.carry_out(MirrorFrom(PROGRAM, program, "a", a.state.stream, 1))
        await a.until(lambda state: state.status == "mirrored")
        assert a.pid == pid
        assert start_ticks_of(pid)
        assert not a.state.agent_lost
        assert is_gapless(counted(output(a)))

        os.kill(pid, 9)
        state = await a.until(lambda state: state.ended is not None)
        assert state.ended is not None
        assert state.ended.fenced
        assert state.ended.last_gasp
        assert state.ended.final is not None
        answer = await b.supervisor.carry_out(ActivateHere(PROGRAM, 2, state.ended.final))
        assert isinstance(answer, Serves)
        assert answer.timeline
        assert await a.supervisor.carry_out(LetGo(PROGRAM, 1)) == Done()
        assert a.state.status == "stopped"
        await counts_on(output(a))
        assert is_gapless(counted(output(a)))


async def test_a_mirror_whose_agent_dies_is_built_again(tmp_path: Path) -> None:
    async with households(tmp_path) as (program, a, b):
        await serve_and_mirror(program, a, b)
        incarnation = b.state.incarnation
        os.kill(b.agent_pid, 9)
        await b.until(lambda state: state.incarnation not in (0, incarnation) and state.status == "mirrored")


async def test_why_an_order_failed_is_told_though_its_asker_has_given_up(tmp_path: Path) -> None:
    async with households(tmp_path) as (_, a, _):
        with capture_logs() as lines:
            asking = asyncio.create_task(a.supervisor.carry_out(ActivateHere(PROGRAM, 2, Version(1, 1, 1))))
            await asyncio.sleep(0)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            async with asyncio.timeout(DEADLINE_S):
                while not lines:
                    await asyncio.sleep(0.01)
        assert [one["event"] for one in lines] == ["an order is not carried out"]
        assert PROGRAM in lines[0]["reason"]


async def test_an_agent_is_of_a_later_incarnation_though_the_wall_clock_was_set_back(tmp_path: Path) -> None:
    async with households(tmp_path) as (program, a, b):
        await serve_and_mirror(program, a, b)
        agreed = b.agreed_incarnation = time.time_ns() + 3_600_000_000_000
        os.kill(b.agent_pid, 9)
        state = await b.until(lambda state: state.incarnation > agreed and state.status == "mirrored")
        # What its daemon knows by itself counts, too: the registry may be behind.
        b.agreed_incarnation = 0
        os.kill(b.agent_pid, 9)
        await b.until(lambda later: later.incarnation > state.incarnation and later.status == "mirrored")


async def test_an_agent_that_dies_while_nothing_can_be_opened_is_replaced_when_something_can(tmp_path: Path) -> None:
    async with households(tmp_path) as (program, a, b):
        await serve_and_mirror(program, a, b)
        incarnation, agent = b.state.incarnation, b.agent_pid
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        with capture_logs() as lines:
            resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
            try:
                os.kill(agent, 9)
                async with asyncio.timeout(DEADLINE_S):
                    while not any(one["event"] == "an agent may be left" for one in lines):
                        await asyncio.sleep(0.01)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        await b.until(lambda state: state.incarnation not in (0, incarnation) and state.status == "mirrored")


async def test_what_a_mirror_holds_is_known_without_asking_and_tells_nobody_at_once(tmp_path: Path) -> None:
    async with households(tmp_path) as (program, a, b):
        await serve_and_mirror(program, a, b)
        b.changed.clear()
        seen, ends_s = {b.state.version}, time.monotonic() + 2.0  # So many answers to questions would take 5 s.
        while len(seen) < 10:
            assert time.monotonic() < ends_s
            await asyncio.sleep(0.002)
            seen.add(b.state.version)
        assert not b.changed.is_set()


async def test_a_daemon_that_comes_again_finds_everything(tmp_path: Path) -> None:
    async with households(tmp_path) as (program, a, b):
        await serve_and_mirror(program, a, b)
        pids, incarnation = (a.pid, a.agent_pid), a.state.incarnation
        await a.stop()
        await a.start()
        await a.until(lambda state: state.status == "mirrored")
        assert (a.pid, a.agent_pid) == pids
        assert a.state.incarnation == incarnation
        await counts_on(output(a))
        # And what happened meanwhile.
        await a.stop()
        os.kill(pids[0], 9)
        os.kill(pids[1], 9)
        await a.start()
        state = await a.until(lambda state: state.ended is not None)
        assert state.ended is not None
        assert state.ended.fenced
        assert state.ended.agent_lost
        assert state.ended.final is None


async def test_a_daemon_that_comes_again_has_a_lease_in_hand_when_it_was_granted_one_itself(tmp_path: Path) -> None:
    async with households(tmp_path) as (program, a, b):
        await serve_and_mirror(program, a, b)
        assert await a.supervisor.in_hand(PROGRAM, 1)
        assert not await a.supervisor.in_hand(PROGRAM, 2)
        assert not await a.supervisor.in_hand("another", 1)
        assert not await b.supervisor.in_hand(PROGRAM, 1)
        await a.stop()
        a.grants = False
        await a.start()
        waiting = asyncio.create_task(a.supervisor.in_hand(PROGRAM, 1))
        await a.until(lambda state: state.status == "mirrored")
        assert not waiting.done()
        a.grants = True
        assert await waiting


async def test_without_a_lease_nothing_serves(tmp_path: Path) -> None:
    async with households(tmp_path) as (program, a, b):
        a.grants = False
        answer = await a.supervisor.carry_out(Start(PROGRAM, program, 1))
        assert isinstance(answer, DoesNotServe)
        assert answer.fenced
        assert "is not granted a lease" in answer.what
        a.grants = True
        assert await a.supervisor.carry_out(Start(PROGRAM, program, 2)) == Serves(())
        a.grants = False
        await a.until(lambda state: state.lease_out and state.status == "fenced")
        before = counted(output(a))
        a.grants = True
        await a.until(lambda state: not state.lease_out)
        assert await counts_on(output(a)) > before[-1]
        assert is_gapless(counted(output(a)))
        assert b.supervisor.leases() == []


def has_the_address(monkeypatch: pytest.MonkeyPatch, home: Home) -> None:
    """Somebody else has the address of the program when it is to go on at this node."""
    clients = home.supervisor.instances[PROGRAM].clients

    async def arrive(meanwhile: Coroutine[Any, Any, None], *, patient: bool) -> None:
        await meanwhile
        raise AddressInUse("10.0.0.100 is used by 52:54:00:00:00:66 on eth0 already")

    monkeypatch.setattr(clients, "arrive", arrive)


async def test_whose_address_is_not_free_keeps_all_that_it_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with households(tmp_path) as (program, a, b):
        await serve_and_mirror(program, a, b)
        held = await a.supervisor.carry_out(Hold(PROGRAM, 1, "f1"))
        assert isinstance(held, HeldAt)
        before = b.state
        with monkeypatch.context() as patch:
            for home in (a, b):
                has_the_address(patch, home)
            # A mirror, and the original of a switchover.
            for home, token in ((b, 2), (b, 2), (a, 3)):
                answer = await home.supervisor.carry_out(ActivateHere(PROGRAM, token, held.version))
                assert isinstance(answer, Waits)
                assert "52:54:00:00:00:66" in answer.what
        assert (b.state.role, b.state.status, b.state.version) == ("mirror", "mirrored", held.version)
        assert (b.state.token, b.state.incarnation) == (1, before.incarnation)
        assert (a.state.token, a.state.fence_id, a.state.status) == (1, "f1", "fenced")
        assert a.supervisor.leases() == b.supervisor.leases() == []
        assert InstanceRecord.load(Place(b.config, PROGRAM).record).role == "mirror"
        before_it = counted(output(a))[-1]
        assert isinstance(await b.supervisor.carry_out(ActivateHere(PROGRAM, 2, held.version)), Serves)
        await a.supervisor.carry_out(LetGo(PROGRAM, 1))
        assert await counts_on(output(a)) > before_it
        assert is_gapless(counted(output(a)))


async def test_who_is_not_granted_a_lease_in_time_keeps_all_that_it_holds_and_is_told_again(tmp_path: Path) -> None:
    async with households(tmp_path) as (program, a, b):
        await serve_and_mirror(program, a, b)
        held = await a.supervisor.carry_out(Hold(PROGRAM, 1, "f1"))
        assert isinstance(held, HeldAt)
        before, before_it = b.state, counted(output(a))[-1]
        # The leader that promoted it is gone.
        b.grants = False
        assert await b.supervisor.carry_out(ActivateHere(PROGRAM, 2, held.version)) == Done()
        assert (b.state.role, b.state.status, b.state.version) == ("mirror", "mirrored", held.version)
        assert (b.state.token, b.state.incarnation) == (1, before.incarnation)
        assert b.supervisor.leases() == []
        b.grants = True
        assert isinstance(await b.supervisor.carry_out(ActivateHere(PROGRAM, 2, held.version)), Serves)
        await a.supervisor.carry_out(LetGo(PROGRAM, 1))
        assert await counts_on(output(a)) > before_it
        assert is_gapless(counted(output(a)))


async def test_who_was_made_ready_follows_again_when_its_primary_serves_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with households(tmp_path) as (program, a, b):
        await serve_and_mirror(program, a, b)
        held = await a.supervisor.carry_out(Hold(PROGRAM, 1, "f1"))
        assert isinstance(held, HeldAt)
        number = held.version.number
        with monkeypatch.context() as patch:
            has_the_address(patch, b)
            assert isinstance(await b.supervisor.carry_out(ActivateHere(PROGRAM, 2, held.version)), Waits)
        assert await b.supervisor.carry_out(GetReadyHere(PROGRAM, 2, held.version)) == Done()
        await a.supervisor.carry_out(ServeOn(PROGRAM, 1, "f1"))
        await counts_on(output(a))
        await b.until(lambda state: state.status == "mirrored" and state.version.number > number)
        await a.until(lambda state: state.status == "mirrored")
        held = await a.supervisor.carry_out(Hold(PROGRAM, 1, "f2"))
        assert isinstance(held, HeldAt)
        assert isinstance(await b.supervisor.carry_out(ActivateHere(PROGRAM, 2, held.version)), Serves)
        await counts_on(output(a))
        assert is_gapless(counted(output(a)))


async def test_planned_and_undone_and_planned_again(tmp_path: Path) -> None:
    async with households(tmp_path) as (program, a, b):
        await serve_and_mirror(program, a, b)
        held = await a.supervisor.carry_out(Hold(PROGRAM, 1, "f1"))
        assert isinstance(held, HeldAt)
        assert (a.state.status, a.state.fence_id) == ("fenced", "f1")
        await a.supervisor.carry_out(ServeOn(PROGRAM, 1, "another"))
        assert a.state.fence_id == "f1"
        await a.supervisor.carry_out(ServeOn(PROGRAM, 1, "f1"))
        await counts_on(output(a))
        await a.until(lambda state: state.status == "mirrored")
        held = await a.supervisor.carry_out(Hold(PROGRAM, 1, "f2"))
        assert isinstance(held, HeldAt)
        # The lease runs out meanwhile: nothing else happens to what stands still.
        await a.until(lambda state: a.guard.fencing(PROGRAM) is not None)
        assert isinstance(await b.supervisor.carry_out(ActivateHere(PROGRAM, 2, held.version)), Serves)
        await a.supervisor.carry_out(LetGo(PROGRAM, 1))
        await a.supervisor.carry_out(MirrorFrom(PROGRAM, program, "b", b.state.stream, 2))
        await a.until(lambda state: state.status == "mirrored")
        await counts_on(output(a))
        assert is_gapless(counted(output(a)))
        with pytest.raises(KagemushaError, match="is not the primary under token 1"):
            await a.supervisor.carry_out(Hold(PROGRAM, 1, "f3"))


async def test_who_is_held_for_another_is_frozen_when_its_agent_dies(tmp_path: Path) -> None:
    async with households(tmp_path) as (program, a, b):
        await serve_and_mirror(program, a, b)
        assert isinstance(await a.supervisor.carry_out(Hold(PROGRAM, 1, "f1")), HeldAt)
        incarnation = a.state.incarnation
        os.kill(a.agent_pid, 9)
        await a.until(lambda state: state.incarnation not in (0, incarnation))
        answer = a.guard.fencing(PROGRAM)
        assert answer is not None
        assert answer.frozen
        assert a.state.fence_id == "f1"
        before = counted(output(a))
        await a.supervisor.carry_out(ServeOn(PROGRAM, 1, "f1"))
        assert await counts_on(output(a)) > before[-1]
        assert is_gapless(counted(output(a)))


async def test_the_original_is_taken_back_when_who_was_to_continue_it_is_gone(tmp_path: Path) -> None:
    async with households(tmp_path) as (program, a, b):
        await serve_and_mirror(program, a, b)
        pid = a.pid
        held = await a.supervisor.carry_out(Hold(PROGRAM, 1, "f1"))
        assert isinstance(held, HeldAt)
        os.kill(b.agent_pid, 9)
        # Meanwhile the lease runs out, and the watchdog stops what stands still already.
        await a.until(lambda state: a.guard.fencing(PROGRAM) is not None)
        assert isinstance(await a.supervisor.carry_out(ActivateHere(PROGRAM, 3, held.version)), Serves)
        assert (a.pid, a.state.token, a.state.fence_id) == (pid, 3, "")
        await counts_on(output(a))
        await b.supervisor.carry_out(MirrorFrom(PROGRAM, program, "a", a.state.stream, 3))
        await b.until(lambda state: state.status == "mirrored" and state.version.token == 3)
        assert is_gapless(counted(output(a)))


async def test_a_fence_is_kept_whatever_is_granted_until_it_is_undone(tmp_path: Path) -> None:
    async with households(tmp_path) as (program, a, _):
        assert await a.supervisor.carry_out(Start(PROGRAM, program, 1)) == Serves(())
        await counts_on(output(a))
        assert await a.supervisor.carry_out(StopServing(PROGRAM, 1, "f1")) == Done()
        before = counted(output(a))
        assert await a.supervisor.carry_out(StopServing(PROGRAM, 1, "f2")) == Done()
        assert a.state.fence_id == "f2"
        await a.supervisor.carry_out(ServeOn(PROGRAM, 1, "f1"))
        assert counted(output(a)) == before
        await a.supervisor.carry_out(ServeOn(PROGRAM, 1, "f2"))
        assert await counts_on(output(a)) > before[-1]
        # What is refused because it was replaced ends, unasked. It had asked often, while nobody heard it.
        pid = a.pid
        with capture_logs() as said:
            for _ in range(20):
                a.supervisor.refused(PROGRAM, 1, "another one serves", replaced=True)
            await a.until(lambda state: state.status == "stopped")
        assert start_ticks_of(pid) == 0
        assert [line["reason"] for line in said if line["event"] == "another instance serves"] == ["another one serves"]


async def test_orders_that_can_not_be(tmp_path: Path) -> None:
    async with households(tmp_path) as (program, a, b):
        read = await a.supervisor.carry_out(ReadProgram(program))
        assert isinstance(read, ProgramRead)
        assert read.program == PROGRAM
        with pytest.raises(KagemushaError, match="does not exist"):
            await a.supervisor.carry_out(ReadProgram("/nowhere"))
        with pytest.raises(KagemushaError, match="there is nothing of counter on node a"):
            await a.supervisor.carry_out(ServeOn(PROGRAM, 1, "f"))
        assert await a.supervisor.carry_out(StopServing(PROGRAM, 1, "f")) == Done()
        await serve_and_mirror(program, a, b)
        answer = await b.supervisor.carry_out(ActivateHere(PROGRAM, 1, Version(1, 1, 1)))
        assert isinstance(answer, DoesNotServe)
        assert "knows 1" in answer.what
        # Its agent knows best what it holds, and that it is not this.
        answer = await b.supervisor.carry_out(ActivateHere(PROGRAM, 2, Version(1, 1 << 40, 1)))
        assert isinstance(answer, DoesNotServe)
        assert "holds checkpoint 1." in answer.what
        await a.supervisor.carry_out(Stop(PROGRAM, 1))
        state = a.state
        assert state.ended is not None
        assert start_ticks_of(a.pid) == 0
