"""What each subscriber gets next."""

from __future__ import annotations

import pytest

from transport import pubsub
from transport.checkpoint import NOTHING, Version
from transport.pubsub import (
    CREDIT,
    Acked,
    Captured,
    Drop,
    EndFull,
    Gone,
    Publisher,
    PublisherEffect,
    Refused,
    SendDelta,
    SendFull,
    SendUnion,
    Sent,
    Subscribed,
)


def v(number: int, token: int = 1) -> Version:
    return Version(token, number, 1000 + number) if number else NOTHING


def subscribe(
    number: int, holds: Version = NOTHING, node: str = "", incarnation: int = 1, token: int = 1
) -> Subscribed:
    return Subscribed(number, "redis", f"redis@{node or number}", incarnation, holds, token)


class Game:
    """A publisher with a clock that stands still unless it is set."""

    def __init__(self, *remembered: Version) -> None:
        self.publisher = Publisher("redis", 1, remembered)
        self.now_ns = 0

    def __call__(self, event: pubsub.PublisherEvent) -> list[PublisherEffect]:
        return self.publisher.step(self.now_ns, event)

    def capture(self, number: int) -> list[PublisherEffect]:
        return self(Captured(v(number), v(number - 1)))

    def following(self, *subscribers: int) -> Game:
        """Bring subscribers up to date with version 1."""
        self.capture(1)
        for number in subscribers:
            assert self(subscribe(number)) == [SendFull(number, v(1))]
            assert self(Sent(number)) == [EndFull(number, v(1), v(1))]
            assert self(Acked(number, v(1))) == []
        return self


def test_who_is_up_to_date_shares_one_delta() -> None:
    assert Game().following(1, 2, 3).capture(2) == [SendDelta((1, 2, 3), v(2))]


def test_who_comes_before_the_first_checkpoint_gets_it_when_it_is_there() -> None:
    game = Game()
    assert game(subscribe(1)) == []
    assert game(Refused(1, NOTHING, "too early")) == []
    assert game.capture(1) == [SendFull(1, v(1))]


def test_a_slow_one_gets_the_union_of_what_it_missed_and_holds_up_nobody() -> None:
    game = Game().following(1, 2)
    for number in range(2, 2 + CREDIT):
        assert game.capture(number) == [SendDelta((1, 2), v(number))]
        assert game(Acked(1, v(number))) == []
    assert game.capture(4) == [SendDelta((1,), v(4))]
    assert game.capture(5) == [SendDelta((1,), v(5))]
    assert game(Acked(2, v(2))) == [SendUnion(2, v(3), v(5))]
    assert game(Acked(1, v(5))) == []
    assert game.capture(6) == [SendDelta((1,), v(6))]
    assert game(Acked(2, v(5))) == [SendUnion(2, v(5), v(6))]


def test_no_deltas_during_a_full_transfer_and_one_union_at_its_end() -> None:
    game = Game().following(1)
    assert game(subscribe(2)) == [SendFull(2, v(1))]
    assert game.capture(2) == [SendDelta((1,), v(2))]
    assert game.capture(3) == [SendDelta((1,), v(3))]
    assert game(Sent(2)) == [EndFull(2, v(1), v(3))]
    assert game(Acked(1, v(3))) == []
    assert game.capture(4) == [SendDelta((1, 2), v(4))]


def test_a_mirror_that_comes_back_goes_on_from_what_it_holds() -> None:
    game = Game().following(1)
    for number in range(2, 6):
        game.capture(number)
    game(Gone(1))
    assert game(subscribe(2, holds=v(3))) == [SendUnion(2, v(3), v(5))]
    assert game(subscribe(3, holds=v(5))) == []
    assert game.capture(6) == [SendDelta((2, 3), v(6))]


@pytest.mark.parametrize("holds", [Version(1, 2, 5), Version(2, 2, 1002), v(9)])
def test_what_is_not_known_here_is_transferred_in_full(holds: Version) -> None:
    game = Game().following(1)
    game.capture(2)
    assert game(subscribe(2, holds=holds)) == [SendFull(2, v(2))]


def test_versions_are_not_remembered_for_ever() -> None:
    game = Game().following()
    for number in range(2, pubsub.REMEMBERED_VERSIONS + 3):
        game.capture(number)
    latest = v(pubsub.REMEMBERED_VERSIONS + 2)
    assert game(subscribe(1, holds=v(2))) == [SendFull(1, latest)]
    assert game(subscribe(2, holds=v(3))) == [SendUnion(2, v(3), latest)]


def test_a_promoted_primary_goes_on_from_where_it_was_promoted() -> None:
    game = Game(v(7, token=0))
    assert game(subscribe(1, holds=v(7, token=0))) == []
    assert game(subscribe(2, holds=v(8, token=0))) == []
    assert game(Captured(v(8), v(7, token=0))) == [SendUnion(1, v(7, token=0), v(8)), SendFull(2, v(8))]


def test_after_a_refusal_one_union_and_then_deltas_again() -> None:
    game = Game().following(1)
    game.capture(2)
    game.capture(3)
    assert game(Refused(1, v(1), "corrupt")) == [SendUnion(1, v(1), v(3))]
    assert game.capture(4) == [SendDelta((1,), v(4))]


def test_a_refusal_by_one_that_missed_nothing_is_answered_by_the_next_union() -> None:
    game = Game().following(1)
    game.capture(2)
    assert game(Refused(1, v(2), "twice")) == []
    assert game.capture(3) == [SendUnion(1, v(2), v(3))]


def test_who_doubts_what_it_holds_gets_everything() -> None:
    game = Game().following(1)
    game.capture(2)
    assert game(Refused(1, NOTHING, "base is damaged")) == [SendFull(1, v(2))]
    assert game(Refused(1, NOTHING, "again")) == [SendFull(1, v(2))]


def test_refusals_in_a_row_end_in_a_full_transfer_and_then_in_the_end() -> None:
    game = Game().following(1)
    effects = []
    for number in range(2, 2 + pubsub.REFUSALS_MAX + 1):
        game.capture(number)
        effects += game(Refused(1, v(1), "no"))
    kinds = [type(effect) for effect in effects]
    assert kinds == [SendUnion] * 2 + [SendFull] * 4 + [Drop]
    assert game.publisher.subscribers == ()


def test_an_acknowledgement_ends_a_row_of_refusals() -> None:
    game = Game().following(1)
    for number in range(2, 20):
        game.capture(number)
        assert game(Refused(1, v(number - 1), "no")) == [SendUnion(1, v(number - 1), v(number))]
        assert game(Acked(1, v(number))) == []


@pytest.mark.parametrize("version", [v(1), v(3), Version(1, 2, 0), NOTHING])
def test_an_acknowledgement_of_what_was_not_sent_ends_the_connection(version: Version) -> None:
    game = Game().following(1)
    game.capture(2)
    (drop,) = game(Acked(1, version))
    assert isinstance(drop, Drop)


def test_strangers_are_not_served() -> None:
    game = Game().following(1)
    assert isinstance(game(Subscribed(2, "nginx", "nginx@b", 1, NOTHING, 1))[0], Drop)
    (drop,) = game(subscribe(3, token=2))
    assert isinstance(drop, Drop)
    assert "superseded" in drop.reason
    assert [one.subscriber for one in game.publisher.subscribers] == [1]


def test_a_new_connection_of_an_instance_replaces_the_old_one() -> None:
    game = Game().following(1)
    drop, union = [*game(subscribe(2, node="1", holds=v(1))), None]
    assert drop == Drop(1, "replaced by a newer connection of the same instance")
    assert union is None
    (late,) = game(subscribe(3, node="1", incarnation=0))
    assert isinstance(late, Drop)
    assert late.subscriber == 3
    (twice,) = game(subscribe(2, node="1"))
    assert isinstance(twice, Drop)
    assert game.publisher.subscribers == ()


def test_who_acknowledges_nothing_for_long_is_dropped() -> None:
    game = Game().following(1)
    game.capture(2)
    game.now_ns = pubsub.STALL_NS + 1
    (drop,) = game.capture(3)
    assert drop == Drop(1, "acknowledges nothing")


def test_events_of_who_is_gone_are_ignored() -> None:
    game = Game().following(1)
    game(Gone(1))
    for event in (Gone(1), Acked(1, v(1)), Refused(1, v(1), ""), Sent(1)):
        assert game(event) == []


def test_sent_without_a_full_transfer_is_ignored() -> None:
    assert Game().following(1)(Sent(1)) == []


def test_a_capture_that_does_not_follow_is_a_caller_s_mistake() -> None:
    game = Game().following(1)
    with pytest.raises(ValueError, match="does not follow"):
        game.capture(3)
    with pytest.raises(ValueError, match="does not follow"):
        game(Captured(v(1), v(1)))
