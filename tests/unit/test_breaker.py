"""The circuit breaker's states, on a clock of its own."""

import pytest

from sidecar.engines.breaker import CLOSED, HALF_OPEN, OPEN, Breaker


class Clock:
    """Seconds that a test lets pass."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(failures=3, pause_s=1.0, longest_s=3.0, clock=clock)


def fail(breaker: Breaker, times: int = 1) -> None:
    for _ in range(times):
        breaker.failure(breaker.begin(), "away")


def test_failures_in_a_row_open_it_and_a_success_between_them_does_not(breaker: Breaker) -> None:
    fail(breaker, 2)
    breaker.answered(breaker.begin())
    fail(breaker, 2)
    assert (breaker.state, breaker.allows()) == (CLOSED, True)
    fail(breaker)
    assert (breaker.state, breaker.allows(), breaker.reason) == (OPEN, False, "away")


def test_after_a_pause_one_call_goes_through_and_closes_it(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now = 1.0
    assert (breaker.state, breaker.allows()) == (HALF_OPEN, True)
    trial = breaker.begin()
    assert not breaker.allows()
    breaker.answered(trial)
    assert (breaker.state, breaker.allows(), breaker.reason) == (CLOSED, True, "")


def test_each_failed_trial_doubles_the_pause_up_to_the_longest(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    for pause in (1.0, 2.0, 3.0, 3.0):
        clock.now += pause - 0.01
        assert breaker.state == OPEN
        clock.now += 0.01
        assert breaker.state == HALF_OPEN
        fail(breaker)


def test_a_trial_that_was_given_up_leaves_room_for_the_next(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now = 1.0
    breaker.given_up(breaker.begin(), "slow", allowed_s=60)
    assert breaker.allows()


def test_a_trial_of_too_little_time_is_followed_by_a_pause_that_does_not_grow(breaker: Breaker, clock: Clock) -> None:
    """Else every call of that deadline would be the next trial, and be lost to a server that is known not to answer."""
    fail(breaker, 3)
    for _ in range(3):
        clock.now += 1.0
        trial = breaker.begin()
        clock.now += 0.05
        breaker.given_up(trial, "slow", allowed_s=0.05)
        assert (breaker.state, breaker.reason) == (OPEN, "away")
    clock.now += 1.0
    breaker.answered(breaker.begin())
    assert breaker.state == CLOSED


def test_late_failures_of_calls_begun_before_do_not_prolong_the_pause(breaker: Breaker, clock: Clock) -> None:
    for attempt in [breaker.begin() for _ in range(5)]:
        breaker.failure(attempt, "away")
    clock.now = 1.0
    assert breaker.state == HALF_OPEN


@pytest.mark.parametrize("end", ["answered", "failure", "given_up"])
def test_what_was_sent_before_it_opened_neither_ends_the_trial_nor_decides_it(
    end: str, breaker: Breaker, clock: Clock
) -> None:
    old = breaker.begin()
    fail(breaker, 3)
    clock.now = 1.0
    trial = breaker.begin()
    {
        "answered": lambda: breaker.answered(old),
        "failure": lambda: breaker.failure(old, "late"),
        "given_up": lambda: breaker.given_up(old, "late", allowed_s=1.0),
    }[end]()
    assert (breaker.state, breaker.allows()) == (HALF_OPEN, False)
    breaker.answered(trial)
    assert breaker.state == CLOSED


def test_calls_that_waited_all_their_time_in_vain_open_it(breaker: Breaker, clock: Clock) -> None:
    """Whether the caller cancelled a little before its deadline, by its own clock, or at it."""
    for allowed_s in (5.0, 1.0, 0.3):
        attempt = breaker.begin()
        clock.now += 0.98 * allowed_s
        breaker.given_up(attempt, "no answer", allowed_s)
    assert (breaker.state, breaker.reason) == (OPEN, "no answer")


def test_calls_given_up_early_or_with_little_time_or_while_others_are_answered_say_nothing(
    breaker: Breaker, clock: Clock
) -> None:
    for _ in range(5):
        early, short = breaker.begin(), breaker.begin()
        clock.now += 0.05
        breaker.given_up(early, "left", allowed_s=5.0)
        breaker.given_up(short, "left", allowed_s=0.05)
        slow, quick = breaker.begin(), breaker.begin()
        clock.now += 1.0
        breaker.answered(quick)
        breaker.given_up(slow, "overload", allowed_s=1.0)
    assert (breaker.state, breaker.reason) == (CLOSED, "")


def test_an_answered_probe_ends_the_pause(breaker: Breaker) -> None:
    fail(breaker, 3)
    breaker.invite()
    assert breaker.state == HALF_OPEN
