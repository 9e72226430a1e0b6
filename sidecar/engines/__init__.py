"""Engines: what turns padded tokens into logits. Two implementations of one interface, chosen by one URL.

onnx:PATH                               embedded ONNX Runtime, the default (sidecar.engines.onnx)
triton://HOST:PORT[,...]/MODEL?repository=PATH    the Triton inference server (sidecar.engines.triton)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sidecar.errors import InternalError
from sidecar.repository import Repository


@dataclass(frozen=True)
class Backend:
    """What one of the things that compute is like now."""

    address: str = ""
    """HOST:PORT of a Triton server; empty for the embedded engine."""
    breaker: str = "closed"
    """closed, half_open or open."""
    reason: str = ""
    """Why it was last found wanting; never holds a text."""
    batches: int = 0
    """Batches sent and not answered yet."""
    ready: bool = True
    """Whether the last look found the model there."""


class Engine(Protocol):
    """The one interface between the batcher and whatever computes."""

    name: str
    """"onnx" or "triton", as GetModel says it."""
    repository: Repository
    """The model repository the answers come from."""
    parallel: int
    """How many batches it computes at once; more gain nothing."""

    cancellable: bool
    """Whether cancelling `infer` frees anything; computing that has begun in this process cannot be stopped."""

    @property
    def any_length(self) -> bool:
        """Whether a batch of a new length costs nothing extra; else batches are padded to their bucket."""
        ...

    async def infer(
        self,
        input_ids: NDArray[np.int64],
        attention_mask: NDArray[np.int64],
        *,
        timeout_s: float | None = None,
        priority: int = 0,
    ) -> NDArray[np.float32]:
        """input_ids, attention_mask [batch, tokens] -> logits [batch, outputs].

        Raises UnavailableError, OverloadError, DeadlineError or InternalError; nothing else.
        """
        ...

    async def ready(self) -> bool:
        """Whether `infer` would be answered now."""
        ...

    def backends(self) -> Sequence[Backend]:
        """What it computes on, for operators."""
        ...

    async def close(self) -> None:
        """Gives back what the engine holds; `infer` may not be called after."""
        ...


def checked_logits(logits: NDArray[Any], rows: int, outputs: int, source: str) -> NDArray[np.float32]:
    """The answer of `source` in 32 bits; raises InternalError where it is of no floats, or not [rows, outputs]."""
    if logits.dtype.kind != "f" or logits.shape != (rows, outputs):
        raise InternalError(f"{source} answered logits {logits.dtype.kind}{list(logits.shape)}, not f{[rows, outputs]}")
    return logits.astype(np.float32, copy=False)
