"""The worker process: lanes in threads, control messages and signals in the main thread."""

import contextlib
import logging
import signal
import threading
import time
from collections.abc import Iterator

import psycopg

from sidecar import queue
from sidecar.errors import UnavailableError
from sidecar.worker.breaker import Breaker
from sidecar.worker.lane import LOST_CONNECTION_LOG_S, TOO_MUCH, Lane
from sidecar.worker.service import Service
from sidecar.worker.settings import WorkerSettings
from sidecar.worker.shared import Shared

SWEEP_INTERVAL_S = 60.0
PROGRESS_INTERVAL_S = 10.0
TICK_S = 0.5

log = logging.getLogger("sidecar.worker")


class Worker:
    """Lanes and what they share; `run` blocks until stop() or, with `once`, until all is done."""

    def __init__(self, settings: WorkerSettings) -> None:
        self.settings = settings
        self._service = Service(settings)
        self._shared = Shared(settings, self._service)
        self._breaker = Breaker()
        # One lane of several leaves backfills alone: a new row finds it free.
        self._lanes = [
            Lane(settings, self._service, self._breaker, self._shared, background=number > 0 or settings.lanes == 1)
            for number in range(settings.lanes)
        ]
        self._threads = [threading.Thread(target=lane.run, name=f"lane-{n}") for n, lane in enumerate(self._lanes, 1)]

    @property
    def written(self) -> int:
        """Rows annotated so far."""
        return self._shared.written

    @property
    def fault(self) -> str:
        """Why no rows are sent to the sidecar now; empty while it answers."""
        error = self._breaker.last_error
        return error.message if error is not None else ""

    def stop(self) -> None:
        """Asks the worker to end: what is under way ends within the grace, or is given back."""
        self._shared.stop()

    def run(self) -> None:
        """Works. Raises UnavailableError where `once` cannot be done, and whatever ended a lane unexpectedly."""
        for thread in self._threads:
            thread.start()
        control = Control(self.settings, self._shared)
        try:
            while not self._shared.stopping.is_set():
                control.turn(0.02 if self.settings.once else TICK_S)
                for lane in self._lanes:
                    lane.interrupt_if_stuck()
                if self.settings.once and self._drained():
                    break
                if any(lane.failed is not None for lane in self._lanes):
                    break
        finally:
            self._shared.stop()
            control.close()
            self._join()
            self._service.close()
        for lane in self._lanes:
            if lane.failed is not None:
                raise lane.failed
        if self.settings.once and self._breaker.last_error is not None:
            raise UnavailableError(f"rows are left: {self._breaker.last_error.message}", self._breaker.last_error.hint)
        log.info("stopped after %d rows", self.written)

    def _drained(self) -> bool:
        if (error := self._breaker.last_error) is not None:
            # Too much at once is asked again in smaller claims, down to the smallest.
            return not isinstance(error, TOO_MUCH) or any(lane.failed_at_least for lane in self._lanes)
        # A lane may enqueue for another one: all must have found nothing, twice.
        for _ in range(2):
            if not all(lane.idle for lane in self._lanes):
                return False
            time.sleep(self.settings.poll_min_s)
        return True

    def _join(self) -> None:
        deadline = time.monotonic() + self.settings.grace_s + 2.0
        for thread in self._threads:
            thread.join(max(0.1, deadline - time.monotonic()))
        for lane, thread in zip(self._lanes, self._threads, strict=True):
            if thread.is_alive():
                lane.close()


class Control:
    """Listens for control messages, sweeps, and logs how backfills come on. All of it may fail: polling goes on."""

    def __init__(self, settings: WorkerSettings, shared: Shared) -> None:
        self._settings = settings
        self._shared = shared
        self._connection: queue.Connection | None = None
        self._try_at = 0.0
        self._sweep_at = 0.0
        self._progress_at = 0.0
        self._logged_at = float("-inf")
        self._said: list[tuple[str, int, int]] = []

    def turn(self, seconds: float) -> None:
        """Waits at most `seconds` for a message."""
        now = time.monotonic()
        if now < self._try_at:
            self._shared.stopping.wait(seconds)
            return
        try:
            if self._connection is None:
                self._connection = queue.connect(self._settings.dsn, name="pg_motive worker control")
                queue.listen(self._connection)
            if now >= self._sweep_at:
                self._sweep_at = now + SWEEP_INTERVAL_S
                queue.sweep(self._connection)
            if now >= self._progress_at:
                self._progress_at = now + PROGRESS_INTERVAL_S
                self._log_progress(queue.progress(self._connection))
            for _ in self._connection.notifies(timeout=seconds, stop_after=1):
                self._shared.wake()
        except psycopg.Error as error:
            self.close()
            self._try_at = time.monotonic() + 1.0
            if now - self._logged_at >= LOST_CONNECTION_LOG_S:
                self._logged_at = now
                log.warning("cannot listen or sweep, trying again: %s", str(error).strip().splitlines()[0])

    def close(self) -> None:
        """Ends the connection."""
        if self._connection is not None:
            with contextlib.suppress(psycopg.Error):
                self._connection.close()
            self._connection = None

    def _log_progress(self, jobs: list[tuple[str, int, int]]) -> None:
        for what, seen, total in jobs:
            if (what, seen, total) not in self._said:
                log.info("%s: %d of about %d rows read", what, seen, max(seen, total))
        self._said = jobs


@contextlib.contextmanager
def stopped_by_signals(worker: Worker) -> Iterator[None]:
    """SIGTERM and SIGINT stop the worker; a second one does no more."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    for number in before:
        signal.signal(number, lambda *_: worker.stop())
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
