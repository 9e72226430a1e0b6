"""From what was read to what is written back: equal texts asked once, a text at fault found by halving."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from sidecar.errors import InputError, InternalError
from sidecar.pb import motive_pb2 as pb
from sidecar.queue import Reading
from sidecar.redact import redact
from sidecar.worker.service import Service

BATCH_BYTES = 1024 * 1024
"""Of text in one request; a quarter of what one message may have."""


@dataclass
class Results:
    """What complete() is told; a key that is missing here goes back to the queue at no cost."""

    rows: list[str] = field(default_factory=list)
    """JSON objects, as motive.complete() describes them."""
    model: str = ""
    """The model of every result."""


@dataclass
class _Text:
    text: str
    redactions: int
    readings: list[Reading]


class Asker:
    """Answers one claim's readings through the service."""

    def __init__(self, service: Service, keep_waiting: Callable[[], bool]) -> None:
        self._service = service
        self._keep_waiting = keep_waiting
        self.results = Results()

    def ask(self, readings: Sequence[Reading], model: str) -> None:
        """Fills `results`. Raises the MotiveError of a fault of the service; what was answered before stays."""
        self.results.model = model
        texts: dict[str, _Text] = {}
        for reading in readings:
            if reading.text is not None:
                if (one := texts.get(reading.text)) is None:
                    texts[reading.text] = _Text(*redact(reading.text), [reading])
                else:
                    one.readings.append(reading)
            elif reading.problem is not None:
                self._add_fault(reading, reading.problem, final=bool(reading.hash))
            else:
                self.results.rows.append(f'{{"e":{reading.entry},"k":{reading.key}}}')
        interactive = any(reading.priority == 1 for reading in readings)
        for batch in _batches(list(texts.values())):
            self._ask(batch, interactive)

    def _ask(self, batch: Sequence[_Text], interactive: bool) -> None:
        try:
            answers = self._service.classify(
                [one.text for one in batch],
                sum(one.redactions for one in batch),
                interactive=interactive,
                keep_waiting=self._keep_waiting,
            )
        except (InputError, InternalError) as error:
            if len(batch) > 1:
                middle = len(batch) // 2
                self._ask(batch[:middle], interactive)
                self._ask(batch[middle:], interactive)
                return
            # A refused text is at fault itself; after an internal error only if other texts are answered.
            if isinstance(error, InternalError) and not self._service.answers_at_all():
                raise
            for reading in batch[0].readings:
                self._add_fault(reading, error.message, final=False)
            return
        if answers.model != self.results.model:
            # Another model serves now: what the last one said of this claim is asked again.
            self.results.rows = [row for row in self.results.rows if '"m":' not in row]
            self.results.model = answers.model
        for one, answer in zip(batch, answers.results, strict=True):
            self._add_answer(one.readings, answer)

    def _add_answer(self, readings: Sequence[Reading], answer: pb.Classification) -> None:
        if answer.HasField("error"):
            final = answer.error.reason == pb.TEXT_ERROR_REASON_TOO_LONG
            for reading in readings:
                self._add_fault(reading, answer.error.message, final=final)
            return
        motives = _as_json(tuple([scored.motive for scored in answer.motives]))
        said = f'"m":{motives},"c":{answer.confidence:.6g}'
        for reading in readings:
            self.results.rows.append(f'{{"e":{reading.entry},"k":{reading.key},"h":"\\\\x{reading.hash}",{said}}}')

    def _add_fault(self, reading: Reading, reason: str, *, final: bool) -> None:
        said = json.dumps({"x": reason, "f": final})[1:]
        self.results.rows.append(f'{{"e":{reading.entry},"k":{reading.key},"h":"\\\\x{reading.hash or ""}",{said}')


@lru_cache(1024)
def _as_json(motives: tuple[str, ...]) -> str:
    """Few answers differ, and most rows have one of them."""
    return json.dumps(motives)


def _batches(texts: Sequence[_Text]) -> Iterator[Sequence[_Text]]:
    """Requests of bounded size."""
    start, size = 0, 0
    for position, one in enumerate(texts):
        bytes_ = len(one.text) if one.text.isascii() else len(one.text.encode())
        if position > start and size + bytes_ > BATCH_BYTES:
            yield texts[start:position]
            start, size = position, 0
        size += bytes_
    if start < len(texts):
        yield texts[start:]
