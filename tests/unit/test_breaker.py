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
        breaker.begin()
        breaker.failure("away")


def test_failures_in_a_row_open_it_and_a_success_between_them_does_not(breaker: Breaker) -> None:
    fail(breaker, 2)
    breaker.begin()
    breaker.success()
    fail(breaker, 2)
    assert (breaker.state, breaker.allows()) == (CLOSED, True)
    fail(breaker)
    assert (breaker.state, breaker.allows(), breaker.reason) == (OPEN, False, "away")


def test_after_a_pause_one_call_goes_through_and_closes_it(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now = 1.0
    assert (breaker.state, breaker.allows()) == (HALF_OPEN, True)
    breaker.begin()
    assert not breaker.allows()
    breaker.success()
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
    breaker.begin()
    breaker.abandoned()
    assert breaker.allows()


def test_late_failures_of_calls_begun_before_do_not_prolong_the_pause(breaker: Breaker, clock: Clock) -> None:
    for _ in range(5):
        breaker.begin()
    for _ in range(5):
        breaker.failure("away")
    clock.now = 1.0
    assert breaker.state == HALF_OPEN


def test_an_answered_probe_ends_the_pause(breaker: Breaker) -> None:
    fail(breaker, 3)
    breaker.invite()
    assert breaker.state == HALF_OPEN
