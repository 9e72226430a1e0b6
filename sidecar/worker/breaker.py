"""While the service is at fault, all lanes wait together and one of them tries; the log says so in a few lines."""

import logging
import random
import threading
import time

from sidecar.errors import MotiveError, OverloadError

FIRST_DELAY_S = 0.1
LONGEST_DELAY_S = 5.0
LOG_INTERVAL_S = 15.0

log = logging.getLogger("sidecar.worker")


class Breaker:
    """Closed: everybody works. Open: nobody does, until one lane is let through to try.

    Each turn begins with admits() and ends with passed(), whatever was said between.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._delay_s = 0.0
        self._open_until = 0.0
        self._trying: int | None = None
        self._logged_at = float("-inf")
        self._failing_since = 0.0
        self.last_error: MotiveError | None = None

    def admits(self) -> bool:
        """Whether this lane may work now."""
        with self._lock:
            if not self._delay_s:
                return True
            if self._trying is not None and self._trying != threading.get_ident():
                return False
            if time.monotonic() < self._open_until:
                return False
            self._trying = threading.get_ident()
            return True

    def passed(self) -> None:
        """This lane's turn is over: if it was let through to try, another one may."""
        with self._lock:
            if self._trying == threading.get_ident():
                self._trying = None

    def failed(self, error: MotiveError) -> float:
        """The service is at fault; returns the seconds until the next try."""
        with self._lock:
            now = time.monotonic()
            if not self._delay_s:
                self._failing_since = now
            longest = LONGEST_DELAY_S / 10 if isinstance(error, OverloadError) else LONGEST_DELAY_S
            # A lane that fails after another has opened the breaker says nothing new.
            if now >= self._open_until:
                self._delay_s = min(longest, max(FIRST_DELAY_S, 2 * self._delay_s))
                self._open_until = now + self._delay_s * random.uniform(0.75, 1.25)
            self.last_error = error
            if now - self._logged_at >= LOG_INTERVAL_S:
                self._logged_at = now
                request = f" Request id {error.request_id}." if error.request_id else ""
                log.warning("the sidecar is at fault, rows wait: %s. %s%s", error.message, error.hint, request)
            return max(0.0, self._open_until - now)

    def worked(self) -> None:
        """The service answered."""
        if not self._delay_s:
            return
        with self._lock:
            self._delay_s = self._open_until = 0.0
            self.last_error = None
            self._logged_at = float("-inf")
            log.info("the sidecar answers again after %.1f s", time.monotonic() - self._failing_since)
