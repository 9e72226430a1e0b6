"""From texts to answers: limits, redaction, cache, windows, batches, calibration. No gRPC and no sockets."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from sidecar import limits
from sidecar.batching import INTERACTIVE, Batcher
from sidecar.cache import AnswerCache
from sidecar.engines import Engine
from sidecar.errors import InputError, OverloadError
from sidecar.metrics import Metrics
from sidecar.pb import motive_pb2 as pb
from sidecar.redact import redact
from sidecar.repository import Answer, Repository
from sidecar.tokenize import Tokenizer

Said = TypeVar("Said", bound=Sequence[str])
Result = TypeVar("Result")

_INLINE_CHARACTERS = 4_096
"""Up to so many, to redact or tokenize is hardly worth the way to another thread; the longest text takes tens of
milliseconds, in which no other call and no health check would be heard."""


@dataclass
class _Pending:
    """A text that the model must read, and where in the answer it stands (more than once if it is repeated)."""

    text: str
    positions: list[int] = field(default_factory=list)


class Classifier:
    """One model version, answering. A model switch makes a new one, so that answers never mix versions."""

    def __init__(
        self,
        engine: Engine,
        *,
        cache_texts: int = limits.CACHE_TEXTS,
        max_admitted_texts: int = limits.MAX_ADMITTED_TEXTS,
        batch_tokens: int = limits.BATCH_TOKENS,
        metrics: Metrics | None = None,
    ) -> None:
        self.engine = engine
        self.metrics = metrics or Metrics()
        self.tokenizer = Tokenizer(engine.repository)
        self.batcher = Batcher(engine, batch_tokens=batch_tokens, on_batch=self.metrics.batch)
        self.model = _model_version(engine.repository)
        self._calibration = engine.repository.calibration
        self._cache: AnswerCache[pb.Classification] = AnswerCache(cache_texts)
        self._max_admitted = max_admitted_texts
        self._admitted = 0
        self._idle = asyncio.Event()

    @property
    def repository(self) -> Repository:
        """The model repository the answers come from."""
        return self.engine.repository

    async def classify(
        self,
        texts: Sequence[str],
        *,
        redacted: bool = False,
        priority: int = INTERACTIVE,
        deadline: float | None = None,
    ) -> list[pb.Classification]:
        """One Classification per text, in order; `deadline` in time.monotonic() seconds.

        Raises InputError (too many texts), OverloadError, DeadlineError, UnavailableError, InternalError. A text that
        alone cannot be classified gets a Classification with `error` set. The messages are shared: copy before change.
        """
        # More than is ever admitted would be refused for ever: an overload passes, so callers would go on trying.
        most = min(limits.MAX_TEXTS, self._max_admitted)
        if len(texts) > most:
            raise InputError(
                f"{len(texts)} texts in one request; the limit is {most}", "Send them in several requests."
            )
        with self.admitted(len(texts)):
            return await self._classify(texts, redacted, priority, deadline)

    @contextmanager
    def admitted(self, texts: int) -> Iterator[None]:
        """Holds a place for so many texts; raises OverloadError at once where there is none."""
        if self._admitted + texts > self._max_admitted:
            self.metrics.refused.inc(texts)
            raise OverloadError(f"the sidecar holds {self._admitted} texts of at most {self._max_admitted}")
        self._admitted += texts
        self.metrics.held.inc(texts)
        try:
            yield
        finally:
            self._admitted -= texts
            self.metrics.held.dec(texts)
            if not self._admitted:
                self._idle.set()

    async def idle(self) -> None:
        """Returns once no text is held."""
        while self._admitted:
            self._idle.clear()
            await self._idle.wait()

    async def _classify(
        self, texts: Sequence[str], redacted: bool, priority: int, deadline: float | None
    ) -> list[pb.Classification]:
        results: list[pb.Classification] = [pb.Classification()] * len(texts)
        readable: dict[int, str] = {}
        for position, text in enumerate(texts):
            if not text or text.isspace():
                results[position] = _NOTHING_SAID
            elif (size := _size(text)) > limits.MAX_TEXT_BYTES:
                results[position] = _too_long(size)
            else:
                readable[position] = text
        if not redacted:
            masked = await aside(_redact, list(readable.values()))
            self.metrics.redactions.inc(sum(count for _, count in masked))
            readable = dict(zip(readable, (text for text, _ in masked), strict=True))
        pending: dict[bytes, _Pending] = {}
        for position, text in readable.items():
            key = self._cache.key(text)
            if key in pending:
                pending[key].positions.append(position)
            elif (known := self._cache.get(key)) is not None:
                results[position] = known
            else:
                pending[key] = _Pending(text, [position])
        if pending:
            answers = await self._ask([one.text for one in pending.values()], priority, deadline)
            for (key, one), answer in zip(pending.items(), answers, strict=True):
                if not answer.HasField("error"):
                    self._cache.put(key, answer)
                for position in one.positions:
                    results[position] = answer
        self.metrics.texts(len(texts), len(texts) - len(pending), results)
        return results

    async def _ask(self, texts: list[str], priority: int, deadline: float | None) -> list[pb.Classification]:
        logits = await self.logits(texts, priority=priority, deadline=deadline)
        finite: NDArray[np.bool_] = np.asarray(np.isfinite(logits).all(axis=1))
        answers = self._calibration.answers(np.where(finite[:, None], logits, 0.0))
        return [_message(answer) if ok else _NOT_FINITE for answer, ok in zip(answers, finite, strict=True)]

    async def logits(
        self, texts: Sequence[str], *, priority: int = INTERACTIVE, deadline: float | None = None
    ) -> NDArray[np.float32]:
        """The model's raw outputs [texts, outputs], the windows of long texts joined; neither cached nor redacted."""
        windows = await aside(self.tokenizer.windows, texts)
        flat = [window for one in windows for window in one]
        logits = await self.batcher.infer(flat, priority=priority, deadline=deadline)
        if len(flat) == len(windows):
            return logits
        ends = np.cumsum([len(one) for one in windows])
        parts = np.split(logits, ends[:-1])
        return np.stack([part[0] if len(part) == 1 else self._calibration.join_windows(part) for part in parts])


async def aside(work: Callable[[Said], Result], said: Said) -> Result:
    """work(said), a text or several; in another thread where it is much, so that other calls are heard meanwhile."""
    characters = len(said) if isinstance(said, str) else sum(map(len, said))
    return work(said) if characters <= _INLINE_CHARACTERS else await asyncio.to_thread(work, said)


def _redact(texts: Sequence[str]) -> list[tuple[str, int]]:
    return [redact(text) for text in texts]


def _model_version(repository: Repository) -> pb.ModelVersion:
    manifest = repository.manifest
    return pb.ModelVersion(
        name=manifest.name,
        version=manifest.version,
        digest=manifest.digest,
        taxonomy_digest=repository.taxonomy.digest,
    )


def _message(answer: Answer) -> pb.Classification:
    motives = [pb.ScoredMotive(motive=motive, confidence=confidence) for motive, confidence in answer.motives]
    return pb.Classification(motives=motives, confidence=answer.confidence)


def _size(text: str) -> int:
    """UTF-8 bytes of `text`; counted exactly only where it could be too long."""
    return len(text) if len(text) * 4 <= limits.MAX_TEXT_BYTES else len(text.encode())


def _too_long(size: int) -> pb.Classification:
    return pb.Classification(
        error=pb.TextError(
            reason=pb.TEXT_ERROR_REASON_TOO_LONG,
            message=f"the text has {size} bytes; the limit is {limits.MAX_TEXT_BYTES}: pass a shorter part of it",
        )
    )


_NOTHING_SAID = pb.Classification(confidence=1.0)
_NOT_FINITE = pb.Classification(
    error=pb.TextError(
        reason=pb.TEXT_ERROR_REASON_NOT_FINITE,
        message="the model gave no finite number for this text: check the model with motive check",
    )
)
