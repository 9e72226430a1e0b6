"""Log lines for people, or as JSON for machines. Neither ever holds a text: what is logged is chosen where it is."""

import json
import logging
import sys
import time
from typing import Final

from sidecar import request_id
from sidecar.errors import ConfigError

FORMATS: Final = ("text", "json")


class JsonLines(logging.Formatter):
    """One JSON object a line: time (UTC), level, logger, message and, inside a call, its request_id."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line; of an exception, only its class, as its message may quote what was read."""
        entry = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if id_ := request_id.current.get():
            entry["request_id"] = id_
        if record.exc_info and record.exc_info[0] is not None:
            entry["exception"] = record.exc_info[0].__name__
        return json.dumps(entry, ensure_ascii=False)


def check_format(style: str) -> None:
    """Raises ConfigError for one that is not in FORMATS."""
    if style not in FORMATS:
        raise ConfigError(f"log_format is {style!r}", f"Give one of: {', '.join(FORMATS)}.")


def configure(style: str = "text") -> None:
    """Sends the log to standard error, as `text` or `json`."""
    handler = logging.StreamHandler(sys.stderr)
    plain = logging.Formatter("%(asctime)s %(levelname)s %(message)s")
    handler.setFormatter(JsonLines() if style == "json" else plain)
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
