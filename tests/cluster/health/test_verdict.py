"""What answers to health checks mean, with no clock and no network."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.health.check import Check, Tcp
from cluster.health.verdict import LATE_S, Answered, Ask, Begin, Due, Event, Forget, GoOn, Still, Tell, Verdict

CHECK = Check(Tcp(1), interval_s=1.0, timeout_s=0.4, rise=2, fall=3, start_s=10.0)
BAD = "refused"


class Story:
    """A verdict, and a program that answers at once what it is told to."""

    def __init__(self, *checks: Check, anew: bool = False) -> None:
        self.now_s = 100.0
        self.verdict = Verdict(checks or (CHECK,))
        self.told: list[str] = []
        self.asked: list[Ask] = []
        self.step(Begin(anew))

    def step(self, event: Event) -> None:
        """One event now."""
        for effect in self.verdict.step(self.now_s, event):
            if isinstance(effect, Tell):
                self.told.append(effect.reason)
            elif isinstance(effect, Ask):
                self.asked.append(effect)

    def ask(self) -> list[Ask]:
        """Let time pass until something is asked."""
        self.asked = []
        assert self.verdict.due_s is not None
        self.now_s = max(self.now_s, self.verdict.due_s)
        self.step(Due())
        return self.asked

    def answer(self, *reasons: str) -> None:
        """So many questions, and these answers."""
        for reason in reasons:
            for question in self.ask():
                self.step(Answered(question.check, question.number, reason))

    def silence(self, late_s: float = 0.0) -> None:
        """One question, and no answer; whoever asked comes back so late after the timeout."""
        [question] = self.ask()
        self.now_s += CHECK.timeout_s + late_s
        self.step(Answered(0, question.number, "no answer", silent=True))


def test_a_program_is_asked_in_its_rhythm() -> None:
    story = Story()
    begin_s = story.now_s
    times_s = []
    for _ in range(4):
        story.answer("")
        times_s.append(story.now_s - begin_s)
    assert times_s == [1.0, 2.0, 3.0, 4.0]


def test_it_has_failed_after_fall_failures_in_a_row_and_is_well_after_rise_successes() -> None:
    story = Story()
    story.answer(BAD, BAD, "", BAD, BAD)
    assert not story.told
    story.answer(BAD)
    assert story.told == ["tcp 1: refused, 3 times in a row"]
    story.answer("", BAD, "")
    assert len(story.told) == 1
    story.answer("")
    assert story.told[1:] == [""]


def test_a_hang_is_noticed_after_fall_intervals_and_a_timeout_at_most() -> None:
    story = Story()
    story.answer("")
    hung_s = story.now_s
    while not story.told:
        story.silence()
    assert story.now_s - hung_s == pytest.approx(CHECK.fall * CHECK.interval_s + CHECK.timeout_s)


def test_who_slept_through_the_answer_blames_nobody() -> None:
    story = Story()
    for _ in range(10):
        story.silence(late_s=LATE_S + 0.001)
    assert not story.told
    for _ in range(CHECK.fall):
        story.silence(late_s=LATE_S / 2)
    assert story.told


def test_what_was_left_out_is_not_made_up_for() -> None:
    story = Story()
    story.ask()
    story.now_s += 60.0
    story.step(Answered(0, 1, "no answer", silent=True))
    assert len(story.ask()) == 1
    story.step(Answered(0, 2))
    assert story.verdict.due_s is not None
    assert story.verdict.due_s > story.now_s


def test_a_program_that_is_kept_still_is_not_asked_and_what_was_asked_is_forgotten() -> None:
    story = Story()
    story.answer(BAD, BAD)
    [question] = story.ask()
    assert Forget() in story.verdict.step(story.now_s, Still())
    assert story.verdict.due_s is None
    story.step(Answered(0, question.number, BAD))
    story.now_s += 100.0
    story.step(GoOn())
    story.answer(BAD, BAD)
    assert not story.told
    story.answer(BAD)
    assert story.told


def test_a_verdict_outlasts_the_time_in_which_it_is_kept_still() -> None:
    story = Story()
    story.answer(BAD, BAD, BAD)
    story.step(Still())
    story.step(GoOn())
    assert story.verdict.reason
    story.answer("", "")
    assert not story.verdict.reason


def test_a_start_has_time_to_load_and_a_takeover_has_none() -> None:
    started = Story(anew=True)
    started.answer(*[BAD] * 9)
    assert not started.told
    started.answer(*[BAD] * 3)
    assert started.told
    assert Story(anew=True).verdict.reason == ""
    loaded = Story(anew=True)
    loaded.answer(BAD, "", BAD, BAD, BAD)
    assert loaded.told
    continued = Story()
    continued.answer(BAD, BAD, BAD)
    assert continued.told


def test_one_of_several_checks_is_enough_to_fail_and_all_are_needed_to_be_well() -> None:
    story = Story(CHECK, Check(Tcp(2), 1.0, 0.4, 1, 1, 0.0))

    def answers(first: str, second: str) -> None:
        for _ in range(2):
            for question in story.ask():
                story.step(Answered(question.check, question.number, (first, second)[question.check]))

    answers("", BAD)
    assert story.told == ["tcp 2: refused, 1 times in a row"]
    answers("", "")
    assert story.told[1:] == [""]


def test_a_new_primary_is_judged_anew() -> None:
    story = Story()
    story.answer(BAD, BAD, BAD)
    story.step(Begin(anew=False))
    assert story.told[1:] == [""]
    story.answer(BAD, BAD)
    assert len(story.told) == 2


@given(st.lists(st.sampled_from(["", BAD, "silent", "late", "still"]), max_size=60))
def test_it_counts_as_failed_exactly_when_the_last_answers_say_so(answers: list[str]) -> None:
    """Against a dumb twin: whatever is no answer is left out, and a pause only breaks a row."""
    story = Story()
    good = bad = 0
    failed = False
    for answer in answers:
        if answer == "still":
            story.step(Still())
            story.now_s += 5.0
            story.step(GoOn())
            good = bad = 0
        elif answer == "late":
            story.silence(late_s=1.0)
        else:
            story.silence() if answer == "silent" else story.answer(answer)
            good, bad = (good + 1, 0) if not answer else (0, bad + 1)
        failed = bad >= CHECK.fall or (failed and good < CHECK.rise)
        assert bool(story.verdict.reason) == failed
    assert all(bool(one) != bool(other) for one, other in zip(story.told, story.told[1:], strict=False))
