"""A leash holds the program when nobody has been there for too long, and only then."""

from __future__ import annotations

import asyncio

from agent.leash import Leash

DEADLINE_S = 20.0


class Program:
    """What is held."""

    def __init__(self) -> None:
        self.held = asyncio.Event()

    async def hold(self) -> None:
        self.held.set()


async def test_who_is_left_alone_holds_the_program() -> None:
    program = Program()
    leash = Leash(program.hold)
    leash.company(1)
    leash.set(1)
    leash.company(0)
    await asyncio.wait_for(program.held.wait(), DEADLINE_S)
    await leash.close()


async def test_company_that_comes_back_in_time_is_as_if_it_had_never_gone() -> None:
    program = Program()
    leash = Leash(program.hold)
    leash.company(1)
    leash.set(60_000)
    leash.company(0)
    leash.company(2)
    leash.set(1)
    leash.company(1)
    # What would be due is due by now: the loop runs timers in their order.
    await asyncio.sleep(0.01)
    assert not program.held.is_set()
    await leash.close()


async def test_without_a_leash_nothing_happens_nor_after_its_end() -> None:
    program = Program()
    leash = Leash(program.hold)
    leash.company(1)
    leash.company(0)
    leash.set(1)
    await leash.close()
    await asyncio.sleep(0.01)
    assert not program.held.is_set()
