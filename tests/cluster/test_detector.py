from __future__ import annotations

import math

import pytest

from cluster.detector import Detector, DetectorTimes

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
