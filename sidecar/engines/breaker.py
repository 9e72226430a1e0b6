"""A circuit breaker: stops asking what does not answer, and finds out by itself when it does again."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

CLOSED: Final = "closed"
HALF_OPEN: Final = "half_open"
OPEN: Final = "open"

PATIENCE_S: Final = 0.1
"""Seconds of waiting that say something of the other side; below, a deadline may just have been too short."""

MOST_OF_IT: Final = 0.9
"""The part of its time after which a call that was given up counts as not answered: callers count the same time on
clocks of their own, and leave some milliseconds early."""


@dataclass(frozen=True)
class Attempt:
    """One call that was let through."""

    began: float
    trial: bool
    """Whether it is the one that a half-open breaker lets through: no other one's end opens or closes that."""


class Breaker:
    """Closed lets everything through. `failures` in a row open it; after a pause it is half open and lets one through.

    That one's answer closes it; its failure opens it for twice as long, at most `longest_s`.
    """

    def __init__(
        self,
        *,
        failures: int = 3,
        pause_s: float = 0.5,
        longest_s: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit = failures
        self._first_pause = pause_s
        self._longest = longest_s
        self._clock = clock
        self._failures = 0
        self._pause = pause_s
        self._until: float | None = None
        self._trying = False
        self._answered = float("-inf")
        self.reason = ""
        """Of the last failure or complaint; empty after an answer without one."""

    @property
    def state(self) -> str:
        """CLOSED, HALF_OPEN or OPEN."""
        if self._until is None:
            return CLOSED
        return OPEN if self._clock() < self._until else HALF_OPEN

    def allows(self) -> bool:
        """Whether a call may go through now."""
        state = self.state
        return state == CLOSED or (state == HALF_OPEN and not self._trying)

    def begin(self) -> Attempt:
        """A call goes through; each ends with answered, failure or given_up."""
        trial = self.state == HALF_OPEN
        self._trying = self._trying or trial
        return Attempt(self._clock(), trial)

    def answered(self, attempt: Attempt, complaint: str = "") -> None:
        """It was answered; `complaint` is what was wrong with that where it may be wrong with the question."""
        self._answered = self._clock()
        if attempt.trial:
            self._trying = False
            self._until = None
        if self._until is None:
            self._failures = 0
            self._pause = self._first_pause
            self.reason = complaint

    def failure(self, attempt: Attempt, reason: str) -> None:
        """It was not answered, or wrongly."""
        self.reason = reason
        self._failures += 1
        if attempt.trial:
            self._trying = False
            self._pause = min(2 * self._pause, self._longest)
            self._until = self._clock() + self._pause
        elif self._until is None and self._failures >= self._limit:
            self._until = self._clock() + self._pause

    def given_up(self, attempt: Attempt, reason: str, allowed_s: float) -> None:
        """Whoever asked stopped waiting, having allowed it so many seconds.

        A failure where it had them and nothing at all was answered meanwhile; else it says nothing of the other side.
        A trial with too little time to say anything is followed by a pause all the same: calls of such deadlines would
        else be lost to one trial after another.
        """
        waited = self._clock() - attempt.began
        in_vain = waited >= MOST_OF_IT * allowed_s and self._answered < attempt.began
        if in_vain and waited >= PATIENCE_S:
            self.failure(attempt, reason)
        elif attempt.trial:
            self._trying = False
            if in_vain:
                self._until = self._clock() + self._pause

    def invite(self) -> None:
        """A probe was answered: half open at once instead of after the pause."""
        self.reason = ""
        if self._until is not None:
            self._until = self._clock()
