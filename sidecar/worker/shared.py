"""What the lanes of one worker share: when to stop, when to wake, and which model serves."""

import threading
import time
from collections.abc import Callable
from typing import Any

from sidecar import queue
from sidecar.worker.service import Service
from sidecar.worker.settings import WorkerSettings


class Shared:
    """One of it in a worker process; safe to use from every lane."""

    def __init__(self, settings: WorkerSettings, service: Service) -> None:
        self.stopping = threading.Event()
        self.model = ""
        """The model that serves, once it is known to the database."""
        self.written = 0
        self._settings = settings
        self._service = service
        self._lock = threading.Lock()
        self._wake = threading.Condition()
        self._woken = 0
        self._stop_at = float("inf")

    def stop(self) -> None:
        """What is under way may end within the grace, which begins with the first call; nothing new is begun."""
        if not self.stopping.is_set():
            self._stop_at = time.monotonic() + self._settings.grace_s
        self.stopping.set()
        self.wake()

    def grace_is_over(self) -> bool:
        """Whether even what is under way must end."""
        return time.monotonic() > self._stop_at

    def wake(self) -> None:
        """Ends the wait of every idle lane: there may be work."""
        with self._wake:
            self._woken += 1
            self._wake.notify_all()

    def wait(self, seconds: float) -> None:
        """Waits until somebody wakes us, at most `seconds`."""
        with self._wake:
            before = self._woken
            if not self.stopping.is_set():
                self._wake.wait_for(lambda: self._woken != before, seconds)

    def count(self, outcome: queue.Outcome, more: bool) -> None:
        """A claim is done; with `more`, there was as much as one claim could take."""
        with self._lock:
            self.written += outcome.written
        if more:
            self.wake()

    def served_model(self, call: Callable[[Callable[[queue.Connection], str]], Any]) -> str:
        """The model that serves, registered in the database the first time and after each change."""
        if not self.model:
            document = self._service.model_document()
            self.model = call(lambda c: queue.register_model(c, document))
        return self.model

    def model_changed(self) -> None:
        """Another model answered: find out about it before the next claim is read."""
        self.model = ""
