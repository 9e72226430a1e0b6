"""The limits that two parts must agree on are the same number wherever they are written."""

import re
from pathlib import Path

from sidecar import limits

PROTO = (Path(__file__).parents[2] / "proto" / "motive.proto").read_text(encoding="utf-8")


def test_the_protocols_comments_state_the_limits() -> None:
    assert f"1 to {limits.MAX_TEXTS:,} texts" in PROTO
    assert f"at most {limits.MAX_TEXT_BYTES:,} bytes; the whole message" in PROTO
    assert f"the whole message at most {limits.MAX_MESSAGE_BYTES // 2**20} MiB" in PROTO
    assert set(re.findall(r"at most ([0-9,]+) bytes", PROTO)) == {f"{limits.MAX_TEXT_BYTES:,}"}


def test_a_batch_of_the_client_fits_into_a_request() -> None:
    assert limits.CLIENT_BATCH_TEXTS <= limits.MAX_TEXTS
    assert limits.CLIENT_BATCH_BYTES >= limits.MAX_TEXT_BYTES, "every text that may be sent can be"
    assert limits.CLIENT_BATCH_BYTES * 2 < limits.MAX_MESSAGE_BYTES
    in_flight = limits.CLIENT_BATCH_TEXTS * limits.CLIENT_REQUESTS_IN_FLIGHT
    assert in_flight < limits.MAX_ADMITTED_TEXTS


def test_a_cancel_is_seen_well_within_its_promise() -> None:
    assert limits.POLL_INTERVAL_S <= 0.05
