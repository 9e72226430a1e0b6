"""The faults a caller can meet, with what each means to gRPC, to PostgreSQL and to a worker.

Standard library only: this module is also loaded into PostgreSQL's backends.
"""

from dataclasses import dataclass


class MotiveError(Exception):
    """Something that a person can act on: what was wrong, with which value, and what to do."""

    def __init__(self, message: str, hint: str = "", *, position: int = 0) -> None:
        """`position` says which of several texts is meant, from 1; 0 means no one in particular."""
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.position = position
        self.request_id = ""
        """Of the call that met it; empty where it was found before one was made."""


class UnavailableError(MotiveError):
    """The sidecar could not be reached, or its model server is away."""


class DeadlineError(MotiveError):
    """The answer did not come in the time allowed."""


class OverloadError(MotiveError):
    """The sidecar holds as many texts as it admits."""


class InputError(MotiveError):
    """A text or an argument cannot be used."""


class VersionError(MotiveError):
    """Two parts of pg_motive, or a label and its taxonomy, are of different versions."""


class InternalError(MotiveError):
    """A defect or a broken model; the sidecar's log has the request's id."""


class ConfigError(MotiveError):
    """A setting or a flag cannot be used."""


@dataclass(frozen=True)
class Fault:
    """What one kind of error means on each side."""

    error: type[MotiveError]
    status: str
    """Name of the gRPC status code."""
    sqlstate: str
    retry: bool
    """True when the service is at fault, so that trying the same text again later can help."""
    hint: str


FAULTS: tuple[Fault, ...] = (
    Fault(
        UnavailableError,
        "UNAVAILABLE",
        "58000",
        True,
        "Start the sidecar (motive serve), or correct target and tls_* in motive.settings; motive check shows which.",
    ),
    Fault(
        DeadlineError,
        "DEADLINE_EXCEEDED",
        "57014",
        True,
        "Raise statement_timeout or 'deadline_ms' in motive.settings, or send fewer texts at once.",
    ),
    Fault(
        OverloadError,
        "RESOURCE_EXHAUSTED",
        "53000",
        True,
        "Try again shortly, send fewer texts at once, or let motive.attach annotate the rows from its queue.",
    ),
    Fault(
        InputError,
        "INVALID_ARGUMENT",
        "22023",
        False,
        "Shorten or correct the text; the limits are in motive.limits.",
    ),
    Fault(
        VersionError,
        "FAILED_PRECONDITION",
        "55000",
        False,
        "Run motive install and ALTER EXTENSION pg_motive UPDATE so that all parts have one version.",
    ),
    Fault(
        InternalError,
        "INTERNAL",
        "XX000",
        True,
        "Look for the request id in the sidecar's log.",
    ),
)

# Statuses that gRPC itself gives, read as the nearest of ours.
_SYNONYMS = {
    "UNIMPLEMENTED": "FAILED_PRECONDITION",
    "UNAUTHENTICATED": "UNAVAILABLE",
    "PERMISSION_DENIED": "UNAVAILABLE",
    "ABORTED": "UNAVAILABLE",
    "CANCELLED": "UNAVAILABLE",
    "OUT_OF_RANGE": "INVALID_ARGUMENT",
}


def fault_of_status(status: str) -> Fault:
    """The fault for a gRPC status code's name; INTERNAL for one that is not listed."""
    name = _SYNONYMS.get(status, status)
    return next((fault for fault in FAULTS if fault.status == name), FAULTS[-1])


def fault_of_error(error: MotiveError) -> Fault:
    """The fault for an error raised on our side; INTERNAL for one that is not listed."""
    return next((fault for fault in FAULTS if isinstance(error, fault.error)), FAULTS[-1])
