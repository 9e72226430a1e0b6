"""What goes back to SQL, and the checks that nothing unfit for PostgreSQL does.

A NUL would cut a text silently, a lone surrogate would raise in the conversion, and a NaN would be stored.
"""

import re
from typing import NamedTuple

from sidecar import limits
from sidecar.errors import InternalError, MotiveError, VersionError, fault_of_error

ABSTENTION = ""
"""Stands for the taxonomy's abstention code, which SQL knows and the client does not."""

_CODE = re.compile(rf"[a-z][a-z0-9_]{{0,{limits.MAX_CODE - 1}}}")


class Answer(NamedTuple):
    """The SQL type motive.answer, field by field; `sqlstate` is set where there is a fault instead of an answer."""

    motives: list[str | None] | None = None
    confidences: list[float | None] | None = None
    starts: list[int] | None = None
    stops: list[int] | None = None
    model: str | None = None
    taxonomy_digest: bytes | None = None
    position: int | None = None
    sqlstate: str | None = None
    message: str | None = None
    hint: str | None = None
    detail: str | None = None


def detail_of(request_id: str) -> str:
    """The detail of what came of a request, or was found without one."""
    return f"Request id {request_id}." if request_id else "Found before a request was made."


def failed(error: MotiveError) -> Answer:
    """The fault as an answer."""
    fault = fault_of_error(error)
    return Answer(
        position=error.position,
        sqlstate=fault.sqlstate,
        message=error.message,
        hint=error.hint or fault.hint,
        detail=detail_of(error.request_id),
    )


def checked_code(code: str) -> str:
    """The code, if it can be one at all; whether the taxonomy holds it is checked in SQL. Raises VersionError."""
    if _CODE.fullmatch(code) is None:
        shown = ascii(code[: limits.MAX_CODE])
        raise VersionError(f"the sidecar answered {shown}, which is no motive", "Look at the model the sidecar serves.")
    return code


def checked_number(number: float) -> float:
    """The number, if it is a probability. Raises InternalError, also for NaN."""
    if not -1e-6 <= number <= 1.0 + 1e-6:
        raise InternalError(f"the sidecar answered {number} where a number from 0 to 1 must stand")
    return min(1.0, max(0.0, number))


def model_version(name: str, version: str, digest: bytes) -> str:
    """`name@version/digest8`. Raises InternalError for a digest that is not a SHA-256."""
    text = f"{name}@{version}/{digest.hex()[:8]}"
    if len(digest) != 32 or len(text) > 200 or not text.isprintable():
        raise InternalError("the sidecar did not say which model answered")
    return text


def checked_taxonomy_digest(digest: bytes) -> bytes:
    """The digest, if it is a SHA-256. Raises InternalError."""
    if len(digest) != 32:
        raise InternalError("the sidecar did not say which taxonomy its answer belongs to")
    return digest
