"""The one id that a request has from SQL to Triton: in the call's metadata, in every log line, in Triton's own log."""

import re
import secrets
from collections.abc import Iterable
from contextvars import ContextVar
from typing import Final

HEADER: Final = "x-request-id"

current: ContextVar[str] = ContextVar("request_id", default="")
"""The id of the request being answered; of a batch, the ids of its requests with commas between."""

_BATCH_IDS: Final = 8
_PLAIN: Final = re.compile(r"[!-~]{1,64}")


def of_metadata(metadata: Iterable[tuple[str, str | bytes]] | None) -> str:
    """The caller's id where it is short and plain, else a new one."""
    for key, value in metadata or ():
        if key == HEADER and isinstance(value, str) and _PLAIN.fullmatch(value):
            return value
    return secrets.token_hex(8)


def of_batch(ids: Iterable[str]) -> str:
    """The ids of the requests that share a batch; of very many, the first few and how many more there are."""
    known = [one for one in dict.fromkeys(ids) if one]
    more = len(known) - _BATCH_IDS
    return ",".join(known[:_BATCH_IDS]) + (f",+{more}" if more > 0 else "")
