"""Log lines for people, or as JSON for machines. Neither ever holds a text: what is logged is chosen where it is.

Of an exception that a library logs stands its class alone: its message may quote what was read, its traceback paths.
"""

import json
import logging
import sys
import time
from typing import Final

from sidecar import request_id
from sidecar.call_log import LINES_A_SECOND
from sidecar.errors import ConfigError

FORMATS: Final = ("text", "json")


class TextLines(logging.Formatter):
    """Time, level and message."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        moment = self.formatTime(record)
        because = f" ({exception})" if (exception := _exception(record)) else ""
        return f"{moment} {record.levelname} {record.getMessage()}{because}"


class JsonLines(logging.Formatter):
    """One JSON object a line: time (UTC), level, logger, message and, inside a call, its request_id."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        entry = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if id_ := request_id.current.get():
            entry["request_id"] = id_
        if exception := _exception(record):
            entry["exception"] = exception
        return json.dumps(entry, ensure_ascii=False)


class FewOfGrpc(logging.Filter):
    """Lets through so many records a second of gRPC's own: health and reflection log what they cannot parse."""

    def __init__(self) -> None:
        super().__init__()
        self._start = float("-inf")
        self._lines = 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is written."""
        if not record.name.startswith("grpc."):
            return True
        if record.created - self._start >= 1.0:
            self._start, self._lines = record.created, 0
        self._lines += 1
        return self._lines <= LINES_A_SECOND


def _exception(record: logging.LogRecord) -> str:
    """The class of the exception that the record is of; empty where it is of none."""
    return record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] is not None else ""


def check_format(style: str) -> None:
    """Raises ConfigError for one that is not in FORMATS."""
    if style not in FORMATS:
        raise ConfigError(f"log_format is {style!r}", f"Give one of: {', '.join(FORMATS)}.")


def configure(style: str = "text") -> None:
    """Sends the log to standard error, as `text` or `json`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if style == "json" else TextLines())
    handler.addFilter(FewOfGrpc())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
