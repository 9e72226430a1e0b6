"""Keeps PostgreSQL's signals on PostgreSQL's thread.

A new thread inherits the signal mask of the thread that starts it. gRPC starts threads when it is imported, when a
channel is made and when a call begins; with all signals blocked meanwhile, none of those threads can ever run one of
PostgreSQL's handlers.
"""

import signal

# The function behind signal.pthread_sigmask: without its conversion of every signal to an enum it takes 3 microseconds
# instead of 130, and it is called four times for every text.
from _signal import pthread_sigmask  # type: ignore[import-not-found]
from collections.abc import Iterator
from contextlib import contextmanager

_ALL = frozenset(int(number) for number in signal.valid_signals())


@contextmanager
def blocked() -> Iterator[None]:
    """All signals wait while the block runs; those that came meanwhile are handled at its end."""
    previous = pthread_sigmask(signal.SIG_BLOCK, _ALL)
    try:
        yield
    finally:
        pthread_sigmask(signal.SIG_SETMASK, previous)
