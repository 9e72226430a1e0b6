"""What stands in a line of log, in both formats, and what never does."""

import json
import logging
import sys

import pytest

from sidecar.call_log import LINES_A_SECOND
from sidecar.logs import FewOfGrpc, JsonLines, TextLines


def record(name: str = "grpc._cython.cygrpc", *, created: float = 0.0) -> logging.LogRecord:
    """A library's complaint about an exception whose message and traceback are nobody's business."""
    try:
        raise ValueError("a secret text")
    except ValueError:
        one = logging.LogRecord(name, logging.ERROR, __file__, 1, "a call %s", ("failed",), sys.exc_info())
    one.created = created
    return one


@pytest.mark.parametrize("style", [TextLines(), JsonLines()])
def test_of_an_exception_its_class_alone_is_logged(style: logging.Formatter) -> None:
    """F13 no message, which may quote a text, and no path."""
    line = style.format(record())
    assert "a call failed" in line
    assert "ValueError" in line
    for hidden in ("secret", "Traceback", __file__, "\n"):
        assert hidden not in line


def test_json_lines_are_json_and_text_lines_begin_with_time_and_level() -> None:
    assert json.loads(JsonLines().format(record()))["exception"] == "ValueError"
    assert TextLines().format(record()).split(" ")[2:] == ["ERROR", "a", "call", "failed", "(ValueError)"]


def test_a_storm_of_grpcs_own_complaints_is_cut_to_a_few_lines_a_second() -> None:
    few = FewOfGrpc()
    storm = [record(created=100.0 + number / 1000) for number in range(500)]
    assert sum(few.filter(one) for one in storm) == LINES_A_SECOND
    assert few.filter(record("sidecar.batching", created=100.5)), "ours are limited where they are made"
    assert few.filter(record(created=101.5))
