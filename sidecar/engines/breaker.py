"""A circuit breaker: stops asking what does not answer, and finds out by itself when it does again."""

import time
from collections.abc import Callable
from typing import Final

CLOSED: Final = "closed"
HALF_OPEN: Final = "half_open"
OPEN: Final = "open"


class Breaker:
    """Closed lets everything through. `failures` in a row open it; after a pause it is half open and lets one through.

    That one's success closes it; its failure opens it for twice as long, at most `longest_s`.
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
        self.reason = ""
        """Of the last failure; empty after a success."""

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

    def begin(self) -> None:
        """A call goes through; each ends with success, failure or abandoned."""
        self._trying = self.state == HALF_OPEN

    def success(self) -> None:
        """It was answered: closed, whatever was before."""
        self._trying = False
        self._failures = 0
        self._pause = self._first_pause
        self._until = None
        self.reason = ""

    def failure(self, reason: str) -> None:
        """It was not answered, or wrongly."""
        self._trying = False
        self.reason = reason
        self._failures += 1
        if self._until is not None:
            if self.state == HALF_OPEN:
                self._pause = min(2 * self._pause, self._longest)
                self._until = self._clock() + self._pause
        elif self._failures >= self._limit:
            self._until = self._clock() + self._pause

    def abandoned(self) -> None:
        """The caller gave up before anything could be said."""
        self._trying = False

    def invite(self) -> None:
        """A probe was answered: half open at once instead of after the pause."""
        if self._until is not None:
            self._until = self._clock()
