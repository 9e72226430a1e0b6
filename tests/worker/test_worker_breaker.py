"""While the service is at fault: how often lanes try, and how much of it stands in the log."""

import logging
import threading
import time

import pytest

from sidecar.errors import OverloadError, UnavailableError
from sidecar.worker.breaker import FIRST_DELAY_S, LONGEST_DELAY_S, Breaker
from sidecar.worker.run import Worker
from sidecar.worker.service import Service
from sidecar.worker.settings import WorkerSettings
from sidecar.worker.shared import Shared


class Clock:
    """A clock that a test turns."""

    now = 1000.0

    def monotonic(self) -> float:
        """Seconds."""
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Stands in for the clock of the breaker."""
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock.monotonic)
    return clock


def test_a_minute_of_faults_is_a_few_tries_and_a_few_lines(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """F35: waits double up to the longest, and the log does not repeat itself."""
    breaker = Breaker()
    tries = 0
    with caplog.at_level(logging.INFO, "sidecar.worker"):
        for _ in range(6000):
            if breaker.admits():
                tries += 1
                breaker.failed(UnavailableError("away"))
            clock.now += 0.01
        breaker.worked()
    assert 60 / LONGEST_DELAY_S < tries < 40
    assert len(caplog.records) <= 10
    assert "answers again" in caplog.records[-1].message
    assert breaker.admits()


def test_an_overloaded_service_is_tried_again_soon(clock: Clock) -> None:
    """It is there, and says when it is too much: waits stay short."""
    breaker = Breaker()
    for _ in range(20):
        wait = breaker.failed(OverloadError("full"))
        clock.now += wait
    assert FIRST_DELAY_S < wait <= 1.25 * LONGEST_DELAY_S / 10


def test_a_lane_that_was_let_through_and_had_nothing_to_ask_makes_way_for_another(clock: Clock) -> None:
    """The one kept for new rows finds none while only a backfill waits."""
    breaker = Breaker()
    clock.now += breaker.failed(UnavailableError("away"))
    admitted: list[bool] = []
    other = threading.Thread(target=lambda: admitted.append(breaker.admits()))
    assert breaker.admits()
    other.start()
    other.join(10)
    assert admitted == [False]
    breaker.passed()
    other = threading.Thread(target=lambda: admitted.append(breaker.admits()))
    other.start()
    other.join(10)
    assert admitted == [False, True]


def test_the_lane_kept_for_new_rows_finds_none_and_lets_another_one_try_with_a_backfill(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F35: else nothing would ever be asked again until a new row came."""
    worker = Worker(WorkerSettings(dsn="", target="unix:/nowhere", lanes=2))
    turns: list[str] = []
    for name, lane in zip(("kept", "other"), worker._lanes, strict=True):
        monkeypatch.setattr(lane, "turn", lambda name=name: turns.append(name))
    clock.now += worker._breaker.failed(UnavailableError("away"))
    first = threading.Thread(target=worker._lanes[0]._admitted_turn)
    first.start()
    first.join(10)
    worker._lanes[1]._admitted_turn()
    assert turns == ["kept", "other"]
    worker._service.close()


def test_a_second_stop_does_not_lengthen_the_grace(clock: Clock) -> None:
    settings = WorkerSettings(dsn="", target="unix:/nowhere", grace_s=10.0)
    service = Service(settings)
    shared = Shared(settings, service)
    shared.stop()
    clock.now += 9
    shared.stop()
    clock.now += 2
    assert shared.grace_is_over()
    service.close()
