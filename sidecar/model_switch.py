"""The model being served, and the change to another one: opened beside the old, tried, and only then switched to.

A release that cannot be opened or does not answer leaves the old one serving, and the reason to be read in GetModel.
A call keeps the classifier it began with, so that every answer is one model's.
"""

import asyncio
import logging
import time
from pathlib import Path

from sidecar.classifier import Classifier
from sidecar.config import Settings
from sidecar.engines.open import open_release
from sidecar.engines.url import parse_engine
from sidecar.errors import DeadlineError, InternalError, MotiveError, UnavailableError
from sidecar.metrics import Metrics
from sidecar.releases import resolve

TRIAL_S = 30.0
_TRIAL_PAUSE_S = 0.2
TRIAL_TEXT = "The old one was too slow, so I bought this. 旧的太慢了，所以买了这个。"

log = logging.getLogger(__name__)


class ModelSwitch:
    """Holds the classifier that answers now."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        """Opens the current model, which takes seconds; raises ConfigError where that cannot be."""
        self._settings = settings
        self._metrics = metrics
        self._url = parse_engine(settings.engine)
        self._path = resolve(self._url.path)
        self._refused: Path | None = None
        self._switching: asyncio.Task[None] | None = None
        self._trying: Path | None = None
        self._retiring: set[asyncio.Task[None]] = set()
        self.error = ""
        """Why the newest release is not the one served; empty where it is."""
        self.current = self._open(self._path)
        self._show()

    def _open(self, path: Path) -> Classifier:
        return Classifier(
            open_release(self._settings, self._url, path),
            cache_texts=self._settings.cache_texts,
            max_admitted_texts=self._settings.max_admitted_texts,
            batch_tokens=self._settings.batch_tokens,
            metrics=self._metrics,
        )

    @property
    def refused(self) -> bool:
        """Whether the newest release is refused for good, and not only awaited."""
        return self._refused is not None

    def start(self) -> None:
        """Lets the current model answer; needs a running event loop."""
        self.current.batcher.start()

    async def look(self) -> None:
        """Begins to switch when another release has become the current one; never raises."""
        try:
            path = resolve(self._url.path)
        except (MotiveError, OSError) as error:
            self.error = str(error)
            return
        if self._switching is not None and not self._switching.done():
            if path == self._trying:
                return
            # Another release, or the old one again: what is being tried is not wanted any more.
            self._switching.cancel()
            await asyncio.gather(self._switching, return_exceptions=True)
        if path == self._path:
            self.error, self._refused = "", None
        elif path != self._refused:
            self._refused, self._trying = None, path
            self._switching = asyncio.create_task(self._switch(path))

    async def _switch(self, path: Path) -> None:
        candidate = None
        try:
            candidate = await asyncio.to_thread(self._open, path)
            candidate.batcher.start()
            await self._try(candidate, path.name)
        except (UnavailableError, DeadlineError) as error:
            # Triton may still be loading it: the next look tries again.
            self.error = f"{path.name} is not served yet: {error.message}"
            self._metrics.switch_failures.inc()
        except MotiveError as error:
            self._refused = path
            self.error = f"{path.name} is refused: {error.message}"
            self._metrics.switch_failures.inc()
            log.error("release %s", self.error)
        else:
            candidate, self.current = self.current, candidate
            self._path, self.error = path, ""
            self._show()
            self._metrics.switches.inc()
            log.info("serving %s", self.current.repository.model_version)
        finally:
            if candidate is not None:
                self._retire(candidate)

    async def _try(self, candidate: Classifier, name: str) -> None:
        end = time.monotonic() + TRIAL_S
        while not await candidate.engine.ready():
            reasons = "; ".join(f"{one.address} {one.reason}" for one in candidate.engine.backends())
            if time.monotonic() > end:
                raise UnavailableError(reasons)
            self.error = f"{name} is not served yet: {reasons}"
            await asyncio.sleep(_TRIAL_PAUSE_S)
        (answer,) = await candidate.classify([TRIAL_TEXT], deadline=end)
        if answer.HasField("error"):
            raise InternalError(f"a trial text was answered: {answer.error.message}")

    def _retire(self, classifier: Classifier) -> None:
        task = asyncio.create_task(self._close(classifier))
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    @staticmethod
    async def _close(classifier: Classifier) -> None:
        await classifier.idle()
        await classifier.batcher.close()
        await classifier.engine.close()

    def _show(self) -> None:
        self._metrics.show_model(self.current.repository.model_version)

    async def close(self) -> None:
        """Ends the current model and those still answering their last calls; drain the server first."""
        tasks = [*self._retiring, *([self._switching] if self._switching else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.current.batcher.close()
        await self.current.engine.close()
