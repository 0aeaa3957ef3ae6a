from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.leader.detector import Detector, DetectorTimes

TIMES = DetectorTimes()


def _heard(intervals_s: list[float]) -> tuple[Detector, float]:
    detector, now_s = Detector(TIMES), 100.0
    detector.expect(now_s, "n2")
    for interval_s in intervals_s:
        now_s += interval_s
        detector.heard(now_s, "n2")
    return detector, now_s


def test_a_regular_node_is_lost_after_the_shortest_silence() -> None:
    detector, now_s = _heard([0.05] * 100)
    assert not detector.lost(now_s + 0.149, "n2")
    assert detector.lost(now_s + 0.151, "n2")
    assert detector.next_loss_s(now_s) == pytest.approx(now_s + 0.150)


def test_a_node_that_jitters_is_given_more_time() -> None:
    detector, now_s = _heard([0.01, 0.09] * 50)
    assert detector.next_loss_s(now_s) == pytest.approx(now_s + 0.273, abs=0.001)


def test_patience_has_an_end() -> None:
    detector, now_s = _heard([0.01, 0.3] * 50)
    assert detector.next_loss_s(now_s) == pytest.approx(now_s + 0.400)


def test_suspicion_grows_with_silence_and_reaches_the_threshold_when_the_node_is_lost() -> None:
    detector, now_s = _heard([0.01, 0.09] * 50)
    lost_s = detector.next_loss_s(now_s)
    assert lost_s is not None
    assert detector.suspicion(now_s + 0.05, "n2") < 1 < detector.suspicion(now_s + 0.2, "n2") < TIMES.suspicion
    assert detector.suspicion(lost_s, "n2") == pytest.approx(TIMES.suspicion)
    assert detector.suspicion(now_s + 100, "n2") == math.inf


def test_a_closed_connection_is_a_loss_at_once_until_it_is_heard_again() -> None:
    detector, now_s = _heard([0.05] * 10)
    detector.closed("n2")
    assert detector.lost(now_s, "n2")
    assert detector.suspicion(now_s, "n2") == math.inf
    assert detector.next_loss_s(now_s) is None
    detector.heard(now_s + 0.01, "n2")
    assert not detector.lost(now_s + 0.1, "n2")


def test_an_outage_does_not_teach_patience() -> None:
    detector, now_s = _heard([0.05] * 100)
    detector.heard(now_s + 60, "n2")
    assert detector.next_loss_s(now_s + 60) == pytest.approx(now_s + 60.150)


def test_a_node_that_nobody_expects_is_lost() -> None:
    detector = Detector(TIMES)
    detector.closed("n9")
    assert detector.lost(0.0, "n9")
    assert detector.heard_at_s("n9") is None
    assert detector.suspicion(0.0, "n9") == math.inf
    detector.heard(1.0, "n9")
    assert detector.heard_at_s("n9") == 1.0
    assert not detector.lost(1.1, "n9")


class Ear:
    """A node that hears another, and is put to sleep now and then. What arrives meanwhile waits for it.

    When it wakes it looks first and reads then, as an event loop does whose timers are due.
    """

    def __init__(self, delays_s: list[float], sleeps_s: list[float], *, knows_itself: bool = True) -> None:
        self.detector = Detector(TIMES)
        self.accused: list[float] = []
        self.now_s = 100.0
        self._knows_itself = knows_itself
        self._arrivals_s = [100.0 + 0.05 * number + delay_s for number, delay_s in enumerate(delays_s)]
        self._sleeps_s = sleeps_s
        if knows_itself:
            self.detector.awake(self.now_s)
        self.detector.expect(self.now_s, "n2")

    def live(self) -> None:
        """Every arrival is heard when it comes, or at the next waking; look at every waking."""
        arrivals_s, sleeps_s = sorted(self._arrivals_s), list(self._sleeps_s)
        while arrivals_s:
            self.now_s += 0.05 + (sleeps_s.pop(0) if sleeps_s else 0.0)
            if self._knows_itself:
                self.detector.awake(self.now_s)
            if self.detector.lost(self.now_s, "n2"):
                self.accused.append(self.now_s)
            while arrivals_s and arrivals_s[0] <= self.now_s:
                self.detector.heard(self.now_s, "n2")
                arrivals_s.pop(0)


delays = st.lists(st.floats(0.0, 0.045), min_size=1, max_size=200)
sleeps = st.lists(st.one_of(st.just(0.0), st.floats(0.0, 3.0)), max_size=60)


@given(delays, sleeps)
def test_who_was_late_itself_accuses_nobody(delays_s: list[float], sleeps_s: list[float]) -> None:
    ear = Ear(delays_s, sleeps_s)
    ear.live()
    assert not ear.accused


def test_who_does_not_know_of_its_own_sleep_accuses_the_innocent() -> None:
    ear = Ear([0.0] * 20, [0.0, 0.0, 0.2], knows_itself=False)
    ear.live()
    assert ear.accused


@given(delays, sleeps, st.lists(st.floats(0.001, 0.07), min_size=10, max_size=10))
def test_who_is_dead_is_lost_after_the_longest_silence_of_waking_time(
    delays_s: list[float], sleeps_s: list[float], steps_s: list[float]
) -> None:
    ear = Ear(delays_s, sleeps_s)
    ear.live()
    awake_s = 0.0
    while awake_s < TIMES.silence_s_max:
        for step_s in steps_s:
            awake_s += step_s
            ear.now_s += step_s
            ear.detector.awake(ear.now_s)
    assert ear.detector.lost(ear.now_s, "n2")
    assert ear.detector.next_loss_s(ear.now_s) is None


@given(delays, sleeps)
def test_suspicion_grows_with_silence_and_not_with_sleep(delays_s: list[float], sleeps_s: list[float]) -> None:
    ear = Ear(delays_s, sleeps_s)
    ear.live()
    suspicions = []
    for _ in range(10):
        ear.now_s += 0.05
        ear.detector.awake(ear.now_s)
        suspicions.append(ear.detector.suspicion(ear.now_s, "n2"))
    assert suspicions == sorted(suspicions)
    slept_s, silent_s = ear.detector.slept_s, ear.now_s + 30.05
    suspicion = ear.detector.suspicion(ear.now_s + 0.05, "n2")
    ear.detector.awake(silent_s)
    assert ear.detector.slept_s == pytest.approx(slept_s + 30.0)
    assert ear.detector.suspicion(silent_s, "n2") == pytest.approx(suspicion, rel=1e-3)
