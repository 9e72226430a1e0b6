"""One line of log for each call that failed, under its request id; those that succeed are counted by metrics alone."""

import logging
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import Final

LINES_A_SECOND: Final = 10
"""Of one kind of failure: a storm of refusals must not fill the disk."""

_LEVELS: Final = {
    "INTERNAL": logging.ERROR,
    "UNAUTHENTICATED": logging.WARNING,
    "UNAVAILABLE": logging.WARNING,
    "DEADLINE_EXCEEDED": logging.WARNING,
    "RESOURCE_EXHAUSTED": logging.WARNING,
}
"""By gRPC status; every other failure is the caller's own affair, and info."""

log = logging.getLogger(__name__)


@dataclass
class _Second:
    """The lines of one status in the second that began at `start`, and what has been left out since the last line."""

    start: float = float("-inf")
    lines: int = 0
    left_out: int = 0


class CallLog:
    """Writes request id, method, status and milliseconds: neither a text nor a message, which may quote the request."""

    def __init__(self) -> None:
        self._seconds: defaultdict[str, _Second] = defaultdict(_Second)

    def failed(self, request_id: str, method: str, status: str, seconds: float, cause: str = "") -> None:
        """`cause` is what a defect is known by. Of other failures, what is too many is counted in the next line."""
        level = _LEVELS.get(status, logging.INFO)
        second = self._seconds[status]
        now = time.monotonic()
        if now - second.start >= 1.0:
            second.start, second.lines = now, 0
        # The caller of a defect is told that the log has it.
        if second.lines >= LINES_A_SECOND and level < logging.ERROR:
            second.left_out += 1
            return
        because = f": {cause}" if cause else ""
        others = f" ({second.left_out} more with {status} before)" if second.left_out else ""
        second.lines, second.left_out = second.lines + 1, 0
        log.log(level, "request %s: %s %s in %.0f ms%s%s", request_id, method, status, seconds * 1000, because, others)
