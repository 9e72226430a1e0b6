"""What the sidecar logs of calls that fail."""

import logging
import time

import pytest

from sidecar.call_log import LINES_A_SECOND, CallLog


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> CallLog:
    caplog.set_level(logging.INFO, "sidecar.call_log")
    return CallLog()


def test_a_storm_is_a_few_lines_a_second_and_the_next_one_counts_the_rest(
    log: CallLog, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    for number in range(1000):
        log.failed(f"a-{number}", "Classify", "RESOURCE_EXHAUSTED", 0.001)
    assert len(caplog.records) == LINES_A_SECOND
    log.failed("b", "Classify", "INVALID_ARGUMENT", 0.001)
    assert caplog.messages[-1] == "request b: Classify INVALID_ARGUMENT in 1 ms"
    now += 1.0
    for name in ("c", "d"):
        log.failed(name, "Classify", "RESOURCE_EXHAUSTED", 0.002)
    left_out = 1000 - LINES_A_SECOND
    assert caplog.messages[-2:] == [
        f"request c: Classify RESOURCE_EXHAUSTED in 2 ms ({left_out} more with RESOURCE_EXHAUSTED before)",
        "request d: Classify RESOURCE_EXHAUSTED in 2 ms",
    ]


def test_every_defect_is_logged_with_its_cause_as_its_caller_is_told(
    log: CallLog, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(2 * LINES_A_SECOND):
        log.failed(f"a-{number}", "Explain", "INTERNAL", 0.5, "ValueError at windows:12")
    assert len(caplog.records) == 2 * LINES_A_SECOND
    assert caplog.messages[-1] == f"request a-{number}: Explain INTERNAL in 500 ms: ValueError at windows:12"
    assert {record.levelname for record in caplog.records} == {"ERROR"}


@pytest.mark.parametrize(
    ("status", "level"),
    [("UNAVAILABLE", "WARNING"), ("DEADLINE_EXCEEDED", "WARNING"), ("CANCELLED", "INFO"), ("INVALID_ARGUMENT", "INFO")],
)
def test_what_the_service_is_to_blame_for_is_a_warning(
    status: str, level: str, log: CallLog, caplog: pytest.LogCaptureFixture
) -> None:
    log.failed("a", "Classify", status, 0.1)
    assert [record.levelname for record in caplog.records] == [level]
