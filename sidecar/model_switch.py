"""The model being served, and the change to another one: opened beside the old, tried, and only then switched to.

A release that cannot be opened or does not answer leaves the old one serving, and the reason to be read in GetModel; at
the start, too, where the old one is the release before. It is tried again where Triton may be at fault. A call keeps
the classifier it began with, so that every answer is one model's.
"""

import asyncio
import logging
import math
import time
from pathlib import Path

import numpy as np

from sidecar.classifier import Classifier
from sidecar.config import Settings
from sidecar.engines.open import open_release
from sidecar.engines.url import parse_engine
from sidecar.errors import DeadlineError, InternalError, MotiveError, UnavailableError
from sidecar.metrics import Metrics
from sidecar.releases import resolve, resolve_previous

TRIAL_S = 30.0
START_TRIAL_S = 5.0
REFUSED_S = 60.0
"""Until a release that was refused for an answer of Triton's is tried again: at a start, nobody sets the link back."""

_TRIAL_PAUSE_S = 0.2
TRIAL_TEXT = "The old one was too slow, so I bought this. 旧的太慢了，所以买了这个。"

NOT_NOW = (UnavailableError, DeadlineError)
"""Faults that say nothing of the model."""

_ANSWER_S = 5.0
"""Of the time of a trial, what is left for the answer."""

log = logging.getLogger(__name__)


class ModelSwitch:
    """Holds the classifier that answers now, once it is started."""

    current: Classifier

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._url = parse_engine(settings.engine)
        self._path = Path()
        self._refused: Path | None = None
        self._again = math.inf
        self._switching: asyncio.Task[None] | None = None
        self._trying: Path | None = None
        self._retiring: set[asyncio.Task[None]] = set()
        self.error = ""
        """Why the newest release is not the one served; empty where it is."""

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
        """Whether the newest release is refused, and not only awaited."""
        return self._refused is not None

    async def start(self) -> None:
        """Opens the current model, which takes seconds, tries it, and lets it answer; else the release before it.

        Where there is none before, raises the MotiveError of a model that cannot be opened, and serves one that cannot
        answer the trial, as a Triton behind it may be mended meanwhile.
        """
        path = resolve(self._url.path)
        before = resolve_previous(self._url.path)
        if before == path:
            before = None
        try:
            await self._begin(path, must_answer=before is not None)
        except Exception as error:
            if before is None:
                raise
            self._refuse(path, error)
            await self._begin(before, must_answer=False)
        self._show()

    async def _begin(self, path: Path, *, must_answer: bool) -> None:
        candidate = self._open(path)
        candidate.batcher.start()
        try:
            # What is not up yet is served all the same: health says NOT_SERVING until it is.
            if await candidate.engine.ready():
                await _try(candidate, time.monotonic() + START_TRIAL_S)
        except Exception as error:
            if must_answer and not isinstance(error, NOT_NOW):
                await self._close(candidate)
                raise
            log.warning("serving %s, which has not answered a trial text: %s", path.name, _reason(error))
        self.current, self._path = candidate, path

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
        elif path != self._refused or time.monotonic() >= self._again:
            self._refused, self._trying = None, path
            self._switching = asyncio.create_task(self._switch(path))

    async def _switch(self, path: Path) -> None:
        candidate = None
        try:
            candidate = await asyncio.to_thread(self._open, path)
            candidate.batcher.start()
            end = time.monotonic() + TRIAL_S
            await self._wait_ready(candidate, path.name, end)
            await _try(candidate, end)
        except NOT_NOW as error:
            # Triton may still be loading it: the next look tries again.
            self.error = f"{path.name} is not served yet: {error.message}"
            self._metrics.switch_failures.inc()
        except Exception as error:
            self._refuse(path, error)
        else:
            candidate, self.current = self.current, candidate
            self._path, self.error = path, ""
            self._show()
            self._metrics.switches.inc()
            log.info("serving %s", self.current.repository.model_version)
        finally:
            if candidate is not None:
                self._retire(candidate)

    def _refuse(self, path: Path, error: Exception) -> None:
        """Not tried again until another release is the current one, or Triton has had time to be mended."""
        of_triton = isinstance(error, InternalError) and self._url.addresses
        self._refused, self._again = path, time.monotonic() + REFUSED_S if of_triton else math.inf
        self.error = f"{path.name} is refused: {_reason(error)}"
        self._metrics.switch_failures.inc()
        log.error("release %s", self.error)

    async def _wait_ready(self, candidate: Classifier, name: str, end: float) -> None:
        """Returns once every address that serves the old model has the new one, or some have it and the time is over.

        To switch as soon as one has it would leave that one with everybody's calls.
        """
        while True:
            ready = await candidate.engine.ready()
            serving = {one.address for one in self.current.engine.backends() if one.ready}
            missing = [one for one in candidate.engine.backends() if not one.ready]
            reasons = "; ".join(f"{one.address} {one.reason}" for one in missing)
            if ready and serving.isdisjoint(one.address for one in missing):
                return
            if time.monotonic() > end - _ANSWER_S:
                if not ready:
                    raise UnavailableError(reasons)
                log.warning("%s is served without %s", name, reasons)
                return
            self.error = f"{name} is not served yet: {reasons}"
            await asyncio.sleep(_TRIAL_PAUSE_S)

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


async def _try(candidate: Classifier, deadline: float) -> None:
    """Has it read a text, by the way that callers' texts go, but counted as nobody's; raises where it cannot."""
    logits = await candidate.logits([TRIAL_TEXT], deadline=deadline)
    if not np.isfinite(logits).all():
        raise InternalError("a trial text was answered with what is no finite number")
    candidate.repository.calibration.answers(logits)


def _reason(error: Exception) -> str:
    """What a person is told; of an error that nobody foresaw, its class, as its message may say anything."""
    return error.message if isinstance(error, MotiveError) else type(error).__name__
