"""Engines: what turns padded tokens into logits. Two implementations of one interface, chosen by one URL.

onnx:PATH                   embedded ONNX Runtime, the default (sidecar.engines.onnx)
triton://HOST:PORT/MODEL    the Triton inference server
"""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sidecar.repository import Repository


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

    async def infer(
        self,
        input_ids: NDArray[np.int64],
        attention_mask: NDArray[np.int64],
        *,
        timeout_s: float | None = None,
        priority: int = 0,
    ) -> NDArray[np.float32]:
        """input_ids, attention_mask [batch, tokens] -> logits [batch, outputs].

        Raises UnavailableError, DeadlineError or InternalError; nothing else.
        """
        ...

    async def ready(self) -> bool:
        """Whether `infer` would be answered now."""
        ...

    async def close(self) -> None:
        """Gives back what the engine holds; `infer` may not be called after."""
        ...
