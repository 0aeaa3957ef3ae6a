"""Guesses about connections that nobody had time to announce."""

from __future__ import annotations

from agent.network.newcomers import PORT_FIRST, PORT_LAST, Newcomers

SERVICE = ("10.0.0.7", 6379)


def connection(port: int, client: str = "10.0.0.3") -> tuple[str, int, str, int]:
    return (*SERVICE, client, port)


def test_nobody_is_guessed_of_whom_nothing_was_heard() -> None:
    assert Newcomers().guesses(0) == []


def test_the_next_ports_of_the_same_parity_are_guessed() -> None:
    newcomers = Newcomers()
    newcomers.heard([connection(40_000), connection(40_010)], 0)
    guesses = newcomers.guesses(100)
    assert guesses[:3] == [connection(40_012), connection(40_014), connection(40_016)]
    assert len(guesses) == len(set(guesses)) >= 64


def test_who_connects_often_is_guessed_further() -> None:
    newcomers = Newcomers()
    for second in range(3):
        newcomers.heard([connection(40_000 + 2 * index) for index in range(500)], second * 1000)
    # 500 in a second, 0.8 s unheard, up to 8 candidates for each.
    assert len(newcomers.guesses(2300)) == 64 + 3200


def test_the_range_wraps_and_is_never_left() -> None:
    newcomers = Newcomers()
    newcomers.heard([connection(PORT_LAST - 3) for _ in range(20_000)], 0)
    ports = [port for *_, port in newcomers.guesses(0)]
    assert ports[:3] == [PORT_LAST - 1, PORT_FIRST, PORT_FIRST + 2]
    assert all(PORT_FIRST <= port <= PORT_LAST for port in ports)
    assert len(ports) == (PORT_LAST - PORT_FIRST + 1) // 2 - 1
    newcomers = Newcomers()
    newcomers.heard([connection(65_533)], 0)
    assert [port for *_, port in newcomers.guesses(0)][:3] == [65_535, 1025, 1027]


def test_the_most_recent_hosts_come_first_and_the_whole_is_bounded() -> None:
    newcomers = Newcomers()
    for host in range(1000):
        newcomers.heard([connection(40_000, f"10.0.{host // 256}.{host % 256}")] * 100, host)
    guesses = newcomers.guesses(1000)
    assert guesses[0] == connection(40_002, "10.0.3.231")
    assert len(guesses) == 4 * ((PORT_LAST - PORT_FIRST + 1) // 2)
