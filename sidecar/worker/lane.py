"""One connection going round: claim, read, ask, complete."""

import contextlib
import logging
import socket
import time
from collections.abc import Callable
from typing import TypeVar

import psycopg

from sidecar import queue
from sidecar.errors import DeadlineError, MotiveError, OverloadError, VersionError
from sidecar.worker.answers import Asker
from sidecar.worker.breaker import Breaker
from sidecar.worker.service import Abandoned, Service
from sidecar.worker.settings import WorkerSettings
from sidecar.worker.shared import Shared

CLAIM_SECONDS = 0.3
"""What a claim should take the model: new rows wait no longer than this for a lane."""
STEP_ROWS = 2000
RETURNED_S = 0.5
"""Rows that somebody had locked come back after a moment: until then there is still something to do."""
LOST_CONNECTION_LOG_S = 15.0
REFUSED_HINT = "Correct --dsn; the database needs the extension, the role motive.grant_worker(role)."
"""What to do where the database refuses: one that is away comes back by itself."""

PUT_OFF = 10
"""For so many times as long as one of its statements took in vain, a table waits."""

TOO_MUCH = (DeadlineError, OverloadError)
"""Faults that a smaller claim may not meet."""

T = TypeVar("T")

log = logging.getLogger("sidecar.worker")


class Lane:
    """Works until `stopping` is set; `turn` is one round. Without `background`, it is kept free for new rows."""

    def __init__(
        self, settings: WorkerSettings, service: Service, breaker: Breaker, shared: Shared, background: bool
    ) -> None:
        self._settings = settings
        self._service = service
        self._breaker = breaker
        self._shared = shared
        self._background = background
        self._connection: queue.Connection | None = None
        self._rows = min(64, settings.max_rows)
        self._asked_at: float | None = None
        self._logged_at = float("-inf")
        self._returned_at = float("-inf")
        self.idle = False
        self.failed_at_least = False
        """Whether even the smallest claim was too much."""
        self.failed: BaseException | None = None
        """What ended it, other than being told to stop."""

    def run(self) -> None:
        """Goes round until told to stop."""
        delay = self._settings.poll_min_s
        try:
            while not self._shared.stopping.is_set():
                try:
                    worked = self._admitted_turn()
                except psycopg.Error as error:
                    if self._settings.once:
                        raise
                    self._reset(error)
                    worked, delay = False, max(delay, 0.1)
                if worked:
                    self.idle, delay = False, self._settings.poll_min_s
                    continue
                self.idle = self._connection is not None and time.monotonic() > self._returned_at + RETURNED_S
                self._shared.wait(delay)
                delay = min(2 * delay, self._settings.poll_max_s)
        except BaseException as error:
            self.failed = error  # raised by whoever runs the worker
        finally:
            self.close()

    def _admitted_turn(self) -> bool:
        if not self._breaker.admits():
            return False
        try:
            return self.turn()
        finally:
            self._breaker.passed()

    def turn(self) -> bool:
        """One claim, or one step of a job; False where there was nothing to do."""
        shared, settings = self._shared, self._settings
        claim = self.call(
            lambda c: queue.claim(c, self._rows, settings.lease_s, settings.shadow or None, self._background)
        )
        if claim is None:
            return self._background and self._step()
        self.idle = False
        try:
            model = shared.served_model(self.call)
            if settings.shadow and model != settings.shadow:
                shared.model_changed()
                raise VersionError(
                    f"the sidecar serves {model}, the shadow run is of {settings.shadow}",
                    "Point --target at a sidecar that serves the model of the shadow run.",
                )
            readings = self.call(lambda c: queue.read(c, claim.lease, model, self._statement_s))
        except (MotiveError, Abandoned) as error:
            self._give_back(claim, error)
            return False
        except psycopg.errors.QueryCanceled:
            self._put_off(claim)
            return False
        asker = Asker(self._service, self._heartbeat(claim))
        started = time.monotonic()
        fault: MotiveError | Abandoned | None = None
        try:
            asker.ask(readings, model)
        except (MotiveError, Abandoned) as error:
            fault = error
        asked_s = time.monotonic() - started
        results = asker.results
        if results.model != model:
            shared.model_changed()
        if fault is not None and not results.rows:
            self._give_back(claim, fault)
            return False
        try:
            outcome = self.call(
                lambda c: queue.complete(c, claim.lease, results.rows, results.model, self._statement_s)
            )
        except psycopg.errors.QueryCanceled:
            self._put_off(claim)
            return False
        except psycopg.errors.ObjectNotInPrerequisiteState as error:
            # The model is not known yet, or answers what its taxonomy does not hold: no row is at fault.
            shared.model_changed()
            self._give_back(claim, VersionError(error.diag.message_primary or "", error.diag.message_hint or ""))
            return False
        if fault is not None:
            self._back_off(fault)
            return False
        self._breaker.worked()
        self.failed_at_least = False
        self._resize(len(readings), asked_s)
        if outcome.returned:
            self._returned_at = time.monotonic()
        shared.count(outcome, claim.rows >= self._rows)
        return outcome.returned < claim.rows

    def _step(self) -> bool:
        """One step of a backfill or the like."""
        model = None if self._settings.shadow else self._shared.model
        try:
            done = self.call(lambda c: queue.step(c, STEP_ROWS, model or None, self._statement_s))
        except psycopg.errors.QueryCanceled:
            table = self.call(lambda c: queue.put_off_step(c, model or None))
            log.warning("a step over %s took more than %.0f s: its job waits", table or "a table", self._statement_s)
            return False
        if done >= 0 or self._settings.shadow:
            return done > 0
        try:
            self._shared.served_model(self.call)
        except MotiveError as error:
            self._back_off(error)
            return False
        return True

    def interrupt_if_stuck(self) -> None:
        """Called by another thread: gives up a connection that has been silent for too long."""
        asked_at, connection = self._asked_at, self._connection
        if asked_at is None or connection is None or time.monotonic() - asked_at < self._settings.database_timeout_s:
            return
        with contextlib.suppress(OSError, psycopg.Error), socket.fromfd(connection.fileno(), 0, 0) as link:
            link.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Ends the connection."""
        if self._connection is not None:
            with contextlib.suppress(psycopg.Error):
                self._connection.close()
            self._connection = None

    def call(self, function: Callable[[queue.Connection], T]) -> T:
        """Runs one call to the database on this lane's connection."""
        if self._connection is None:
            self._connection = queue.connect(self._settings.dsn)
        self._asked_at = time.monotonic()
        try:
            return function(self._connection)
        finally:
            self._asked_at = None

    def _heartbeat(self, claim: queue.Claim) -> Callable[[], bool]:
        """Prolongs the lease while an answer is awaited; says no once waiting makes no sense."""
        lease_s = self._settings.lease_s
        due = time.monotonic() + lease_s / 3

        def keep_waiting() -> bool:
            nonlocal due
            if self._shared.grace_is_over():
                return False
            if time.monotonic() < due:
                return True
            due = time.monotonic() + lease_s / 3
            return self.call(lambda c: queue.extend(c, claim.lease, lease_s)) > 0

        return keep_waiting

    @property
    def _statement_s(self) -> float:
        """What the server gives a statement: less than after which its connection is given up."""
        return 0.8 * self._settings.database_timeout_s

    def _put_off(self, claim: queue.Claim) -> None:
        """A table's own triggers or policies take too long: they must not hold up the others again at once."""
        delay_s = PUT_OFF * self._settings.database_timeout_s
        tables = self.call(lambda c: queue.put_off(c, claim.lease, delay_s))
        log.warning(
            "triggers, policies or constraints of %s took more than %.0f s: its rows wait for %.0f s",
            tables,
            self._statement_s,
            delay_s,
        )

    def _give_back(self, claim: queue.Claim, fault: Exception) -> None:
        self.call(lambda c: queue.release(c, claim.lease))
        self._back_off(fault)

    def _back_off(self, fault: Exception) -> None:
        if isinstance(fault, MotiveError):
            self._breaker.failed(fault)
            # Too much at once is a reason as well: the next claim is a small one.
            if isinstance(fault, TOO_MUCH):
                self.failed_at_least = self._rows == 1
                self._rows = max(1, self._rows // 4)

    def _resize(self, rows: int, seconds: float) -> None:
        """Claims as many rows next time as the model answers in CLAIM_SECONDS, by the rate just seen."""
        if rows < self._rows / 2:
            return
        wanted = int(rows * CLAIM_SECONDS / max(seconds, 1e-3))
        self._rows = max(1, min(wanted, 2 * self._rows, self._settings.max_rows))

    def _reset(self, error: psycopg.Error) -> None:
        self.close()
        if time.monotonic() - self._logged_at >= LOST_CONNECTION_LOG_S and not self._shared.stopping.is_set():
            self._logged_at = time.monotonic()
            reason = str(error).strip().splitlines()[0]
            log.warning("the database is away or refuses, trying again: %s. If it refuses: %s", reason, REFUSED_HINT)
